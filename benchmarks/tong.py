"""Tong et al. 2023, table 2, measured again: the cells and what they take."""

import functools
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import spatial

from benchmarks import cells, flows
from jaxgen import couplings, fields, samplers
from jaxgen.data import pairs, toy
from jaxgen.losses import flow_matching
from jaxgen.metrics import transport

COLUMNS = ("N->8gaussians", "moons->8gaussians", "N->moons", "N->scurve")
SIZES = (("train", 10_000), ("val", 1000), ("test", 1000))
NUM_STEPS = 8000
METHODS = (
  "floor",
  "optimal map",
  "torchcfm OT-CFM",
  "jaxgen OT-CFM, ours",
  "jaxgen OT-CFM",
  "torchcfm I-CFM",
  "jaxgen I-CFM",
  "jaxgen SB-CFM",
)


def draw(law: str, key: jax.Array, number: int) -> np.ndarray:
  """Points [N, 2] of a law; moons as torchdyn's, evenly along their arcs."""
  if law == "moons":
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    return flows.moons(rng, number)[0]
  return np.asarray(drawer(law)(jax.random.split(key, number)))


@functools.cache
def drawer(law: str):
  """keys [N] -> points [N, 2] of a law, compiled once a number."""
  laws = {
    "N": toy.gaussian,
    "8gaussians": toy.eight_gaussians,
    "scurve": toy.s_curve,
  }
  return jax.jit(jax.vmap(laws[law]().sample))


def points(column: str, seed: int) -> dict[str, np.ndarray]:
  """Training, validation and test points of both laws, [N, 2] each."""
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
  source, data = found[f"{part}_source"], found[f"{part}_data"]
  least = transport.wasserstein(source, data) ** 2
  energy = transport.energy(states, np.linspace(1, 0, states.shape[1]))
  return dict(
    w2=transport.wasserstein(states[:, -1], data),
    npe=abs(energy / least - 1),
    signed=energy / least - 1,
  )


def floor(cell: cells.Cell) -> dict:
  """What other draws of the law itself get, moved by optimal transport."""
  found = points(cell.column, cell.seed)
  source, data = found["test_source"], found["test_data"]
  least = transport.wasserstein(source, data) ** 2
  energy = transport.wasserstein(source, found["test_other"]) ** 2
  return dict(
    w2=transport.wasserstein(found["test_other"], data),
    npe=abs(energy / least - 1),
    signed=energy / least - 1,
  )


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


def optimal(cell: cells.Cell) -> dict:
  """What the optimal map gets, that of 10,000 pairs: it moves a test point as
  the nearest of their sources.
  """
  found = points(cell.column, cell.seed)
  source, data = coupled(cell.column)
  nearest = spatial.KDTree(source).query(found["test_source"])[1]
  move = (data - source)[nearest]
  ends = np.stack([found["test_source"], found["test_source"] + move], 1)
  return measures(ends, found)


def peer(cell: cells.Cell, num_steps: int) -> dict:
  """torchcfm on the same points, in a process of its own."""
  method = cell.method.split()[1]
  found = points(cell.column, cell.seed)
  with tempfile.TemporaryDirectory() as folder:
    given, taken = (pathlib.Path(folder) / f"{k}.npz" for k in "io")
    np.savez(given, **found)
    args = [given, method, cell.seed, num_steps, taken]
    subprocess.run(
      [sys.executable, "-m", "benchmarks.torch_tong", *map(str, args)],
      check=True,
      env=dict(os.environ, OMP_NUM_THREADS="1"),
    )
    with np.load(taken) as file:
      states, seconds = file["states"], float(file["seconds"])
  return dict(measures(states, found), seconds=seconds)


def mlp(params: list, x, t, condition):
  """torchcfm's MLP: three hidden layers of 64, SELU, on [x, t]."""
  h = jnp.append(x, t)
  for layer in params[:-1]:
    h = jax.nn.selu(flows.linear(layer, h))
  return flows.linear(params[-1], h)


