"""dtypes: the wider of two, and times of half precision."""

import jax
import jax.numpy as jnp
import pytest

from jaxgen import dtypes
from tests import expect

HALF, SINGLE = ("float16", "bfloat16"), "float32"


@pytest.mark.parametrize("promotion", ["standard", "strict"])
def test_the_wider_of_two(promotion):
  with jax.numpy_dtype_promotion(promotion):
    for dtype in (*HALF, SINGLE):
      assert dtypes.wider(dtype) == jnp.float32
    assert dtypes.wider("float64") == jnp.float64
    assert dtypes.wider("float32", "float64") == jnp.float64
    assert dtypes.wider("bfloat16", "bfloat16") == jnp.bfloat16
    # Of two that are equally wide, the first.
    assert dtypes.wider("bfloat16", "float16") == jnp.bfloat16
    assert dtypes.wider(jnp.float16, jnp.bfloat16) == jnp.float16


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool", "complex64"])
def test_what_is_no_float(dtype):
  line = f"expected an array of floats, got dtype {dtype}"
  expect.error(line, dtypes.wider, jnp.dtype(dtype))


def test_times_are_wide():
  for dtype in (SINGLE, "float64"):
    assert dtypes.require_wide("t", dtype) is None
  for dtype in (*HALF, "int32"):
    line = f"t: expected dtype float32 or wider, got {dtype}"
    expect.error(line, dtypes.require_wide, "t", dtype)
