"""Normalizing flows beside flowjax and zuko; sampling with a cache; sweeps.

  pip install -r benchmarks/requirements.txt          # for the peers' columns
  taskset -c 0 python -m benchmarks flow_speed        # minutes of one CPU core

Flows: log-densities and samples of the same number of points, by flows of equal
size: as many layers, hidden layers, features and bins, the same dimension. All
are called in turn in one process; peers' parameters are their own, as times do
not depend on them.

Cache: 64 tokens by a causal transformer, for a batch of 64, beside 64 full
forwards. Sweeps: TarFlow's inverse with a cache, by 16 full forwards, and by
Jacobi sweeps over blocks of positions.
"""

import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import pages, runner
from benchmarks.peers import flow_peers
from benchmarks.speed import timing
from jaxgen import arrangements, elementwise, inversion, outputs
from jaxgen.losses import normalizing_flow
from jaxgen.models import causal, coupling_flow, masked_flow, tarflow
from jaxgen.samplers import tokens

SIZES = flow_peers.Sizes(
  dim=16, layers=6, width=128, depth=2, bins=8, batch=512
)
GOAL = 0.7
LENGTH, LEVELS = 64, 17
IMAGE = (8, 8, 1)
BLOCKS = (1, 2, 4, 8)


def noisy(model, *args, scale=0.1):
  """Parameters of a model, moved away from the identity."""
  params = jax.jit(model.init)(jax.random.key(0), *args)
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  moved = [
    leaf + scale * jax.random.normal(key, leaf.shape) / leaf.shape[0] ** 0.5
    if leaf.ndim
    else leaf
    for leaf, key in zip(leaves, keys, strict=True)
  ]
  return jax.tree.unflatten(tree, moved)


def ours(model):
  """{operation: () -> the result for a batch}."""
  params = noisy(model, jnp.zeros(SIZES.dim))
  x = jax.random.normal(jax.random.key(2), (SIZES.batch, SIZES.dim))

  @jax.jit
  @jax.vmap
  def log_prob(x):
    forward = functools.partial(model.apply, params)
    return normalizing_flow.log_prob(forward, x)

  @jax.jit
  def sample(key):
    z = jax.random.normal(key, (SIZES.batch, SIZES.dim))
    inverse = lambda z: model.apply(params, z, method="inverse")[0]
    return jax.vmap(inverse)(z)

  key = jax.random.key(3)
  return {"log_prob": lambda: log_prob(x), "sample": lambda: sample(key)}


def flow_rows(repeats):
  """A row for each kind of flow and operation, with all peers."""
  models = {
    "coupling": coupling_flow.CouplingFlow(
      (SIZES.dim,),
      num_blocks=SIZES.layers,
      width=104,  # with the residual block as many weights as the peers'
      depth=1,
      num_bins=SIZES.bins,
    ),
    "masked": masked_flow.MaskedFlow(
      (SIZES.dim,),
      num_blocks=SIZES.layers,
      features=(SIZES.width,) * SIZES.depth,
      num_bins=SIZES.bins,
    ),
  }
  peers = {"flowjax": flow_peers.by_flowjax, "zuko": flow_peers.by_zuko}
  there = {n: f for n, f in peers.items() if importlib.util.find_spec(n)}
  rows = []
  for kind, model in models.items():
    found = {"jaxgen": ours(model)}
    found |= {name: make(kind, SIZES) for name, make in there.items()}
    for operation in ("log_prob", "sample"):
      calls = [calls[operation] for calls in found.values()]
      seconds = timing.in_turn(calls, repeats)
      rows.append(row_of(f"{kind}, {operation}", list(found), seconds))
  return rows


def row_of(name, who, seconds):
  """Ratios of the first call to each of the others."""
  others = {
    other: np.quantile(
      seconds[:, 0] / seconds[:, i + 1], timing.QUARTILES
    ).tolist()
    for i, other in enumerate(who[1:])
  }
  medians = (1e3 * np.median(seconds, 0)).tolist()
  return dict(name=name, ms=dict(zip(who, medians, strict=True)), over=others)


def cache_row(repeats, batch_size=64):
  """64 tokens with a cache beside as many full forwards."""
  output = outputs.categorical(LEVELS)
  model = causal.Transformer(LENGTH, LEVELS, width=64, depth=3)
  one_hot = lambda levels: jax.nn.one_hot(levels, LEVELS)
  params = noisy(model, jnp.zeros((LENGTH, LEVELS)))
  apply = functools.partial(model.apply, params)

  def cached(key):
    def step(cache, before, i):
      return apply(cache, one_hot(before), i, method="step")

    memory = apply(method="start")
    return tokens.autoregressive(step, memory, output, LENGTH, key)

  def full(key):
    fn = lambda levels: apply(one_hot(levels))
    return tokens.autoregressive_by_forwards(fn, output, (LENGTH,), key)

  keys = jax.random.split(jax.random.key(0), batch_size)
  runs = [jax.jit(jax.vmap(fn)) for fn in (cached, full)]
  same = np.mean(np.asarray(runs[0](keys)) == np.asarray(runs[1](keys)))
  seconds = timing.in_turn([lambda r=r: r(keys) for r in runs], repeats)
  row = row_of("64 tokens", ["with a cache", "full forwards"], seconds)
  memory = runs[0].lower(keys).compile().memory_analysis()
  cache = 2 * 3 * LENGTH * 64 * 4 * batch_size
  sizes = dict(temporary=memory.temp_size_in_bytes, cache=cache)
  return row | dict(same=float(same)) | sizes


