"""Sampling sequences of levels, one position after the other.

  params_i = f(x_0, ..., x_(i-1)),   x_i ~ P(. ; params_i),   i = 0, ..., T - 1

`autoregressive` evaluates one position in each step, from what the positions
before it left in memory (a cache of keys and values, a recurrent state).
`autoregressive_by_forwards` evaluates the whole network in each step, T times
the work, for networks without such a step. Position i uses the key
fold_in(key, i) in both, so that one key gives the same sample.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jaxgen import keys, orders, outputs


def autoregressive(
  step_fn: Callable[[Any, Array, Array], tuple[Any, Array]],
  memory: Any,
  output: outputs.Output,
  length: int,
  key: Array,
  given: Array | None = None,
) -> Int[Array, "T"]:
  """Samples a sequence by one lax.scan over its positions.

  Args:
    step_fn: (memory, x_(i-1), i) -> (memory, params_i [K]); x_(-1) is 0.
    memory: the memory before position 0, any pytree.
    output: the distribution of one position.
    length: T, at least 1.
    key: a typed key.
    given: the first levels, [G] with G <= T, if they are known: the rest is
      sampled conditionally on them.

  Returns:
    Levels, [T], int32.

  Raises:
    ValueError: length is below 1, more levels are given, key is a legacy key,
      or step_fn returns another shape than [K].
  """
  keys.require_typed(key)
  known, num_given = _start(given, length)

  def body(carry, inputs):
    memory, before = carry
    i, level = inputs
    memory, params = step_fn(memory, before, i)
    _check_params("step_fn", params, (output.num_params,))
    drawn = outputs.sample(jax.random.fold_in(key, i), output, params)
    level = jnp.where(i < num_given, level, drawn)
    return (memory, level), level

  carry = memory, jnp.zeros((), jnp.int32)
  return jax.lax.scan(body, carry, (jnp.arange(length), known))[1]


def autoregressive_by_forwards(
  params_fn: Callable[[Array], Array],
  output: outputs.Output,
  shape: tuple[int, ...],
  key: Array,
  order: Array | np.ndarray | None = None,
  given: Array | None = None,
) -> Int[Array, "*D"]:
  """Samples an array by one evaluation of the network for each entry.

  Args:
    params_fn: levels [*D] -> parameters [*D, K], causal in the order.
    output: the distribution of one entry.
    shape: *D.
    key: a typed key.
    order: the model's order, [D]; None is raster order.
    given: the levels of the order's first entries, [G], if they are known.

  Returns:
    Levels, [*D], int32.

  Raises:
    ValueError: order is no permutation, too many levels are given, key is a
      legacy key, or params_fn returns another shape than [*D, K].
  """
  keys.require_typed(key)
  size = int(np.prod(shape))
  order = orders.raster(size) if order is None else order
  orders.require(order, size)
  known, num_given = _start(given, size)
  order = jnp.asarray(order)

  def body(i, levels):
    params = params_fn(levels.reshape(shape))
    _check_params("params_fn", params, (*shape, output.num_params))
    row = params.reshape(size, -1)[order[i]]
    drawn = outputs.sample(jax.random.fold_in(key, i), output, row)
    return levels.at[order[i]].set(jnp.where(i < num_given, known[i], drawn))

  start = jnp.zeros(size, jnp.int32)
  return jax.lax.fori_loop(0, size, body, start).reshape(shape)


def _start(given, length):
  """(the given levels with zeros behind, [length]; their number)."""
  if length < 1:
    raise ValueError(f"length: expected at least 1, got {length}")
  given = jnp.zeros(0, jnp.int32) if given is None else jnp.asarray(given)
  if given.ndim != 1 or len(given) > length:
    raise ValueError(
      f"given: expected at most {length} levels [G], got shape {given.shape}"
    )
  rest = jnp.zeros(length - len(given), jnp.int32)
  return jnp.concatenate([given.astype(jnp.int32), rest]), len(given)


def _check_params(name, params, shape):
  if jnp.shape(params) != shape:
    raise ValueError(
      f"{name}: expected parameters of shape {shape}, got {jnp.shape(params)}"
    )
