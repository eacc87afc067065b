"""Gaussian baselines: closed forms, quadrature and jaxgen.dequantisation."""

import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxgen import dequantisation
from jaxgen.data import digits
from jaxgen.metrics import gaussians
from tests import expect

LEVELS = 32


def rng(seed=0):
  return np.random.default_rng(seed)


def data(number=200, dim=3, seed=0):
  """Correlated levels in the middle of the range."""
  z = rng(seed).standard_normal((number, dim)) @ np.tri(dim) * 2
  return np.clip(np.rint(z + 15), 0, LEVELS - 1).astype(int)


def fit(levels, num_components=1, covariance="full", draws=8, seed=0):
  how = dict(covariance=covariance, reg_covar=0.0, num_draws=draws)
  given = rng(seed), levels, LEVELS, num_components
  return gaussians.gaussian_mixture(*given, **how)


def test_published_optimum_of_ten_components():
  """-159.757170 nats on train, -160.4554 on test, raw levels 0 to 16."""
  raw = lambda split: (digits.load(split)[0].reshape(-1, 64) + 1.0) * 8
  found = gaussians.probabilistic_pca(raw("train"), 10)
  normal = stats.multivariate_normal(*found)
  train, test = (normal.logpdf(raw(s)).mean() for s in ("train", "test"))
  assert train == pytest.approx(-159.757170, abs=1e-5)
  assert test == pytest.approx(-160.4554, abs=1e-4)


def test_pca_by_eigenvectors():
  x = data().astype(np.float32)
  found = gaussians.probabilistic_pca(x, 1)
  values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
  noise, first = values[:2].mean(), vectors[:, 2]
  truth = (values[2] - noise) * np.outer(first, first) + noise * np.eye(3)
  np.testing.assert_allclose(found.covariance, truth, rtol=1e-5)
  np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-6)


def quadrature(normal, x):
  """E_u log N(x + u): two Gauss points an axis, exact for a quadratic."""
  points = 0.5 + np.array([-1, 1]) / np.sqrt(12)
  grid = itertools.product(points, repeat=x.shape[1])
  return np.mean([normal.logpdf(x + np.array(u)) for u in grid], 0)


def test_bound_of_pca_by_quadrature():
  x = data()
  mean, covariance = gaussians.probabilistic_pca(x.astype(float), 2)
  normal = stats.multivariate_normal(mean + 0.5, covariance + np.eye(3) / 12)
  found = gaussians.pca(x, LEVELS, 2).log_prob(x)
  np.testing.assert_allclose(found, quadrature(normal, x), rtol=1e-10)


def test_the_bound_is_that_of_uniform_dequantisation():
  """Scaled to [-1, 1], where the correction is D log width."""
  x, width = data(8), 2 / (LEVELS - 1)
  mean, covariance = gaussians.probabilistic_pca(x.astype(float), 2)
  normal = stats.multivariate_normal(
    (mean * width) - 1, (covariance + np.eye(3) / 12) * width**2
  )
  scaled = jnp.asarray(x * width - 1, jnp.float32)
  keys = jax.random.split(jax.random.key(0), 2000)
  over = jax.vmap(dequantisation.uniform, (None, 0, None))
  draws = jax.jit(jax.vmap(over, (0, None, None)), static_argnums=2)(
    keys, scaled, LEVELS
  )
  values = normal.logpdf(np.asarray(draws.x)) + np.asarray(draws.correction)
  gap = gaussians.pca(x, LEVELS, 2).log_prob(x) - values.mean(0)
  assert np.abs(gap / (values.std(0) / np.sqrt(2000))).max() < 4


@pytest.mark.parametrize("covariance", ["diag", "full"])
def test_one_component_is_the_normal_of_its_moments(covariance):
  x, same = data(), rng(0)
  same.integers(2**31)
  noisy = x + same.random(x.shape)
  moments = np.cov(noisy.T, bias=True)
  if covariance == "diag":
    moments = np.diag(np.diag(moments))
  normal = stats.multivariate_normal(noisy.mean(0), moments)
  found = fit(x, 1, covariance, 2000).log_prob(x)
  np.testing.assert_allclose(found, quadrature(normal, x), atol=2e-3)


@pytest.mark.parametrize("num_components", [1, 3])
def test_bounds_probabilities_of_bins(num_components):
  """exp of the bound sums to just below one on a wide grid, and exceeds no
  bin's mass: the density of one coordinate is a derivative of a CDF.
  """
  x = data(300, 1)
  density = fit(x, num_components, draws=64)
  every = np.arange(LEVELS)[:, None]
  p = np.exp(density.log_prob(every))
  assert 0.97 < p.sum() <= 1
  sampled = density.sample(rng(1), 20_000)[:, 0]
  frequency = np.bincount(sampled, minlength=LEVELS) / 20_000
  assert np.all(p <= frequency + 5 * np.sqrt((p + 1e-4) / 20_000))
  assert np.abs(frequency - p).sum() < 0.06


