"""The 1-Wasserstein distance between two datasets, estimated by a critic.

  python -m experiments.wasserstein points --run-dir runs/w1 --other moons
  python -m experiments.wasserstein points --run-dir runs/w1-files \
    --data mine.npz --other theirs.npz
  python -m experiments.wasserstein digits --run-dir runs/w1-digits

The value is the dual objective on held-out samples, E f(data) - E f(other). For
a critic that is 1-Lipschitz by construction it is a lower bound of the
distance. The exact distance between the held-out clouds is an upper bound on
average, so that the two enclose the true distance. The critic's rays show where
mass is transported.

Methods: Arjovsky et al. 2017, arXiv:1701.07875; Gulrajani et al. 2017,
arXiv:1704.00028; Anil et al. 2019, arXiv:1811.05381; Korotin et al. 2022,
arXiv:2206.07767 (MM-B, MM, MM-R); cones as in jaxgen/models/lipschitz.py.
"""

import dataclasses
import functools
import math
import re
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from experiments import settings
from experiments.experiment import Experiment, Keys, Trained
from experiments.lib import checks, choices, command_line, datasets, training
from experiments.pictures import potential
from experiments.recipes import critics
from jaxgen import assignment, couplings
from jaxgen.training import games, state

CriticName = Literal[tuple(critics.RECIPES)]  # type: ignore[valid-type]
NAMES = f"PATH.npz with an array points [N, D], {datasets.DATA}, or NAME+STD"
MAX_HELD_OUT = 1000  # of each dataset, for the exact distance of the clouds


@dataclasses.dataclass(frozen=True)
class Config(settings.Logging, settings.Devices, settings.Data, settings.Run):
  """Settings of one run; config.json stores all of them."""

  data: str = "eight_gaussians"
  """First dataset: PATH.npz with an array points [N, D], or a dataset of the
  other scripts; NAME+STD adds noise of standard deviation STD."""
  other: str = "moons"
  """Second dataset, with examples of the same shape."""
  critic: CriticName = "cones"
  """Critic; cones, features, orthogonal and spectral are 1-Lipschitz and give
  lower bounds; gradient, lipschitz and divergence use penalties."""
  num_cones: int = 512
  """Number of cones of each of the two families, at least 1."""
  cone_scales: tuple[float, float] = (1.0, 1.0)
  """Spread of the first cones about the means of data and of other, as factors
  of the spread of the samples, each at least 0."""

  num_steps: int | None = None
  """Number of training steps; None is the recipe's number."""
  batch_size: int | None = None
  """Number of examples of each dataset per step; None is the recipe's."""
  learning_rate: float | None = None
  """Learning rate of Adam, or of RMSProp for clipping, positive; None is the
  recipe's."""
  log_every: int = 50
  """Number of steps between records of metrics.jsonl."""
  samples_every: int = 500
  """Number of steps between small pictures."""


PRESETS = {
  "smoke": (
    "Two distributions on the plane in seconds: runs all code.",
    Config(
      run_dir="runs/smoke-w1",
      num_cones=16,
      num_steps=20,
      batch_size=64,
      log_every=5,
      save_every=10,
      samples_every=10,
    ),
  ),
  "points": (
    "Points of two distributions or files: half a minute on two cores.",
    Config(run_dir="runs/w1", num_cones=128),
  ),
  "digits": (
    "Digits against digits with noise, in features of a network.",
    Config(
      run_dir="runs/w1-digits",
      data="digits",
      other="digits+0.5",
      critic="features",
    ),
  ),
}


def experiment(config: Config) -> Experiment:
  """The experiment that the settings describe.

  Raises:
    ValueError, OSError: invalid settings, or missing or invalid data.
  """
  config, recipe = resolve(checks.plain(config))
  data, other = load(config, "data"), load(config, "other")
  checks.same_shape(config, "other", other, data)
  critic = critics.make(
    config.critic,
    recipe,
    math.prod(data.shape),
    num_cones=config.num_cones,
    cone_scales=config.cone_scales,
  )
  found = held_out(data, other)
  plot = lambda path, now: potential.plot(path, critic.of(now.players), found)

  def batches(keys):
    first, second = (data.unlabelled, keys[0]), (other.unlabelled, keys[1])
    return games.zipped(critic.turns, recipe.batch_size, first, second)

  init_key = _split(jax.random.key(config.seed)).players
  points = starts(data, other, init_key, config.num_cones)
  return Experiment(
    config,
    data,
    lambda key: critic.init(key, *points),
    critic.turns,
    batches,
    sampled=(),
    keys=_split,
    pictures=(("potential.png", plot),),
    sheet=plot,
    measure=functools.partial(measure, config, critic, found, recipe.bound),
  )


