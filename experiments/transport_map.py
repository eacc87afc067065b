"""Transport maps from one dataset to another at minimal squared distance.

  python -m experiments.transport_map pair --run-dir runs/pair
  python -m experiments.transport_map pair --run-dir runs/moons --source moons
  python -m experiments.transport_map neural-ot --run-dir runs/neural-ot
  python -m experiments.transport_map zero-to-eight --run-dir runs/morph

--method chooses how the map T from --source to --data is learned: semi_dual,
w2gn or makkuva (T = grad phi of a potential phi), max_min or entropic. Time
runs from 0, the source, to 1, the data. A sample starts at a sample x of the
source and moves along its displacement, x + t (T(x) - x), in eight Euler steps.
All of them use one evaluation of T: one call of its network, or of the gradient
of its potential.

At the end, result.json records the cost of the map and the distance of the
mapped points to the data, with the distance of as many real points as the
floor.

Methods: Amos 2023, arXiv:2210.12153; Korotin et al. 2023, arXiv:2201.12220;
Korotin et al. 2021, arXiv:1909.13082; Makkuva et al. 2020, arXiv:1908.10962;
Seguy et al. 2018, arXiv:1711.02283.
"""

import dataclasses
import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from experiments import settings
from experiments.experiment import Experiment, Times, Trained
from experiments.lib import (
  averages,
  checks,
  choices,
  command_line,
  datasets,
  training,
)
from experiments.pictures import displacements
from experiments.recipes import maps
from jaxgen import fields, samplers
from jaxgen.metrics import transport
from jaxgen.training import games, state

MethodName = Literal[tuple(maps.RECIPES)]  # type: ignore[valid-type]
NUM_TIMES = 9  # states of a displacement
NUM_CLOUD = 1000  # points of an exact assignment


@dataclasses.dataclass(frozen=True)
class Config(
  settings.Logging,
  settings.Averages,
  settings.Devices,
  settings.Data,
  settings.Run,
):
  """Settings of one run; None uses the method's recipe (recipes.maps)."""

  data: str = "eight_gaussians"
  """Target of the map, a dataset without labels: a toy, digits:LABEL, ..."""
  source: str = "gaussian"
  """Source of the map: gaussian, or any dataset of the same shape."""
  method: MethodName = "semi_dual"
  """Method that learns the map."""
  epsilon: float = 1.0
  """Regularisation of the entropic plan, in units of |x - y|^2, positive."""
  features: tuple[int, ...] | None = None
  """Widths of the hidden layers of all networks, each at least 1; None is the
  recipe's."""

  num_steps: int | None = None
  """Number of steps of the game, at least 1; None is the recipe's number."""
  inner_steps: int | None = None
  """Number of map steps per potential step; None is the recipe's number."""
  batch_size: int | None = None
  """Number of examples of each dataset per step; None is the recipe's."""
  learning_rate: float | None = None
  """Peak learning rate of Adam, positive, decaying to a hundredth; None is the
  recipe's."""
  ema_decay: tuple[float, ...] | None = None
  """Decays of the map's averages, each from 0 to 1; the first is sampled; None
  is the recipe's."""
  samples_every: int = 500
  """Number of steps between small sheets of samples."""


PRESETS = {
  "smoke": (
    "A Gaussian to eight in seconds: runs all code, but does not learn.",
    Config(
      run_dir="runs/smoke-map",
      features=(16,),
      num_steps=20,
      batch_size=32,
      log_every=5,
      save_every=10,
      samples_every=10,
    ),
  ),
  "pair": (
    "A Gaussian to eight, by the semi-dual with exact conjugates.",
    Config(run_dir="runs/map-pair"),
  ),
  "neural-ot": (
    "The same by a game of a map against a potential.",
    Config(run_dir="runs/neural-ot", method="max_min"),
  ),
  "makkuva": (
    "The same by a game of two convex potentials, each the other's conjugate.",
    Config(run_dir="runs/makkuva", method="makkuva"),
  ),
  "w2gn": (
    "The same by two convex potentials whose gradients are inverse maps.",
    Config(run_dir="runs/w2gn", method="w2gn"),
  ),
  "entropic": (
    "The same by the means of an entropic plan, which do not reach the data.",
    Config(run_dir="runs/entropic", method="entropic"),
  ),
  "zero-to-eight": (
    "The digit 0 to the digit 8.",
    Config(
      run_dir="runs/map-digits",
      data="digits:8",
      source="digits:0",
      method="max_min",
    ),
  ),
}


def experiment(config: Config) -> Experiment:
  """The experiment that the settings describe.

  Raises:
    ValueError, OSError: invalid settings, or missing or invalid data.
  """
  config = resolve(checks.plain(config))
  data = datasets.load(config)
  _check(config, data)
  source = datasets.load_source(config, data)
  game = make_game(config, data)
  times = jnp.linspace(0.0, 1.0, NUM_TIMES)

  def sample(params, extras, key, label):
    start_key, solver_key = jax.random.split(key)
    x = source.draw(start_key)
    field = fields.from_transport_map(game.of(params[game.player]), x)
    solver = samplers.euler()
    states = samplers.trajectory(solver, field, x, times, solver_key)
    return states, states[-1]

  def batches(key):
    source_key, data_key = jax.random.split(key)
    return games.zipped(
      game.turns,
      config.batch_size,
      (source.unlabelled, source_key),
      (data.unlabelled, data_key),
    )

  pictures: tuple = ()
  if len(data.shape) == 1:
    pictures = (("map.png", functools.partial(_draw_map, data, game)),)
  return Experiment(
    config,
    data,
    players=lambda key: game.init(key, jnp.zeros(data.shape)),
    turns=game.turns,
    batches=batches,
    sampled=(game.player,),
    sample=sample,
    times=Times("t", np.asarray(times), np.ones(NUM_TIMES)),
    pictures=pictures,
    measure=functools.partial(measure, config, game, source, data),
  )


