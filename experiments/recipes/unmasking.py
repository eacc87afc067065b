"""Masked models of levels: networks, samples, bounds and infilling."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.experiment import Times, Trained
from experiments.lib import checks, datasets
from experiments.recipes import coding, networks, sequences
from jaxgen import masks, outputs, samplers, token_fields
from jaxgen.losses import masked
from jaxgen.models import bidirectional, masked_image, masked_mlp, padded

MULTIPLIERS = (1, 2)  # of the U-Net's width, one for each level
GRIDS = {
  "linear": lambda n: np.linspace(1, 0, n + 1),
  "cosine": lambda n: np.cos(np.pi / 2 * np.linspace(0, 1, n + 1)),
}


class Model(NamedTuple):
  """A network that predicts masked levels, and how it is sampled.

  Attributes:
    net: a Flax module, tokens' features [D, F] -> [D, K].
    codec: data as levels.
    output: the distribution of a level.
    shape: *D.
    solver: a token solver.
    times: masking probabilities, [N + 1].
    guidance: weight of guidance.
    orders: [M, D], the orders whose mixture has an exact likelihood; M is 0 for
      the bound.
  """

  net: Any
  codec: coding.Codec
  output: outputs.Output
  shape: tuple[int, ...]
  solver: samplers.Solver
  times: np.ndarray
  guidance: float
  orders: np.ndarray

  def init(self, key: Any) -> Any:
    """Initial parameters of the network."""
    return self.net.init(key, self.features(jnp.zeros(self.shape, "int32")))

  def features(self, tokens: Any) -> Any:
    """Features of tokens [*D], [D, F]; the mask's are 0 but for the last."""
    flat = tokens.ravel()
    hidden = (flat == self.output.num_levels)[:, None]
    levels = jnp.where(hidden[:, 0], 0, flat)
    seen = self.codec.features(levels)
    seen = jnp.where(hidden, 0, seen)
    return jnp.concatenate([seen, hidden.astype(seen.dtype)], -1)

  def params_fn(self, params: Any, label: Any, **how: Any) -> Callable:
    """tokens [*D] -> parameters of all levels' distributions, [*D, K]."""

    def fn(tokens):
      out = self.net.apply(params, self.features(tokens), label, **how)
      return out.reshape(*self.shape, self.output.num_params)

    return fn

  def field(self, params: Any, label: Any) -> token_fields.TokenField:
    """The field that solvers ask, with guidance."""
    of = lambda label: token_fields.from_params(
      self.params_fn(params, label), self.output
    )
    if self.guidance == 1:
      return of(label)
    return token_fields.guided(of(label), of(None), self.guidance)

  def states(
    self, params: Any, key: Any, label: Any, tokens: Any = None
  ) -> Any:
    """The solver's states [N + 1, *D]; known tokens are given levels."""
    if tokens is None:
      tokens = jnp.full(self.shape, self.output.num_levels, "int32")
    times = jnp.asarray(self.times, "float32")
    field = self.field(params, label)
    return samplers.trajectory(self.solver, field, tokens, times, key)

  def values(self, tokens: Any) -> Any:
    """Levels as values for pictures, masks as 0; tokens stay as they are."""
    if not self.codec.ordered:
      return tokens
    values = self.codec.values(tokens)
    return jnp.where(tokens == self.output.num_levels, 0, values)

  def log_prob(self, params: Any, key: Any, example: Any, label: Any) -> Any:
    """log p of a mixture of orders, or of one random order for the bound."""
    levels = self.codec.to_levels(example)
    fn = self.params_fn(params, label)
    of = lambda order: masked.order_log_prob(
      fn, levels, order, output=self.output
    )
    if not len(self.orders):
      nats = of(jax.random.permutation(key, levels.size))
    else:
      each = jax.lax.map(of, jnp.asarray(self.orders))
      nats = jax.nn.logsumexp(each) - math.log(len(self.orders))
    return self.codec.log_density(nats, example)


def make(config: Any, data: datasets.Data) -> Model:
  """The model that the settings describe.

  Raises:
    ValueError: the settings do not fit together or to the data.
  """
  codec = coding.of_data(data, config.num_bins)
  output = sequences.make_output(config, codec)
  size = math.prod(data.shape)
  net = make_network(config, data, output)
  rng = np.random.default_rng(config.seed)
  orders = [rng.permutation(size) for _ in range(config.num_orders)]
  solver, times = make_solver(config, size)
  model = Model(
    net,
    codec,
    output,
    data.shape,
    solver,
    times,
    config.guidance,
    np.stack(orders) if orders else np.zeros((0, size), int),
  )
  how = dict(features="width", depth="num_blocks", num_heads="width, num_heads")
  with checks.naming(config, **how):
    jax.eval_shape(model.init, jax.random.key(0))
  return model


