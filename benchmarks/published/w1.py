"""Critics on pairs of distributions whose W1, potential and rays are known.

  python -m benchmarks w1          ten critics: cosine of gradients, value

Funnels of Korotin et al. 2022, arXiv:2206.07767, and images, where no truth is
known. Every cell (pair, method, seed) is stored in runs/tables as it is
finished, and a second call goes on from there. --pairs takes some of the
columns, --seeds fresh pairs, --budget scales every recipe's steps: 1 is what
the page shows.
"""

import functools
import math
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import pages, runner, trained
from benchmarks.published.flows import FIGURES
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
DIGITS = "digits, noise .5"
COLUMNS = (*FUNNELS, *SWAPPED, *GAUSSIANS, DIGITS)
METHODS = tuple(
  "cones gradient lipschitz divergence orthogonal spectral clipping"
  " c_transform max_min reversed".split()
)
# On images. The first three are 1-Lipschitz: the larger value is the better
# one. That of a penalty may lie above W1.
ON_DIGITS = ("cones", "features", "orthogonal", "gradient", "lipschitz")
BESIDE = ("cones", "gradient", "lipschitz", "orthogonal")
# Scales of the cones' starts: short trials say whose tips are drawn together.
STARTS = ((0.3, 1.0), (1.0, 0.3))
TRIAL = 0.1  # of the steps, each
NUM_FRESH = 4096
PUBLISHED, NAMES = FIGURES["w1"], FIGURES["names"]["w1"]


def rows(column: str) -> tuple[str, ...]:
  """The methods of a column."""
  if column == DIGITS:
    return ON_DIGITS
  return METHODS if column in FUNNELS else BESIDE


def settings(column: str, method: str, budget: float) -> dict:
  """What a cell is measured with; budget scales the recipe's steps."""
  recipe = trained.critics.RECIPES[method]._asdict()
  recipe["num_steps"] = max(1, round(budget * recipe["num_steps"]))
  recipe["betas"] = list(recipe["betas"])
  if method == "cones" and column != DIGITS:
    dim = column.split()[0]
    recipe["num_cones"] = {"D2": 64, "D16": 512, "D128": 768}[dim]
    recipe |= dict(starts=[list(start) for start in STARTS], trial=TRIAL)
  return recipe


def make_pair(column: str, seed: int) -> laws.Pair:
  """A fresh pair of the column's kind."""
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
  """(key, number) -> independent samples of both distributions."""
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
  recipe = trained.critics.Recipe(**how)
  draw = draws(pair)
  keys = jax.random.split(jax.random.key(seed), 5)
  start_key, init_key, run_key, data_key, choice_key = keys
  points, fresh = draw(start_key, 1024), draw(choice_key, NUM_FRESH)

  def train(start, num_steps):
    now = recipe._replace(num_steps=num_steps)
    game = trained.critics.make(
      method, now, pair.dim, cone_scales=tuple(start), **cone
    )
    batch_fn = trained.games.batches(
      game.turns, recipe.batch_size, draw, data_key
    )
    params = game.init(init_key, *points)
    played = trained.games.play(
      game.turns, params, batch_fn, num_steps, run_key
    )
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


def measure(cell: runner.Cell, how: dict) -> dict:
  """Cosine, L2 and W1 of a critic on fresh draws, beside the truth."""
  if cell.column == DIGITS:
    return measure_digits(cell, how)
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


def measure_digits(cell: runner.Cell, how: dict) -> dict:
  """The dual's value on held-out images beside the clouds' own distance."""
  recipe = trained.critics.Recipe(**how | dict(betas=tuple(how["betas"])))
  config = trained.wasserstein.PRESETS["digits"][1]
  script = trained.wasserstein
  data, other = script.load(config, "data"), script.load(config, "other")
  key = jax.random.key(cell.seed)
  data_key, other_key, init_key, run_key = jax.random.split(key, 4)
  dim, number = math.prod(data.shape), config.num_cones
  cpu = time.process_time()
  game = trained.critics.make(cell.method, recipe, dim, num_cones=number)
  batch_fn = trained.games.zipped(
    game.turns,
    recipe.batch_size,
    (data.unlabelled, data_key),
    (other.unlabelled, other_key),
  )
  starts = script.starts(data, other, init_key, number)
  params = game.init(init_key, *starts)
  now = trained.games.play(
    game.turns, params, batch_fn, recipe.num_steps, run_key
  )
  cpu = time.process_time() - cpu
  held_out = script.held_out(data, other)
  players = {name: player.params for name, player in now.players.items()}
  last = trained.Trained({}, players, {})
  found, _ = script.measure(config, game, held_out, recipe.bound, last)
  return dict(
    value=found["value"],
    error=found["standard_error"],
    clouds=found["clouds"],
    number=found["clouds_size"],
    cpu=cpu,
  )


def mean(values: list[dict], name: str) -> float:
  """Over seeds."""
  return statistics.fmean(value[name] for value in values)


def spread(values: list[dict], name: str) -> float:
  """Standard deviation over seeds; 0 of one."""
  found = [value[name] for value in values]
  return statistics.stdev(found) if len(found) > 1 else 0.0


def _critics(column, methods):
  """The rows of a pair whose potential is known."""
  number = len(next(iter(methods.values())))
  for method, values in methods.items():
    said, name = "", NAMES[method]
    if column in FUNNELS and method in PUBLISHED:
      said = PUBLISHED[method][list(FUNNELS).index(column)]
    if len(values) < number:
      name += f", {len(values)} of {number} seeds"
    yield (
      name,
      f"{mean(values, 'cosine'):.3f} ± {spread(values, 'cosine'):.3f}",
      f"{mean(values, 'l2'):.3g}",
      f"{mean(values, 'w1'):.3f}",
      f"{mean(values, 'cpu'):.0f}",
      said,
    )


def tables(record: dict) -> dict:
  """The parts of the page."""
  found = dict(made=made(record))
  for column, methods in record["cells"].items():
    first = next(iter(methods.values()))
    if column == DIGITS:
      value, number = first[0]["clouds"], first[0]["number"]
      found["clouds"] = f"{number} the distance is exactly {value:.3f}"
      head = "critic | value on held-out images | standard error | CPU s"
      shown = {"value": 3, "error": 3, "cpu": 0}
      lines = [
        (NAMES[m], *(f"{mean(v, k):.{n}f}" for k, n in shown.items()))
        for m, v in methods.items()
      ]
    else:
      head = "critic | cosine | L2 | value | CPU s | published cos/L2/W1"
      lines = _critics(column, methods)
      found[f"{column}, truth"] = (
        f"W1 {mean(first, 'true'):.3f}; the true potential on these draws"
        f" {mean(first, 'sampled'):.3f}."
      )
    found[column] = pages.table(head, lines)
  return found


def made(record: dict) -> str:
  """The command and the machine."""
  return f"`{record['command']}`, {record['machine']}."


TABLE = runner.Table(COLUMNS, rows, settings, runner.each(measure))
BENCHMARKS = {"w1": runner.of_cells("w1", TABLE, tables, 3)}
