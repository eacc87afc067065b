"""Flow matching on manifolds: geodesics by finite differences."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import manifolds, paths
from jaxgen.losses import flow_matching, riemannian
from tests import expect


def test_the_velocity_is_that_of_the_geodesic_and_tangent():
  manifold = manifolds.sphere()
  with jax.enable_x64(True):
    data, source = jnp.array([0.6, 0.8, 0.0]), jnp.array([0.0, 0.6, -0.8])
    x_t, velocity = riemannian.problem(data, source, 0.3, manifold=manifold)
    at = lambda t: manifold.geodesic(data, source, t)
    slope = (at(0.3 + 1e-6) - at(0.3 - 1e-6)) / 2e-6
    np.testing.assert_allclose(x_t, at(0.3), rtol=1e-12)
    np.testing.assert_allclose(velocity, slope, atol=1e-9)
    np.testing.assert_allclose(jnp.sum(x_t * velocity), 0, atol=1e-12)
    angle = np.arccos(0.48)
    np.testing.assert_allclose(jnp.linalg.norm(velocity), angle, rtol=1e-12)


def test_on_the_torus_it_is_flow_matching_on_straight_lines():
  data, source, t = jnp.array([0.3, -1.0]), jnp.array([1.0, 0.5]), 0.4
  velocity_fn = lambda x, t: jnp.sin(x) + t
  found = riemannian.flow_matching(
    velocity_fn, data, source, t, manifold=manifolds.torus()
  )
  options = dict(path=paths.linear(), bridge=flow_matching.constant(0.0))
  flat = flow_matching.flow_matching(
    *(velocity_fn, data, source, jnp.zeros(2), t),
    weight=jnp.ones_like,
    **options,
  )
  np.testing.assert_allclose(found, flat, rtol=1e-5)
  assert found.shape == () and found.dtype == jnp.float32


def test_what_is_not_tangent_has_no_effect():
  manifold = manifolds.sphere()
  data, source = jnp.array([0.6, 0.8, 0.0]), jnp.array([0.0, 0.6, -0.8])
  loss = lambda fn: riemannian.flow_matching(
    fn, data, source, 0.3, manifold=manifold
  )
  one = loss(lambda x, t: jnp.array([0.1, 0.2, 0.3]))
  other = loss(lambda x, t: jnp.array([0.1, 0.2, 0.3]) + 5 * x)
  np.testing.assert_allclose(one, other, rtol=1e-5)


def test_bad_input():
  x, three, manifold = jnp.ones(2), jnp.ones(3), manifolds.torus()
  said = r"source: expected shape \(2,\), got \(3,\)"
  expect.error(said, riemannian.problem, x, three, 0.1, manifold=manifold)
  said = r"t: expected shape \(\)"
  expect.error(said, riemannian.problem, x, x, x, manifold=manifold)
  said = r"velocity_fn: expected output shape \(2,\), got \(3,\)"
  wrong = lambda x, t: jnp.ones(3)
  expect.error(
    said, riemannian.flow_matching, wrong, x, x, 0.1, manifold=manifold
  )
