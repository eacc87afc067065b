"""Dtypes: what must be float32 or wider, where states have half precision.

Times, steps, noise, sums and statistics must. jnp.promote_types refuses half
precision where jax_numpy_dtype_promotion is "strict"; `wider` does not.
"""

from typing import Any

import jax.numpy as jnp


def wider(dtype: Any, other: Any = jnp.float32) -> Any:
  """The wider of two dtypes, under any promotion setting.

  Raises:
    ValueError: the first dtype is not a float.
  """
  if not jnp.issubdtype(dtype, jnp.floating):
    raise ValueError(f"expected an array of floats, got dtype {dtype}")
  bits = lambda dtype: jnp.finfo(dtype).bits
  return jnp.dtype(other if bits(other) > bits(dtype) else dtype)


def require_wide(name: str, dtype: Any) -> None:
  """Raises for times in half precision, which is too coarse for solvers.

  Raises:
    ValueError: the dtype is not float32 or wider.
  """
  if not jnp.issubdtype(dtype, jnp.floating) or jnp.finfo(dtype).bits < 32:
    raise ValueError(f"{name}: expected dtype float32 or wider, got {dtype}")
