"""Games on eight narrow Gaussians: which modes are found, and how well."""

import dataclasses
import time
from collections.abc import Iterable

import jax
import numpy as np

from benchmarks import cells
from experiments import gan
from experiments.lib import build, games, gans

COLUMNS = ("radius 2, std .1",)
RATE = 1e-3  # of games without a penalty: the best of 1e-2, 1e-3, 1e-4
BARE = dict(penalty="none", penalty_last=None, learning_rate=RATE)
GRADIENT = dict(
  objective="wasserstein",
  penalty="gradient",
  penalty_weight=0.1,  # of Gulrajani et al.'s toys
  penalty_last=None,
)
# What differs from the preset "ring", which is R3GAN. Of either player's
# updates there are 16,000 in all.
FLAGS: dict[str, dict] = {
  "r3gan": {},
  "non_saturating_r1_r2": dict(objective="non_saturating"),
  "wgan_gp": GRADIENT | dict(learning_rate=3e-3),
  "wgan_gp_5": GRADIENT | dict(critic_steps=5, num_steps=2667),
  "original": dict(objective="original", **BARE),
  "non_saturating": dict(objective="non_saturating", **BARE),
  "least_squares": dict(objective="least_squares", **BARE),
  "hinge": dict(objective="hinge", **BARE),
}
METHODS = ("truth", *FLAGS)
NUM_SAMPLES = 10_000


def rows(column: str) -> tuple[str, ...]:
  """The methods of a column."""
  return METHODS


def settings(column: str, method: str, budget: float) -> dict:
  """The configuration that a cell is measured with."""
  if method == "truth":
    return dict(number=NUM_SAMPLES)
  config = dataclasses.asdict(gan.PRESETS["ring"][1]) | FLAGS[method]
  config["num_steps"] = max(1, round(budget * config["num_steps"]))
  return {k: list(v) if isinstance(v, tuple) else v for k, v in config.items()}


def samples(method: str, seed: int, how: dict) -> np.ndarray:
  """Of the trained generator's average, [NUM_SAMPLES, 2]."""
  draw_key, run_key = jax.random.split(jax.random.key(1000 + seed))
  if method == "truth":
    data = build.load_data(gan.PRESETS["ring"][1])
    return np.asarray(data.batches(draw_key, NUM_SAMPLES)(0)[0])
  as_tuple = lambda v: tuple(v) if isinstance(v, list) else v
  config = gan.Config(
    **{k: as_tuple(v) for k, v in how.items()} | dict(seed=seed)
  )
  data = build.load_data(config)
  model = gan.make_method(config, data)
  turns = gan.make_turns(config, model, data)
  init_key, data_key = jax.random.split(jax.random.key(seed))
  batch_fn = gans.batches(config, data, data_key)
  params = model.players(init_key)
  now = games.play(turns, params, batch_fn, config.num_steps, run_key)
  mean = next(iter(now.players["generator"].ema.values()))
  keys = jax.random.split(draw_key, NUM_SAMPLES)
  generate = jax.vmap(lambda key: model.generate(mean, key, None))
  return np.asarray(jax.jit(generate)(keys))


def score(points: np.ndarray) -> dict:
  """Modes found, share within 3 std, smallest and largest share of a mode, and
  the std of those within, per coordinate.
  """
  law = build.load_data(gan.PRESETS["ring"][1]).law
  shares = gans.mode_shares(points, law.mixture)
  apart = np.linalg.norm(points[:, None] - law.mixture.means, axis=-1).min(1)
  within = apart[apart < 3 * law.mixture.stds[0]]
  return dict(
    std=float(np.sqrt(np.mean(within**2) / 2)) if len(within) else 0.0,
    modes=int(np.sum(shares >= 1 / 32)),
    good=float(shares.sum()),
    least=float(shares.min()),
    most=float(shares.max()),
  )


def measure(cell: cells.Cell, how: dict) -> dict:
  """The score of one training."""
  cpu = time.process_time()
  points = samples(cell.method, cell.seed, how)
  return score(points) | dict(cpu=time.process_time() - cpu)


def measure_all(row: list[cells.Cell], how: dict) -> Iterable[dict]:
  """The cells in turn."""
  return (measure(cell, how) for cell in row)
