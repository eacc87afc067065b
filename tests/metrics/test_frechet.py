import numpy as np
import pytest
from scipy import linalg

from jaxgen.metrics import frechet
from tests import expect


def _gaussian(seed, size, rank=None):
  rng = np.random.default_rng(seed)
  factor = rng.normal(size=(size, rank or size))
  return frechet.Gaussian(rng.normal(size=size), factor @ factor.T)


def by_scipy(a, b):
  """W2^2 of two Gaussians, each with a mean and a covariance.

  The trace of (A B)^1/2 is the sum of the roots of A B's eigenvalues; SciPy's
  sqrtm warns of a singular product on some processors.
  """
  mixed = linalg.eigvals(a.covariance @ b.covariance).real.clip(0)
  widths = np.trace(a.covariance + b.covariance) - 2 * np.sqrt(mixed).sum()
  return np.sum((a.mean - b.mean) ** 2) + widths


def test_on_the_line():
  """(m_a - m_b)^2 + (s_a - s_b)^2."""
  law = lambda mean, std: frechet.Gaussian(np.array([mean]), np.eye(1) * std**2)
  found = frechet.between(law(1.0, 3.0), law(-1.0, 0.5))
  assert found == pytest.approx(2.0**2 + 2.5**2, rel=1e-12)


def test_covariances_that_commute():
  """|m_a - m_b|^2 + sum (s_a - s_b)^2 along the common axes."""
  rng = np.random.default_rng(0)
  axes = np.linalg.qr(rng.normal(size=(5, 5)))[0]
  stds, means = rng.uniform(0, 2, (2, 5)), rng.normal(size=(2, 5))
  stds[0, 0] = 0.0
  a, b = (
    frechet.Gaussian(m, axes @ np.diag(s**2) @ axes.T)
    for m, s in zip(means, stds, strict=True)
  )
  gaps = means[0] - means[1], stds[0] - stds[1]
  expected = np.sum(np.square(gaps))
  assert frechet.between(a, b) == pytest.approx(expected, rel=1e-7)
  assert frechet.between(b, a) == pytest.approx(expected, rel=1e-7)


def test_any_covariances_against_scipy():
  a, b = _gaussian(1, 6), _gaussian(2, 6)
  assert frechet.between(a, b) == pytest.approx(by_scipy(a, b), rel=1e-9)


@pytest.mark.parametrize(
  "ranks", [(40, 40), (3, 40), (40, 3), (3, 5), (30, 35)]
)
def test_any_ranks_against_the_symmetric_roots(ranks):
  """tr (A^1/2 B A^1/2)^1/2 by the singular values of A^1/2 B^1/2."""
  a, b = (_gaussian(7 + i, 40, rank) for i, rank in enumerate(ranks))
  roots = frechet.root(a.covariance) @ frechet.root(b.covariance)
  overlap = linalg.svdvals(roots).sum()
  traces = np.trace(a.covariance + b.covariance)
  expected = np.sum((a.mean - b.mean) ** 2) + traces - 2 * overlap
  assert frechet.between(a, b) == pytest.approx(expected, rel=1e-9)
  assert frechet.between(b, a) == pytest.approx(expected, rel=1e-9)


def test_widths_of_many_sizes():
  """Where eigenvalues of the product lose the small ones: B = 4 A, tr A."""
  axes = np.linalg.qr(np.random.default_rng(9).normal(size=(30, 30)))[0]
  covariance = axes * np.geomspace(1e-14, 1, 30) @ axes.T
  covariance = (covariance + covariance.T) / 2
  a, b = (frechet.Gaussian(np.zeros(30), k * covariance) for k in (1, 4))
  expected = pytest.approx(np.trace(covariance), rel=1e-9)
  assert frechet.between(a, b) == expected
  assert frechet.between(b, a) == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fit_by_blocks(dtype, monkeypatch):
  points = 3 + np.random.default_rng(8).normal(size=(50, 4)).astype(dtype)
  monkeypatch.setattr(frechet, "_BLOCK", 7)
  fitted = frechet.fit(points)
  assert fitted.mean.dtype == fitted.covariance.dtype == np.float64
  exact = points.astype(np.float64)
  np.testing.assert_allclose(fitted.mean, exact.mean(0), rtol=1e-14)
  np.testing.assert_allclose(fitted.covariance, np.cov(exact.T), rtol=1e-12)


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_a_law_has_distance_0_to_itself(rank):
  law = _gaussian(3, 6, rank)
  scale = np.trace(law.covariance)
  assert abs(frechet.between(law, law)) < 1e-6 * scale


