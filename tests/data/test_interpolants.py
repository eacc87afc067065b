"""The exact flow between mixtures, by other ways to the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import paths
from jaxgen.data import interpolants, oracles
from jaxgen.losses import flow_matching
from tests import expect

LAW = oracles.Mixture(
  np.array([0.3, 0.7]),
  np.array([[1.0, 0.2], [-0.8, 0.5]]),
  np.array([[0.4, 0.6], [0.5, 0.3]]),
)
SOURCE = oracles.Mixture(
  np.array([0.6, 0.4]),
  np.array([[0.1, -1.0], [0.4, 1.2]]),
  np.array([0.7, 0.5]),
)
NORMAL = oracles.Mixture(np.ones(1), np.zeros((1, 2)), np.ones(1))
PLACES = jnp.array([[0.2, -0.4], [-1.1, 0.9], [0.6, 0.3]])
none, brownian = flow_matching.constant(0.0), flow_matching.brownian(0.8)


@pytest.mark.parametrize("path", [paths.linear(), paths.trigonometric()])
def test_from_noise_it_is_the_mixture_on_the_path(path):
  field = interpolants.between(LAW, NORMAL, path, none)
  expected = jax.vmap(lambda x: LAW.estimate(path, x, 0.6))(PLACES)
  found = jax.jit(jax.vmap(lambda x: field(x, 0.6)))(PLACES)
  for name in ("velocity", "score", "log_prob"):
    value = getattr(found, name)
    np.testing.assert_allclose(value, getattr(expected, name), rtol=2e-5)
  assert found.data is None and field.path is None


def test_gaussians_are_a_linear_regression():
  """E[v | x] = E v + Cov(v, x) Var(x)^-1 (x - E x), axis by axis."""
  one = oracles.Mixture(np.ones(1), LAW.means[:1], LAW.stds[:1])
  two = oracles.Mixture(np.ones(1), SOURCE.means[1:], SOURCE.stds[1:])
  t, s = 0.3, 0.8
  field = interpolants.between(one, two, paths.linear(), brownian)
  gamma = s * np.sqrt(t * (1 - t))
  rate = s * (1 - 2 * t) / (2 * np.sqrt(t * (1 - t)))
  c, d = LAW.stds[0] ** 2, SOURCE.stds[1] ** 2
  mean = (1 - t) * LAW.means[0] + t * SOURCE.means[1]
  variance = (1 - t) ** 2 * c + t**2 * d + gamma**2
  covariance = -(1 - t) * c + t * d + rate * gamma
  speed = SOURCE.means[1] - LAW.means[0]
  for x in PLACES:
    expected = speed + covariance / variance * (x - mean)
    np.testing.assert_allclose(field(x, t).velocity, expected, rtol=1e-5)
    score = -(x - mean) / variance
    np.testing.assert_allclose(field(x, t).score, score, rtol=1e-5)


@pytest.mark.parametrize("bridge", [flow_matching.constant(0.3), brownian])
def test_density_score_and_velocity_fit_each_other(bridge):
  """d log p / dt = -div v - v . score, and score = grad log p."""
  field = interpolants.between(LAW, SOURCE, paths.linear(), bridge)

  def residual(x, t):
    at = field(x, t)
    score, rate = jax.grad(lambda x, t: field(x, t).log_prob, (0, 1))(x, t)
    flow = jnp.trace(jax.jacfwd(lambda x: field(x, t).velocity)(x))
    return score - at.score, rate + flow + at.velocity @ at.score

  with jax.enable_x64(True):
    places = jnp.asarray(np.asarray(PLACES, np.float64))
    check = jax.jit(jax.vmap(residual, (0, None)))
    for t in (0.2, 0.55, 0.9):
      for value in check(places, t):
        np.testing.assert_allclose(value, 0, atol=1e-10)


def test_bad_input():
  flat = oracles.Mixture(np.ones(1), np.zeros((1, 3)), np.ones(1))
  turned = LAW._replace(basis=np.eye(2))
  for *pair, said in (
    (LAW, flat, r"source: expected \(2,\), got \(3,\)"),
    (turned, NORMAL, "expected mixtures without a basis"),
  ):
    expect.error(said, interpolants.between, *pair, paths.linear(), none)
