"""Conditions and couplings: Cheng and Schwing 2025, figure 1.

  python -m benchmarks c2ot --seeds 3          about 65 minutes of one core

arXiv:2503.10636. Their code counts time from source to data, ours from data (0)
to source (1). Every cell (condition, method, seed) is stored in runs/tables as
it is finished, and a second call goes on from there.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import pages, runner
from benchmarks.published import flows
from jaxgen import couplings, fields, samplers
from jaxgen.data import pairs
from jaxgen.losses import flow_matching
from jaxgen.metrics import transport

COLUMNS = ("discrete", "continuous", "none")

WIDTH = 128
RATIO = 0.05
SETTINGS = (
  ("num_steps", 20_000),
  ("learning_rate", 3e-4),
  ("pool", 1024),
  ("num_pools", 200),
  ("decay", 0.9995),
  ("num_points", 10_000),
)
SOLVES = ("euler", "adaptive")
PUBLISHED = flows.FIGURES["c2ot"]  # {condition and method: Euler-1, adaptive}


def rows(column: str) -> tuple[str, ...]:
  """The methods of a condition."""
  return ("floor" if column == "none" else "C2OT", "FM", "OT")


def seeds(method: str, number: int) -> int:
  """Fewer of those that are not theirs."""
  return number if method in ("C2OT", "floor") else min(number, 2)


def settings(column: str, method: str, budget: float) -> dict:
  """What a cell is measured with; budget scales the steps."""
  found = dict(SETTINGS)
  return found | dict(num_steps=flows.whole_chunks(budget, found["num_steps"]))


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
  """Their residual network's weights, as PyTorch draws them."""
  keys = iter(jax.random.split(key, 10))
  blocks = [
    dict(
      up=flows.dense(next(keys), WIDTH, 4 * WIDTH),
      down=flows.dense(next(keys), 4 * WIDTH, WIDTH),
    )
    for _ in range(3)
  ]
  params = dict(blocks=blocks, out=flows.dense(next(keys), WIDTH, 2))
  params |= dict(x=flows.dense(next(keys), 2, WIDTH))
  params |= dict(t=flows.dense(next(keys), 1, WIDTH))
  if kind != "none":
    params |= dict(condition=flows.dense(next(keys), 1, WIDTH))
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


def couple(method: str):
  """(key, data, source, condition) -> order, or None."""
  return {
    "FM": None,
    "OT": lambda key, data, source, condition: couplings.exact(data, source),
    "C2OT": lambda key, data, source, condition: couplings.conditional(
      data, source, discrete(condition), ratio=RATIO
    ),
  }[method]


def discrete(condition):
  """Conditions of two values as integers: classes."""
  values = np.unique(condition)
  return condition.astype(int) if len(values) == 2 else condition


def batches(cell: runner.Cell, settings: dict):
  """step -> (data, condition, source): pools, used again and again."""
  size = settings["pool"]

  def draw(number):
    rng = np.random.default_rng([cell.seed, number])
    data, label = flows.moons(rng, size)
    return (data, conditions(cell.column, data, label)), ring(rng, size)

  made = pairs.batches(
    lambda number: draw(number)[0],
    lambda number: draw(number)[1],
    jax.random.key(cell.seed),
    flows.BATCH_SIZE,
    couple(cell.method),
    size // flows.BATCH_SIZE,
  )
  period = settings["num_pools"] * size // flows.BATCH_SIZE
  kept = functools.lru_cache(maxsize=None)(made)
  return lambda step: kept(step % period)


def test_set(cell: runner.Cell, number: int):
  """(source, data, condition) of a cell, other draws than the training's."""
  rng = np.random.default_rng([cell.seed, 10**6, 0])
  source, (data, label) = ring(rng, number), flows.moons(rng, number)
  return source, data, conditions(cell.column, data, label)


def squared_distance(x: np.ndarray, y: np.ndarray) -> float:
  """What they call W2: POT's emd2 of the squared distances.

  transport.wasserstein squared is the same number, three times later.
  """
  try:
    import ot
  except ModuleNotFoundError:
    return transport.wasserstein(x, y) ** 2
  return float(ot.emd2([], [], couplings.costs(x, y), numItermax=10**8))


