"""Flows between 2-D distributions: Tong et al. 2023, table 2.

  python -m benchmarks tong --seeds 5          about 40 minutes of one core

arXiv:2302.00482. Every cell (pair, method, seed) is stored in runs/tables once
it is finished, and a second call continues from there. The rows of torchcfm
need torchcfm and POT (benchmarks/requirements.txt) and are left out without
them.
"""

import functools
import importlib.util
import itertools
import time
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import spatial

from benchmarks import runner
from benchmarks.published import cells, flows, tong_tables
from jaxgen import couplings, fields, samplers
from jaxgen.data import toy
from jaxgen.losses import flow_matching
from jaxgen.metrics import transport

COLUMNS = tong_tables.COLUMNS
RECIPES = cells.FIGURES["recipes"]
METHODS = tuple(name for name in RECIPES if name != "plain")
NUM_TRAIN, NUM_TEST = 10_000, 1000
NUM_STEPS = 8000


def rows(column: str) -> tuple[str, ...]:
  """The methods of a column, those of torchcfm only if it is installed."""
  if all(importlib.util.find_spec(name) for name in ("torchcfm", "ot")):
    return METHODS
  print("torchcfm or POT is not installed: left out", flush=True)
  return tuple(name for name in METHODS if not name.startswith("torchcfm"))


def settings(column: str, method: str, budget: float) -> dict:
  """The settings of a cell; the budget scales the steps."""
  own = RECIPES[method]
  if method in ("floor", "optimal map"):
    return own
  plain = RECIPES["plain"] if "coupling" in own else {}
  num_steps = cells.steps(budget, NUM_STEPS, flows.CHUNK)
  return dict(num_steps=num_steps) | plain | own


def sample(name: str, key: jax.Array, number: int) -> np.ndarray:
  """Points [N, 2]; moons like torchdyn's, evenly spaced along their arcs."""
  if name == "moons":
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    return flows.moons(rng, number)[0]
  return np.asarray(sampler(name)(jax.random.split(key, number)))


@functools.cache
def sampler(name: str):
  """keys [N] -> points [N, 2] of a distribution, compiled once per N."""
  toys = dict(N=toy.gaussian, scurve=toy.s_curve)
  return jax.jit(jax.vmap(toys.get(name, toy.eight_gaussians)().sample))


def points(column: str, seed: int) -> dict[str, np.ndarray]:
  """Training and test points of both distributions, [N, 2] each.

  test_other are further test points of the data's distribution.
  """
  # By column, part (the second, for validation, is unused) and set of points.
  keys = jax.random.split(jax.random.key(seed), (len(COLUMNS), 3, 3))
  train, _, test = keys[COLUMNS.index(column)]
  source, data = column.split("->")
  return dict(
    train_source=sample(source, train[0], NUM_TRAIN),
    train_data=sample(data, train[1], NUM_TRAIN),
    test_source=sample(source, test[0], NUM_TEST),
    test_data=sample(data, test[1], NUM_TEST),
    test_other=sample(data, test[2], NUM_TEST),
  )


def measures(states: np.ndarray, found: dict) -> dict:
  """W2, NPE and its signed value, of states [N, T, 2] from the test source."""
  source, data = found["test_source"], found["test_data"]
  energy = transport.energy(states, np.linspace(1, 0, states.shape[1]))
  excess = energy / transport.wasserstein(source, data) ** 2 - 1
  w2 = transport.wasserstein(states[:, -1], data)
  return dict(w2=w2, npe=abs(excess), signed=excess)


def floor(cell: runner.Cell) -> dict:
  """The measures of other samples of the data, moved by optimal transport."""
  found = points(cell.column, cell.seed)
  source, ends = found["test_source"], found["test_other"]
  order = couplings.exact(source, ends)
  return measures(np.stack([source, ends[order]], 1), found)


@functools.cache
def coupled(column: str) -> tuple[np.ndarray, np.ndarray]:
  """(source, data) of seed 0's training points, in their optimal pairs."""
  found = points(column, 0)
  source, data = found["train_source"], found["train_data"]
  return source, data[couplings.exact(source, data)]


def optimal(cell: runner.Cell) -> dict:
  """The measures of the optimal map, which is that of 10,000 pairs: a test
  point moves like the nearest of their sources.
  """
  found = points(cell.column, cell.seed)
  source, data = coupled(cell.column)
  nearest = spatial.KDTree(source).query(found["test_source"])[1]
  ends = found["test_source"] + (data - source)[nearest]
  return measures(np.stack([found["test_source"], ends], 1), found)


def peer(cell: runner.Cell, num_steps: int) -> dict:
  """The measures of torchcfm on the same points, by one thread of PyTorch."""
  import torch

  found, method = points(cell.column, cell.seed), cell.method.split()[1]
  threads = torch.get_num_threads()
  torch.set_num_threads(1)
  torch.manual_seed(cell.seed)
  # torchcfm samples from the plan by NumPy's global state.
  np.random.seed(cell.seed)  # noqa: NPY002
  given = {k: torch.tensor(v) for k, v in found.items()}
  begun = time.perf_counter()
  net = torch_train(
    given["train_source"], given["train_data"], method, num_steps
  )
  seconds = time.perf_counter() - begun
  states = torch_states(net, given["test_source"])
  torch.set_num_threads(threads)
  return dict(measures(states, found), seconds=seconds)


