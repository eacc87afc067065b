"""Critics on pairs of distributions whose W1, potential and rays are known.

  python -m benchmarks w1          ten critics: cosine of gradients, value

Funnels of Korotin et al. 2022, arXiv:2206.07767, and images, whose distance is
unknown. Every cell (pair, method, seed) is stored in runs/tables once it is
finished, and a second call continues from there. --pairs selects columns,
--seeds is the number of fresh pairs, --budget scales the steps of every recipe:
1 is what the page shows.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import pages, runner, trained
from benchmarks.published import cells
from jaxgen.data import transport_pairs as pairs
from jaxgen.metrics import transport

# Column: dimension and number of funnels of the benchmark's four pairs.
FUNNELS = {
  "D2 N4": (2, 4),
  "D16 N4": (16, 4),
  "D16 N64": (16, 64),
  "D128 N64": (128, 64),
}
GAUSSIANS: dict[str, Callable[[], pairs.Pair]] = {
  "D16 scaled": lambda: pairs.scaled(16),
  "D16 shifted": lambda: pairs.shifted(16),
  "D16 stretched": lambda: pairs.scaled(16, num_axes=4),
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
NUM_CONES = {"D2": 64, "D16": 512, "D128": 768}
# Scales of the cones' starts: the better one in short trials is taken.
STARTS = ((0.3, 1.0), (1.0, 0.3))
TRIAL = 0.1  # of the steps, each
NUM_FRESH = 4096
PUBLISHED, NAMES = cells.FIGURES["w1"], cells.FIGURES["names"]["w1"]


def rows(column: str) -> tuple[str, ...]:
  """The methods of a column."""
  if column == DIGITS:
    return ON_DIGITS
  return METHODS if column in FUNNELS else BESIDE


def settings(column: str, method: str, budget: float) -> dict:
  """The settings of a cell; the budget scales the recipe's steps."""
  recipe = trained.critics.RECIPES[method]._asdict()
  recipe["num_steps"] = cells.steps(budget, recipe["num_steps"])
  if method == "cones" and column != DIGITS:
    num_cones = NUM_CONES[column.split()[0]]
    recipe |= dict(num_cones=num_cones, starts=STARTS, trial=TRIAL)
  return cells.plain(recipe)


def make_pair(column: str, seed: int) -> pairs.Pair:
  """A fresh pair of the column's kind."""
  if column in GAUSSIANS:
    return GAUSSIANS[column]()
  name = column.removesuffix(" swapped")
  pair = pairs.funnels(jax.random.key(100 + seed), *FUNNELS[name])
  return pair if column == name else pairs.swapped(pair)


@functools.cache
def sampler(pair: pairs.Pair):
  """(key, number) -> paired samples of both, compiled once per number."""
  draw = lambda key, number: jax.vmap(pair.sample)(
    jax.random.split(key, number)
  )
  return jax.jit(draw, static_argnums=1)


@functools.cache
def unpaired(pair: pairs.Pair):
  """(key, number) -> independent samples of both distributions."""
  both = sampler(pair)

  def draw(key, number):  # compiled whole: unused samples are not computed
    data_key, other_key = jax.random.split(key)
    return both(data_key, number)[0], both(other_key, number)[1]

  return jax.jit(draw, static_argnums=1)


def fit(pair: pairs.Pair, method: str, seed: int, how: dict):
  """A trained critic, [D] -> []; cones take the start whose trial has the
  larger dual value on fresh samples.
  """
  how = cells.tuples(how)
  starts, trial = how.pop("starts", ((1.0, 1.0),)), how.pop("trial", 1.0)
  cone = {"num_cones": how.pop("num_cones")} if "num_cones" in how else {}
  recipe, draw = trained.critics.Recipe(**how), unpaired(pair)
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
    short = cells.steps(trial, recipe.num_steps)
    ahead = max(starts, key=lambda start: value(train(start, short), *fresh))
  return train(ahead, recipe.num_steps)


def value(critic_fn, data, other) -> float:
  """E f(data) - E f(other)."""
  values = jax.jit(jax.vmap(critic_fn))
  return float(jnp.mean(values(data)) - jnp.mean(values(other)))


def measure(cell: runner.Cell, how: dict) -> dict:
  """Cosine, L2 and W1 of a critic on fresh samples, beside the truth."""
  if cell.column == DIGITS:
    return measure_digits(cell, how)
  pair = make_pair(cell.column, cell.seed)
  critic_fn, cpu = cells.timed(lambda: fit(pair, cell.method, cell.seed, how))
  test_key, other_key = jax.random.split(jax.random.key(1000 + cell.seed))
  data, paired = sampler(pair)(test_key, NUM_FRESH)
  other = sampler(pair)(other_key, NUM_FRESH)[1]
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
  config = dataclasses.replace(
    trained.wasserstein.PRESETS["digits"][1],
    critic=cell.method,
    num_steps=how["num_steps"],
    seed=cell.seed,
  )
  ex = trained.wasserstein.experiment(config)
  now, cpu = cells.timed(lambda: trained.play(ex))
  players = {name: player.params for name, player in now.players.items()}
  found, _ = ex.measure(trained.Trained({}, players, {}))
  return dict(
    value=found["value"],
    error=found["standard_error"],
    clouds=found["clouds"],
    number=found["clouds_size"],
    cpu=cpu,
  )


def _critics(column, methods):
  """The rows of a pair whose potential is known."""
  number = len(next(iter(methods.values())))
  for method, values in methods.items():
    said, name = "", NAMES[method]
    if column in FUNNELS and method in PUBLISHED:
      said = PUBLISHED[method][list(FUNNELS).index(column)]
    if len(values) < number:
      name += f", {len(values)} of {number} seeds"
    cosine = cells.spread([v["cosine"] for v in values], sign="±")
    l2 = f"{cells.mean(values, 'l2'):.3g}"
    yield name, cosine, l2, *cells.means(values, w1=3, cpu=0), said


def tables(record: dict) -> dict:
  """The parts of the page."""
  found = dict(made=made(record))
  for column, methods in record["cells"].items():
    first = next(iter(methods.values()))
    if column == DIGITS:
      clouds, number = first[0]["clouds"], first[0]["number"]
      found["clouds"] = f"{number} the distance is exactly {clouds:.3f}"
      head = "critic | value on held-out images | standard error | CPU s"
      lines = [
        (NAMES[method], *cells.means(values, value=3, error=3, cpu=0))
        for method, values in methods.items()
      ]
    else:
      head = "critic | cosine | L2 | value | CPU s | published cos/L2/W1"
      lines = _critics(column, methods)
      true, sampled = cells.means(first, true=3, sampled=3)
      found[f"{column}, truth"] = (
        f"W1 {true}; the true potential on these draws {sampled}."
      )
    found[column] = pages.table(head, lines)
  return found


def made(record: dict) -> str:
  """The command and the machine."""
  return f"`{record['command']}`, {record['machine']}."


TABLE = runner.Table(COLUMNS, rows, settings, runner.each(measure))
BENCHMARKS = {"w1": runner.of_cells("w1", TABLE, tables, 3)}
