"""Nearest neighbours against every pair in float64, with ties and offsets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import distance

from jaxgen import nearest
from tests import defaults, expect


def search(**options):
  return jax.jit(lambda *sets: nearest.nearest(*sets, **options))


def points(*shape, seed=0):
  rng = np.random.default_rng(seed)
  return rng.standard_normal(shape).astype("float32")


@pytest.mark.parametrize(
  "num, size, far, chunk", [(70, 1300, 0.0, 32), (3, 5, 100.0, 512)]
)
def test_is_the_nearest_of_all_pairs(num, size, far, chunk):
  """Of sets that fill no whole chunk or tile, also far from the origin."""
  x, y = points(num, 2, 3) + far, points(size, 2, 3, seed=1) + far
  found = search(chunk=chunk)(x, y)
  flat = [a.reshape(len(a), -1).astype(np.float64) for a in (x, y)]
  apart = distance.cdist(*flat, "sqeuclidean")
  np.testing.assert_array_equal(found.rows, apart.argmin(1))
  np.testing.assert_allclose(found.squares, apart.min(1), rtol=1e-6)
  assert found.rows.dtype == jnp.int32 and found.squares.dtype == jnp.float32


def test_first_of_equals_and_those_not_allowed():
  """On integers every square is exact, and most distances are shared."""
  rng = np.random.default_rng(0)
  x, y = rng.integers(-2, 3, (40, 3)), rng.integers(-2, 3, (1100, 3))
  apart = np.sum((x[:, None] - y) ** 2, 2)
  allowed = rng.random(len(y)) < 0.02
  run = search(chunk=16)
  for keep in (np.ones(len(y), bool), allowed):
    found = run(jnp.float32(x), jnp.float32(y), keep)
    truth = np.where(keep, apart, 100)
    np.testing.assert_array_equal(found.rows, truth.argmin(1))
    np.testing.assert_array_equal(found.squares, truth.min(1))
  none = run(jnp.float32(x), jnp.float32(y), np.zeros(len(y), bool))
  assert np.all(np.isinf(none.squares)) and not np.any(none.rows)


def test_near_ties_are_decided_by_differences():
  """Neighbours that the product of points of norm 1,000 cannot tell apart."""
  rng = np.random.default_rng(0)
  base = 1000 * points(1, 64)
  y = base + rng.integers(-9, 10, (300, 64)) / 64
  x = base + rng.integers(-9, 10, (20, 64)) / 64
  outlier = -base  # so that the mean is far away
  y = np.concatenate([y, outlier, outlier]).astype("float32")
  x = x.astype("float32")
  apart = distance.cdist(np.float64(x), np.float64(y), "sqeuclidean")
  found = search(chunk=8)(x, y)
  np.testing.assert_array_equal(found.rows, apart.argmin(1))


def test_float64_vmap_and_gradients():
  with jax.enable_x64(True):
    x, y = np.float64(points(2, 6, 4)), np.float64(points(2, 50, 4, seed=1))
    run = lambda x, y: nearest.nearest(x, y, chunk=4)
    found = expect.a_loop(run, x, y)
    assert found.squares.dtype == np.float64
    slopes = jax.jit(
      jax.grad(lambda x, y: run(x, y).squares.sum(), argnums=(0, 1))
    )(x[0], y[0])
  rows = distance.cdist(x[0], y[0]).argmin(1)
  gaps = 2 * (x[0] - y[0][rows])
  np.testing.assert_allclose(slopes[0], gaps, rtol=1e-12)
  truth = np.zeros_like(y[0])
  np.add.at(truth, rows, -gaps)
  np.testing.assert_allclose(slopes[1], truth, rtol=1e-12, atol=1e-15)


def test_rejects_bad_input_and_defaults():
  defaults.check(nearest.nearest, allowed=None, chunk=512)
  x = jnp.ones((3, 2))
  expect.error("chunk: expected at least 1, got 0", search(chunk=0), x, x)
  said = "reference: expected points of the shape and dtype of points, .*got"
  for other in (jnp.ones((3, 3)), jnp.ones((0, 2)), x.astype(jnp.float16)):
    expect.error(said, search(), x, other)
  expect.error(said, search(), x[:0], x)
  expect.error(
    r"allowed: expected shape \[3\]", search(), x, x, np.ones(2, bool)
  )
