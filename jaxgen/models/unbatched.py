"""Adapts models that are written for batches to one example."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def unbatched(apply: Callable) -> Callable:
  """Adapts a batch-first model to one example.

    f(params, x, t, ...) = apply(params, x[None], t[None], ...)[0]

  Arrays among the further arguments (such as a label) get the leading axis too;
  keys, Python values and containers (train=True, rngs={...}) are unchanged.

  Args:
    apply: (params, x [B, *D], t [B], *args, **kwargs) -> [B, *D].

  Returns:
    (params, x [*D], t [], *args, **kwargs) -> [*D].

  Raises:
    ValueError: when called, if the parameters contain batch statistics, which
      would be those of batches of one, or if apply does not return one array
      [1, ...].
  """

  def single(params: Any, x, t, *args, **kwargs):
    if isinstance(params, Mapping) and "batch_stats" in params:
      raise ValueError(
        "params: expected no batch_stats, as they would use batches of one; "
        "call the batch-first model directly"
      )
    rest = [lead(value) for value in args]
    named = {name: lead(value) for name, value in kwargs.items()}
    x, t = jnp.asarray(x), jnp.asarray(t)
    out = apply(params, x[None], t[None], *rest, **named)
    if not isinstance(out, jax.Array):
      raise ValueError(
        "apply: expected one array as output, without mutated variables or "
        f"auxiliary outputs, got {type(out).__name__}"
      )
    if out.shape[:1] != (1,):
      raise ValueError(f"apply: expected output [1, ...], got {out.shape}")
    return out[0]

  return single


def lead(value):
  """Adds the batch axis to an array; keys and other values are unchanged."""
  if not isinstance(value, jax.Array | np.ndarray):
    return value
  if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
    return value
  return value[None]
