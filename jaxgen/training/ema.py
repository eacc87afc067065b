"""Exponential moving averages of parameters.

  ema <- ema + (1 - decay(i)) (params - ema),   i = 0, 1, 2, ... the step

A rule is a function i -> decay. The average is kept in float32 at least:
in half precision a step of (1 - decay) would round to nothing.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, PyTree

Rule = Callable[[Int[Array, ""]], ArrayLike]


def constant(decay: float) -> Rule:
  """The same decay at every step; remembers about 1 / (1 - decay) steps.

  Args:
    decay: in [0, 1]; 0 follows the parameters, 1 never moves.

  Returns:
    The rule, i -> decay.

  Raises:
    ValueError: decay outside [0, 1].
  """
  _check(decay)
  return lambda step: decay


def warmup(decay: float) -> Rule:
  """Follows the parameters at first, so that no bias needs correcting.

    decay(i) = min(decay, (1 + i) / (10 + i))

  Args:
    decay: the limit, in [0, 1].

  Returns:
    The rule, i -> decay(i).

  Raises:
    ValueError: decay outside [0, 1].
  """
  _check(decay)
  return lambda step: jnp.minimum(decay, (1.0 + step) / (10.0 + step))


def init(params: PyTree) -> PyTree:
  """The average of one set of parameters: a copy, in float32 at least."""
  return jax.tree.map(lambda p: jnp.array(p, _dtype(p)), params)


def update(ema: PyTree, params: PyTree, decay: Float[ArrayLike, ""]) -> PyTree:
  """One step of the average.

  Args:
    ema: the average so far.
    params: what is averaged, of the same structure.
    decay: in [0, 1].

  Returns:
    ema + (1 - decay) (params - ema), in ema's dtypes.
  """

  def one(mean, value):
    rate = (1 - jnp.asarray(decay)).astype(mean.dtype)
    return mean + rate * (value.astype(mean.dtype) - mean)

  return jax.tree.map(one, ema, params)


def _dtype(p):
  return jnp.promote_types(jnp.asarray(p).dtype, jnp.float32)


def _check(decay):
  if not 0 <= decay <= 1:
    raise ValueError(f"decay: expected a number in [0, 1], got {decay}")
