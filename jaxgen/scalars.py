"""Settings are Python floats: hashable, and of no dtype of their own.

A NumPy or JAX scalar would be no key of a cache, or a key equal to that of the
Python float, which then hands its dtype to everyone after.
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
  """The function with a Python float for each argument annotated as a float.

  Scalars of Python, NumPy and JAX are all taken, arrays [] among them.

  Raises:
    ValueError: such an argument is no number, or one that is traced.
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
  """`plain`, and one object for equal settings, however they were given."""
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