def test_binned_mixture_by_distribution_functions():
  """One component, fitted as in the test of its moments; sums to one."""
  x, same = data(300, 2), rng(0)
  same.integers(2**31)
  noisy = x + same.random(x.shape)
  fitted = gaussians.binned_mixture(rng(0), x, LEVELS, 1, reg_covar=0.0)
  every = np.array([*itertools.product(range(LEVELS), repeat=2)])
  found = fitted.log_prob(every)
  np.testing.assert_allclose(np.exp(found).sum(), 1, rtol=1e-10)
  cdf = lambda edge: stats.norm.cdf(edge, noisy.mean(0), noisy.std(0))
  inside = np.all((every > 0) & (every < LEVELS - 1), 1)
  masses = np.where(every < LEVELS - 1, cdf(every + 1), 1)
  masses = masses - np.where(every > 0, cdf(every), 0)
  likely = masses.prod(1) > 1e-9
  assert (likely & inside).sum() > 50
  truth = masses.prod(1)[likely]
  np.testing.assert_allclose(np.exp(found[likely]), truth, rtol=1e-5)
  assert np.isfinite(found).all()  # far in the tails too


def test_binned_mixture_exceeds_its_bound_and_has_its_samples():
  x = data(300, 2)
  binned = gaussians.binned_mixture(rng(0), x, LEVELS, 3, reg_covar=0.0)
  bound = fit(x, 3, "diag", 500)
  gap = binned.log_prob(x) - bound.log_prob(x)
  assert gap.min() > -2e-3 and gap.mean() < 0.1
  every = np.array([*itertools.product(range(LEVELS), repeat=2)])
  p = 40_000 * np.exp(binned.log_prob(every))
  for density in (binned, bound):
    code = density.sample(rng(5), 40_000) @ [LEVELS, 1]
    counts = np.bincount(code, minlength=LEVELS**2)[p > 5]
    chi_squared = ((counts - p[p > 5]) ** 2 / p[p > 5]).sum()
    assert abs(chi_squared - len(counts)) < 5 * np.sqrt(2 * len(counts))


def test_a_row_has_its_own_value():
  x = data()
  density = fit(x, 3)
  found = density.log_prob(x)
  np.testing.assert_array_equal(found, density.log_prob(x))
  alone = density.log_prob(x[7:8])
  np.testing.assert_allclose(alone, found[7:8], rtol=1e-12)
  again = fit(x, 3).log_prob(x)
  np.testing.assert_allclose(again, found, rtol=1e-10)


@pytest.mark.parametrize(
  "density",
  [lambda x: gaussians.pca(x, LEVELS, 2), lambda x: fit(x, 2)],
  ids=["pca", "mixture"],
)
def test_samples_have_the_moments_of_the_data(density):
  x = data(2000)
  fitted = density(x)
  found = fitted.sample(rng(2), 20_000)
  assert found.shape == (20_000, 3) and found.dtype == np.int64
  assert found.min() >= 0 and found.max() < LEVELS
  np.testing.assert_allclose(found.mean(0), x.mean(0), atol=0.15)
  gap = np.cov(found.T) - np.cov(x.T)
  assert np.abs(gap).max() < 0.12 * np.cov(x.T).max()
  np.testing.assert_array_equal(found, fitted.sample(rng(2), 20_000))
  halves = found[:10_000].mean(0) - found[10_000:].mean(0)
  assert np.abs(halves).max() < 0.3  # not sorted by component
  low = fitted._replace(name="x").sample(rng(3), 1)
  assert low.shape == (1, 3)


def test_bad_input(monkeypatch):
  x = data()
  for model in (lambda x: fit(x, 2), lambda x: gaussians.pca(x, LEVELS, 2)):
    expect.error("levels: expected integers, got float64", model, x * 1.0)
    expect.error("levels: expected 0 to 31, got", model, x + 20)
    expect.error("not empty", model, x[:0])
    expect.error(r"expected \[N, 3\]", model(x).log_prob, x[:, :2])
  expect.error("num_components: expected at least 1 and at", fit, x, 0)
  expect.error("num_components: expected at least 1 and at", fit, x, 201)
  expect.error("num_draws: expected at least 1, got 0", fit, x, 1, "full", 0)
  for number in (0, 3):
    said = f"num_components: expected at least 1 and at most 2, got {number}"
    expect.error(said, gaussians.pca, x, LEVELS, number)
  monkeypatch.setitem(sys.modules, "sklearn", None)
  with pytest.raises(ImportError, match=r"pip install 'jaxgen\[data\]'"):
    gaussians.pca(x, LEVELS, 2)
