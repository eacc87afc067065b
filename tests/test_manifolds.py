"""Manifolds against closed forms and SciPy's rotations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import transform

from jaxgen import manifolds

RNG = np.random.default_rng(0)
MAKE = dict(
  sphere=manifolds.sphere, torus=manifolds.torus, rotations=manifolds.rotations
)
by_manifold = pytest.mark.parametrize("name", MAKE)


def points(name, number, dtype="float32"):
  """Random points [N, ...]."""
  if name == "sphere":
    x = RNG.normal(size=(number, 4))
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
  elif name == "torus":
    x = RNG.uniform(-np.pi, np.pi, (number, 3))
  else:
    x = transform.Rotation.from_quat(RNG.normal(size=(number, 4))).as_matrix()
  return jnp.asarray(x, dtype)


def angle(name, x, y):
  """The distance of two points by arccosines."""
  if name == "sphere":
    return np.arccos(np.sum(x * y, -1))
  if name == "torus":
    each = np.arccos(np.cos(y - x))
    return np.sqrt((each**2).sum(-1))
  trace = np.einsum("nij,nij->n", x, y)
  return np.sqrt(2) * np.arccos((trace - 1) / 2)


@by_manifold
def test_log_has_the_distance_and_leads_to_the_point(name):
  manifold = MAKE[name]()
  with jax.enable_x64(True):
    x, y = points(name, 40, "float64"), points(name, 40, "float64")
    v = jax.jit(jax.vmap(manifold.log))(x, y)
    again = jax.jit(jax.vmap(manifold.exp))(x, v)
    close = np.cos(again - y) if name == "torus" else again - y + 1
    np.testing.assert_allclose(close, 1, atol=1e-9)
    length = np.sqrt((np.asarray(v) ** 2).reshape(40, -1).sum(1))
    np.testing.assert_allclose(length, angle(name, x, y), rtol=1e-9)
    flat = jax.vmap(manifold.tangent)(x, v)
    np.testing.assert_allclose(flat, v, atol=1e-12)


@by_manifold
def test_geodesics_have_constant_speed_and_stay_on_the_manifold(name):
  manifold = MAKE[name]()
  x, y = points(name, 30), points(name, 30)
  at = jax.jit(jax.vmap(manifold.geodesic, (0, 0, None)))
  middle = at(x, y, 0.25)
  parts = angle(name, *map(np.float64, (x, middle)))
  whole = angle(name, *map(np.float64, (x, y)))
  np.testing.assert_allclose(parts, whole / 4, rtol=2e-3, atol=1e-3)
  if name == "sphere":
    np.testing.assert_allclose(np.linalg.norm(middle, axis=1), 1, atol=1e-6)
  elif name == "rotations":
    unit = np.einsum("nij,nkj->nik", middle, middle)
    np.testing.assert_allclose(
      unit, np.broadcast_to(np.eye(3), unit.shape), atol=1e-6
    )
    np.testing.assert_allclose(np.linalg.det(middle), 1, atol=1e-6)
  else:
    assert (np.abs(middle) <= np.float32(np.pi)).all()


@by_manifold
@pytest.mark.parametrize("size", [0.0, 1e-4, 0.01, 1.0])
def test_derivatives_at_and_near_a_point_are_the_identity(name, size):
  """log inverts exp, so the product of their derivatives is the identity."""
  manifold = MAKE[name]()
  with jax.enable_x64(True):
    x = points(name, 1, "float64")[0]
    draw = lambda: jnp.asarray(RNG.normal(size=x.shape))
    v, w = (manifold.tangent(x, draw()) for _ in range(2))
    v = size * v / jnp.sqrt(jnp.sum(v**2))

    def both(s):
      return manifold.log(x, manifold.exp(x, v + s * w))

    value, slope = jax.jit(lambda: jax.jvp(both, (0.0,), (1.0,)))()
    np.testing.assert_allclose(value, v, rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(slope, w, atol=1e-8)


def test_rotations_are_scipys():
  manifold = manifolds.rotations()
  with jax.enable_x64(True):
    x, y = (
      points("rotations", 20, "float64"),
      points("rotations", 20, "float64"),
    )
    of = transform.Rotation.from_matrix
    vectors = (of(x).inv() * of(y)).as_rotvec()
    turn = np.einsum("nji,njk->nik", x, jax.vmap(manifold.log)(x, y))
    found = np.stack([turn[:, 2, 1], turn[:, 0, 2], turn[:, 1, 0]], 1)
    np.testing.assert_allclose(found, vectors, atol=1e-9)
