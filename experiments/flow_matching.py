"""Flow matching from noise, or from one dataset to another.

  python -m experiments.flow_matching digits --run-dir runs/flow
  python -m experiments.flow_matching pair --run-dir runs/pair --source moons
  python -m experiments.flow_matching zero-to-eight --run-dir runs/morph
  python -m experiments.flow_matching pair --run-dir runs/straight \
    --reflow runs/pair

t = 0 is data and t = 1 the source. --coupling pairs them in the thread that
makes the batches. Samples are integrated from t = 1 down to 0 with the common
solvers: any solver if the source is noise, and between datasets those that need
only the velocity. With --interpolant, which also learns the denoiser,
euler_maruyama works too.

Methods: Lipman et al. 2022, arXiv:2210.02747; Liu et al. 2022,
arXiv:2209.03003; Tong et al. 2023, arXiv:2302.00482; Albergo et al. 2023,
arXiv:2303.08797; Cheng and Schwing 2025, arXiv:2503.10636.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np

from experiments import settings
from experiments.experiment import Experiment
from experiments.lib import (
  checks,
  choices,
  command_line,
  datasets,
  samples,
  training,
)
from experiments.pictures import figures
from experiments.recipes import diffusion, flows, presets, single
from jaxgen.data import loaders, pairs
from jaxgen.losses import flow_matching
from jaxgen.training import state


@dataclasses.dataclass(frozen=True)
class Config(settings.Diffusion):
  """Settings of one run; config.json stores all of them."""

  may_change = ("eps",)  # only samples depend on it

  source: str = "gaussian"
  """Source of the flow: gaussian, or any dataset of the same shape."""
  coupling: choices.CouplingName = "independent"
  """Coupling of data and source: independent, exact optimal transport of a
  batch, entropic (with --bridge brownian), or conditional (C2OT within each
  label)."""
  coupled_batches: int = 1
  """Number of batches that are coupled together, at least 1."""
  bridge: choices.BridgeName = "none"
  """Noise added between data and source: none, constant or brownian."""
  bridge_std: float = 0.0
  """Standard deviation of a constant bridge, or the diffusion coefficient of a
  brownian one, at least 0."""
  interpolant: bool = False
  """Learn the denoiser too, for stochastic solvers; needs a bridge."""
  eps: float = 1.0
  """Noise rate of euler_maruyama in units of the bridge's gamma, at least 0."""
  reflow: str | None = None
  """Run directory of the flow that generates the pairs; None uses the data."""
  reflow_pairs: int = 20_000
  """Number of pairs that this flow generates, at least batch_size."""

  path: Literal["linear", "trigonometric"] = "linear"
  """Path x_t = alpha(t) data + sigma(t) source."""
  prediction: Literal["velocity"] = "velocity"
  """What the network predicts."""
  level_mean: float = 0.0
  """Mean of log(sigma / alpha) in the normal distribution of t."""
  level_std: float = 1.0
  """Standard deviation of log(sigma / alpha), positive."""
  solver: choices.SolverName = "euler"
  """Solver of the sampling ODE or SDE."""
  grid: choices.GridName = "uniform"
  """Time grid of sampling."""
  sample_steps: int = 50
  """Number of sampling steps; a Gaussian source needs one more call."""


_POINTS = presets.POINTS | dict(
  level_mean=0.0,
  batch_size=256,
  draw="uniform",
  ratio_min=1e-4,
  ratio_max=1e4,
)

