"""Random plans: their parts, and samples against the exact moments."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.data import bridge_plans
from tests import expect


def test_components_have_one_spectrum_and_means_on_a_sphere():
  std, eps = 0.7, 0.49
  plan = bridge_plans.draw(jax.random.key(0), 4, std, num_components=3)
  assert plan.log_weights.shape == (3,) and plan.means.dtype == jnp.float32
  variances, basis = np.float64(plan.variances), np.float64(plan.basis)
  spectrum = 1 / (1 / variances - 1 / eps)
  truth = np.geomspace(0.5, 2.0, 4)
  np.testing.assert_allclose(spectrum, np.tile(truth, (3, 1)), rtol=1e-5)
  products = np.einsum("kij,kil->kjl", basis, basis)
  np.testing.assert_allclose(products, np.stack([np.eye(4)] * 3), atol=1e-5)
  # r = C S^-1 mu, and a ~ N(mu; 0, S + eps I): the quadratic forms of mu.
  along = np.einsum("kij,ki->kj", basis, np.float64(plan.means))
  mu = along * spectrum / variances
  np.testing.assert_allclose(np.linalg.norm(mu, axis=1), 3.0, rtol=1e-5)
  forms = -(mu**2 / (spectrum + eps)).sum(1) / 2
  gaps = np.float64(plan.log_weights) - forms
  np.testing.assert_allclose(gaps - gaps[0], 0, atol=1e-4)
  assert np.abs(mu[0] - mu[1]).max() > 0.1


def test_pairs_follow_the_plan():
  plan = bridge_plans.draw(jax.random.key(1), 2, 1.0)
  keys = jax.random.split(jax.random.key(2), 20_000)
  draw = jax.jit(jax.vmap(bridge_plans.sample, (None, 0)))
  data, source = map(np.float64, draw(plan, keys))
  np.testing.assert_allclose(source.mean(0), 0, atol=0.03)
  np.testing.assert_allclose(np.cov(source.T), np.eye(2), atol=0.04)
  means, covariances = jax.jit(
    jax.vmap(lambda x: (plan.mean(x), plan.covariance(x)))
  )(jnp.float32(source))
  apart = data - means
  np.testing.assert_allclose(apart.mean(0), 0, atol=0.03)
  np.testing.assert_allclose(apart.T @ source / len(source), 0, atol=0.03)
  np.testing.assert_allclose(
    np.cov(apart.T), np.mean(covariances, 0), atol=0.04
  )


def test_bad_input():
  key = jax.random.key(0)
  for wrong in (dict(num_components=0), dict(radius=-1.0)):
    (name,) = wrong
    expect.error(
      f"{name}: expected at least", bridge_plans.draw, key, 2, 1.0, **wrong
    )
  expect.error("dim: expected at least 2", bridge_plans.draw, key, 1, 1.0)
  expect.error("std: expected a positive", bridge_plans.draw, key, 2, 0.0)
  legacy = jax.random.PRNGKey(0)
  expect.error("key: expected a typed key", bridge_plans.draw, legacy, 2, 1.0)
