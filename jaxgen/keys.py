"""Random keys are typed: jax.random.key(seed), never a legacy uint32 array.

Every key implementation works. With JAX's default, threefry2x32, a sample
depends on its own key alone. With impl="rbg" or "unsafe_rbg" (fast on TPUs),
jax.vmap generates a whole batch from the first key: a sample then depends on
its place in the batch, the batch size and the first key, and only the same
batch reproduces it. jax.lax.map keeps each sample a function of its own key.
"""

from typing import Any

import jax
import jax.numpy as jnp


def require_typed(key: Any) -> None:
  """Raises unless key is one typed key.

  Raises:
    ValueError: key is a legacy uint32 key, an array of keys or not a key.
  """
  dtype = getattr(key, "dtype", None)
  if dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key):
    raise ValueError(
      "key: expected a typed key, jax.random.key(seed), got"
      f" {type(key).__name__} of dtype {dtype}"
    )
  if key.shape != ():
    raise ValueError(f"key: expected one key, got shape {key.shape}")
