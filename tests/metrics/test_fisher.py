"""The Fisher divergence of two Gaussians, in closed form."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.metrics import fisher
from tests import expect

RNG = np.random.default_rng(0)
MEANS = RNG.standard_normal((2, 3))
ROOTS = np.tril(0.3 * RNG.standard_normal((2, 3, 3))) + 0.8 * np.eye(3)
PRECISIONS = np.linalg.inv(ROOTS @ ROOTS.mT)


def score(i):
  return lambda x: (
    PRECISIONS[i].astype(x.dtype) @ (MEANS[i].astype(x.dtype) - x)
  )


def truth():
  """tr (Q - P) C (Q - P) + |Q (m - n)|^2, over N(m, C), C = P^-1."""
  first, second = PRECISIONS
  gap = (second - first) @ ROOTS[0]
  return (gap**2).sum() + ((second @ (MEANS[0] - MEANS[1])) ** 2).sum()


run = jax.jit(lambda x: fisher.divergence(score(0), score(1), x))


def test_exact_on_points_of_the_laws_two_moments():
  columns = np.sqrt(3) * ROOTS[0].T
  with jax.enable_x64(True):
    points = jnp.array(MEANS[0] + np.concatenate([columns, -columns]))
    value, _ = run(points)
  np.testing.assert_allclose(value, truth(), rtol=1e-12)


def test_draws_are_within_the_error_that_it_gives():
  z = np.random.default_rng(1).standard_normal((300, 200, 3))
  points = jnp.asarray(MEANS[0] + z @ ROOTS[0].T, jnp.float32)
  values, errors = map(np.asarray, jax.jit(jax.vmap(run))(points))
  assert values.shape == errors.shape == (300,)
  gaps = (values - truth()) / errors
  assert np.abs(gaps).max() < 4.5 and 0.9 < gaps.std() < 1.15


def test_jit_is_eager_images_are_flattened_and_equal_scores_have_none():
  points = jnp.asarray(RNG.standard_normal((4, 2, 2, 1)), jnp.float32)
  one, two = (lambda x: x), (lambda x: 3 * x)
  value, error = fisher.divergence(one, two, points)
  squares = 4 * (np.float64(points) ** 2).sum((1, 2, 3))
  np.testing.assert_allclose(value, squares.mean(), rtol=1e-5)
  np.testing.assert_allclose(error, squares.std(ddof=1) / 2, rtol=1e-5)
  jitted = jax.jit(lambda x: fisher.divergence(one, two, x))(points)
  np.testing.assert_allclose(jitted, (value, error), rtol=1e-6)
  assert fisher.divergence(one, one, points)[0] == 0


def test_bad_input():
  points = jnp.ones((4, 2))
  same = lambda x: x
  said, divergence = "points: expected at least 2, got 1", fisher.divergence
  expect.error(said, divergence, same, same, points[:1])
  for bad in (lambda x: x.sum(), lambda x: x[:1]):
    for pair in ((same, bad), (bad, same)):
      expect.error("score_fn, other_fn: expected", divergence, *pair, points)
