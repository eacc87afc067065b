"""Bridges: diffusions between two datasets, or from a source to its data.

  python -m experiments.bridge toy --run-dir runs/bridge
  python -m experiments.bridge gaussian-bridge --run-dir runs/gaussians
  python -m experiments.bridge digits --run-dir runs/restored
  python -m experiments.encode runs/bridge

--method dsbm learns the Schrodinger bridge between --data (t = 0) and --source
(t = 1) as a game of two drifts: after --coupled-steps steps on the pairs of the
coupling, each is trained on pairs that the other simulates. --method matching
stays with the coupling's pairs: with --coupling entropic it is [SF]2M, one of
whose drifts and whose flow is SB-CFM. Samples are those of the diffusion by
euler_maruyama, or of its probability flow by a deterministic solver, which
`encode` runs in both directions.

--method paired restores data from the source that belongs to each: example i
of --source belongs to example i of --data, or --source is a corruption of the
data, pooled or masked. With --condition the network sees the source, and
deterministic solvers work too, after a first step that is stochastic.

Methods: Shi et al. 2023, arXiv:2303.16852 (DSBM); Tong et al. 2023,
arXiv:2307.03672 ([SF]2M); Liu et al. 2023, arXiv:2302.05872 (I2SB); Zhou et al.
2023, arXiv:2309.16948 (DDBM).
"""

import dataclasses
import functools
from typing import Any, Literal

import numpy as np

from experiments import settings
from experiments.experiment import Experiment, Times
from experiments.lib import (
  checks,
  choices,
  command_line,
  datasets,
  samples,
  training,
)
from experiments.pictures import latent_spaces, planes
from experiments.recipes import (
  bridge_measures,
  bridges,
  latents,
  presets,
  restoration,
  single,
)
from jaxgen.data import loaders
from jaxgen.training import state

NUM_SHOWN = 48


@dataclasses.dataclass(frozen=True)
class Config(
  settings.Logging,
  settings.Averages,
  settings.Optimizer,
  settings.Devices,
  settings.Network,
  settings.Data,
  settings.Run,
):
  """Settings of one run; config.json stores all of them."""

  method: Literal["dsbm", "matching", "paired"] = "dsbm"
  """Method: a game of two drifts that simulate pairs for each other, the same
  drifts on the coupling's pairs alone, or restoration of paired data."""
  source: str = "gaussian"
  """Source of the bridge: gaussian (standard noise) or any dataset of the same
  shape; for paired, pooled, masked or a dataset of the same length."""
  bridge_std: float = 1.0
  """Standard deviation of the Brownian motion after time 1, positive."""
  coupling: Literal["independent", "exact", "entropic"] = "independent"
  """Coupling of the first pairs: independent, exact optimal transport of a
  batch, or entropic, the bridge's own coupling of a batch."""
  coupled_steps: int = 500
  """Number of steps of dsbm on the coupling's pairs, at least 1."""
  refresh: int = 10
  """Number of steps between simulations of a batch of pairs, at least 1."""
  pool: int = 16
  """Number of simulated batches that pairs are drawn from, at least 1."""
  pair_steps: int = 20
  """Number of solver steps in the simulation of pairs, at least 1."""
  condition: bool = False
  """Whether the network of paired sees the source, as in DDBM."""

  solver: choices.SolverName = "euler_maruyama"
  """Solver of the samples: euler_maruyama for the diffusion, or a deterministic
  solver by velocity (paired: if its network sees the source, or ancestral)."""
  sample_steps: int = 20
  """Number of sampling steps, at least 1."""


_POINTS = dict(
  width=128,
  num_blocks=3,
  num_steps=6000,
  batch_size=256,
  learning_rate=2e-3,
  log_every=50,
  save_every=1000,
  samples_every=1000,
)
PRESETS = {
  "smoke": (
    "Moons to eight Gaussians in seconds: runs all code.",
    Config(
      run_dir="runs/smoke-bridge",
      data="eight_gaussians",
      source="moons",
      coupled_steps=8,
      refresh=2,
      pool=2,
      pair_steps=3,
      width=16,
      **presets.SMOKE,
    ),
  ),
  "toy": (
    "Moons to eight Gaussians by DSBM: three minutes on two CPU cores.",
    Config(
      run_dir="runs/bridge",
      data="eight_gaussians",
      source="moons",
      coupled_steps=2000,
      **_POINTS,
    ),
  ),
  "gaussian-bridge": (
    "DSBM between two Gaussians, where the bridge is known: minutes on a core.",
    Config(
      run_dir="runs/gaussian-bridge",
      data="gaussian:5:-0.1",
      source="gaussian:5:0.1",
      coupled_steps=2000,
      **_POINTS
      | dict(
        num_blocks=2, num_steps=10_000, batch_size=128, learning_rate=1e-3
      ),
    ),
  ),
  "digits": (
    "Digits of 4 x 4 pixels to 8 x 8, by DDBM: two minutes on two CPU cores.",
    Config(
      run_dir="runs/restored",
      method="paired",
      source="pooled",
      condition=True,
      num_steps=1500,
    ),
  ),
}


