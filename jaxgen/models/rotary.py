"""Rotary positions: attention that depends on distances of positions.

The two halves of a query or key x at position i are pairs (x_k, x_(k + C/2)),
k = 0, ..., C/2 - 1. Each is rotated by the angle i base^(-2k/C). Products of a
query at i and a key at j then depend on i - j alone.

Reference: Su et al. 2021, arXiv:2104.09864.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def rotate(
  x: Float[Array, "T N C"], positions: Int[Array, "T"], base: float = 1e4
) -> Float[Array, "T N C"]:
  """Queries or keys of N heads, rotated by their positions.

  Args:
    x: the vectors, [T, N, C], C even.
    positions: integers, [T].
    base: the angles' frequencies fall from 1 to base^(-(1 - 2/C)).

  Returns:
    The rotated vectors, [T, N, C], in x's dtype.

  Raises:
    ValueError: C is odd.
  """
  half, odd = divmod(x.shape[-1], 2)
  if odd:
    raise ValueError(f"x: expected vectors of even size, got {x.shape[-1]}")
  rates = base ** (-jnp.arange(half) / half)
  angle = jnp.outer(positions, rates)[:, None]
  cos, sin = jnp.cos(angle).astype(x.dtype), jnp.sin(angle).astype(x.dtype)
  a, b = x[..., :half], x[..., half:]
  return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1)
