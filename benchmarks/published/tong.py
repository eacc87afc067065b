"""Flows between 2-D distributions: Tong et al. 2023, table 2.

  python -m benchmarks tong --seeds 5          about 40 minutes of one core

arXiv:2302.00482. Every cell (pair, method, seed) is stored in runs/tables as it
is finished, and a second call goes on from there. torchcfm and POT
(benchmarks/requirements.txt) are needed for torchcfm's rows, which are left out
without them.
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
from benchmarks.published import flows, tong_tables
from jaxgen import couplings, fields, samplers
from jaxgen.data import toy
from jaxgen.losses import flow_matching
from jaxgen.metrics import transport

COLUMNS = tong_tables.COLUMNS
SIZES = (("train", 10_000), ("val", 1000), ("test", 1000))
NUM_STEPS = 8000
METHODS = tuple(name for name in flows.FIGURES["recipes"] if name != "plain")


def rows(column: str) -> tuple[str, ...]:
  """The methods of a column; torchcfm's if it is installed."""
  if all(importlib.util.find_spec(name) for name in ("torchcfm", "ot")):
    return METHODS
  print("torchcfm or POT is not installed: left out", flush=True)
  return tuple(name for name in METHODS if not name.startswith("torchcfm"))


def settings(column: str, method: str, budget: float) -> dict:
  """What a cell is measured with; budget scales the steps."""
  return recipe(method, flows.whole_chunks(budget, NUM_STEPS))


def draw(law: str, key: jax.Array, number: int) -> np.ndarray:
  """Points [N, 2]; moons as torchdyn's, evenly along their arcs."""
  if law == "moons":
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    return flows.moons(rng, number)[0]
  return np.asarray(drawer(law)(jax.random.split(key, number)))


@functools.cache
def drawer(law: str):
  """keys [N] -> points [N, 2] of a distribution, compiled once a number."""
  laws = dict(N=toy.gaussian, scurve=toy.s_curve)
  make = laws.get(law, toy.eight_gaussians)
  return jax.jit(jax.vmap(make().sample))


def points(column: str, seed: int) -> dict[str, np.ndarray]:
  """Training, validation and test points of both distributions, [N, 2] each."""
  keys = jax.random.split(jax.random.key(seed), (len(COLUMNS), len(SIZES), 3))
  keys = keys[COLUMNS.index(column)]
  source, data = column.split("->")
  found = {}
  for i, (part, number) in enumerate(SIZES):
    for j, (name, law) in enumerate(
      (("source", source), ("data", data), ("other", data))
    ):
      found[f"{part}_{name}"] = draw(law, keys[i, j], number)
  return found


def measures(states: np.ndarray, found: dict, part: str = "test") -> dict:
  """W2, signed path energy error and NPE of states from a part's source."""
  energy = transport.energy(states, np.linspace(1, 0, states.shape[1]))
  return _measures(states[:, -1], energy, found, part)


def _measures(ends, energy, found, part="test"):
  source, data = found[f"{part}_source"], found[f"{part}_data"]
  excess = energy / transport.wasserstein(source, data) ** 2 - 1
  w2 = transport.wasserstein(ends, data)
  return dict(w2=w2, npe=abs(excess), signed=excess)


def floor(cell: runner.Cell) -> dict:
  """What other draws of the data get, moved by optimal transport."""
  found = points(cell.column, cell.seed)
  ends = found["test_other"]
  energy = transport.wasserstein(found["test_source"], ends) ** 2
  return _measures(ends, energy, found)


@functools.cache
def coupled(column: str) -> tuple[np.ndarray, np.ndarray]:
  """(source, data) of seed 0's training points, each in its optimal pair.

  By POT's emd, the same optimum as couplings.exact, three times sooner.
  """
  found = points(column, 0)
  source, data = found["train_source"], found["train_data"]
  try:
    import ot
  except ModuleNotFoundError:
    return source, data[couplings.exact(source, data)]
  cost = couplings.costs(source, data)
  return source, data[ot.emd([], [], cost, numItermax=10**8).argmax(1)]