@functools.partial(jax.jit, static_argnames="tol")
def adaptive(params, source, condition, tol):
  """Dormand and Prince's method, one step length for a batch of 250.

  Returns:
    The points, [N, 2], and evaluations, one count a batch.
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
    euler=squared_distance(np.asarray(euler), data),
    adaptive=squared_distance(np.asarray(points), data),
    num_calls=float(np.mean(num_calls)),
  )


def floor(cell: runner.Cell, number: int) -> dict:
  """Of the test set and other draws of the same distribution."""
  data = test_set(cell, number)[1]
  other = flows.moons(np.random.default_rng([cell.seed, 10**6, 1]), number)[0]
  value = squared_distance(other, data)
  return dict(euler=value, adaptive=value, num_calls=0)


def run(cell: runner.Cell, settings: dict) -> dict:
  """Trains once; measures the last weights and their average."""
  if cell.method == "floor":
    values = floor(cell, settings["num_points"])
    return dict(last=values, mean=values)
  setup = flows.Setup(
    functools.partial(init, kind=cell.column),
    apply,
    optax.adam(settings["learning_rate"]),
    flow_matching.constant(0.0),
    False,
    settings["decay"],
  )
  steps, number = settings["num_steps"], settings["num_points"]
  found = flows.train(setup, [cell.seed], [batches(cell, settings)], steps)
  first = (jax.tree.map(lambda a: a[0], params) for params in found)
  last, mean = (measures(params, cell, number) for params in first)
  return dict(last=last, mean=mean)


def mean(found, kind: str, what: str) -> float:
  """Over seeds."""
  return np.mean([values[kind][what] for values in found])


def _cells(found, given, kind):
  """mean +- standard deviation over seeds, and the published figure."""
  for solve, figure in zip(SOLVES, given, strict=True):
    values = [v[kind][solve] for v in found]
    deviation = np.std(values, ddof=1) if len(values) > 1 else 0.0
    yield from (f"{np.mean(values):.4f} +- {deviation:.4f}", figure)
  yield from (f"{mean(found, kind, 'num_calls'):.0f}", len(found))


def _rows(cells):
  """Each row of the last weights, and that of their average."""
  for column, methods in cells.items():
    for method, found in methods.items():
      given = PUBLISHED.get(f"{column} {method}", ("-", "-"))
      yield column, method, *_cells(found, given, "last")
      if method != "floor":
        title = f"{method}, average weights"
        yield column, title, *_cells(found, given, "mean")


def _compared(cells):
  """C2OT's figures beside the published ones."""
  for column in ("discrete", "continuous"):
    found = cells.get(column, {}).get("C2OT")
    for solve, figure in zip(SOLVES, PUBLISHED[f"{column} C2OT"], strict=True):
      if found:
        values = [mean(found, kind, solve) for kind in ("last", "mean")]
        words = ["above" if v > figure else "at or below" for v in values]
        yield (
          f"- C2OT, {column}, {solve}, published {figure}: {values[0]:.4f} by"
          f" the last weights ({words[0]}), {values[1]:.4f} by average weights"
          f" ({words[1]})."
        )


def tables(record: dict) -> dict:
  """The parts of the page."""
  cells = record["cells"]
  head = "condition | method | Euler-1 | published | adaptive | published"
  absent = [
    f"- {column} {method} {tuple(PUBLISHED.get(f'{column} {method}', ()))}"
    for column in COLUMNS
    for method in rows(column)
    if method not in cells.get(column, {})
  ]
  title = ["", "Not run here, with published figures (Euler-1, adaptive):"]
  lower = [
    mean(found, "mean", solve) < mean(found, "last", solve)
    for methods in cells.values()
    for method, found in methods.items()
    if method != "floor"
    for solve in SOLVES
  ]
  return dict(
    made=[f"`{record['command']}` on", f"{record['machine']}."],
    cells=pages.table(f"{head} | evaluations | seeds", _rows(cells))
    + (title + absent if absent else []),
    compared=[*_compared(cells)],
    lower=f"{sum(lower)} of {len(lower)}",
  )


_TABLE = runner.Table(COLUMNS, rows, settings, runner.each(run), seeds)
_BENCHMARK = runner.of_cells("c2ot", _TABLE, tables, 5)
BENCHMARKS = {"c2ot": flows.with_versions(_BENCHMARK)}
