"""Inverses of autoregressive maps y_i = f(x_i; conditioner(x)_i).

`sequential` calls the conditioner once per position; `cached` calls one step of
it per position, where the conditioner remembers what it has read; `jacobi`
repeats x <- f^-1(y; conditioner(x)) for all positions of a block together until
nothing changes. Block by block, the positions before are already known
(Gauss-Seidel). As each repetition makes at least one more position exact, all
give the same x.

Reference: Song et al. 2021, arXiv:2002.03629 (Jacobi and Gauss-Seidel); Liu and
Qin 2025, arXiv:2505.12849 (on TarFlow).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxgen import elementwise


class Swept(NamedTuple):
  """What `jacobi` returns.

  Attributes:
    x: [T, *P].
    num_sweeps: number of calls of the conditioner, [].
    change: largest change in the last sweep of any block, [].
  """

  x: Float[Array, "T *P"]
  num_sweeps: Int[Array, ""]
  change: Float[Array, ""]


def sequential(
  conditioner: Callable, family: elementwise.Elementwise, y: Array
) -> Array:
  """x [T, *P], by T calls of the conditioner, one position after the other."""

  def body(i, x):
    params = conditioner(x)
    return x.at[i].set(family.inverse(params[i], y[i])[0])

  return jax.lax.fori_loop(0, len(y), body, jnp.zeros_like(y))


def cached(
  conditioner: Callable,
  family: elementwise.Elementwise,
  y: Array,
  *,
  step: Callable[[Any, Array, Array], tuple[Any, Array]],
  memory: Any,
) -> Array:
  """x [T, *P], by T steps of a conditioner with a memory.

  Args:
    conditioner: not used; `step` computes the same.
    family: the map f.
    y: the latent, [T, *P].
    step: (memory, x_(i-1) [*P], i []) -> (memory, parameters of position i
      [*P, K]). At i = 0 the second argument is 0.
    memory: at the start, such as empty keys and values.
  """

  def body(carry, now):
    memory, before = carry
    i, y_i = now
    memory, params = step(memory, before, i)
    x_i = family.inverse(params, y_i)[0]
    return (memory, x_i), x_i

  start = memory, jnp.zeros_like(y[0])
  return jax.lax.scan(body, start, (jnp.arange(len(y)), y))[1]


def jacobi(
  conditioner: Callable,
  family: elementwise.Elementwise,
  y: Array,
  *,
  tolerance: float | None = None,
  num_blocks: int = 1,
) -> Swept:
  """All positions of a block at once, repeated until they do not change.

    x_B <- f^-1(y_B; conditioner(x)_B),   one block B after the other

  from x = y, which a map near the identity leaves nearly solved.

  Args:
    conditioner: x [T, *P] -> parameters [T, *P, K], causal.
    family: the map f.
    y: the latent, [T, *P].
    tolerance: a block is done when the next sweep would change no number by
      more, predicted as change^2 / change before: a sweep changes less and
      less, as ever more positions are exact. None is 8 units of rounding of
      y's dtype, 1e-6 in float32.
    num_blocks: number of blocks; it divides T. 1 is Jacobi's method, T is
      `sequential` with one more call per position.

  Raises:
    ValueError: num_blocks does not divide T, or tolerance is negative.
  """
  if tolerance is None:
    tolerance = 8 * float(jnp.finfo(y.dtype).eps)
  _check(len(y), num_blocks, tolerance)
  size = len(y) // num_blocks

  def block(carry, start):
    x, sweeps, worst = carry
    own = lambda array: jax.lax.dynamic_slice_in_dim(array, start, size)

    def again(state):
      _, count, change, before = state
      share = jnp.where(before > change, change / before, 1)
      share = jnp.where(before < jnp.inf, share, 1)  # after the first sweep
      return (count < size) & (change * share > tolerance)

    def sweep(state):
      x, count, before, _ = state
      new = family.inverse(own(conditioner(x)), own(y))[0]
      change = jnp.max(jnp.abs(new - own(x)))
      x = jax.lax.dynamic_update_slice_in_dim(x, new, start, 0)
      return x, count + 1, change, before

    infinite = jnp.full((), jnp.inf, y.dtype)
    first = x, jnp.zeros((), "int32"), infinite, infinite
    x, count, change, _ = jax.lax.while_loop(again, sweep, first)
    return (x, sweeps + count, jnp.maximum(worst, change)), None

  zero = jnp.zeros((), "int32"), jnp.zeros((), y.dtype)
  starts = size * jnp.arange(num_blocks)
  return Swept(*jax.lax.scan(block, (y, *zero), starts)[0])


def _check(length, num_blocks, tolerance):
  if num_blocks < 1 or length % num_blocks:
    raise ValueError(
      f"num_blocks: expected a divisor of {length}, got {num_blocks}"
    )
  if not tolerance >= 0:
    raise ValueError(f"tolerance: expected at least 0, got {tolerance}")
