"""Rotary positions against rotations of complex numbers."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.models import rotary
from tests import expect


def rotate(positions, dtype="float32"):
  """Equal queries of 2 heads of 6 numbers, at positions."""
  x = np.random.RandomState(0).standard_normal((2, 6)).astype("float32")
  x = jnp.asarray(np.tile(x, (len(positions), 1, 1)), dtype)
  return x, rotary.rotate(x, jnp.asarray(positions))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_pairs_turn_by_the_position_times_their_rate(dtype):
  positions = np.array([0, 1, 7, 100])
  x, found = rotate(positions, dtype)
  assert found.dtype == x.dtype and found.shape == (4, 2, 6)
  rates = 1e4 ** (-np.arange(3) / 3)
  turn = np.exp(1j * positions[:, None] * rates)[:, None]
  x = np.asarray(x, float)
  z = (x[..., :3] + 1j * x[..., 3:]) * turn
  truth = np.concatenate([z.real, z.imag], -1)
  tolerance = 2e-5 if dtype == "float32" else 0.03
  np.testing.assert_allclose(np.asarray(found, float), truth, atol=tolerance)


def test_products_depend_on_the_distance_alone():
  _, found = rotate([3, 10, 53, 60])
  a, b, c, d = np.asarray(found)
  np.testing.assert_allclose((a * b).sum(-1), (c * d).sum(-1), rtol=2e-5)
  assert np.all(np.abs((a * b).sum(-1) - (a * c).sum(-1)) > 1e-2)


def test_odd_sizes_are_an_error():
  x = jnp.zeros((4, 2, 5))
  said = "x: expected vectors of even size, got 5"
  expect.error(said, rotary.rotate, x, jnp.arange(4))
