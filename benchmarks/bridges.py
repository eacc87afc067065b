"""DSBM between two Gaussians, where the Schrodinger bridge is known.

  python -m benchmarks bridges --seeds 5        minutes of one CPU core

N(-.1, I) to N(.1, I) in 5, 20 and 50 dimensions, the configuration that Shi et
al. 2023, arXiv:2303.16852, released: 10,000 points of each distribution to
train on, 10,000 others of N(.1, I) to start from, batches of 128, 20 steps of
Euler-Maruyama. A Gaussian is fitted to each coordinate of the states at each of
the 21 times, and KL(fitted, exact) summed over the coordinates. Every cell
(dimension, method, seed) is stored in runs/tables once it is finished.
"""

import time
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import pages, runner, trained
from jaxgen import samplers
from jaxgen.data import loaders

COLUMNS = ("5", "20", "50")
NUM_TRAIN, NUM_TEST = 10_000, 10_000
# KL x 1e-3 in 5, 20 and 50 dimensions, of the paper's table.
PUBLISHED = {
  "DSBM-IPF (published)": ("1.23", "4.42", "8.75 +- .87"),
  "DSBM-IMF (published)": ("-", "-", "9.76 +- 1.67"),
  "DSB (published)": ("-", "-", "32.8 +- 1.28"),
  "SB-CFM (published)": ("1.45", "12.3", "49.4 +- 3.91"),
}
RECIPE = dict(
  num_steps=10_000,
  coupled_steps=1500,
  refresh=10,
  pool=32,
  learning_rate=1e-3,
  ema_decay=(0.999,),
)
METHODS = {
  "exact samples": {},
  "exact drifts": {},
  "DSBM (ours)": RECIPE,
  "DSBM, new points in every step (ours)": RECIPE | dict(fresh=True),
}


def settings(column: str, method: str, budget: float) -> dict:
  """The settings of a cell; the budget scales the steps."""
  how = dict(METHODS[method])
  for name in ("num_steps", "coupled_steps"):
    if name in how:
      how[name] = max(2, round(budget * how[name]))
  return how | dict(ema_decay=list(how.get("ema_decay", ())))


def configuration(dim: str, seed: int, how: dict):
  """The script's settings of a cell."""
  preset = trained.bridge.PRESETS["gaussian-bridge"][1]
  own = {k: v for k, v in how.items() if k != "fresh"}
  if "ema_decay" in own:
    own["ema_decay"] = tuple(own["ema_decay"]) or preset.ema_decay
  ends = dict(data=f"gaussian:{dim}:-0.1", source=f"gaussian:{dim}:0.1")
  ends |= dict(warmup_steps=min(100, own.get("num_steps", 1000) // 10))
  return trained.choices_replace(preset, seed=seed, **ends, **own)


def kept(data, key: jax.Array):
  """The data, with batches of the same points in every epoch."""
  points = data.unlabelled(key, NUM_TRAIN)(0)

  def batches(key, number):
    batch_fn = loaders.batches(points, key, number)
    return lambda step: (batch_fn(step), None)

  return data._replace(batches=batches)


def train(dim: str, seed: int, how: dict):
  """(the averaged players' field and times, seconds)."""


def measure_one(cell: runner.Cell, how: dict) -> dict:
  """The mean divergence over the 21 times, and at its ends."""


def draw_states(field, starts, times, key):
  """States [N, T, D] of the diffusion from the source."""
  solver = samplers.euler_maruyama(lambda t: 0.5 + 0 * t)

  def one(x, key):
    return samplers.trajectory(solver, field, x, times, key)

  return jax.vmap(one)(starts, jax.random.split(key, len(starts)))