def resolve(config: Config) -> tuple[Config, critics.Recipe]:
  """The settings with the critic's steps, batch size and rate; and its recipe.

  Raises:
    ValueError: invalid settings.
  """
  recipe = choices.lookup(critics.RECIPES, config.critic, "critic")
  names = ("num_steps", "batch_size", "learning_rate")
  asked = {name: getattr(config, name) for name in names}
  asked = {k: v for k, v in asked.items() if v is not None}
  recipe = recipe._replace(**asked)
  config = dataclasses.replace(
    config, **{name: getattr(recipe, name) for name in names}
  )
  counts = "num_steps batch_size num_cones keep log_every save_every"
  counts += " samples_every"
  checks.at_least(config, **dict.fromkeys(counts.split(), 1))
  checks.known(config)
  checks.positive(config, "learning_rate")
  if not all(0 <= scale < math.inf for scale in config.cone_scales):
    raise ValueError(
      f"cone_scales: expected numbers of at least 0, got {config.cone_scales}"
    )
  return config, recipe


def load(config: Config, option: str) -> datasets.Data:
  """The dataset of a setting, or points of a file, with noise for NAME+STD.

  Raises:
    ValueError: no such data, or not usable.
    OSError: no such file.
  """
  name = getattr(config, option)
  noisy = re.fullmatch(r"(.+)\+([0-9.]+)", name)
  if noisy:
    try:
      std = float(noisy[2])
    except ValueError:
      raise ValueError(
        f"{option}: expected NAME+STD, got +{noisy[2]}"
      ) from None
    bare = dataclasses.replace(config, **{option: noisy[1]})
    return critics.noised(load(bare, option), std)
  if name.endswith(".npz") and ":" not in name:
    with checks.naming(config, option):
      return datasets.points(name)
  try:
    return datasets.load(config, option)
  except ValueError as error:
    if str(error).startswith(f"{option}: expected one of "):
      raise ValueError(f"{option}: expected {NAMES}, got {name!r}") from None
    raise


def starts(
  data: datasets.Data, other: datasets.Data, key: jax.Array, number: int
) -> list[jax.Array]:
  """Samples of both datasets at which the cones start, [number, *D] each."""
  keys = jax.random.split(jax.random.fold_in(key, 1))
  return [
    jnp.float32(side.unlabelled(k, number)(0))
    for side, k in zip((data, other), keys, strict=True)
  ]


def held_out(data: datasets.Data, other: datasets.Data) -> potential.HeldOut:
  """The held-out examples, and the exact pairing of some of them."""
  rows = np.random.RandomState(0)
  both = [np.asarray(side.split("test")[0]) for side in (data, other)]
  number = min(*map(len, both), MAX_HELD_OUT)
  x, y = (a[rows.permutation(len(a))[:number]] for a in both)
  cost = np.sqrt(couplings.costs(x, y))
  order = assignment.assign(cost)
  lengths = cost[np.arange(number), order]
  return potential.HeldOut(*both, (x, y[order]), lengths)


def measure(
  config: Config,
  critic: critics.Critic,
  found: potential.HeldOut,
  bound: str,
  now: Trained,
) -> tuple[dict[str, Any], str]:
  """The dual's value, its standard error, and the distance of the clouds."""
  values = jax.jit(jax.vmap(critic.of(now.players)))
  data, other = (np.asarray(values(x), np.float64) for x in found[:2])
  record = dict(
    value=float(data.mean() - other.mean()),
    standard_error=standard_error(data, other),
    bounds_from=bound,
    clouds=float(found.lengths.mean()),
    clouds_size=len(found.lengths),
    held_out=[len(data), len(other)],
  )
  return record, line(config, record)


def standard_error(data: np.ndarray, other: np.ndarray) -> float:
  """Standard error of mean(data) - mean(other); NaN for a single sample.

  Sets of equal size are treated as paired samples, because one set may be the
  other with noise.
  """
  if min(len(data), len(other)) < 2:
    return math.nan
  if len(data) == len(other):
    return float(np.std(data - other, ddof=1) / math.sqrt(len(data)))
  parts = (x.var(ddof=1) / len(x) for x in (data, other))
  return math.sqrt(sum(parts))


def line(config: Any, result: dict[str, Any]) -> str:
  """The result as one line."""
  pair, bound = f"({config.data}, {config.other})", result["bounds_from"]
  head = {
    "below": f"W1{pair} >=",
    "neither side": f"W1{pair} about",
    "nothing": f"{config.critic}{pair}, which is not W1:",
  }[bound]
  return (
    f"{head} {result['value']:.4g} +- {result['standard_error']:.2g} (dual on"
    f" held-out samples, {config.critic}: bounds from {bound});"
    f" {result['clouds']:.4g} between {result['clouds_size']} of each, an upper"
    " bound of W1 on average"
  )


def run(config: Config) -> state.State:
  """Trains, measures and draws pictures; resumes an existing run directory."""
  return training.run(__file__, experiment(config))


def _split(key):
  """The keys of a run, with one batch key per dataset."""
  keys = jax.random.split(key, 4)
  return Keys(keys[2], keys[:2], keys[3], None)


if __name__ == "__main__":
  command_line.main(__file__, PRESETS, run)
