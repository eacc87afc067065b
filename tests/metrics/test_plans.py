"""cBW-UVP against SciPy's matrix roots and its values for simple plans."""

import numpy as np
import pytest
from scipy import linalg

from jaxgen.metrics import plans
from tests import expect

RNG = np.random.default_rng(0)


def drawn(number=6, dim=3):
  """Means [N, D] and covariances [N, D, D]."""
  roots = RNG.normal(size=(number, dim, dim))
  return RNG.normal(size=(number, dim)), roots @ np.swapaxes(roots, 1, 2)


def test_it_is_the_formula_by_matrix_roots():
  (m, c), (n, d) = drawn(), drawn()
  total = 0.0
  for i in range(6):
    root = linalg.sqrtm(d[i])
    cross = np.trace(np.real(linalg.sqrtm(root @ c[i] @ root)))
    apart = ((m[i] - n[i]) ** 2).sum() / 2
    total += apart + (np.trace(c[i]) + np.trace(d[i])) / 2 - cross
  found = plans.conditional(m, c, n, d, 7.0)
  assert found.uvp == pytest.approx(100 * total / 6 / (7.0 / 2), rel=1e-6)
  spread = lambda c: sum(np.trace(one) for one in c)
  ratio = spread(c) / spread(d)
  assert found.variance == pytest.approx(ratio - 1, rel=1e-9)


def test_maps_and_exact_plans():
  m, c = drawn()
  exact = plans.conditional(m, c, m, c, 7.0)
  assert exact.uvp == pytest.approx(0, abs=1e-5) and exact.variance == 0
  flat = plans.conditional(m, 0 * c, m, c, 7.0)
  spread = np.trace(c, axis1=1, axis2=2).mean()
  assert flat.uvp == pytest.approx(100 * spread / 7.0, rel=1e-9)
  assert flat.variance == -1


def test_an_independent_coupling_of_gaussians():
  """y = a x + noise, taken for its marginal: (a^2 + (1 - s)^2) 100."""
  x = np.linspace(-3, 3, 2001)
  weight = np.exp(-(x**2) / 2)
  x = x / np.sqrt(weight @ x**2 / weight.sum())
  a, one = 0.6, np.ones((len(x), 1, 1))
  rows = [np.zeros((1, 1)), one[:1]]
  total = 0.0
  for value, share in zip(x[::100], weight[::100], strict=True):
    truth = np.full((1, 1), a * value), (1 - a**2) * one[:1]
    total += share * plans.conditional(*rows, *truth, 1.0).uvp
  total /= weight[::100].sum()
  second = (weight[::100] @ x[::100] ** 2) / weight[::100].sum()
  truth = 100 * (a**2 * second + (1 - np.sqrt(1 - a**2)) ** 2)
  assert total == pytest.approx(truth, rel=1e-6)


def test_moments_of_samples():
  samples = RNG.normal(size=(4, 50, 2))
  means, covariances = plans.moments(samples)
  np.testing.assert_allclose(means, samples.mean(1), rtol=1e-12, atol=1e-15)
  truth = [np.cov(row.T) for row in samples]
  np.testing.assert_allclose(covariances, truth, rtol=1e-10)


def test_bad_input():
  m, c = drawn()
  for rows, said in (
    ((m[:0], c, m, c, 1.0), r"means: expected \[N, D\], N > 0, got \[0, 3\]"),
    ((m, c[:3], m, c, 1.0), r"covariances: expected shape \(6, 3, 3\)"),
    ((m, c, m[:3], c, 1.0), r"true_means: expected shape \(6, 3\)"),
    ((m, c, m, c[:, :2], 1.0), r"true_covariances: expected shape \(6, 3, 3"),
    ((m, c, m, c, 0.0), "variance: expected above 0, got 0"),
    ((m, -c, m, c, 1.0), "covariance: expected no negative eigenvalue"),
  ):
    expect.error(said, plans.conditional, *rows)
  expect.error(
    "features: expected at least 2", plans.moments, np.ones((1, 1, 2))
  )
