"""Small flows of the published tables: layers as PyTorch initialises them,
pairs that the host couples, and the training of several seeds in one program.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen import paths
from jaxgen.data import pairs
from jaxgen.losses import flow_matching
from jaxgen.training import ema

BATCH_SIZE = 256
CHUNK = 100  # steps that the host prepares and the device takes at once
T_MIN = 1e-5  # off the ends, where a Brownian bridge's rate is infinite


class Setup(NamedTuple):
  """What is trained, and how."""

  init: Callable  # key -> parameters
  apply: Callable  # (parameters, x [2], t [], condition) -> velocity [2]
  optimizer: optax.GradientTransformation
  bridge: flow_matching.Bridge  # the noise between a pair
  stratified: bool  # one time in each of a batch's equal parts
  decay: float  # of the average of the parameters


def moons(rng: np.random.Generator, number: int):
  """torchdyn's moons times 3, less 1: (points [N, 2], which moon [N]).

  Half of the points are on each arc, evenly spaced; only the noise (one uniform
  number, added to both coordinates) and the order are random.
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


def init_mlp(key: jax.Array) -> list[dict]:
  """Weights of torchcfm's MLP, as PyTorch initialises them."""
  keys = jax.random.split(key, 4)
  sizes = ((3, 64), (64, 64), (64, 64), (64, 2))
  return [dense(k, *size) for k, size in zip(keys, sizes, strict=True)]


def mlp(params: list[dict], x, t, condition):
  """torchcfm's MLP: three hidden layers of 64, SELU, on [x, t]."""
  h = jnp.append(x, t)
  for layer in params[:-1]:
    h = jax.nn.selu(linear(layer, h))
  return linear(params[-1], h)


def times(key: jax.Array, number: int, stratified: bool) -> jax.Array:
  """Uniform times, [number]; stratified: one in each of as many intervals."""
  draw_key, order_key = jax.random.split(key)
  t = jax.random.uniform(draw_key, (number,))
  if stratified:
    t = (jax.random.permutation(order_key, number) + t) / number
  return T_MIN + (1 - 2 * T_MIN) * t


def step(setup: Setup, key: jax.Array, carry: tuple, inputs: tuple):
  """One update of (parameters, optimizer's state, average), for a scan.

  inputs are the number of the step and its batch (data, condition, source).
  """
  params, opt_state, mean = carry
  number, (data, condition, source) = inputs
  time_key, noise_key = jax.random.split(jax.random.fold_in(key, number))
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

  updates, opt_state = setup.optimizer.update(
    jax.grad(loss)(params), opt_state, params
  )
  params = optax.apply_updates(params, updates)
  mean = ema.update(mean, params, ema.warmup(setup.decay)(number))
  return (params, opt_state, mean), None


def train(
  setup: Setup,
  seeds: Sequence[int],
  batch_fns: Sequence[Callable[[int], tuple]],
  num_steps: int,
) -> tuple[Any, Any]:
  """Parameters and their averages, with a first axis of the seeds.

  A seed determines weights, times and noise; its batch_fn is step -> (data,
  condition or None, source).

  Raises:
    ValueError: num_steps is not a multiple of CHUNK.
  """
  if num_steps % CHUNK:
    raise ValueError(
      f"num_steps: expected a multiple of {CHUNK}, got {num_steps}"
    )

  def init(key):
    params = setup.init(key)
    return params, setup.optimizer.init(params), ema.init(params)

  @jax.jit
  def advance(carries, keys, numbers, batches):
    def one(args):
      carry, key, batches = args
      body = functools.partial(step, setup, key)
      return jax.lax.scan(body, carry, (numbers, batches))[0]

    # One seed after the other: batched products of small matrices are slow.
    return jax.lax.map(one, (carries, keys, batches))

  init_keys, run_keys = jax.vmap(
    lambda seed: jax.random.split(jax.random.key(seed)), out_axes=1
  )(np.asarray(seeds))
  carries = jax.jit(jax.vmap(init))(init_keys)
  stack = functools.partial(jax.tree.map, lambda *x: np.stack(x))
  for first in range(0, num_steps, CHUNK):
    numbers = range(first, first + CHUNK)
    batches = [stack(*map(batch_fn, numbers)) for batch_fn in batch_fns]
    carries = advance(carries, run_keys, np.array(numbers), stack(*batches))
  params, _, mean = carries
  return params, mean


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


def fresh_pairs(found, seed, couple, size, batch_size=BATCH_SIZE):
  """step -> (data, None, source), coupled anew in pools of this size."""
  data = pool(found["train_data"], 2 * seed, size)
  return pairs.batches(
    lambda number: (data(number), None),
    pool(found["train_source"], 2 * seed + 1, size),
    jax.random.key(seed),
    batch_size,
    couple,
    size // batch_size,
  )


def kept_pairs(found, seed, couple, size, num_epochs):
  """As fresh_pairs, but the pairs of some epochs are used again and again."""
  coupled = fresh_pairs(found, seed, couple, size, batch_size=size)
  number = num_epochs * (len(found["train_data"]) // size)
  kept = [np.hstack(coupled(i)[::2]) for i in range(number)]
  draw = pool(np.concatenate(kept), seed, BATCH_SIZE)

  def batch_fn(step):
    pair = draw(step)
    return pair[:, :2], None, pair[:, 2:]

  return batch_fn
