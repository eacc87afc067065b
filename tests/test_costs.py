"""Costs against NumPy, and their slopes where points meet."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from jaxgen import costs
from tests import expect


def everything(x, y):
  return dict(
    norm=costs.norm(x),
    distance=costs.distance(x, y),
    square=costs.square(x, y),
    inner=costs.inner(x, y),
    value=costs.value(jnp.sum, x),
  )


def by_hand(x, y):
  x, y = (np.float64(a).ravel() for a in (x, y))
  return dict(
    norm=np.linalg.norm(x),
    distance=np.linalg.norm(x - y),
    square=x @ x + y @ y - 2 * x @ y,
    inner=-(x @ y),
    value=x.sum(),
  )


class Variants(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.parameters((), (3,), (2, 2, 1))
  def test_values(self, *shape):
    x, y = np.random.default_rng(0).standard_normal((2, *shape), "float32")
    found = self.variant(everything)(jnp.asarray(x), jnp.asarray(y))
    expect.scalars(found, by_hand(x, y), rtol=2e-6)


def test_one_trace_and_vmap_is_a_loop():
  x, y = jnp.asarray(np.random.default_rng(1).standard_normal((2, 4, 3)))
  expect.a_loop(everything, x, y)


def test_slopes_of_the_norm_are_unit_vectors_and_zero_at_zero():
  x = jnp.array([3.0, -4.0, 12.0])
  slope, curvature = jax.jit(
    lambda x: (jax.grad(costs.norm)(x), jax.hessian(costs.norm)(x))
  )(x)
  np.testing.assert_allclose(slope, x / 13, rtol=1e-6)
  along = np.outer(x, x) / 169
  np.testing.assert_allclose(curvature, (np.eye(3) - along) / 13, atol=1e-7)
  twice = jax.jit(
    lambda x, y: [
      jax.jacfwd(jax.grad(costs.distance, argnum), argnum)(x, y)
      for argnum in (0, 1)
    ]
  )
  for argnum in (0, 1):
    at = jax.grad(costs.distance, argnum)(x, x)
    np.testing.assert_array_equal(at, np.zeros(3))
  np.testing.assert_array_equal(twice(x, x), np.zeros((2, 3, 3)))
  np.testing.assert_array_equal(jax.grad(costs.norm)(jnp.float32(0)), 0)


def test_what_is_no_scalar_is_refused():
  x = jnp.ones((2, 3))
  assert costs.value(lambda x: 2.5, x) == 2.5
  for bad, shape in ((lambda x: x, "2, 3"), (lambda x: x.sum(0), "3")):
    said = rf"potential: expected a scalar \[\] .* got shape \[{shape}\]"
    expect.error(said, costs.value, bad, x)


def test_points_of_two_spaces_are_refused():
  x = jnp.ones(3)
  assert costs.require_alike(x=x, y=0 * x, z=2 * x) is None
  said = r"z: expected shape \[3\], that of x, got"
  for bad in (jnp.ones(2), jnp.ones((3, 1)), jnp.ones(())):
    expect.error(said, costs.require_alike, x=x, y=x, z=bad)
