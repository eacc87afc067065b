"""Mixtures on the sphere against SciPy, and their fields against a grid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxgen.data import spheres
from tests import expect

WEIGHTS = np.array([0.6, 0.4])
MEANS = np.array([[0.0, 0.6, 0.8], [-0.8, 0.0, -0.6]])
KAPPAS = np.array([6.0, 2.0])
LAW = spheres.VonMisesFisher(WEIGHTS, MEANS, KAPPAS)
# On both sides of the equator, a pole and near the antipode of a mean.
POINTS = np.array([[0, 0, 1.0], [0.0, -0.6, -0.79], [0.5, 0.8, -0.2]])
POINTS /= np.linalg.norm(POINTS, axis=1, keepdims=True)


def density(x):
  """The mixture's density by SciPy, of points [N, 3]."""
  rows = zip(WEIGHTS, MEANS, KAPPAS, strict=True)
  return sum(w * stats.vonmises_fisher(m, k).pdf(x) for w, m, k in rows)


def test_log_prob_is_scipys():
  with jax.enable_x64(True):
    found = jax.jit(jax.vmap(LAW.log_prob))(jnp.asarray(POINTS))
  np.testing.assert_allclose(found, np.log(density(POINTS)), rtol=1e-12)
  single = jax.jit(jax.vmap(LAW.log_prob))(jnp.asarray(POINTS, jnp.float32))
  assert single.dtype == jnp.float32
  np.testing.assert_allclose(single, np.log(density(POINTS)), rtol=1e-5)


@pytest.mark.parametrize("kappa", [1e-3, 3.0, 500.0])
def test_heights_of_samples_have_their_distribution(kappa):
  law = spheres.VonMisesFisher(np.ones(1), MEANS[:1], np.array([kappa]))
  keys = jax.random.split(jax.random.key(3), 4000)
  x = np.float64(jax.jit(jax.vmap(law.sample))(keys))
  np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-6)
  below = 1 - x @ MEANS[0]
  cdf = lambda h: np.expm1(-kappa * h) / np.expm1(-2 * kappa)
  assert stats.kstest(below, cdf).pvalue > 0.01
  across = x - (1 - below)[:, None] * MEANS[0]
  side = np.array([1.0, 0.0, 0.0])  # a right angle to the mean
  up = np.cross(MEANS[0], side)
  turns = np.arctan2(across @ side, across @ up)
  assert stats.kstest(turns, "uniform", (-np.pi, 2 * np.pi)).pvalue > 0.01


def test_components_have_their_weights():
  keys = jax.random.split(jax.random.key(0), 8000)
  x = np.float64(jax.jit(jax.vmap(LAW.sample))(keys))
  lengths = 1 / np.tanh(KAPPAS) - 1 / KAPPAS
  np.testing.assert_allclose(x.mean(0), WEIGHTS * lengths @ MEANS, atol=0.02)


def by_grid(x, t):
  """The velocity and the density of x_t by a grid of data, by p(x_t | data)."""
  cos, weights = np.polynomial.legendre.leggauss(400)
  turns = 2 * np.pi * np.arange(400) / 400
  sine = np.sqrt(1 - cos**2)[:, None]
  grid = np.broadcast_arrays(
    sine * np.cos(turns), sine * np.sin(turns), cos[:, None]
  )
  data = np.stack(grid, -1).reshape(-1, 3)
  angle = np.arccos(np.clip(data @ x, -1, 1))
  within = np.where(angle < np.pi * t, np.sin(angle / t), 0)
  joint = within / (4 * np.pi * t * np.sin(angle)) * density(data)
  joint *= np.repeat(weights, 400) * 2 * np.pi / 400
  back = data - (data @ x)[:, None] * x
  velocity = -back * (angle / np.sin(angle) / t)[:, None]
  return joint @ velocity / joint.sum(), joint.sum()


@pytest.mark.parametrize("t", [0.4, 0.8])
def test_the_field_is_that_of_pairs_on_a_grid(t):
  with jax.enable_x64(True):
    found = jax.jit(jax.vmap(lambda x: LAW.estimate(x, t)))(POINTS)
  truth = [by_grid(x, t) for x in POINTS]
  np.testing.assert_allclose(
    found.velocity, [v for v, _ in truth], atol=1e-4, rtol=1e-3
  )
  np.testing.assert_allclose(
    np.exp(found.log_prob), [p for _, p in truth], 1e-3
  )


def test_ends_and_tangents():
  field = LAW.field(num_nodes=24)
  with jax.enable_x64(True):
    at = jax.jit(lambda x, t: field(x, t))
    for x in jnp.asarray(POINTS):
      np.testing.assert_allclose(
        at(x, 1.0).log_prob, spheres.LOG_UNIFORM, atol=1e-9
      )
      np.testing.assert_allclose(
        at(x, 0.0).log_prob, LAW.log_prob(x), atol=1e-9
      )
      assert abs(float(at(x, 0.6).velocity @ x)) < 1e-12
      # At t = 0 the source is independent of x.
      np.testing.assert_allclose(at(x, 0.0).velocity, 0, atol=1e-9)


def test_uniform_points():
  keys = jax.random.split(jax.random.key(1), 4000)
  x = np.float64(jax.jit(jax.vmap(spheres.uniform))(keys))
  np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-6)
  for axis in range(3):
    assert stats.kstest(x[:, axis], "uniform", (-1, 2)).pvalue > 0.01


def test_bad_input():
  x = jnp.asarray([0.0, 0.0, 1.0])
  expect.error(r"x: expected shape \(3,\), got \(2,\)", LAW.log_prob, x[:2])
  short = LAW._replace(concentrations=KAPPAS[:1])
  said = r"concentrations: expected shape \(2,\), got \(1,\)"
  expect.error(said, short.log_prob, x)
  flat = LAW._replace(means=MEANS[:, :2])
  expect.error(r"means: expected shape \(2, 3\)", flat.estimate, x, 0.5)
  key = jax.random.key(0)
  expect.error("dim: expected at least 1, got 0", spheres.uniform, key, 0)
