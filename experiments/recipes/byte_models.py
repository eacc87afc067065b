"""Models of windows of tokens: causal networks, and a masked one.

Tokens are bytes, or pieces of a vocabulary. Both give the log-likelihood of the
tokens of a window that are not given,

  causal   sum_i log P(x_i | x_0, ..., x_(i-1))         exact
  masked   k / (k - n) sum_(i masked) log P(x_i | x_visible)

with, of k tokens that are not given, n visible, n uniform on 0, ..., k - 1: in
expectation a lower bound. Its negative is the loss of training.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.recipes import unmasking
from jaxgen import outputs, samplers, token_fields
from jaxgen.losses import masked
from jaxgen.models import bidirectional, causal, recurrent


class Model(NamedTuple):
  """A model of windows [T] of tokens.

  Attributes:
    kind: "exact" or "lower bound": what log_prob is in expectation.
    init: key -> initial parameters.
    log_prob: (params, key, u, levels [T], given [T], **how) -> nats of the
      tokens that are not given. Only the masked model uses the key, and u,
      uniform in (0, 1], which determines n; `how` goes to the network.
    sample: (params, key) -> tokens [T].
    num_calls: evaluations of the network whose work a sample takes.
  """

  kind: str
  init: Callable
  log_prob: Callable
  sample: Callable
  num_calls: int


def make(config: Any, num_tokens: int) -> Model:
  """The model of windows of num_tokens different tokens.

  Raises:
    ValueError: invalid settings of a network, by the network's names.
  """
  shape = config.length, num_tokens
  size = dict(width=config.width, depth=config.num_blocks)
  size |= dict(dropout=config.dropout)
  heads = dict(num_heads=config.num_heads, rotary=True)
  match config.model:
    case "transformer":
      net: Any = causal.Transformer(*shape, **heads, **size)
    case "masked":
      net = bidirectional.Transformer(*shape, **heads, **size)
      return of_masked(net, config.length, config.sample_steps)
    case cell:
      net = recurrent.Recurrent(*shape, cell, **size)
  return of_causal(net, config.length)


def of_causal(net: Any, length: int) -> Model:
  """The model of a network with `start` and `step`, one-hot tokens its inputs.

  A sample costs about as much as one evaluation of the network.
  """
  output = outputs.categorical(net.out_features)
  read = lambda levels: jax.nn.one_hot(levels, net.out_features)

  def log_prob(params, key, u, levels, given, **how):
    nats = output.log_prob(net.apply(params, read(levels), **how), levels)
    return jnp.where(given, 0, nats).sum()

  def sample(params, key):
    step = lambda cache, before, i: net.apply(
      params, cache, read(before), i, method="step"
    )
    start = net.apply(params, method="start")
    return samplers.autoregressive(step, start, output, length, key)

  init = lambda key: net.init(key, read(jnp.zeros(length, int)))
  return Model("exact", init, log_prob, sample, 1)


def of_masked(net: Any, length: int, sample_steps: int) -> Model:
  """The model of a network of one-hot tokens and masks.

  A sample takes sample_steps calls, in each of which every token that is left
  is revealed with equal probability; with T or more steps it takes T calls, one
  a token, and is exact.
  """
  mask = net.out_features
  output = outputs.categorical(mask)
  read = lambda tokens: jax.nn.one_hot(tokens, mask + 1)
  exact = sample_steps >= length
  solver = samplers.one_by_one() if exact else samplers.unmask()
  num_calls = min(sample_steps, length)

  def log_prob(params, key, u, levels, given, **how):
    params_fn = lambda tokens: net.apply(params, read(tokens), **how)
    visible, weight = unmasking.draw_visible("number", key, u, given)
    return -weight * masked.cross_entropy(
      params_fn, levels, visible, output=output
    )

  def sample(params, key):
    params_fn = lambda tokens: net.apply(params, read(tokens))
    field = token_fields.from_params(params_fn, output)
    start = jnp.full(length, mask, "int32")
    times = jnp.linspace(1, 0, num_calls + 1)
    return samplers.integrate(solver, field, start, times, key)

  init = lambda key: net.init(key, read(jnp.zeros(length, int)))
  return Model("lower bound", init, log_prob, sample, num_calls)
