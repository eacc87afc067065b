"""Autoregressive models of levels: data as levels, networks and samples."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lib import checks, datasets
from experiments.recipes import coding
from jaxgen import outputs, samplers
from jaxgen.losses import autoregressive
from jaxgen.models import causal, made, nade, pixelcnn, recurrent

STEPS = "nade", "gru", "lstm", "transformer"  # one position in each call


class Model(NamedTuple):
  """A network and how it reads levels.

  Attributes:
    net: a Flax module.
    codec: data as levels.
    output: the distribution of a level.
    shape: *D.
    orders: [M, D]; one MADE serves all of them.
    read: levels [*D] -> the network's input.
    step: (params, memory, level before, i) -> (memory, parameters [K]), and
      start: (params, label) -> memory; None for networks without a cache.
  """

  net: Any
  codec: coding.Codec
  output: outputs.Output
  shape: tuple[int, ...]
  orders: np.ndarray
  read: Callable
  step: Callable | None
  start: Callable | None

  def init(self, key: Any) -> Any:
    """Initial parameters of the network."""
    return self.net.init(key, self.read(jnp.zeros(self.shape, "int32")))

  def params(
    self, params: Any, levels: Any, label: Any, order: Any, **how: Any
  ) -> Any:
    """The parameters of all levels' distributions, [*D, K]."""
    order = (order,) if isinstance(self.net, made.MADE) else ()
    out = self.net.apply(params, self.read(levels), label, *order, **how)
    return out.reshape(*self.shape, self.output.num_params)

  def log_prob(self, params: Any, example: Any, label: Any) -> Any:
    """log p of an example; the mean of probabilities over several orders."""
    levels = self.codec.to_levels(example)
    nats = autoregressive.ensemble_log_prob(
      lambda levels, order: self.params(params, levels, label, order),
      levels,
      jnp.asarray(self.orders),
      output=self.output,
    )
    return self.codec.log_density(nats, example)

  def sample(self, params: Any, key: Any, label: Any) -> Any:
    """An example, in one of the orders at random."""
    key, order_key, data_key = jax.random.split(key, 3)
    if self.step is not None:
      levels = samplers.autoregressive(
        functools.partial(self.step, params),
        self.start(params, label),
        self.output,
        math.prod(self.shape),
        key,
      ).reshape(self.shape)
    else:
      order = jnp.asarray(self.orders)[self.draw_order(order_key)]
      levels = samplers.autoregressive_by_forwards(
        lambda levels: self.params(params, levels, label, order),
        self.output,
        self.shape,
        key,
        order=order,
      )
    return self.codec.to_data(data_key, levels)

  def draw_order(self, key: Any) -> Any:
    """The row of a random order."""
    return jax.random.randint(key, (), 0, len(self.orders))

  @property
  def num_calls(self) -> int:
    """Evaluations of the network whose work a sample takes."""
    return 1 if self.step is not None else math.prod(self.shape)


def make(config: Any, data: datasets.Data) -> Model:
  """The model that the settings describe.

  Raises:
    ValueError: the settings do not fit together or to the data.
  """
  codec = coding.of_data(data, config.num_bins)
  output = make_output(config, codec)
  size = math.prod(data.shape)
  look = None
  if config.window:
    images = len(data.shape) == 3 and codec.ordered
    if not images or config.model not in STEPS[1:]:
      raise ValueError(
        "window, model, data: expected 0, or images and gru, lstm or"
        f" transformer, got {config.window}, {config.model} and {codec.of} of"
        f" {config.data}"
      )
    look = functools.partial(before_in_window, data.shape, config.window)
  net, read = make_network(config, data, output.num_params, codec, look)
  start, step = None, None
  if config.model in STEPS:
    start, step = _cached(net, size, codec, look)
  model = Model(
    net, codec, output, data.shape, _orders(config, size), read, step, start
  )
  with checks.naming(config, features="width", depth="num_blocks"):
    jax.eval_shape(model.init, jax.random.key(0))
  return model