PRESETS = {
  "smoke": (
    "Moons to eight Gaussians in seconds: runs all code.",
    Config(
      run_dir="runs/smoke-flow",
      data="eight_gaussians",
      source="moons",
      coupling="exact",
      width=16,
      num_blocks=1,
      **presets.SMOKE,
    ),
  ),
  "digits": (
    "Noise to class-conditional digits: two to four minutes on two CPU cores.",
    Config(run_dir="runs/flow-digits", grid="karras"),
  ),
  "zero-to-eight": (
    "The digit 0 to the digit 8, with optimal transport of each batch.",
    Config(
      run_dir="runs/zero-to-eight",
      data="digits:8",
      source="digits:0",
      coupling="exact",
      draw="uniform",
      ratio_min=1e-3,
      ratio_max=1e3,
      num_steps=1500,
      learning_rate=2e-3,
    ),
  ),
  "photos": (
    "Noise to 32 x 32 crops of two photographs: ten minutes on two cores.",
    Config(
      run_dir="runs/flow-photos",
      grid="karras",
      **presets.PHOTOS,
    ),
  ),
  "images": (
    "Noise to your images, --data folder:PATH: twenty minutes for 32 x 32.",
    Config(run_dir="runs/flow-images", grid="karras", **presets.IMAGES),
  ),
  "pair": (
    "Points of one distribution to another, with optimal transport of batches.",
    Config(
      run_dir="runs/pair",
      source="moons",
      coupling="exact",
      **_POINTS,
    ),
  ),
  "interpolant": (
    "A stochastic interpolant: one model for a flow and for SDEs.",
    Config(
      run_dir="runs/interpolant",
      source="moons",
      bridge="brownian",
      bridge_std=1.0,
      interpolant=True,
      **_POINTS | dict(ratio_min=1e-2, ratio_max=1e2),
    ),
  ),
}


def experiment(config: Config) -> Experiment:
  """The experiment that the settings describe.

  Raises:
    ValueError, OSError: invalid settings, or missing or invalid data.
  """
  config = checks.plain(config)
  data = datasets.load(config)
  config = diffusion.resolve(config, data)
  _check(config, data)
  source = datasets.load_source(config, data)
  model = flows.make(config, data, source)
  times = np.asarray(model.times)
  plot = lambda path, found: figures.straightness(path, found.states, times)
  more: dict = {}
  if config.reflow is not None:  # its pairs are generated: none is held out
    more = dict(learns_from={"reflow": config.reflow}, validation=None)
  return diffusion.experiment_of(
    config,
    data,
    model,
    make_loss(config, model, data.num_classes),
    lambda data, key: make_batches(config, data, source, key),
    pictures=(("straightness.png", plot),),
    **more,
  )


def make_loss(config: Config, model: diffusion.Diffusion, num_classes: int):
  """(params, key, batch) -> (loss, metrics), over a batch of pairs."""
  how = dict(
    path=model.path, bridge=flows.make_bridge(config), weight=model.weight
  )
  matching = flow_matching.flow_matching
  if config.interpolant:
    matching = flow_matching.stochastic_interpolant

  def loss_fn(params, key, batch):  # data [B, *D], labels [B], source [B, *D]
    examples, labels, sources = batch
    t_key, noise_key, label_key, net_key = jax.random.split(key, 4)
    t = model.draw(t_key, (len(examples),)).astype(examples.dtype)
    noise = jax.random.normal(noise_key, examples.shape, examples.dtype)
    labels = single.drop_labels(config, num_classes, label_key, labels)
    net_keys = jax.random.split(net_key, len(examples))

    def loss(example, source, noise, t, label, key):  # one pair
      net = lambda x, c: model.net.apply(
        params, x, c, label, train=True, rngs={"dropout": key}
      )
      return matching(model.predict(net), example, source, noise, t, **how)

    drawn = examples, sources, noise, t, labels, net_keys
    return jax.vmap(loss)(*drawn).mean(), {}

  return loss_fn


def make_batches(
  config: Config, data: datasets.Data, source: datasets.Data, key: jax.Array
) -> Callable[[int], tuple]:
  """step -> (data, labels, source), coupled or generated by another run."""
  keys = jax.random.split(key, 3)
  if config.reflow is not None:
    flowed = _flowed(config, keys[0])
    return loaders.batches(flowed, keys[1], config.batch_size)
  pool = config.batch_size * config.coupled_batches
  name = config.coupling
  couple = choices.lookup(choices.COUPLINGS, name, "coupling")(config)
  make = pairs.batches(
    data.batches(keys[0], pool),
    source.unlabelled(keys[1], pool),
    keys[2],
    config.batch_size,
    couple,
    config.coupled_batches,
  )

  def batch_fn(number):
    with checks.naming(config, epsilon="bridge_std"):
      return make(number)

  if name == "entropic":
    batch_fn(0)  # Sinkhorn may not converge: fails before anything is written
  return batch_fn