def torch_batches(points, batch_size=256):
  """Endless batches, in a new order every epoch, without a last part."""
  import torch

  while True:
    order = torch.randperm(len(points))
    for i in range(len(points) // batch_size):
      yield points[order[i * batch_size : (i + 1) * batch_size]]


def torch_train(source, data, method, num_steps):
  """A network [B, 3] -> [B, 2] that torchcfm's own matcher trains."""
  import torch
  from torchcfm import conditional_flow_matching, models

  kinds = {"I-CFM": "", "OT-CFM": "ExactOptimalTransport"}
  name = f"{kinds[method]}ConditionalFlowMatcher"
  flow = getattr(conditional_flow_matching, name)(sigma=0.1)
  net = models.MLP(dim=2, w=64, time_varying=True)
  optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-5)
  pairs = zip(torch_batches(source), torch_batches(data), strict=True)
  for x0, x1 in itertools.islice(pairs, num_steps):
    t, x_t, velocity = flow.sample_location_and_conditional_flow(x0, x1)
    predicted = net(torch.cat([x_t, t[:, None]], 1))
    loss = torch.mean((predicted - velocity) ** 2)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
  return net


def torch_states(net, x, num_steps=100):
  """Euler's method from time 0 to 1, torchcfm's direction: [N, T, 2]."""
  import torch

  found = [x]
  with torch.no_grad():
    for i in range(num_steps):
      t = torch.full((len(x), 1), i / num_steps)
      x = x + net(torch.cat([x, t], 1)) / num_steps
      found.append(x)
  return torch.stack(found, 1).numpy()


@jax.jit
def integrate(params, x):
  """The states of 100 Euler steps from time 1 to 0, [N, 101, 2]."""
  field = fields.from_velocity(lambda x, t: flows.mlp(params, x, t, None))
  run = lambda x: samplers.trajectory(
    samplers.euler(), field, x, jnp.linspace(1.0, 0.0, 101), jax.random.key(0)
  )
  return jax.vmap(run)(x)


def batches(found: dict, seed: int, how: dict):
  """step -> (data, None, source) of a recipe."""
  couple = {
    "independent": None,
    "exact": lambda key, data, source, label: couplings.exact(data, source),
    "entropic 2": lambda key, data, source, label: couplings.entropic(
      key, data, source, epsilon=2.0
    ),
  }[how["coupling"]]
  if not how["epochs"]:
    return flows.fresh_pairs(found, seed, couple, how["pool"])
  return flows.kept_pairs(found, seed, couple, how["pool"], how["epochs"])


def train(column: str, seeds: list[int], how: dict) -> list[dict]:
  """The measures of our flow of each seed."""
  num_steps, rate = how["num_steps"], 1e-3
  if how["cosine"]:
    rate = optax.cosine_decay_schedule(rate, num_steps)
  kind, std = how["bridge"].split()
  setup = flows.Setup(
    flows.init_mlp,
    flows.mlp,
    optax.adamw(rate, weight_decay=1e-5),
    getattr(flow_matching, kind)(float(std)),
    how["stratified"],
    how["decay"],
  )
  found = [points(column, seed) for seed in seeds]
  made = [batches(*args, how) for args in zip(found, seeds, strict=True)]
  _, params = flows.train(setup, seeds, made, num_steps)
  rows = []
  for i, given in enumerate(found):
    own = jax.tree.map(lambda a, i=i: a[i], params)
    states = integrate(own, given["test_source"])
    rows.append(measures(np.asarray(states), given))
  return rows


def measure(row: list[runner.Cell], how: dict) -> Iterable[dict]:
  """Values of cells of one column and method, all seeds at once if ours."""
  column, method = row[0].column, row[0].method
  if method == "floor":
    return map(floor, row)
  if method == "optimal map":
    return map(optimal, row)
  if method.startswith("torchcfm"):
    return (peer(cell, how["num_steps"]) for cell in row)
  return train(column, [cell.seed for cell in row], how)


_TABLE = runner.Table(COLUMNS, rows, settings, measure)
_BENCHMARK = cells.with_versions(
  runner.of_cells("tong", _TABLE, tong_tables.tables, 5)
)


def by_method(args) -> dict:
  """The record, {method: {column: values}}; only methods of all columns."""
  record = _BENCHMARK.run(args)
  found = record["cells"]
  by_column = lambda method: {
    column: found[column][method]
    for column in COLUMNS
    if method in found.get(column, {})
  }
  rows = {method: by_column(method) for method in METHODS}
  whole = {m: row for m, row in rows.items() if len(row) == len(COLUMNS)}
  return record | dict(cells=whole)


BENCHMARKS = {"tong": _BENCHMARK._replace(run=by_method)}
