"""Input-convex networks: NumPy's values, and convexity by two definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.data import transport_pairs as pairs
from jaxgen.models import icnn
from tests import expect, trees
from tests.models import twins

DIM = 3
NET = icnn.ICNN((8, 6, 4), strength=0.1)


@pytest.fixture(scope="module")
def params():
  return jax.jit(NET.init)(jax.random.key(0), jnp.zeros(DIM))


@pytest.fixture(scope="module")
def shaken(params):
  """Parameters of any sign, as training leaves them without projection."""
  return twins.randomise(params)


def points(seed, num):
  return 2 * jax.random.normal(jax.random.key(seed), (num, DIM))


def values(params, x):
  return jax.jit(jax.vmap(lambda x: NET.apply(params, x)))(x)


def curvatures(params, net=NET):
  """Hessian eigenvalues at 64 points, in float64."""
  with jax.enable_x64(True):
    wide = jax.tree.map(lambda p: jnp.asarray(p, "float64"), params)
    hessian = jax.vmap(jax.hessian(lambda x: net.apply(wide, x)))
    x = jnp.asarray(np.asarray(points(2, 64)), "float64")
    return np.linalg.eigvalsh(jax.jit(hessian)(x))


def test_output_is_numpys(shaken):
  p = jax.tree.map(lambda p: np.asarray(p, "float64"), shaken["params"])
  x = np.array([0.3, -2.0, 0.7])
  smooth = lambda h: np.logaddexp(0, 4 * h) / 4
  affine = lambda i: x @ p[f"affine_{i}"]["kernel"] + p[f"affine_{i}"]["bias"]
  z = smooth(affine(0))
  z = smooth(z @ p["convex_1"]["nonnegative"] + affine(1))
  z = smooth(z @ p["convex_2"]["nonnegative"] + affine(2))
  f = z @ p["convex_out"]["nonnegative"] + x @ p["affine_out"]["kernel"]
  f = f[0] + np.sum((p["factor"] @ x) ** 2) / 2 + 0.1 * np.sum(x**2) / 2
  mine = NET.apply(shaken, jnp.asarray(x, "float32"))
  np.testing.assert_allclose(mine, f, rtol=1e-5)


def test_hessian_is_at_least_the_strength(params, shaken):
  assert curvatures(params).min() >= 0.1
  assert curvatures(icnn.nonnegative(shaken)).min() >= 0.1
  assert curvatures(shaken).min() < 0  # or the projection showed nothing


def test_strength_is_reached_where_nothing_else_bends(params):
  flat = jax.tree.map(jnp.zeros_like, params)
  np.testing.assert_allclose(curvatures(flat), 0.1, rtol=1e-6)


def test_midpoints_lie_below_chords(shaken):
  convex = icnn.nonnegative(shaken)
  a, b = points(3, 256), points(4, 256)
  chords = (values(convex, a) + values(convex, b)) / 2
  assert (values(convex, (a + b) / 2) <= chords).all()


def test_projection_changes_what_is_negative_alone(shaken):
  projected = icnn.nonnegative(shaken)
  trees.assert_equal(icnn.nonnegative(projected), projected)
  for (path, p), q in zip(
    jax.tree_util.tree_leaves_with_path(shaken),
    jax.tree.leaves(projected),
    strict=True,
  ):
    is_u = "convex" in jax.tree_util.keystr(path)
    assert not is_u or bool((p < 0).any())
    np.testing.assert_array_equal(q, np.maximum(p, 0) if is_u else p)


def test_negativity_is_the_squared_way_to_the_projection(params, shaken):
  apart = jax.tree.map(
    lambda p, q: np.sum((np.asarray(p) - np.asarray(q)) ** 2),
    shaken,
    icnn.nonnegative(shaken),
  )
  mine = jax.jit(icnn.negativity)(shaken)
  np.testing.assert_allclose(mine, sum(jax.tree.leaves(apart)), rtol=1e-5)
  assert mine > 0
  assert icnn.negativity(icnn.nonnegative(shaken)) == 0
  assert icnn.negativity(params) == 0  # starts convex


def test_gradient_map_has_a_symmetric_jacobian(shaken):
  gradient = jax.grad(lambda x: NET.apply(shaken, x))
  jacobian = jax.jit(jax.vmap(jax.jacrev(gradient)))(points(5, 16))
  scale = jnp.abs(jacobian).max()
  np.testing.assert_allclose(
    jacobian / scale, jnp.swapaxes(jacobian, 1, 2) / scale, atol=1e-5
  )


def test_its_quadratic_is_the_map_of_two_gaussians(params):
  pair = pairs.gaussians(jax.random.key(6), DIM)
  matrix = jax.jit(jax.jacrev(pair.transport))(jnp.zeros(DIM))
  net = icnn.ICNN(NET.features)
  quadratic = jax.tree.map(jnp.zeros_like, params)
  quadratic["params"]["factor"] = jnp.linalg.cholesky(matrix).T
  x = points(7, 32)
  value = jax.jit(jax.vmap(jax.value_and_grad(net.apply, 1), (None, 0)))
  found, mapped = value(quadratic, x)
  truth = jax.jit(jax.vmap(pair.transport))(x)
  np.testing.assert_allclose(mapped, truth, atol=1e-5)
  potential = jax.jit(pair.potential)
  starts = np.array([potential(x) for x in x])
  at_zero, _ = value(quadratic, jnp.zeros((len(x), DIM)))
  np.testing.assert_allclose(found - at_zero, starts, rtol=1e-4)


def test_sharpness_tends_to_relu(shaken):
  x = np.asarray(points(8, 8))
  p = jax.tree.map(np.asarray, shaken["params"])
  affine = lambda i: x @ p[f"affine_{i}"]["kernel"] + p[f"affine_{i}"]["bias"]
  z = np.maximum(affine(0), 0)
  for i in (1, 2):
    z = np.maximum(z @ p[f"convex_{i}"]["nonnegative"] + affine(i), 0)
  f = z @ p["convex_out"]["nonnegative"] + x @ p["affine_out"]["kernel"]
  square = np.sum((x @ p["factor"].T) ** 2, 1) + 0.1 * np.sum(x**2, 1)
  truth = f[:, 0] + square / 2
  nets = (NET.clone(sharpness=sharpness) for sharpness in (1.0, 1000.0))
  soft, hard = (
    jax.jit(jax.vmap(lambda x, net=net: net.apply(shaken, x)))(x)
    for net in nets
  )
  assert jnp.abs(hard - truth).max() < 0.01 < jnp.abs(soft - truth).max()


@pytest.mark.parametrize("shape", [(), (2,), (2, 3), (4, 4, 1)])
def test_any_shape(shape):
  net = icnn.ICNN((4,))
  out, _ = jax.jit(net.init_with_output)(jax.random.key(0), jnp.ones(shape))
  assert out.shape == () and out.dtype == jnp.float32


def test_jit_and_vmap_are_a_loop(params):
  x = points(9, 4)
  loop = jnp.stack([NET.apply(params, one) for one in x])
  np.testing.assert_allclose(values(params, x), loop, rtol=1e-5)


@pytest.mark.parametrize(
  "settings, message",
  [
    (dict(features=()), "features: expected widths >= 1"),
    (dict(features=(4, 0)), "features: expected widths >= 1"),
    (dict(sharpness=0.0), "sharpness: expected a positive number"),
    (dict(strength=-1.0), "strength: expected at least 0"),
  ],
)
def test_bad_settings_are_one_line(settings, message):
  init, key = icnn.ICNN(**settings).init, jax.random.key(0)
  expect.error(rf"^{message}", init, key, jnp.ones(2))


@pytest.mark.parametrize("function", [icnn.nonnegative, icnn.negativity])
def test_parameters_of_another_network_raise(function):
  foreign = {"params": {"kernel": jnp.ones(2)}}
  expect.error(r"^params: expected parameters of", function, foreign)