def experiment(config: Config) -> Experiment:
  """The experiment that the settings describe.

  Raises:
    ValueError, OSError: invalid settings, or missing or invalid data.
  """
  config = checks.plain(config)
  _check(config)
  data = samples.without_labels(datasets.load(config))
  if config.method == "paired":
    return _paired(config, data)
  source = samples.without_labels(datasets.load_source(config, data))
  model = bridges.make(config, data, source)
  truth, points = (
    bridge_measures.exact(config, data, source),
    len(data.shape) == 1,
  )
  measure = None
  if truth is not None and config.solver == "euler_maruyama":
    measure = functools.partial(bridge_measures.measure, model, truth)
  times = np.asarray(model.times)
  draw = functools.partial(_draw_back, model, data)
  return Experiment(
    config,
    data,
    players=model.players,
    turns=bridges.make_turns(config, model),
    batches=functools.partial(bridges.make_batches, config, data, source),
    sampled=tuple(bridges.PLAYERS),
    sample=lambda p, extras, key, label: model.sample(p, key),
    num_calls=2 * model.solver.num_calls(config.sample_steps),
    times=Times("t", times, np.ones(len(times))),
    extras=lambda key: bridges.make_extras(config, model),
    encode=lambda p, extras, x, label: model.flow(p, x, model.times[::-1]),
    decode=lambda p, extras, x, label: model.flow(p, x, model.times),
    between=latents.straight,
    field=lambda p, extras, label: model.field(p),
    pictures=(("to_source.png", draw),) if points else (),
    measure=measure,
  )


def _paired(config: Config, data: datasets.Data) -> Experiment:
  """The experiment of paired data."""
  pairs = restoration.partners(config, data)
  model = restoration.make(config, data, pairs)
  batches = lambda split, key: loaders.batches(
    pairs[split], key, config.batch_size
  )
  times = np.asarray(model.times)
  drawn = functools.partial(_draw_restored, model, pairs["validation"][0])
  return single.experiment_of(
    config,
    data,
    model.init,
    training.one_player(config, restoration.make_loss(model)),
    lambda data, key: batches("train", key),
    validation=lambda key: (
      lambda number: {"model": batches("validation", key)(number)}
    ),
    sample=lambda p, extras, key, label: model.sample(p["model"], key),
    num_calls=model.num_calls(),
    times=Times("t", times, np.ones(len(times))),
    pictures=(("restored.png", drawn),),
    measure=functools.partial(restoration.measure, model, pairs),
  )


def run(config: Config) -> state.State:
  """Trains, samples, measures, draws; resumes an existing run directory."""
  return training.run(__file__, experiment(config))


def _draw_back(model, data, path, found):
  """The diffusion from data to the source, the other way of paths.png."""
  starts = np.asarray(data.real[0])[:200]
  frames = bridges.trajectories(model, starts)(found.params)
  marks = [f"{t:.2g}" for t in np.asarray(model.times)[::-1]]
  planes.paths(path, frames, "t", [*marks[:-1], "source"])


def _draw_restored(model, real, path, found):
  made = restoration.restored(model, found.params["model"])[:NUM_SHOWN]
  title = "samples given the sources of held-out data"
  latent_spaces.reconstructions(
    path, np.asarray(real[:NUM_SHOWN]), made, "restored", title
  )


def _check(config: Any) -> None:
  """Raises ValueError for invalid settings and combinations."""
  counts = "sample_steps pair_steps refresh pool coupled_steps"
  single.check(config, *counts.split())
  checks.at_least(config, width=1, num_blocks=0, num_heads=1, patch=1)
  checks.positive(config, "bridge_std")
  checks.fraction(config, "dropout")
  paired = config.method == "paired"
  of_flow = config.condition or not paired  # the velocity is known
  known = (*(restoration.SOLVERS if paired else ("euler_maruyama",)),)
  for name, make in choices.FLOW_SOLVERS.items():
    if of_flow and make().needs == ("velocity",):
      known = (*known, name)
  if config.solver not in known:
    raise ValueError(
      f"solver, method, condition: expected {', '.join(known)} for"
      f" {config.method}, got {config.solver}"
    )
  if paired and config.solver in choices.FLOW_SOLVERS:
    checks.at_least(config, sample_steps=2)
  if config.condition and not paired:
    raise ValueError(
      f"condition, method: expected paired to show its source, got"
      f" {config.method}"
    )
  if config.source in restoration.CORRUPTIONS and not paired:
    raise ValueError(
      f"source, method: expected paired for {config.source}, got"
      f" {config.method}"
    )
  if paired and config.coupling != "independent":
    raise ValueError(
      "coupling, method: expected independent for paired, whose pairs are"
      f" given, got {config.coupling}"
    )
  if not paired and config.accumulate > 1:
    raise ValueError(
      "accumulate, method: expected 1 for a game of two, got"
      f" {config.accumulate}"
    )


if __name__ == "__main__":
  command_line.main(__file__, PRESETS, run)