def inverse_by(model, params, invert):
  """y -> (x, calls): TarFlow's inverse by (net, conditioner, y) -> (x, calls).

  net is (arguments, method) -> the transformer's result.
  """
  patches = arrangements.patches(model.shape, model.patch)
  family = elementwise.affine(model.bound)
  length, size = 16, 4

  def run(y):
    total = 0
    for i in reversed(range(model.num_blocks)):
      own = {"params": params["params"][f"transformers_{i}"]}
      transformer = causal.Transformer(
        length, 2 * size, model.width, model.depth, model.num_heads
      )
      net = functools.partial(transformer.apply, own)
      conditioner = lambda x, net=net: net(x).reshape(length, size, 2)
      order = slice(None, None, -1 if i % 2 else 1)
      tokens = patches.forward(y)[0][order]
      x, calls = invert(net, conditioner, family, tokens)
      y, total = patches.inverse(x[order])[0], total + calls
    return y, total

  return jax.jit(jax.vmap(run))


def with_cache(net, conditioner, family, y):
  """One step of the transformer for each patch."""

  def step(cache, before, i):
    cache, out = net(cache, before, i, method="step")
    return cache, out.reshape(-1, 2)

  memory = net(method="start")
  x = inversion.cached(conditioner, family, y, step=step, memory=memory)
  return x, len(y)


def with_forwards(net, conditioner, family, y):
  """One full forward for each patch."""
  return inversion.sequential(conditioner, family, y), len(y)


def with_sweeps(num_blocks, net, conditioner, family, y):
  """Jacobi sweeps over blocks of patches."""
  how = dict(tolerance=1e-6, num_blocks=num_blocks)
  found = inversion.jacobi(conditioner, family, y, **how)
  return found.x, found.num_sweeps


def sweep_rows(repeats):
  """TarFlow's inverse in all ways, batch 64 and 1."""
  model = tarflow.TarFlow(IMAGE)
  params, rows = noisy(model, jnp.zeros(IMAGE)), []
  ways = {"cache": with_cache, "full forwards": with_forwards}
  for number in BLOCKS:
    title = f"Jacobi, {number} block{'s' * (number > 1)}"
    ways[title] = functools.partial(with_sweeps, number)
  fns = {name: inverse_by(model, params, way) for name, way in ways.items()}
  x = jax.random.normal(jax.random.key(0), (64, *IMAGE))
  y = jax.jit(jax.vmap(lambda x: model.apply(params, x)[0]))(x)
  for batch_size in (64, 1):
    calls = [lambda fn=fn: fn(y[:batch_size]) for fn in fns.values()]
    seconds = timing.in_turn(calls, repeats)
    over = lambda i: np.median(seconds / seconds[:, i : i + 1], 0)
    for j, (name, fn) in enumerate(fns.items()):
      found, count = fn(y[:batch_size])
      error = float(jnp.max(jnp.abs(found - x[:batch_size])))
      sweeps = float(np.mean(np.asarray(count))) / model.num_blocks
      row = dict(batch=batch_size, way=name, sweeps=sweeps, error=error)
      row |= dict(ms=1e3 * float(np.median(seconds[:, j])))
      rows.append(row | dict(cache=float(over(0)[j]), full=float(over(1)[j])))
  return rows


def run(args) -> dict:
  """Measures everything."""
  return dict(
    command=f"python -m benchmarks flow_speed --repeats {args.repeats}",
    machine=runner.machine(),
    versions={name: timing.version(name) for name in ("flowjax", "zuko")},
    flows=flow_rows(args.repeats),
    cache=cache_row(args.repeats),
    sweeps=sweep_rows(args.repeats),
  )


def tables(record: dict) -> dict:
  """The parts of the page."""
  peers = list(record["flows"][0]["over"])
  lines = []
  for row in record["flows"]:
    ratios = [timing.spread(*row["over"][peer]) for peer in peers]
    worst = max((row["over"][peer][1] for peer in peers), default=np.nan)
    met = "met" if worst <= GOAL else "**not met**"
    lines.append((row["name"], f"{row['ms']['jaxgen']:.2f}", *ratios, met))
  head = ["", "ms", *(f"/ {peer}" for peer in peers), f"at most {GOAL}"]
  cache = record["cache"]
  sweeps = [
    (
      row["batch"],
      row["way"],
      f"{row['sweeps']:.1f}",
      f"{row['ms']:.2f}",
      f"{row['cache']:.2f}",
      f"{row['full']:.2f}",
      f"{row['error']:.0e}",
    )
    for row in record["sweeps"]
  ]
  versions = ", ".join(f"{n} {v}" for n, v in record["versions"].items() if v)
  titles = "batch | inverse | calls | ms | / cache | / full forwards | error"
  return dict(
    made=f"`{record['command']}`, {record['machine']}, {versions}.",
    flows=pages.table(" | ".join(head), lines),
    cache=(
      f"Sampling 64 tokens with a cache takes"
      f" {timing.spread(*cache['over']['full forwards'], form='.3f')} of the"
      f" time of 64 full forwards (goal at most .1);"
      f" {100 * cache['same']:.1f} % of the sampled tokens are equal. The"
      f" program needs {cache['temporary'] / 2**20:.1f} MiB of temporary"
      f" memory, of which the keys and values are"
      f" {cache['cache'] / 2**20:.1f} MiB."
    ),
    sweeps=pages.table(titles, sweeps),
  )


BENCHMARKS = {"flow_speed": runner.Benchmark(run, tables, dict(repeats=15))}
