"""Gradients passed from codes to vectors, against explicit matrices."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import quantizers


def normal(seed, *shape):
  return jax.random.normal(jax.random.key(seed), shape)


def rotation(z, e):
  """The rotation in the plane of z and e that turns z to e, by its angle."""
  u, v = z / np.linalg.norm(z), e / np.linalg.norm(e)
  cos = u @ v
  w = v - cos * u
  sin = np.linalg.norm(w)
  w = w / sin
  turned = (cos - 1) * (np.outer(u, u) + np.outer(w, w))
  return np.eye(len(z)) + turned + sin * (np.outer(w, u) - np.outer(u, w))


def jacobians(pass_, z, e):
  """Values and Jacobians in z and e, by both modes of differentiation."""
  found = jax.jit(
    lambda z, e: (
      pass_(z, e),
      jax.jacrev(pass_, (0, 1))(z, e),
      jax.jacfwd(pass_, (0, 1))(z, e),
    )
  )(z, e)
  return jax.device_get(found)


def test_rotation_is_that_of_the_explicit_matrix():
  for seed in range(4):
    z, e = normal(seed, 5), 3 * normal(10 + seed, 5)
    value, (in_z, in_e), (forward, _) = jacobians(quantizers.rotate, z, e)
    np.testing.assert_array_equal(value, e)
    z, e = np.float64(z), np.float64(e)
    scale = np.linalg.norm(e) / np.linalg.norm(z)
    truth = scale * rotation(z, e)
    np.testing.assert_allclose(truth @ z, e, rtol=1e-12)
    np.testing.assert_allclose(in_z, truth, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(forward, truth, rtol=1e-4, atol=1e-5)
    assert not in_e.any()


def test_a_gradient_keeps_its_angle_to_the_vector():
  z, e, g = normal(0, 5), normal(1, 5), normal(2, 5)
  (slope,) = jax.vjp(lambda z: quantizers.rotate(z, e), z)[1](g)
  size = np.linalg.norm
  cos = lambda a, b: a @ b / size(a) / size(b)
  np.testing.assert_allclose(cos(slope, z), cos(g, e), rtol=1e-5)
  np.testing.assert_allclose(size(slope), size(g) * size(e) / size(z), 1e-5)


def test_straight_through_is_the_identity():
  z, e = normal(0, 5) * 1e3, normal(1, 5)
  value, (in_z, in_e), _ = jacobians(quantizers.straight_through, z, e)
  np.testing.assert_array_equal(value, e)
  np.testing.assert_array_equal(in_z, np.eye(5))
  assert not in_e.any()


def test_where_the_rotation_is_not_defined():
  z, zero = jnp.array([0.6, -0.48, 0.64]) * 0.7, jnp.zeros(3)
  u = np.asarray(z / 0.7)
  mirror = np.eye(3) - 2 * np.outer(u, u)
  near = z + 1e-5 * jnp.array([0.8, 0.36, -0.48])
  for x, e, truth in (
    (zero, z, np.eye(3)),
    (zero, zero, np.eye(3)),
    (z, zero, np.zeros((3, 3))),
    (z, z, np.eye(3)),
    (z, 2 * z, 2 * np.eye(3)),
    (z, -2 * z, 2 * mirror),
    (near, -2 * z, 2 * mirror),
  ):
    value, (in_z, in_e), _ = jacobians(quantizers.rotate, x, e)
    np.testing.assert_array_equal(value, e)
    np.testing.assert_allclose(in_z, truth, atol=1e-4)
    assert not in_e.any()


def test_rotation_of_nearly_opposite_vectors():
  """Orthogonal, and z is turned to e, whatever the angle between them."""
  u = jnp.array([1.0, 0, 0])
  for gap in (1e-2, 1e-3, 3e-4, 1e-4, 1e-6):
    e = -u.at[1].set(gap) / np.hypot(1, gap)
    _, (found, _), _ = jacobians(quantizers.rotate, u, e)
    np.testing.assert_allclose(found @ found.T, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(found @ u, e, atol=1e-3)