def make_output(config: Any, codec: coding.Codec) -> outputs.Output:
  """The distribution of one level.

  Raises:
    ValueError: a Bernoulli distribution of more than two levels, or logistic
      distributions of tokens.
  """
  name, num_levels = config.output, codec.num_levels
  if name == "auto":
    few = num_levels <= coding.MAX_ONE_HOT or not codec.ordered
    name = "categorical" if few else "logistic_mixture"
    name = "bernoulli" if num_levels == 2 else name
  if name == "logistic_mixture" and not codec.ordered:
    raise ValueError(
      f"output, codec: expected categorical for tokens, got {name}"
    )
  if name == "bernoulli" and num_levels != 2:
    raise ValueError(
      f"output, data: expected two levels for bernoulli, got {num_levels} in"
      f" {config.data}"
    )
  if name == "bernoulli":
    return outputs.bernoulli()
  if name == "categorical":
    return outputs.categorical(num_levels)
  return outputs.logistic_mixture(num_levels, config.num_components)


def make_network(
  config: Any,
  data: datasets.Data,
  num_params: int,
  codec: coding.Codec,
  look: Callable | None,
) -> tuple[Any, Callable]:
  """(the network, levels [*D] -> its input).

  Raises:
    ValueError: the settings do not fit together or to the data.
  """
  size, width, depth = math.prod(data.shape), config.width, config.num_blocks
  shared = dict(dropout=config.dropout, num_classes=data.num_classes)
  encode = codec.features
  read = lambda levels: encode(levels.ravel())
  match config.model:
    case "made":
      hidden = (width,) * depth
      return made.MADE(num_params, features=hidden, **shared), read
    case "nade":
      channels = encode(jnp.zeros(1, "int32")).shape[-1]
      return nade.NADE(size, channels, num_params, width, **shared), read
    case "pixelcnn":
      if len(data.shape) != 3:
        raise ValueError(
          f"model, data: expected images for pixelcnn, got {config.data}"
        )
      channels = data.shape[-1]
      net = pixelcnn.PixelCNN(
        channels * num_params, width, depth, config.first_kernel, **shared
      )
      return net, lambda levels: encode(levels).reshape(*data.shape[:2], -1)
    case "transformer":
      heads = dict(num_heads=config.num_heads)
      net = causal.Transformer(
        size, num_params, width, depth, **heads, **shared
      )
    case cell:
      net = recurrent.Recurrent(size, num_params, cell, width, depth, **shared)

  def tokens(levels):
    flat = levels.ravel()
    if look is None:
      return encode(flat)
    values = codec.values(flat)
    ahead = (jnp.arange(size) + 1) % size  # the last token has no effect
    seen = jax.vmap(look, (None, 0))(values, ahead)
    return jnp.concatenate([encode(flat), seen], -1)

  return net, tokens


def before_in_window(
  shape: tuple[int, ...], side: int, values: Any, i: Any
) -> Any:
  """The values of the pixels before entry i in a window around its pixel.

  Args:
    shape: H, W, C.
    side: side of the window, odd.
    values: values of all entries, [H * W * C]; those from i on have no effect.
    i: the entry, [].

  Returns:
    The rows above and the pixels to the left, zero outside of the image.
  """
  _, width, channels = shape
  reach = side // 2
  canvas = jnp.pad(values.reshape(shape), ((reach, 0), (reach, reach), (0, 0)))
  row, column = i // channels // width, i // channels % width
  window = jax.lax.dynamic_slice(
    canvas, (row, column, 0), (reach + 1, side, channels)
  )
  return window.ravel()[: (reach * side + reach) * channels]


def _cached(net, size, codec, look):
  """(start, step) of a network with a cache, from levels to parameters."""

  def start(params, label):
    cache = net.apply(params, label, method="start")
    return cache, jnp.zeros(size, "int32")

  def step(params, memory, before, i):
    cache, levels = memory
    token = codec.features(before)
    if look is not None:
      # At position 0 this sets the last level, which no window reaches.
      levels = levels.at[i - 1].set(before)
      seen = look(codec.values(levels), i)
      token = jnp.concatenate([token, seen])
    cache, params_i = net.apply(params, cache, token, i, method="step")
    return (cache, levels), params_i

  return start, step


def _orders(config, size):
  """The raster order, and random ones for an ensemble."""
  if config.num_orders > 1 and config.model != "made":
    raise ValueError(
      f"num_orders, model: expected 1, or made, got {config.num_orders} and"
      f" {config.model}"
    )
  rng = np.random.default_rng(config.seed)
  others = [rng.permutation(size) for _ in range(config.num_orders - 1)]
  return np.stack([np.arange(size), *others])
