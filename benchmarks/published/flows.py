"""Small flows of the published tables: layers as PyTorch starts them, and the
training of several seeds in one program, on pairs that the host makes.
"""

import functools
import importlib.metadata
import pathlib
import tomllib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import runner
from jaxgen import paths
from jaxgen.data import pairs
from jaxgen.losses import flow_matching
from jaxgen.training import ema

FIGURES = tomllib.loads(
  pathlib.Path(__file__).with_name("published.toml").read_text()
)
BATCH_SIZE = 256
T_MIN = 1e-5  # off the ends, where a Brownian bridge's rate is infinite


class Setup(NamedTuple):
  """What is trained, and how.

  Attributes:
    init: key -> parameters.
    apply: (parameters, x [2], t [], condition [] or None) -> velocity [2].
    optimizer: of optax.
    bridge: the noise between a pair, of losses.flow_matching.
    stratified: whether a batch has one time in each of its equal parts.
    decay: of the average of parameters that is kept beside them.
  """

  init: Callable
  apply: Callable
  optimizer: optax.GradientTransformation
  bridge: flow_matching.Bridge
  stratified: bool
  decay: float


class State(NamedTuple):
  """Of the training: parameters, the optimizer's state, their average."""

  params: Any
  optimizer: Any
  mean: Any
  step: jax.Array


def moons(rng: np.random.Generator, number: int):
  """torchdyn's moons times 3, less 1: (points [N, 2], which moon [N]).

  Its places along the arcs are evenly spaced, half of the points on each; only
  the noise (one uniform draw, added to both coordinates) is random. The order
  is shuffled here.
  """
  half = number // 2
  outer, inner = (np.linspace(0, np.pi, n) for n in (half, number - half))
  curve = np.concatenate(
    [
      np.stack([np.cos(outer), np.sin(outer)], 1),
      np.stack([1 - np.cos(inner), 0.5 - np.sin(inner)], 1),
    ]
  )
  points = 3 * (curve + 0.2 * rng.random((number, 1))) - 1
  order = rng.permutation(number)
  return points[order].astype(np.float32), (order >= half).astype(int)


def dense(key: jax.Array, num_in: int, num_out: int) -> dict:
  """PyTorch's Linear: weight and bias uniform within 1 / sqrt(num_in)."""
  bound = num_in**-0.5
  weight_key, bias_key = jax.random.split(key)
  draw = lambda key, *shape: jax.random.uniform(
    key, shape, float, -bound, bound
  )
  return dict(w=draw(weight_key, num_in, num_out), b=draw(bias_key, num_out))


def linear(layer: dict, x: jax.Array) -> jax.Array:
  """x w + b."""
  return x @ layer["w"] + layer["b"]


def times(key: jax.Array, number: int, stratified: bool) -> jax.Array:
  """Uniform times, [number]; stratified: one in each of as many intervals."""
  draw_key, order_key = jax.random.split(key)
  t = jax.random.uniform(draw_key, (number,))
  if stratified:
    t = (jax.random.permutation(order_key, number) + t) / number
  return T_MIN + (1 - 2 * T_MIN) * t


def step(setup: Setup, state: State, key: jax.Array, batch: tuple) -> State:
  """One step of the optimizer on a batch (data, condition, source)."""
  data, condition, source = batch
  time_key, noise_key = jax.random.split(jax.random.fold_in(key, state.step))
  t = times(time_key, len(data), setup.stratified)
  noise = jax.random.normal(noise_key, data.shape)

  def loss(params):
    one = lambda data, condition, source, noise, t: flow_matching.flow_matching(
      lambda x, t: setup.apply(params, x, t, condition),
      *(data, source, noise, t),
      path=paths.linear(),
      bridge=setup.bridge,
      weight=lambda t: 1.0,
    )
    return jax.vmap(one)(data, condition, source, noise, t).mean()

  grads = jax.grad(loss)(state.params)
  updates, optimizer = setup.optimizer.update(
    grads, state.optimizer, state.params
  )
  params = optax.apply_updates(state.params, updates)
  rate = ema.warmup(setup.decay)(state.step)
  mean = ema.update(state.mean, params, rate)
  return State(params, optimizer, mean, state.step + 1)


def train(
  setup: Setup,
  seeds: Sequence[int],
  batch_fns: Sequence[Callable[[int], tuple]],
  num_steps: int,
  chunk: int = 100,
) -> tuple[Any, Any]:
  """Parameters and their averages, with a first axis of the seeds.

  Args:
    setup: what is trained.
    seeds: of weights, times and noise, [S].
    batch_fns: of each seed, step -> (data, condition or None, source), [S].
    num_steps: of the optimizer, a multiple of chunk.
    chunk: steps that the host prepares and the device takes at once.

  Raises:
    ValueError: num_steps is not a multiple of chunk.
  """
  if num_steps % chunk:
    raise ValueError(
      f"num_steps: expected a multiple of {chunk}, got {num_steps}"
    )

  def init(key):
    params = setup.init(key)
    optimizer = setup.optimizer.init(params)
    return State(params, optimizer, ema.init(params), jnp.zeros((), int))

  def advance(state, key, batches):
    body = lambda state, batch: (step(setup, state, key, batch), None)
    return jax.lax.scan(body, state, batches)[0]

  # One seed after the other: batched products of small matrices are slow.
  every = jax.jit(
    lambda states, keys, batches: jax.lax.map(
      lambda args: advance(*args), (states, keys, batches)
    )
  )
  init_keys, run_keys = jax.vmap(
    lambda seed: jax.random.split(jax.random.key(seed)), out_axes=1
  )(np.asarray(seeds))
  states = jax.jit(jax.vmap(init))(init_keys)
  stack = functools.partial(jax.tree.map, lambda *x: np.stack(x))
  for first in range(0, num_steps, chunk):
    steps = range(first, first + chunk)
    batches = [stack(*(batch_fn(i) for i in steps)) for batch_fn in batch_fns]
    states = every(states, run_keys, stack(*batches))
  return states.params, states.mean


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
    BATCH_SIZE,
    couple,
    size // BATCH_SIZE,
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
  draw = pool(np.concatenate(kept), seed, BATCH_SIZE)

  def batch_fn(step):
    pair = draw(step)
    return pair[:, :2], None, pair[:, 2:]

  return batch_fn


def whole_chunks(budget: float, num_steps: int, chunk: int = 100) -> int:
  """A share of the steps that `train` takes: a multiple of its chunk."""
  return max(1, round(budget * num_steps / chunk)) * chunk


def with_versions(benchmark: runner.Benchmark) -> runner.Benchmark:
  """The benchmark; its record says which peers are installed."""

  def version(name):
    try:
      return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
      return f"no {name}"

  def run(args):
    record = benchmark.run(args)
    peers = ", ".join(map(version, ("torch", "torchcfm", "POT")))
    return record | dict(machine=f"{record['machine']}; {peers}")

  return benchmark._replace(run=run)


def mlp(params: list, x, t, condition):
  """torchcfm's MLP: three hidden layers of 64, SELU, on [x, t]."""
  h = jnp.append(x, t)
  for layer in params[:-1]:
    h = jax.nn.selu(linear(layer, h))
  return linear(params[-1], h)


def init_mlp(key):
  """PyTorch's weights."""
  keys = jax.random.split(key, 4)
  sizes = ((3, 64), (64, 64), (64, 64), (64, 2))
  return [dense(k, *size) for k, size in zip(keys, sizes, strict=True)]
