"""Critics on pairs of laws whose W1, potential and rays are known."""

import functools
import time
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import cells, w1_digits
from experiments.lib import critics, games
from jaxgen.data import transport as laws
from jaxgen.metrics import transport

# Column: dimension and number of funnels of the benchmark's four pairs.
FUNNELS = {"D2 N4": (2, 4), "D16 N4": (16, 4), "D16 N64": (16, 64)}
FUNNELS |= {"D128 N64": (128, 64)}
GAUSSIANS: dict[str, Callable[[], laws.Pair]] = {
  "D16 scaled": lambda: laws.scaled(16),
  "D16 shifted": lambda: laws.shifted(16),
  "D16 stretched": lambda: laws.scaled(16, num_axes=4),
}
SWAPPED = ("D16 N64 swapped", "D128 N64 swapped")
COLUMNS = (*FUNNELS, *SWAPPED, *GAUSSIANS, w1_digits.COLUMN)
METHODS = (
  "cones",
  "gradient",
  "lipschitz",
  "divergence",
  "orthogonal",
  "spectral",
  "clipping",
  "c_transform",
  "max_min",
  "reversed",
)
BESIDE = ("cones", "gradient", "lipschitz", "orthogonal")
# Scales of the cones' starts: short trials say which law's are drawn together.
STARTS = ((0.3, 1.0), (1.0, 0.3))
TRIAL = 0.1  # of the steps, each
NUM_FRESH = 4096


def rows(column: str) -> tuple[str, ...]:
  """The methods of a column."""
  if column == w1_digits.COLUMN:
    return w1_digits.METHODS
  return METHODS if column in FUNNELS else BESIDE


def settings(column: str, method: str, budget: float) -> dict:
  """What a cell is measured with; budget scales the recipe's steps."""
  recipe = critics.RECIPES[method]._asdict()
  recipe["num_steps"] = max(1, round(budget * recipe["num_steps"]))
  recipe["betas"] = list(recipe["betas"])
  if method == "cones" and column != w1_digits.COLUMN:
    dim = column.split()[0]
    recipe["num_cones"] = {"D2": 64, "D16": 512, "D128": 768}[dim]
    recipe |= dict(starts=[list(start) for start in STARTS], trial=TRIAL)
  return recipe


def make_pair(column: str, seed: int) -> laws.Pair:
  """A fresh pair of the column's law."""
  if column in GAUSSIANS:
    return GAUSSIANS[column]()
  name = column.removesuffix(" swapped")
  pair = laws.funnels(jax.random.key(100 + seed), *FUNNELS[name])
  return pair if column == name else laws.swapped(pair)


@functools.cache
def _many(pair):
  """(key, number) -> paired draws, compiled once a number."""
  draw = lambda key, number: jax.vmap(pair.sample)(
    jax.random.split(key, number)
  )
  return jax.jit(draw, static_argnums=1)


@functools.cache
def draws(pair: laws.Pair):
  """(key, number) -> draws of both laws, independent of one another."""
  many = _many(pair)

  def draw(key, number):  # compiled whole: what is dropped is not computed
    data_key, other_key = jax.random.split(key)
    return many(data_key, number)[0], many(other_key, number)[1]

  return jax.jit(draw, static_argnums=1)


def fit(pair: laws.Pair, method: str, seed: int, how: dict):
  """A trained critic, [D] -> []; of cones by the start that is ahead in trials
  of the dual on fresh draws.
  """
  how = dict(how, betas=tuple(how["betas"]))
  starts, trial = how.pop("starts", [(1.0, 1.0)]), how.pop("trial", 1.0)
  cone = {k: how.pop(k) for k in ("num_cones",) if k in how}
  recipe = critics.Recipe(**how)
  draw = draws(pair)
  keys = jax.random.split(jax.random.key(seed), 5)
  start_key, init_key, run_key, data_key, choice_key = keys
  points, fresh = draw(start_key, 1024), draw(choice_key, NUM_FRESH)

  def train(start, num_steps):
    now = recipe._replace(num_steps=num_steps)
    game = critics.make(method, now, pair.dim, cone_scales=tuple(start), **cone)
    pairs = games.batches(game.turns, recipe.batch_size, draw, data_key)
    batch_fn = critics.with_temperature(game, pairs)
    params = game.init(init_key, *points)
    played = games.play(game.turns, params, batch_fn, num_steps, run_key)
    return game.of({n: p.params for n, p in played.players.items()})

  ahead = starts[0]
  if len(starts) > 1:
    short = max(1, round(trial * recipe.num_steps))
    ahead = max(starts, key=lambda start: value(train(start, short), *fresh))
  return train(ahead, recipe.num_steps)


def value(critic_fn, data, other) -> float:
  """E f(data) - E f(other)."""
  values = jax.jit(jax.vmap(critic_fn))
  return float(jnp.mean(values(data)) - jnp.mean(values(other)))


def measure(cell: cells.Cell, how: dict) -> dict:
  """Cosine, L2 and W1 of a critic on fresh draws, beside the truth."""
  if cell.column == w1_digits.COLUMN:
    return w1_digits.measure(cell, how)
  pair = make_pair(cell.column, cell.seed)
  cpu = time.process_time()
  critic_fn = fit(pair, cell.method, cell.seed, how)
  cpu = time.process_time() - cpu
  test_key, other_key = jax.random.split(jax.random.key(1000 + cell.seed))
  data, paired = _many(pair)(test_key, NUM_FRESH)
  other = _many(pair)(other_key, NUM_FRESH)[1]
  slopes = jax.jit(jax.vmap(jax.grad(critic_fn)))(data)
  truth = jax.jit(jax.vmap(jax.grad(pair.potential)))(data)
  return dict(
    cosine=transport.cosine(np.asarray(slopes), np.asarray(truth)),
    l2=float(jnp.mean(jnp.sum((slopes - truth) ** 2, axis=1))),
    w1=value(critic_fn, data, other),
    true=float(jnp.mean(jax.vmap(pair.cost)(data, paired))),
    sampled=value(pair.potential, data, other),
    cpu=cpu,
  )


def measure_all(row: list[cells.Cell], how: dict) -> Iterable[dict]:
  """The cells in turn."""
  return (measure(cell, how) for cell in row)