def make_network(config: Any, data: datasets.Data, output: Any) -> Any:
  """A module, the tokens' features [D, F] -> [D, K].

  Raises:
    ValueError: the network does not fit the data.
  """
  shared = dict(dropout=config.dropout, num_classes=data.num_classes)
  num_params, width = output.num_params, config.width
  if config.model == "mlp":
    features = (width,) * config.num_blocks
    return masked_mlp.MaskedMLP(num_params, features, **shared)
  shared |= dict(num_heads=config.num_heads)
  if config.model == "transformer":
    size = math.prod(data.shape)
    return bidirectional.Transformer(
      size, num_params, width, config.num_blocks, **shared
    )
  if len(data.shape) != 3:
    raise ValueError(
      "model, data: expected images for unet, got examples"
      f" {list(data.shape)} of {config.data}"
    )
  levels = len(MULTIPLIERS)
  net = networks.image_unet(
    width,
    multipliers=MULTIPLIERS,
    num_blocks=config.num_blocks,
    attention=networks.automatic_attention(data.shape, levels),
    out_features=data.shape[-1] * num_params,
    **shared,
  )
  with checks.naming(config, multiple="model, data"):
    fitted = padded.fit(net, data.shape, 2 ** (levels - 1))
  return masked_image.MaskedImage(fitted, data.shape, width)


def make_solver(config: Any, size: int) -> tuple[samplers.Solver, np.ndarray]:
  """(the token solver, its masking probabilities)."""
  grid = GRIDS[config.mask_grid]
  match config.sampler:
    case "unmask":
      return samplers.unmask(config.remask), grid(config.sample_steps)
    case "confident":
      return samplers.confident(config.temperature), grid(config.sample_steps)
    case "one_by_one":
      return samplers.one_by_one(), grid(size)
    case _:
      return samplers.in_order(np.arange(size)), grid(size)


def marks(model: Model) -> Times:
  """Names the states of a sample in pictures."""
  return Times("masked", model.times, np.ones(len(model.times)))


def draw_visible(how: str, key: Any, u: Any, given: Any) -> tuple[Any, Any]:
  """(visible [*D], weight []): given entries and a part of the k others.

  Args:
    how: number: n of the k others, with weight k / (k - n); linear or cosine:
      each with the probability of that schedule at u, with its weight.
    key: a typed key.
    u: uniform in (0, 1], []; n = floor(k (1 - u)), at most k - 1.
    given: flags, [*D], not all True.
  """
  if how == "number":
    num_given = given.sum()
    k = given.size - num_given
    n = jnp.minimum((k * (1 - u)).astype("int32"), k - 1)
    order = jax.random.permutation(key, given.size).reshape(given.shape)
    order = jnp.where(given, -1, order)
    return order < jnp.sort(order, None)[num_given + n], k / (k - n)
  schedule = {"linear": masks.linear, "cosine": masks.cosine}[how]
  visible = masks.independent(key, schedule, u, given.shape)
  return given | visible, masks.weight(schedule, u)


def record(
  model: Model,
  data: datasets.Data,
  now: Trained,
  split: str = "validation",
) -> tuple[dict[str, float], str]:
  """Nats per hidden entry of held-out examples, half of their entries given.

  By the model, in one random order of the hidden entries, beside the training
  set's frequencies of levels at each entry (with one added to each count). Of
  at most 360 examples of the split.
  """
  number, size = model.output.num_levels, math.prod(model.shape)
  to_levels = jax.vmap(model.codec.to_levels)
  train = to_levels(jnp.asarray(data.split("train")[0]))
  counts = jax.nn.one_hot(train, number).sum(0) + 1
  table = jnp.log(counts / counts.sum(-1, keepdims=True)).reshape(size, number)
  skip = size - size // 2

  def one(key, levels, label):
    order = jax.random.permutation(key, size)
    fn = model.params_fn(now.params["model"], label)
    nats = masked.order_log_prob(
      fn, levels, order, output=model.output, skip=skip
    )
    late = order[skip:]
    return nats, table[late, levels.ravel()[late]].sum()

  examples, labels = (
    None if part is None else jnp.asarray(part[:360])
    for part in data.split(split)
  )
  keys = jax.random.split(jax.random.key(0), len(examples))
  nats = jax.jit(jax.vmap(one))(keys, to_levels(examples), labels)
  ours, theirs = (-float(each.mean()) / (size // 2) for each in nats)
  found = dict(infilling=ours, marginals=theirs, number=len(examples))
  return found, (
    f"{len(examples)} held-out examples, half of their entries given, nats per"
    f" hidden entry\n  {ours:.3f}   frequencies of levels {theirs:.3f}"
  )


def fillings(
  model: Model,
  data: datasets.Data,
  params: Any,
  view: Callable,
  number: int = 4,
) -> tuple[np.ndarray, list[str]]:
  """Held-out images, their upper halves, and samples given these.

  Args:
    model: the model.
    data: its data.
    params: its parameters.
    view: (values or tokens [*D], label) -> their picture.
    number: number of samples.

  Returns:
    (images [R, 2 + number, H, W, K], the names of the columns).
  """
  rows = min(len(data.real[0]), 10)
  examples, labels = (
    None if part is None else jnp.asarray(part[:rows]) for part in data.real
  )
  upper = jnp.arange(model.shape[0]) < model.shape[0] // 2
  visible = jnp.broadcast_to(upper[:, None, None], model.shape)

  def one(key, example, label):
    levels = model.codec.to_levels(example)
    known = masks.hide(levels, visible, model.output.num_levels)
    fill = lambda key: model.states(params, key, label, known)[-1]
    filled = jax.vmap(fill)(jax.random.split(key, number))
    parts = levels[None], known[None], filled
    picture = jax.vmap(lambda tokens: view(model.values(tokens), label))
    return picture(jnp.concatenate(parts))

  keys = jax.random.split(jax.random.key(0), rows)
  images = jax.jit(jax.vmap(one))(keys, examples, labels)
  return np.asarray(images), ["held out", "given", *["sample"] * number]