def test_sets_are_fitted():
  rng = np.random.default_rng(4)
  a, b = rng.normal(size=(40, 3)), 2 * rng.normal(size=(30, 3)) + 1
  fitted = frechet.fit(a)
  np.testing.assert_allclose(fitted.mean, a.mean(0))
  np.testing.assert_allclose(fitted.covariance, np.cov(a.T), atol=1e-12)
  expected = frechet.between(fitted, frechet.fit(b))
  assert frechet.distance(a, b) == expected
  moved = frechet.distance(a, a + np.array([3.0, 0.0, 4.0]))
  assert moved == pytest.approx(25.0)
  low = a.astype(np.float32)
  assert frechet.distance(low, b) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("number, size", [(3, 8), (10, 64), (20, 200)])
def test_statistics_stored_in_float32_of_few_points(number, size):
  """Fewer points than features: those of float64, and the set's closed form."""
  rng = np.random.default_rng(6)
  a = frechet.fit(rng.normal(size=(number, size)))
  b = frechet.fit(0.3 + 1.5 * rng.normal(size=(3 * size, size)))
  single = lambda law: frechet.Gaussian(*(np.float32(x) for x in law))
  again = lambda law: frechet.Gaussian(*(np.float64(x) for x in single(law)))
  assert np.linalg.eigvalsh(again(a).covariance)[0] < 0
  # Twice the scale: root commutes, F^2 = tr (2 A^1/2 - A^1/2)^2 = tr A.
  twice = frechet.Gaussian(a.mean, 4 * a.covariance)
  trace = np.trace(a.covariance)
  between = by_scipy(a, b)
  for stored in (single, again):
    assert abs(frechet.between(stored(a), stored(a))) < 1e-6 * trace
    found = frechet.between(stored(a), stored(twice))
    assert isinstance(found, float)
    assert found == pytest.approx(trace, rel=1e-6)
    found = frechet.between(stored(a), stored(b))
    assert found == pytest.approx(between, rel=1e-4)
  constant = frechet.fit(np.full((4, size), 0.1, np.float32))
  found = frechet.between(single(constant), single(a))
  apart = np.sum((constant.mean - a.mean) ** 2)
  assert found == pytest.approx(apart + trace, rel=1e-6)


def test_root_squares_to_the_covariance():
  covariance = _gaussian(5, 4, 2).covariance
  half = frechet.root(covariance)
  np.testing.assert_allclose(half @ half, covariance, atol=1e-10)
  np.testing.assert_array_less(-1e-7, np.linalg.eigvalsh(half))


def test_bad_input_is_refused():
  one, laws = np.zeros((1, 3)), (_gaussian(0, 2), _gaussian(0, 3))
  expect.error("features: expected at least 2, got 1", frechet.fit, one)
  expect.error("b: expected 2 features as in a, got 3", frechet.between, *laws)
  negative, unfit = "no negative eigenvalue, got", "expected finite and symm"
  for said, bad in (
    (f"{negative} -1", np.diag([1.0, -1.0])),
    (f"{negative} -1e-0", np.diag([1, -1e-5]).astype(np.float32)),
    (f"{negative} -1e-0", np.diag([0.1, -1e-9])),
    (unfit, np.array([[1.0, 0.0], [1.0, 1.0]])),
    (unfit, np.full((2, 2), np.nan)),
  ):
    expect.error(said, frechet.root, bad)
    fine = frechet.Gaussian(np.zeros(2), np.eye(2))
    laws = fine, fine._replace(covariance=bad)
    expect.error(said, frechet.between, *laws)
    expect.error(said, frechet.between, *laws[::-1])
