"""Maps between pairs of laws whose W2 map is known."""

import time
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import cells, w1
from experiments.lib import games, movers
from jaxgen.data import transport as laws
from jaxgen.metrics import transport

# Column: key -> the pair.
PAIRS = {
  "Gaussian D16": lambda key: laws.gaussians(key, 16),
  "log-sum-exp D8": lambda key: laws.log_sum_exp(key, 8),
  "log-sum-exp D16": lambda key: laws.log_sum_exp(key, 16),
  "hard D8": lambda key: laws.log_sum_exp(
    key, 8, temperature=0.5, convexity=0.1
  ),
}
COLUMNS = tuple(PAIRS)
METHODS = ("linear", "semi_dual", "max_min", "makkuva", "w2gn")
NUM_FRESH = 8192


def rows(column: str) -> tuple[str, ...]:
  """The methods of a column."""
  return METHODS


def settings(column: str, method: str, budget: float) -> dict:
  """What a cell is measured with; budget scales the recipe's steps."""
  if method == "linear":
    return dict(number=NUM_FRESH)
  recipe = movers.RECIPES[method]._asdict()
  recipe["num_steps"] = max(1, round(budget * recipe["num_steps"]))
  return recipe | dict(features=list(recipe["features"]))


def fit(pair: laws.Pair, method: str, seed: int, how: dict):
  """A trained map, [D] -> [D]."""
  recipe = movers.Recipe(**how | dict(features=tuple(how["features"])))
  game = movers.make(method, recipe, pair.dim)
  init_key, run_key, data_key = jax.random.split(jax.random.key(seed), 3)
  draw = w1.draws(pair)
  batch_fn = games.batches(game.turns, recipe.batch_size, draw, data_key)
  params = jax.jit(game.init)(init_key, jnp.zeros(pair.dim))
  now = games.play(game.turns, params, batch_fn, recipe.num_steps, run_key)
  return game.of(now.players[game.player].ema["mean"])


def linear(pair: laws.Pair, seed: int):
  """The optimal map of the Gaussians of the samples' moments."""
  x, y = w1.draws(pair)(jax.random.key(seed), NUM_FRESH)
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  first, second = np.cov(x.T), np.cov(y.T)
  root, inverse = _power(first, 0.5), _power(first, -0.5)
  matrix = inverse @ _power(root @ second @ root, 0.5) @ inverse
  offset = y.mean(0) - matrix @ x.mean(0)
  return lambda x: jnp.float32(matrix) @ x + jnp.float32(offset)


def _power(matrix, power):
  values, vectors = np.linalg.eigh(matrix)
  return vectors * values**power @ vectors.T


def measure(cell: cells.Cell, how: dict) -> dict:
  """UVP and cosine of a map on fresh draws, in percent and as displacements."""
  pair = PAIRS[cell.column](jax.random.key(100 + cell.seed))
  cpu = time.process_time()
  if cell.method == "linear":
    map_fn = linear(pair, cell.seed)
  else:
    map_fn = fit(pair, cell.method, cell.seed, how)
  cpu = time.process_time() - cpu
  key = jax.random.key(1000 + cell.seed)
  x, y = jax.jit(jax.vmap(pair.sample))(jax.random.split(key, NUM_FRESH))
  moved = np.asarray(jax.jit(jax.vmap(map_fn))(x))
  x, y = np.asarray(x), np.asarray(y)
  return dict(
    uvp=transport.unexplained_variance(moved, y),
    cosine=transport.cosine(moved - x, y - x),
    cost=float(jnp.mean(jax.vmap(pair.cost)(x, moved))),
    true=float(jnp.mean(jax.vmap(pair.cost)(x, y))),
    cpu=cpu,
  )


def measure_all(row: list[cells.Cell], how: dict) -> Iterable[dict]:
  """The cells in turn."""
  return (measure(cell, how) for cell in row)
