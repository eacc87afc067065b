"""The parts of experiments.flow_matching: sources, bridges, pairs."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lib import (
  build,
  datasets,
  drawing,
  figures,
  report,
  settings,
  tables,
)
from experiments.lib import run as runs
from jaxgen.data import loaders, pairs
from jaxgen.losses import flow_matching


class Source(NamedTuple):
  """Where a flow starts.

  Attributes:
    std: over all coordinates.
    draw: key -> one example, [*D]: of a law afresh, of a set among those that
      are held out for validation.
    batches: (key, number) -> (step -> examples [number, *D]), on the host.
    mixture: the law, where it is a Gaussian mixture.
  """

  std: float
  draw: Callable
  batches: Callable
  mixture: Any = None


def source(config: Any, data: datasets.Data) -> Source:
  """The source of a configuration.

  Raises:
    ValueError: no such set, or examples of another shape than the data's.
  """
  if config.source == "gaussian":
    return _noise(data.shape)
  with settings.naming(config, "source", size="image_size"):
    found = datasets.load_data(
      config.source,
      image_size=config.image_size,
      data_dir=config.data_dir,
      option="source",
    )
  if found.shape != data.shape:
    raise ValueError(
      f"source, data: expected examples {list(data.shape)} as in"
      f" {config.data}, got {list(found.shape)} in {config.source}"
    )

  batches = datasets.unlabelled(found)
  if found.law is not None:
    return Source(found.std, found.law.sample, batches, found.law.mixture)
  held_out = found.real[0]

  def draw(key):
    row = jax.random.randint(key, (), 0, len(held_out))
    return jnp.asarray(held_out)[row]

  return Source(found.std, draw, batches)


def _noise(shape):
  draw = lambda key: jax.random.normal(key, shape)

  @functools.partial(jax.jit, static_argnums=2)
  def many(key, step, number):
    return jax.random.normal(jax.random.fold_in(key, step), (number, *shape))

  batches = lambda key, number: lambda step: many(key, step, number)
  return Source(1.0, draw, batches)


def from_noise(config: Any) -> bool:
  """Whether the flow is that of a Gaussian path."""
  return config.source == "gaussian" and config.bridge == "none"


def coupled(config: Any) -> bool:
  """Whether data and source are not independent draws."""
  return config.reflow is not None or config.coupling != "independent"


def make_bridge(config: Any) -> flow_matching.Bridge:
  """gamma, t -> []."""
  make = tables.lookup(tables.BRIDGES, config.bridge, "bridge")
  path = build.make_path(config, config.path, "path")
  return make(config.bridge_std, path.t_max)


def batches(
  config: Any, data: datasets.Data, key: jax.Array
) -> Callable[[int], tuple]:
  """step -> (data, labels, source), coupled or from the flow of another run."""
  keys = jax.random.split(key, 3)
  if config.reflow is not None:
    flowed = _flowed(config, keys[0])
    return loaders.batches(flowed, keys[1], config.batch_size)
  pool = config.batch_size * config.coupled_batches
  name = config.coupling
  couple = tables.lookup(tables.COUPLINGS, name, "coupling")(config)
  make = pairs.batches(
    data.batches(keys[0], pool),
    source(config, data).batches(keys[1], pool),
    keys[2],
    config.batch_size,
    couple,
    config.coupled_batches,
  )

  def batch_fn(number):
    with settings.naming(config, epsilon="bridge_std"):
      return make(number)

  if name == "entropic":
    batch_fn(0)  # before anything is written, as Sinkhorn may not converge
  return batch_fn


def _flowed(config, key):
  """(data [N, *D], labels [N], source [N, *D]) of another run."""
  with settings.naming(config, "reflow"):
    run = drawing.read(config.reflow)
  for name in ("data", "source"):
    if getattr(run.config, name, None) != getattr(config, name):
      raise ValueError(
        f"reflow, {name}: expected a run from {config.source} to {config.data},"
        f" {config.reflow} has another {name}"
      )
  # Labels are its samples' own, each class in turn.
  number = config.reflow_pairs
  classes = run.data.num_classes
  labels = np.arange(number, dtype=np.int32) % classes if classes else None
  starts, samples = drawing.pairs(run)(key, labels, number)
  return samples, labels, starts


def pictures(run_dir, draw: Callable, method, data) -> list[str]:
  """report.pictures and straightness.png."""
  drawn = draw()
  names = report.pictures(run_dir, lambda: drawn, method, data)
  path, times = run_dir / "straightness.png", np.asarray(method.times)
  figures.straightness(path, drawn.states, times)
  return [*names, path.name]


def check(config: Any, data: datasets.Data) -> None:
  """Refuses settings that do not go together.

  Raises:
    ValueError: which, and why.
  """
  settings.known(config)
  runs.at_least(config, coupled_batches=1)
  if config.reflow_pairs < config.batch_size:
    raise ValueError(
      "reflow_pairs, batch_size: expected at least a batch of pairs, got"
      f" {config.reflow_pairs} and {config.batch_size}"
    )
  for name in ("bridge_std", "eps"):
    if not 0 <= getattr(config, name) < math.inf:
      raise ValueError(
        f"{name}: expected a number of at least 0, got {getattr(config, name)}"
      )
  if (config.bridge == "none") != (config.bridge_std == 0):
    raise ValueError(
      "bridge_std, bridge: expected 0 with none and above 0 with another, got"
      f" {config.bridge_std} and {config.bridge}"
    )
  if config.coupling == "entropic" and config.bridge != "brownian":
    raise ValueError(
      f"coupling, bridge: expected brownian with entropic, got {config.bridge}"
    )
  if config.coupling == "conditional" and not data.num_classes:
    raise ValueError(
      "coupling, data: expected labels with conditional, got"
      f" {config.data} without"
    )
  if config.interpolant and config.bridge == "none":
    raise ValueError("interpolant, bridge: expected a bridge, got none")
  if config.reflow is not None and config.coupling != "independent":
    raise ValueError(
      "coupling, reflow: expected independent with another run's pairs, got"
      f" {config.coupling}"
    )
  draws_noise = config.solver not in tables.FLOW_SOLVERS
  if draws_noise and (coupled(config) or not from_noise(config)):
    allowed = config.interpolant and config.solver == "euler_maruyama"
    if not allowed:
      raise ValueError(
        "solver, source, bridge, coupling, reflow, interpolant: expected a"
        " solver that draws no noise, as the score is known only from"
        " uncoupled noise or of an interpolant (euler_maruyama), got"
        f" {config.solver}"
      )
  if not draws_noise and not from_noise(config):
    _check_needs(config)
  if not from_noise(config) and config.sample_path is not None:
    raise ValueError(
      "sample_path, source, bridge: expected no other path between data sets,"
      f" got {config.sample_path}"
    )


def _check_needs(config):
  """Between data sets there is no path, and without eta the velocity alone."""
  solver = tables.lookup(tables.SOLVERS, config.solver, "solver")(config.churn)
  known = ("velocity", "score", "data") if config.interpolant else ("velocity",)
  if missing := [name for name in solver.needs if name not in known]:
    raise ValueError(
      "solver, source, bridge: expected one that needs no"
      f" {' or '.join(missing)} between data sets, got {config.solver}"
    )
