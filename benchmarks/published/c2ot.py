"""Conditions and couplings: Cheng and Schwing 2025, figure 1.

  python -m benchmarks c2ot --seeds 3          about 65 minutes of one core

arXiv:2503.10636. Their code counts time from source to data, ours from data (0)
to source (1). Every cell (condition, method, seed) is stored in runs/tables
once it is finished, and a second call continues from there.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import pages, runner
from benchmarks.published import cells, flows
from jaxgen import couplings, fields, samplers
from jaxgen.data import pairs
from jaxgen.losses import flow_matching

COLUMNS = ("discrete", "continuous", "none")
WIDTH = 128
RATIO = 0.05
SETTINGS = dict(
  num_steps=20_000,
  learning_rate=3e-4,
  pool=1024,
  num_pools=200,
  decay=0.9995,
  num_points=10_000,
)
SOLVES = ("euler", "adaptive")
PUBLISHED = cells.FIGURES["c2ot"]  # {condition and method: Euler-1, adaptive}


def rows(column: str) -> tuple[str, ...]:
  """The methods of a condition."""
  return ("floor" if column == "none" else "C2OT", "FM", "OT")


def seeds(method: str, number: int) -> int:
  """Two at most for the methods that are not theirs."""
  return number if method in ("C2OT", "floor") else min(number, 2)


def settings(column: str, method: str, budget: float) -> dict:
  """The settings of a cell; the budget scales the steps."""
  num_steps = cells.steps(budget, SETTINGS["num_steps"], flows.CHUNK)
  return SETTINGS | dict(num_steps=num_steps)


def ring(rng: np.random.Generator, number: int) -> np.ndarray:
  """Eight Gaussians, radius 5, covariance sqrt(.1) I: [N, 2]."""
  angle = rng.integers(8, size=number) * np.pi / 4
  middle = 5 * np.stack([np.cos(angle), np.sin(angle)], 1)
  noise = 0.1**0.25 * rng.standard_normal((number, 2))
  return (middle + noise).astype(np.float32)


def conditions(kind: str, points, label):
  """What the network is told, [N] floats, or None."""
  if kind == "none":
    return None
  value = points[:, 0] if kind == "continuous" else 2 * label - 1
  return value.astype(np.float32)


def init(key: jax.Array, kind: str) -> dict:
  """Weights of their residual network, as PyTorch initialises them."""
  keys = iter(jax.random.split(key, 10))
  blocks = [
    dict(
      up=flows.dense(next(keys), WIDTH, 4 * WIDTH),
      down=flows.dense(next(keys), 4 * WIDTH, WIDTH),
    )
    for _ in range(3)
  ]
  params = dict(blocks=blocks, out=flows.dense(next(keys), WIDTH, 2))
  params["x"] = flows.dense(next(keys), 2, WIDTH)
  params["t"] = flows.dense(next(keys), 1, WIDTH)
  if kind != "none":
    params["condition"] = flows.dense(next(keys), 1, WIDTH)
  return params


def apply(params: dict, x, t, condition):
  """h = x W + t w + c w';  h += W gelu(V h), three times;  h W."""
  h = flows.linear(params["x"], x)
  h = h + flows.linear(params["t"], jnp.reshape(t, (1,)))
  if condition is not None:
    h = h + flows.linear(params["condition"], jnp.reshape(condition, (1,)))
  for block in params["blocks"]:
    inner = jax.nn.gelu(flows.linear(block["up"], h), approximate=False)
    h = h + flows.linear(block["down"], inner)
  return flows.linear(params["out"], h)


def couple(cell: runner.Cell):
  """(key, data, source, condition) -> order, or None."""
  classes = lambda c: c.astype(int) if cell.column == "discrete" else c
  return {
    "FM": None,
    "OT": lambda key, data, source, condition: couplings.exact(data, source),
    "C2OT": lambda key, data, source, condition: couplings.conditional(
      data, source, classes(condition), ratio=RATIO
    ),
  }[cell.method]


def batches(cell: runner.Cell, how: dict):
  """step -> (data, condition, source): pools, used again and again."""
  size = how["pool"]
  num_batches = size // flows.BATCH_SIZE

  def draw(number):
    rng = np.random.default_rng([cell.seed, number])
    data, label = flows.moons(rng, size)
    return (data, conditions(cell.column, data, label)), ring(rng, size)

  made = pairs.batches(
    lambda number: draw(number)[0],
    lambda number: draw(number)[1],
    jax.random.key(cell.seed),
    flows.BATCH_SIZE,
    couple(cell),
    num_batches,
  )
  kept = functools.lru_cache(maxsize=None)(made)
  return lambda step: kept(step % (how["num_pools"] * num_batches))


def test_set(cell: runner.Cell, number: int):
  """(source, data, condition) of a cell, sampled apart from the training's."""
  rng = np.random.default_rng([cell.seed, 10**6, 0])
  source, (data, label) = ring(rng, number), flows.moons(rng, number)
  return source, data, conditions(cell.column, data, label)


