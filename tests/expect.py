"""What many tests expect of a call."""

from collections.abc import Callable, Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import trees


def error(match: str, call: Callable, /, *args: Any, **kwargs: Any) -> str:
  """The ValueError of call(*args, **kwargs): one line, which matches."""
  with pytest.raises(ValueError, match=match) as caught:
    call(*args, **kwargs)
  said = str(caught.value)
  assert "\n" not in said
  return said


def scalars(found: Mapping, truth: Mapping, rtol: float) -> None:
  """Float32 scalars of the same names, and of these values."""
  assert found.keys() == truth.keys()
  for name, value in truth.items():
    assert found[name].shape == () and found[name].dtype == jnp.float32, name
    np.testing.assert_allclose(found[name], value, rtol=rtol, err_msg=name)


def close(found: Any, truth: Any, rtol: float = 1e-7, atol: float = 0) -> None:
  """Trees of one structure, close leaf by leaf; a truth may be in float64."""
  one, other = jax.tree.flatten(found), jax.tree.flatten(truth)
  assert one[1] == other[1]
  for value, expected in zip(one[0], other[0], strict=True):
    np.testing.assert_allclose(value, expected, rtol, atol)


def a_loop(
  fn: Callable, *batch: Any, rtol: float = 1e-6, atol: float = 0
) -> Any:
  """vmap of fn is fn row by row, jitted, in one trace for all rows: the rows.

  Values to the tolerance; structures, shapes and dtypes are the same.
  """
  chex.clear_trace_counter()
  run = jax.jit(chex.assert_max_traces(fn, n=1))
  rows = [run(*row) for row in zip(*batch, strict=True)]
  loop = jax.tree.map(lambda *leaves: np.stack(leaves), *rows)
  many = jax.jit(jax.vmap(fn))(*batch)
  trees.assert_close(many, loop, rtol=rtol, atol=atol)
  return loop