def _flowed(config, key):
  """(data [N, *D], labels [N], source [N, *D]), generated by another run."""
  with checks.naming(config, "reflow"):
    ex = samples.read(config.reflow)
  for name in ("data", "source"):
    if getattr(ex.config, name, None) != getattr(config, name):
      raise ValueError(
        f"reflow, {name}: expected a run from {config.source} to {config.data},"
        f" but {config.reflow} has another {name}"
      )
  # The samples have labels of their own: the classes in turn.
  number, classes = config.reflow_pairs, ex.data.num_classes
  labels = np.arange(number, dtype=np.int32) % classes if classes else None
  starts, ends = samples.pairs(ex)(key, labels, number)
  return ends, labels, starts


def run(config: Config) -> state.State:
  """Trains, samples and draws pictures; resumes an existing run directory."""
  return training.run(__file__, experiment(config))


def _check(config: Any, data: datasets.Data) -> None:
  """Raises ValueError for invalid combinations of settings."""
  checks.known(config)
  checks.at_least(config, coupled_batches=1)
  if config.reflow_pairs < config.batch_size:
    raise ValueError(
      "reflow_pairs, batch_size: expected at least a batch of pairs, got"
      f" {config.reflow_pairs} and {config.batch_size}"
    )
  checks.nonnegative(config, "bridge_std", "eps")
  if (config.bridge == "none") != (config.bridge_std == 0):
    raise ValueError(
      "bridge_std, bridge: expected 0 for none, above 0 for other bridges, got"
      f" {config.bridge_std} and {config.bridge}"
    )
  if config.coupling == "entropic" and config.bridge != "brownian":
    raise ValueError(
      f"coupling, bridge: expected brownian for entropic, got {config.bridge}"
    )
  if config.coupling == "conditional" and not data.num_classes:
    raise ValueError(
      "coupling, data: expected data with labels for conditional, got"
      f" {config.data}"
    )
  if config.interpolant and config.bridge == "none":
    raise ValueError("interpolant, bridge: expected a bridge, got none")
  if config.reflow is not None and config.coupling != "independent":
    raise ValueError(
      "coupling, reflow: expected independent with reflow, got"
      f" {config.coupling}"
    )
  draws_noise = config.solver not in choices.FLOW_SOLVERS
  if draws_noise and (flows.coupled(config) or not flows.from_noise(config)):
    if not (config.interpolant and config.solver == "euler_maruyama"):
      raise ValueError(
        "solver, source, bridge, coupling, reflow, interpolant: expected a"
        " deterministic solver, as the score is known only for uncoupled"
        " noise or for an interpolant (euler_maruyama), got"
        f" {config.solver}"
      )
  if not draws_noise and not flows.from_noise(config):
    _check_needs(config)
  if not flows.from_noise(config) and config.sample_path is not None:
    raise ValueError(
      "sample_path, source, bridge: expected None between datasets, got"
      f" {config.sample_path}"
    )


def _check_needs(config):
  """Between datasets, only an interpolant gives more than the velocity."""
  solver = choices.lookup(choices.SOLVERS, config.solver, "solver")(
    config.churn
  )
  known = ("velocity", "score", "data") if config.interpolant else ("velocity",)
  if missing := [name for name in solver.needs if name not in known]:
    raise ValueError(
      "solver, source, bridge: expected a solver that needs no"
      f" {' or '.join(missing)} between datasets, got {config.solver}"
    )


if __name__ == "__main__":
  command_line.main(__file__, PRESETS, run)