def squared_distance(x, y) -> float:
  """What they call W2: the least mean squared distance of pairs."""
  x, y = (np.asarray(a, np.float64) for a in (x, y))
  return float(((x - y[couplings.exact(x, y)]) ** 2).sum(1).mean())


@functools.partial(jax.jit, static_argnames="tol")
def adaptive(params, source, condition, tol):
  """Dormand and Prince's method, one step length for a batch of 250: the points
  [N, 2], and the evaluations of every batch.
  """
  import diffrax

  def solve(x, condition):
    every = jax.vmap(apply, (None, 0, None, 0))
    field = fields.from_velocity(lambda x, t: every(params, x, t, condition))
    return samplers.adaptive.integrate(
      field, x, 1.0, 0.0, rtol=tol, atol=tol, solver=diffrax.Dopri5()
    )

  split = lambda a: a.reshape(-1, 250, *a.shape[1:])
  given = jax.tree.map(split, (source, condition))
  points, stats = jax.lax.map(lambda args: solve(*args), given)
  return points.reshape(source.shape), stats.num_calls


@jax.jit
def one_step(params, source, condition):
  """Euler's method in one step, from time 1 to 0."""
  every = jax.vmap(apply, (None, 0, None, 0))
  return source - every(params, source, 1.0, condition)


def measures(params, cell: runner.Cell, number: int) -> dict:
  """Squared distances to the test set, and the evaluations used."""
  source, data, condition = test_set(cell, number)
  points, num_calls = adaptive(params, source, condition, 1e-4)
  euler = one_step(params, source, condition)
  return dict(
    euler=squared_distance(euler, data),
    adaptive=squared_distance(points, data),
    num_calls=float(np.mean(num_calls)),
  )


def measure(cell: runner.Cell, how: dict) -> dict:
  """Trains once; measures the last weights and their average.

  The floor is measured on other samples of the data instead.
  """
  number = how["num_points"]
  if cell.method == "floor":
    data = test_set(cell, number)[1]
    rng = np.random.default_rng([cell.seed, 10**6, 1])
    value = squared_distance(flows.moons(rng, number)[0], data)
    found = dict(euler=value, adaptive=value, num_calls=0)
    return dict(last=found, mean=found)
  setup = flows.Setup(
    functools.partial(init, kind=cell.column),
    apply,
    optax.adam(how["learning_rate"]),
    flow_matching.constant(0.0),
    stratified=False,
    decay=how["decay"],
  )
  made = [batches(cell, how)]
  found = flows.train(setup, [cell.seed], made, how["num_steps"])
  last, mean = jax.tree.map(lambda a: a[0], found)
  return dict(
    last=measures(last, cell, number), mean=measures(mean, cell, number)
  )


def _rows(found):
  """Each row of the last weights, and that of their average."""
  for column, methods in found.items():
    for method, values in methods.items():
      given = PUBLISHED.get(f"{column} {method}", ("-", "-"))
      for kind in ("last", "mean") if method != "floor" else ("last",):
        title = method if kind == "last" else f"{method}, average weights"
        each = [value[kind] for value in values]
        shown = [cells.spread([v[solve] for v in each], 4) for solve in SOLVES]
        beside = itertools.chain(*zip(shown, given, strict=True))
        yield column, title, *beside, *cells.means(each, num_calls=0), len(each)


def _means(values, solve):
  """The means of the last weights' values and of the average's."""
  return [
    cells.mean([value[kind] for value in values], solve)
    for kind in ("last", "mean")
  ]


def _compared(found):
  """C2OT's figures beside the published ones."""
  beside = lambda v, figure: "above" if v > figure else "at or below"
  for column in COLUMNS[:2]:
    values = found.get(column, {}).get("C2OT")
    for solve, figure in zip(SOLVES, PUBLISHED[f"{column} C2OT"], strict=True):
      if values:
        last, mean = _means(values, solve)
        yield (
          f"- C2OT, {column}, {solve}, published {figure}: {last:.4f} by the"
          f" last weights ({beside(last, figure)}), {mean:.4f} by average"
          f" weights ({beside(mean, figure)})."
        )


def tables(record: dict) -> dict:
  """The parts of the page."""
  found = record["cells"]
  lower = [
    mean < last
    for methods in found.values()
    for method, values in methods.items()
    if method != "floor"
    for last, mean in (_means(values, solve) for solve in SOLVES)
  ]
  head = "condition | method | Euler-1 | published | adaptive | published"
  return dict(
    made=[f"`{record['command']}` on", f"{record['machine']}."],
    cells=pages.table(f"{head} | evaluations | seeds", _rows(found)),
    compared=[*_compared(found)],
    lower=f"{sum(lower)} of {len(lower)}",
  )


_TABLE = runner.Table(COLUMNS, rows, settings, runner.each(measure), seeds)
_BENCHMARK = runner.of_cells("c2ot", _TABLE, tables, 5)
BENCHMARKS = {"c2ot": cells.with_versions(_BENCHMARK)}