def optimal(cell: runner.Cell) -> dict:
  """What the optimal map gets, that of 10,000 pairs: it moves a test point as
  the nearest of their sources.
  """
  found = points(cell.column, cell.seed)
  source, data = coupled(cell.column)
  nearest = spatial.KDTree(source).query(found["test_source"])[1]
  move = (data - source)[nearest]
  ends = np.stack([found["test_source"], found["test_source"] + move], 1)
  return measures(ends, found)


def peer(cell: runner.Cell, num_steps: int) -> dict:
  """torchcfm on the same points, in one thread of PyTorch."""
  import torch

  found, method = points(cell.column, cell.seed), cell.method.split()[1]
  threads = torch.get_num_threads()
  torch.set_num_threads(1)
  torch.manual_seed(cell.seed)
  # torchcfm draws from the plan by NumPy's global state.
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
  """Batches for ever: every epoch a new order, what is left over dropped."""
  import torch

  while True:
    order = torch.randperm(len(points))
    for i in range(len(points) // batch_size):
      yield points[order[i * batch_size : (i + 1) * batch_size]]


def torch_train(source, data, method, num_steps):
  """torchcfm's trained network, [B, 3] -> [B, 2], by its own matcher."""
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


def recipe(method: str, num_steps: int = NUM_STEPS) -> dict:
  """The settings of a row."""
  own = flows.FIGURES["recipes"][method]
  if method in ("floor", "optimal map"):
    return own
  plain = flows.FIGURES["recipes"]["plain"] if "coupling" in own else {}
  return dict(num_steps=num_steps) | plain | own


def batches(found: dict, seed: int, settings: dict):
  """step -> (data, None, source) of a recipe."""
  couple = {
    "independent": None,
    "exact": lambda key, data, source, label: couplings.exact(data, source),
    "entropic 2": lambda key, data, source, label: couplings.entropic(
      key, data, source, epsilon=2.0
    ),
  }[settings["coupling"]]
  if not settings["epochs"]:
    return flows.fresh_pairs(found, seed, couple, settings["pool"])
  return flows.kept_pairs(
    found, seed, couple, settings["pool"], settings["epochs"]
  )


def train(column: str, seeds: list[int], settings: dict, part: str) -> list:
  """The measures of each seed's flow, on the test or validation points."""
  rate = 1e-3
  if settings["cosine"]:
    rate = optax.cosine_decay_schedule(rate, settings["num_steps"])
  kind, std = settings["bridge"].split()
  bridges = dict(
    constant=flow_matching.constant, brownian=flow_matching.brownian
  )
  setup = flows.Setup(
    flows.init_mlp,
    flows.mlp,
    optax.adamw(rate, weight_decay=1e-5),
    bridges[kind](float(std)),
    settings["stratified"],
    settings["decay"],
  )
  found = [points(column, seed) for seed in seeds]
  made = [batches(*args, settings) for args in zip(found, seeds, strict=True)]
  _, params = flows.train(setup, seeds, made, settings["num_steps"])
  rows = []
  for i, given in enumerate(found):
    one = jax.tree.map(lambda a, i=i: a[i], params)
    states = integrate(one, given[f"{part}_source"])
    rows.append(measures(np.asarray(states), given, part))
  return rows


def measure_all(row: list[runner.Cell], how: dict) -> Iterable[dict]:
  """Values of cells of one column and method, all seeds at once if ours."""
  column, method = row[0].column, row[0].method
  if method in ("floor", "optimal map"):
    return map(dict(floor=floor).get(method, optimal), row)
  if method.startswith("torchcfm"):
    return (peer(cell, how["num_steps"]) for cell in row)
  return train(column, [cell.seed for cell in row], how, "test")


_TABLE = runner.Table(COLUMNS, rows, settings, measure_all)
_BENCHMARK = flows.with_versions(
  runner.of_cells("tong", _TABLE, tong_tables.tables, 5)
)


def by_method(args) -> dict:
  """The record, {method: {column: values}}; only methods of all columns."""
  record = _BENCHMARK.run(args)
  cells = record["cells"]
  whole = [
    m for m in METHODS if all(m in cells.get(column, {}) for column in COLUMNS)
  ]
  by_column = {
    m: {column: cells[column][m] for column in COLUMNS} for m in whole
  }
  return record | dict(cells=by_column)


BENCHMARKS = {"tong": _BENCHMARK._replace(run=by_method)}
