"""Plans against quadrature, Sinkhorn's iteration and the papers' formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from jaxgen import entropic_plans
from tests import expect

RNG = np.random.default_rng(0)
STDS = (0.6, 1.0, 2.0)
by_std = pytest.mark.parametrize("std", STDS)
TURN = np.linalg.qr(RNG.normal(size=(3, 2, 2)))[0]
WEIGHTS = np.array([0.2, 0.5, 0.3])
MEANS = np.array([[-1.0, 0.5], [1.5, 0.2], [0.3, -2.0]])
SPREADS = np.array([[0.4, 1.5], [0.7, 0.2], [1.0, 2.0]])  # eigenvalues of S


def line(std):
  """A potential on a line, float64."""
  rows = (
    jnp.log(WEIGHTS),
    jnp.asarray(MEANS[:, :1]),
    jnp.asarray(SPREADS[:, :1]),
  )
  return entropic_plans.Potential(*rows, None, std)


def plane(std):
  """A plan on the plane with a basis for each component, float64."""
  rows = map(jnp.asarray, (WEIGHTS, MEANS, SPREADS, TURN))
  return entropic_plans.from_bridge(*rows, std)


def grid():
  """Points of a line [N], and their distance."""
  y = np.linspace(-14.0, 14.0, 2801)
  return y, y[1] - y[0]


def potential(y):
  """v of the line by SciPy, at points [N]."""
  return stats.norm(MEANS[:, 0], SPREADS[:, 0] ** 0.5).pdf(y[:, None]) @ WEIGHTS


def moments(log):
  """Density, mean and variance of a log-density on the grid."""
  y, dy = grid()
  density = np.exp(log - special.logsumexp(log)) / dy
  mean = (density * y).sum() * dy
  return density, mean, (density * (y - mean) ** 2).sum() * dy


def flat(parts):
  return np.concatenate([np.ravel(part) for part in parts])


@jax.jit
def found_at(plan, x, t):
  return plan.mean(x, t), plan.covariance(x, t), plan.drift(x, t)


@by_std
def test_normalizer_moments_and_density_by_quadrature(std):
  y, dy = grid()
  with jax.enable_x64(True):
    plan, x = line(std), jnp.array([-1.3])
    log = -1.3 * y / std**2 + np.log(potential(y))
    density, mean, variance = moments(log)
    some = y[1000:1800:50]
    total, found = jax.jit(
      lambda plan, x, y: (
        plan.log_normalizer(x),
        jax.vmap(lambda y: plan.log_prob(y, x))(y[:, None]),
      )
    )(plan, x, some)
    np.testing.assert_allclose(total, special.logsumexp(log) + np.log(dy), 1e-9)
    np.testing.assert_allclose(np.exp(found), density[1000:1800:50], rtol=1e-9)
    found = found_at(plan, x, 1.0)
  truth = mean, variance, mean + 1.3
  np.testing.assert_allclose(flat(found), truth, rtol=1e-9)


@by_std
@pytest.mark.parametrize("t", [0.02, 0.5, 0.9])
def test_drift_and_posterior_by_quadrature(std, t):
  """Data given x_t has the density N(y; x, eps t) v(y) exp(y^2 / 2 eps)."""
  y, _ = grid()
  with jax.enable_x64(True):
    plan, eps = line(std), std**2
    for x in (-1.3, 0.4):
      log = np.log(potential(y)) + y**2 / (2 * eps)
      _, mean, variance = moments(log - (y - x) ** 2 / (2 * eps * t))
      found = found_at(plan, jnp.array([x]), t)
      truth = mean, variance, (mean - x) / t
      np.testing.assert_allclose(flat(found), truth, rtol=1e-7)


def test_drift_at_the_data_is_the_slope_of_the_potential():
  with jax.enable_x64(True):
    plan, at = plane(0.8), jnp.array([0.3, -0.7])
    log = lambda y: plan.log_potential(y) + jnp.sum(y**2) / (2 * 0.64)
    slope = jax.jit(jax.grad(log))(at)
    mean, covariance, drift = found_at(plan, at, 0.0)
  np.testing.assert_allclose(drift, 0.64 * np.asarray(slope), rtol=1e-10)
  np.testing.assert_allclose(mean, at, rtol=1e-12)
  np.testing.assert_allclose(covariance, 0, atol=1e-15)


def test_the_plan_is_sinkhorns_of_its_marginals():
  """On a grid of the line, from the two marginals alone."""
  x, y = np.linspace(-3.5, 3.5, 71), np.linspace(-6.0, 6.0, 121)
  with jax.enable_x64(True):
    plan = line(0.8)
    each = jax.vmap(lambda x, y: plan.log_prob(y, x), (None, 0))
    table = jax.jit(jax.vmap(each, (0, None)))(x[:, None], y[:, None])
  joint = np.exp(np.asarray(table)) * stats.norm.pdf(x)[:, None]
  joint /= joint.sum()
  kernel = np.exp(-((x[:, None] - y) ** 2) / (2 * 0.8**2))
  right = np.ones(len(y))
  for _ in range(2000):
    left = joint.sum(1) / (kernel @ right)
    right = joint.sum(0) / (left @ kernel)
  found = left[:, None] * kernel * right
  np.testing.assert_allclose(found, joint, atol=1e-7 * joint.max())


@by_std
def test_the_published_formula_of_the_plan(std):
  """sum_k w_k(x) N(C_k (S_k^-1 mu_k + x / eps), C_k), by matrices."""
  eps, x = std**2, np.array([0.7, -0.4])
  matrices = [q @ np.diag(s) @ q.T for q, s in zip(TURN, SPREADS, strict=True)]
  inverses = [np.linalg.inv(s) for s in matrices]
  covariances = [np.linalg.inv(np.eye(2) / eps + s) for s in inverses]
  rows = zip(covariances, inverses, MEANS, strict=True)
  means = [c @ (s @ mu + x / eps) for c, s, mu in rows]
  rows = zip(WEIGHTS, MEANS, matrices, strict=True)
  normal = stats.multivariate_normal
  weights = np.array(
    [w * normal(mu, s + eps * np.eye(2)).pdf(x) for w, mu, s in rows]
  )
  weights /= weights.sum()
  mean = weights @ means
  second = sum(
    w * (c + np.outer(m, m))
    for w, c, m in zip(weights, covariances, means, strict=True)
  )
  y = np.array([0.2, 0.5])
  rows = zip(weights, means, covariances, strict=True)
  density = sum(w * normal(m, c).pdf(y) for w, m, c in rows)
  with jax.enable_x64(True):
    plan, at = plane(std), jnp.asarray(x)
    found = found_at(plan, at, 1.0)
    log_prob = plan.log_prob(jnp.asarray(y), at)
  np.testing.assert_allclose(found[0], mean, rtol=1e-10)
  truth = second - np.outer(mean, mean)
  np.testing.assert_allclose(found[1], truth, rtol=1e-10)
  np.testing.assert_allclose(log_prob, np.log(density), rtol=1e-10)


@pytest.mark.parametrize("t", [0.3, 1.0])
def test_samples_have_the_moments(t):
  plan = jax.tree.map(jnp.float32, plane(0.8))
  keys = jax.random.split(jax.random.key(0), 20_000)
  x = jnp.array([0.7, -0.4])
  y = jax.jit(jax.vmap(plan.sample, (0, None, None)))(keys, x, t)
  assert y.dtype == jnp.float32
  mean, covariance, _ = found_at(plan, x, t)
  y = np.float64(y)
  np.testing.assert_allclose(y.mean(0), mean, atol=0.02)
  np.testing.assert_allclose(np.cov(y.T), covariance, atol=0.02)


def test_pinned_pairs_of_the_plan_have_the_drift_on_average():
  """E[data - x_t | x_t] = t b: no moment of x_t sees a difference."""
  plan = jax.tree.map(jnp.float32, plane(0.8))
  keys = jax.random.split(jax.random.key(4), 20_000)

  @jax.jit
  @jax.vmap
  def apart(key):
    source_key, data_key, noise_key = jax.random.split(key, 3)
    t, source = 0.3, jax.random.normal(source_key, (2,))
    data = plan.sample(data_key, source)
    noise = 0.8 * np.sqrt(t * (1 - t)) * jax.random.normal(noise_key, (2,))
    x = (1 - t) * data + t * source + noise
    return data - x - t * plan.drift(x, t), x

  gap, x = map(np.float64, apart(keys))
  rows = np.concatenate([np.ones((len(x), 1)), x, x**2, x[:, :1] * x[:, 1:]], 1)
  rows /= np.sqrt((rows**2).mean(0))
  np.testing.assert_allclose(rows.T @ gap / len(x), 0, atol=0.01)


def test_without_a_basis_it_is_the_identity():
  full = plane(1.3)._replace(basis=jnp.stack([jnp.eye(2)] * 3))
  bare, x, y = full._replace(basis=None), jnp.array([0.7, -0.4]), jnp.ones(2)

  @jax.jit
  def every(plan):
    drawn = plan.sample(jax.random.key(0), x)
    return (*found_at(plan, x, 0.4), plan.log_prob(y, x), drawn)

  expect.close(every(full), every(bare), rtol=2e-5, atol=1e-6)


def test_half_precision_is_computed_in_the_potentials():
  plan = jax.tree.map(jnp.float32, plane(0.8))
  x, y = jnp.array([0.5, -0.25]), jnp.array([1.0, 0.75])

  @jax.jit
  def every(x, y):
    drawn = plan.sample(jax.random.key(0), x)
    return (*found_at(plan, x, 0.5), plan.log_prob(y, x), drawn)

  with jax.numpy_dtype_promotion("strict"):
    half = every(x.astype(jnp.bfloat16), y.astype(jnp.bfloat16))
  assert {part.dtype for part in half} == {jnp.dtype("float32")}
  expect.close(half, every(x, y), rtol=1e-6)


def test_bad_input():
  plan, x = jax.tree.map(jnp.float32, plane(1.0)), jnp.ones(2)
  expect.error(r"x: expected shape \(2,\), got \(1,\)", plan.drift, x[:1], 0.5)
  expect.error(r"y: expected shape \(2,\)", plan.log_potential, x[:1])
  short = plan._replace(log_weights=jnp.zeros(2))
  said = r"log_weights: expected shape \(3,\), got \(2,\)"
  expect.error(said, short.mean, x)
  wrong = plan._replace(basis=jnp.ones((3, 2, 1)))
  expect.error(r"basis: expected shape \(3, 2, 2\)", wrong.mean, x)