def init_mlp(key):
  """PyTorch's weights."""
  keys = jax.random.split(key, 4)
  sizes = ((3, 64), (64, 64), (64, 64), (64, 2))
  return [flows.dense(k, *size) for k, size in zip(keys, sizes, strict=True)]


def pool(points: np.ndarray, seed: int, size: int):
  """The function pool number -> [size, 2]: every epoch in a new order."""
  per_epoch = len(points) // size

  @functools.lru_cache(maxsize=2)
  def order(epoch):
    return np.random.default_rng([seed, epoch]).permutation(len(points))

  def draw(number):
    epoch, part = divmod(number, per_epoch)
    return points[order(epoch)[part * size : (part + 1) * size]]

  return draw


def fresh_pairs(found, seed, couple, size):
  """step -> (data, None, source), coupled anew in pools of this size."""
  data = pool(found["train_data"], 2 * seed, size)
  return pairs.batches(
    lambda number: (data(number), None),
    pool(found["train_source"], 2 * seed + 1, size),
    jax.random.key(seed),
    flows.BATCH_SIZE,
    couple,
    size // flows.BATCH_SIZE,
  )


def kept_pairs(found, seed, couple, size, num_epochs):
  """As fresh_pairs, coupled for some epochs, then used again and again."""
  data = pool(found["train_data"], 2 * seed, size)
  source = pool(found["train_source"], 2 * seed + 1, size)
  key, kept = jax.random.key(seed), []
  for number in range(num_epochs * (len(found["train_data"]) // size)):
    x, y = data(number), source(number)
    order = couple(jax.random.fold_in(key, number), x, y, None)
    kept.append(np.concatenate([x, y[order]], 1))
  draw = pool(np.concatenate(kept), seed, flows.BATCH_SIZE)

  def batch_fn(step):
    pair = draw(step)
    return pair[:, :2], None, pair[:, 2:]

  return batch_fn


@jax.jit
def integrate(params, x):
  """The states of 100 Euler steps from time 1 to 0, [N, 101, 2]."""
  field = fields.from_velocity(lambda x, t: mlp(params, x, t, None))
  run = lambda x: samplers.trajectory(
    samplers.euler(), field, x, jnp.linspace(1.0, 0.0, 101), jax.random.key(0)
  )
  return jax.vmap(run)(x)


def recipe(method: str, num_steps: int = NUM_STEPS) -> dict:
  """The settings of a row; epochs: of pairings that are kept, 0 for all."""
  plain = dict(num_steps=num_steps, bridge="constant .1", pool=256, epochs=0)
  plain |= dict(cosine=False, stratified=False, decay=0.0)
  kinds = {
    "torchcfm I-CFM": dict(num_steps=num_steps),
    "torchcfm OT-CFM": dict(num_steps=num_steps),
    "jaxgen I-CFM": dict(plain, coupling="independent"),
    "jaxgen OT-CFM": dict(plain, coupling="exact", epochs=20),
    "jaxgen OT-CFM, ours": dict(
      plain,
      coupling="exact",
      pool=1000,
      epochs=4,
      cosine=True,
      stratified=True,
      decay=0.999,
    ),
    "jaxgen SB-CFM": dict(
      plain, coupling="entropic 2", bridge="brownian 1", epochs=10
    ),
    "floor": dict(),
    "optimal map": dict(num_pairs=10_000),
  }
  return kinds[method]


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
    return fresh_pairs(found, seed, couple, settings["pool"])
  return kept_pairs(found, seed, couple, settings["pool"], settings["epochs"])


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
    init_mlp,
    mlp,
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


def measure(row: list[cells.Cell], settings: dict) -> Iterable[dict]:
  """Values of cells of one column and method, all seeds at once if ours."""
  column, method = row[0].column, row[0].method
  if method in ("floor", "optimal map"):
    return map(dict(floor=floor).get(method, optimal), row)
  if method.startswith("torchcfm"):
    return (peer(cell, settings["num_steps"]) for cell in row)
  return train(column, [cell.seed for cell in row], settings, "test")