def resolve(config: Config) -> Config:
  """The settings, with None replaced by the values of the method's recipe.

  Raises:
    ValueError: no such method.
  """
  recipe = choices.lookup(maps.RECIPES, config.method, "method")
  values = recipe._asdict() | dict(ema_decay=(recipe.decay,))
  del values["decay"]
  left_open = {n: v for n, v in values.items() if getattr(config, n) is None}
  return dataclasses.replace(config, **left_open)


def make_game(config: Config, data: datasets.Data) -> maps.MapGame:
  """The method's game, with the run's averages for the map."""
  recipe = maps.RECIPES[config.method]
  asked = {n: getattr(config, n) for n in recipe._fields if n != "decay"}
  return maps.make(
    config.method,
    recipe._replace(**asked),
    math.prod(data.shape),
    epsilon=config.epsilon,
    averages=averages.rules(config),
  )


def held_out(config: Config, source: datasets.Data, number: int) -> np.ndarray:
  """Held-out examples of the source, [N, *D].

  At most `number` examples of the validation split, each once; or new samples
  if the source is a distribution.
  """
  if source.is_set:
    return np.asarray(source.real[0][:number])
  key = jax.random.fold_in(jax.random.key(config.seed), 1000)
  return np.asarray(
    jax.jit(jax.vmap(source.draw))(jax.random.split(key, number))
  )


def measure(
  config: Config,
  game: maps.MapGame,
  source: datasets.Data,
  data: datasets.Data,
  found: Trained,
) -> tuple[dict[str, Any], str]:
  """Cost of the map and distance of the mapped points, in squared distances.

  Returns:
    The record of result.json, and its text.

    number: N, the number of held-out examples of each dataset.
    cost: mean |x - T(x)|^2 over the held-out source examples.
    w2_source_real: W2^2 between these and the held-out data: the minimal cost,
      estimated with N points.
    w2_mapped_real: W2^2 between T(x) and the held-out data; compare it with
    w2_real_real: W2^2 between N training and N held-out data points.
  """
  real = np.asarray(data.real[0])[:NUM_CLOUD]
  x = held_out(config, source, len(real))
  real = real[: len(x)]
  key = jax.random.fold_in(jax.random.key(config.seed), 1001)
  other = data.unlabelled(key, len(x))(0)
  move = game.of(found.params[game.player])
  mapped = np.asarray(jax.jit(jax.vmap(move))(x))
  squared = lambda a, b: transport.wasserstein(a, b) ** 2
  moved = np.asarray(mapped, np.float64) - x
  record = dict(
    number=len(x),
    cost=float((moved**2).sum() / len(x)),
    w2_source_real=squared(x, real),
    w2_mapped_real=squared(mapped, real),
    w2_real_real=squared(other, real),
  )
  lines = (
    f"{record['number']} held-out examples of each dataset, squared distances",
    f"E|x - T(x)|^2      {record['cost']:9.4f}",
    f"W2^2 source, real  {record['w2_source_real']:9.4f}",
    f"W2^2 mapped, real  {record['w2_mapped_real']:9.4f}",
    f"W2^2 real, real    {record['w2_real_real']:9.4f}  the floor",
  )
  return record, "\n".join(lines)


def run(config: Config) -> state.State:
  """Trains, samples, measures, draws; resumes an existing run directory."""
  return training.run(__file__, experiment(config))


def _draw_map(data, game, path, found):
  starts, ends = found.states[:, 0], found.states[:, -1]
  potential = game.potential if data.shape == (2,) else None
  if potential is not None:
    potential = potential(found.params[game.player])
  displacements.plot(path, starts, ends, data.real[0], potential)


def _check(config, data):
  counts = "num_steps inner_steps batch_size log_every save_every"
  counts += " snapshot_every samples_every keep"
  checks.known(config)
  checks.at_least(config, **dict.fromkeys(counts.split(), 1))
  checks.positive(config, "epsilon", "learning_rate")
  if min(config.features, default=0) < 1:
    raise ValueError(
      f"features: expected widths of at least 1, got {config.features}"
    )
  if config.inner_steps > 1 and config.method not in maps.GAMES:
    raise ValueError(
      "inner_steps, method: expected 1 for methods other than"
      f" {' and '.join(maps.GAMES)}, got {config.inner_steps} for"
      f" {config.method}"
    )
  if data.num_classes:
    raise ValueError(
      "data: expected a dataset without labels, such as digits:LABEL, got"
      f" {config.data}"
    )


if __name__ == "__main__":
  command_line.main(__file__, PRESETS, run)
