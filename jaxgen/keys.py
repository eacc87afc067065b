"""Random keys are typed: jax.random.key(seed), never a legacy uint32 array.

Keys of every kind run. That a sample depends on its own key alone holds for
JAX's default, threefry2x32. Of keys made with impl="rbg" or "unsafe_rbg" (fast
on TPUs), jax.vmap draws a whole batch from the first key: a sample then changes
with its place, the size of its batch and the batch's first key, and is
reproduced only by the same batch. jax.lax.map keeps each sample its own.
"""

from typing import Any

import jax
import jax.numpy as jnp


def require_typed(key: Any) -> None:
  """Refuses anything but one typed key.

  Raises:
    ValueError: key is a legacy uint32 key, an array of keys or no key at all.
  """
  dtype = getattr(key, "dtype", None)
  if dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key):
    raise ValueError(
      "key: expected a typed key, jax.random.key(seed), got"
      f" {type(key).__name__} of dtype {dtype}"
    )
  if key.shape != ():
    raise ValueError(f"key: expected one key, got shape {key.shape}")
