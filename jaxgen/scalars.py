"""Conversion of settings to Python floats, which are hashable and untyped.

A NumPy or JAX scalar may not be hashable, or may equal a cached Python float,
so that a cache would return values of the scalar's dtype to later callers.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

P = ParamSpec("P")
T = TypeVar("T")


def plain(function: Callable[P, T]) -> Callable[P, T]:
  """Wraps a function to convert every argument annotated as a float.

  Python, NumPy and JAX scalars are accepted, including arrays of shape [].

  Raises:
    ValueError: such an argument is not a number, or is traced.
  """
  signature = inspect.signature(function)
  settings = {
    n for n, p in signature.parameters.items() if p.annotation is float
  }

  @functools.wraps(function)
  def called(*args: P.args, **kwargs: P.kwargs) -> T:
    bound = signature.bind(*args, **kwargs)
    for name in settings & bound.arguments.keys():
      bound.arguments[name] = _float(name, bound.arguments[name])
    return function(*bound.args, **bound.kwargs)

  return called


def cached(constructor: Callable[P, T]) -> Callable[P, T]:
  """`plain`, with a cache: equal settings of any type give the same object."""
  signature = inspect.signature(constructor)
  build = functools.cache(constructor)

  @plain
  @functools.wraps(constructor)
  def called(*args: P.args, **kwargs: P.kwargs) -> T:
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    return build(*bound.args)

  return called


def _float(name: str, value: Any) -> float:
  if isinstance(value, jax.core.Tracer):
    raise ValueError(f"{name}: expected one number, got a traced value")
  dtype = getattr(value, "dtype", None)
  kinds = (jnp.floating, jnp.integer)
  array = dtype is not None and any(jnp.issubdtype(dtype, k) for k in kinds)
  if not isinstance(value, int | float) and (not array or np.shape(value)):
    raise ValueError(
      f"{name}: expected one number, got {type(value).__name__} of shape"
      f" {list(np.shape(value))}"
    )
  return float(value)
