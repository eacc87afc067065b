"""Distributions of discrete levels, from the numbers that a network outputs.

A coordinate of the data has one of L equally spaced levels 0, ..., L - 1, whose
values fill [-1, 1]. An Output turns K numbers per coordinate into the log
probability of its level; decoders of latents and autoregressive models share
it. Everything else follows from that one function: `table` evaluates it at
every level, `sample` and `mean` use the table.

Log probabilities are exact and finite for every finite network output,
derivatives included. In traced code a level outside of its range is not an
error but gives NaN; `to_levels` checks concrete data.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Integer, Num

from jaxgen import keys

# log of the scale of a logistic is within +-7: half the distance of 1000 levels
# at the least, a thousand times the whole range at the most.
_LOG_SCALE = 7.0


class Output(NamedTuple):
  """A family of distributions over levels.

  Attributes:
    name: name for error messages and tables.
    num_levels: L, number of levels.
    num_params: K, numbers per coordinate.
    log_prob: (params [*D, K], levels [*D] integers) -> nats of each coordinate,
      [*D].
  """

  name: str
  num_levels: int
  num_params: int
  log_prob: Callable[[Array, Array], Array]


def bernoulli() -> Output:
  """Two levels: P(1) = sigmoid(logit), one number per coordinate."""

  def log_prob(params, levels):
    logit = params[..., 0]
    value = -jax.nn.softplus(jnp.where(levels == 1, -logit, logit))
    return _within(value, levels, 2)

  return Output("bernoulli", 2, 1, log_prob)


def categorical(num_levels: int) -> Output:
  """Any distribution: P(level) = softmax(logits)[level], L numbers.

  Raises:
    ValueError: num_levels is below 2.
  """
  _require("categorical", num_levels=num_levels, least=2)

  def log_prob(params, levels):
    rows = jax.nn.log_softmax(params)
    index = jnp.clip(levels, 0, num_levels - 1)[..., None]
    value = jnp.take_along_axis(rows, index, axis=-1)[..., 0]
    return _within(value, levels, num_levels)

  return Output("categorical", num_levels, num_levels, log_prob)


def logistic_mixture(num_levels: int, num_components: int) -> Output:
  """A mixture of logistic distributions, integrated over each level's bin.

    P(level) = sum_k w_k (S((v + h - m_k) / s_k) - S((v - h - m_k) / s_k))

  v = 2 level / (L - 1) - 1 is the level's value, h = 1 / (L - 1) half the
  distance of two levels, S the sigmoid. The first and last bins extend to
  infinity. The numbers are, for each of M components, the logit of w, the mean
  m and r, with log s = 7 tanh(r / 7). With a > b,

    log(S(a) - S(b)) = log S(a) + log S(-b) + log(1 - exp(b - a)),

  which loses no digits in the tails.

  Raises:
    ValueError: num_levels is below 2, or num_components below 1.

  Reference: Salimans et al. 2017, arXiv:1701.05517, eq. 1 to 2 (there the last
  term of the logarithm is approximated, and s bounded by a maximum).
  """
  _require("logistic_mixture", num_levels=num_levels, least=2)
  _require("logistic_mixture", num_components=num_components, least=1)
  half = 1 / (num_levels - 1)

  def log_prob(params, levels):
    shape = *params.shape[:-1], 3, num_components
    logits, means, raw = jnp.moveaxis(params.reshape(shape), -2, 0)
    inverse = jnp.exp(-_LOG_SCALE * jnp.tanh(raw / _LOG_SCALE))
    levels = levels[..., None]
    value = to_values(levels, num_levels).astype(params.dtype)
    upper = (value + half - means) * inverse
    lower = (value - half - means) * inverse
    below = jnp.where(levels == num_levels - 1, 0, jax.nn.log_sigmoid(upper))
    above = jnp.where(levels == 0, 0, jax.nn.log_sigmoid(-lower))
    inner = (levels > 0) & (levels < num_levels - 1)
    bin_ = jnp.where(inner, jnp.log(-jnp.expm1(-2 * half * inverse)), 0)
    joint = jax.nn.log_softmax(logits) + below + above + bin_
    value = jax.nn.logsumexp(joint, axis=-1)
    return _within(value, levels[..., 0], num_levels)

  name = f"logistic_mixture({num_components})"
  return Output(name, num_levels, 3 * num_components, log_prob)


def table(output: Output, params: Float[Array, "*D K"]) -> Array:
  """log P of every level, in nats, [*D, L]."""
  shape = params.shape[:-1]
  at = lambda level: output.log_prob(params, jnp.full(shape, level))
  return jax.vmap(at, out_axes=-1)(jnp.arange(output.num_levels))


def sample(key: Array, output: Output, params: Float[Array, "*D K"]) -> Array:
  """A level of each coordinate, independent given params; int32, [*D]."""
  keys.require_typed(key)
  # The default draw of float32 never exceeds 15.94: rare levels never occur.
  return jax.random.categorical(key, table(output, params), mode="high").astype(
    "int32"
  )


def mean(output: Output, params: Float[Array, "*D K"]) -> Array:
  """The expected value of each coordinate, in [-1, 1], [*D]."""
  values = to_values(jnp.arange(output.num_levels), output.num_levels)
  return jnp.exp(table(output, params)) @ values.astype(params.dtype)


def to_levels(
  data: Float[Array | np.ndarray, "*D"], num_levels: int
) -> Int[Array, "*D"]:
  """The levels 0, ..., L - 1 (int32) of values in [-1, 1].

  Raises:
    ValueError: num_levels is below 2, or concrete data have a value that is no
      level. Traced data are rounded.
  """
  _require("to_levels", num_levels=num_levels, least=2)
  if not isinstance(data, jax.core.Tracer):
    place = (np.asarray(data, np.float64) + 1) * (num_levels - 1) / 2
    off = np.abs(place - np.clip(np.rint(place), 0, num_levels - 1))
    if not np.all(off < 1e-3):
      wrong = np.asarray(data).ravel()[np.argmax(~(off.ravel() < 1e-3))]
      raise ValueError(
        f"data: expected values at {num_levels} levels in [-1, 1], got {wrong}"
      )
  return jnp.rint((data + 1) * (num_levels - 1) / 2).astype("int32")


def to_values(
  levels: Integer[Array, "*D"], num_levels: int
) -> Float[Array, "*D"]:
  """The values 2 level / (L - 1) - 1 in [-1, 1] of levels."""
  return jnp.asarray(levels, float) * (2 / (num_levels - 1)) - 1


def wide_levels(levels: Num[ArrayLike, "*D"]) -> Num[Array, "*D"]:
  """Levels as an array, in int32 where a number above them may not fit."""
  levels = jnp.asarray(levels)
  narrow = levels.dtype.itemsize < 4
  if narrow and jnp.issubdtype(levels.dtype, jnp.integer):
    return levels.astype("int32")
  return levels


def _within(value, levels, num_levels):
  levels = wide_levels(levels)
  return jnp.where((levels >= 0) & (levels < num_levels), value, jnp.nan)


def _require(name, *, least, **values):
  ((setting, value),) = values.items()
  if value < least:
    raise ValueError(
      f"{name}: expected {setting} at least {least}, got {value}"
    )
