import numpy as np
import pytest

from jaxgen.metrics import kernel
from tests import expect


def _by_loops(a, b):
  """The definition, one pair at a time."""
  k = lambda x, y: (sum(x * y) / len(x) + 1) ** 3
  n, m = len(a), len(b)
  total = 0.0
  for i in range(n):
    for j in range(n):
      total += (i != j) * k(a[i], a[j]) / (n * (n - 1))
  for i in range(m):
    for j in range(m):
      total += (i != j) * k(b[i], b[j]) / (m * (m - 1))
  for i in range(n):
    for j in range(m):
      total -= 2 * k(a[i], b[j]) / (n * m)
  return total


def _sets(seed, n, m, shift=0.0):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(n, 3)), rng.normal(size=(m, 3)) + shift


def test_against_loops():
  a, b = _sets(0, 7, 5, 0.3)
  assert kernel.distance(a, b) == pytest.approx(_by_loops(a, b), rel=1e-12)
  low = kernel.distance(a.astype(np.float32), b)
  assert low == pytest.approx(_by_loops(a, b), rel=1e-5)


def test_expectation_over_a_discrete_law():
  """Its mean over all draws is the squared discrepancy, exactly: unbiased.

  a is 3 draws of {0, 2} with probability p, b 3 of {0, 2} with q, on the line:
  the discrepancy is (p - q)^2 (k(2, 2) - 2 k(2, 0) + k(0, 0)) = 124 (p - q)^2.
  """
  p, q = 0.3, 0.6
  ones = np.array(np.unravel_index(np.arange(8), (2, 2, 2))).T
  law = lambda r: r ** ones.sum(1) * (1 - r) ** (3 - ones.sum(1))
  for first, second in ((p, q), (p, p)):
    sets = 2.0 * ones[:, :, None]
    values = [[kernel.distance(a, b) for b in sets] for a in sets]
    mean = law(first) @ np.array(values) @ law(second)
    assert mean == pytest.approx(124 * (first - second) ** 2, abs=1e-10)


def test_the_error_is_the_jackknife():
  a, b = _sets(1, 6, 9, 0.5)
  variance = 0.0
  for n, left_out in (
    (6, [_by_loops(np.delete(a, i, 0), b) for i in range(6)]),
    (9, [_by_loops(a, np.delete(b, i, 0)) for i in range(9)]),
  ):
    variance += (n - 1) / n * np.sum((left_out - np.mean(left_out)) ** 2)
  found = kernel.estimate(a, b)
  assert found.error == pytest.approx(np.sqrt(variance), rel=1e-9)
  assert found.value == pytest.approx(_by_loops(a, b), rel=1e-12)


def test_the_error_is_the_spread_between_draws():
  """Of two laws that differ; 300 draws give their spread to about 4 %."""
  draws = [kernel.estimate(*_sets(s, 40, 60, 0.8)) for s in range(300)]
  spread = np.std([draw.value for draw in draws])
  error = np.sqrt(np.mean([draw.error**2 for draw in draws]))
  assert error == pytest.approx(spread, rel=0.2)


def test_another_kernel():
  """x.y measures the distance of the means, less the noise in it."""
  a, b = _sets(2, 8, 8, 1.0)
  found = kernel.distance(a, b, lambda x, y: x @ y.T)
  noise = (np.var(a, 0, ddof=1) / 8 + np.var(b, 0, ddof=1) / 8).sum()
  expected = np.sum((a.mean(0) - b.mean(0)) ** 2) - noise
  assert found == pytest.approx(expected, rel=1e-9)


@pytest.fixture(scope="module")
def classes():
  """Three far classes and their labels, in random proportions."""
  rng = np.random.default_rng(3)
  labels = rng.integers(0, 3, 600)
  return rng.normal(size=(600, 4)) + 3.0 * np.eye(4)[labels], labels


def test_real_interval_holds_real_data_and_no_other(classes):
  """At .8, real draws lie inside in about .8 of 200 tries (sd .03)."""
  real, _ = classes
  low, high = kernel.real_interval(real, 30, 40, num_splits=400, level=0.8)
  assert low < 0 < high
  rng = np.random.default_rng(4)
  inside = 0
  for _ in range(200):
    labels = rng.integers(0, 3, 70)
    fresh = rng.normal(size=(70, 4)) + 3.0 * np.eye(4)[labels]
    inside += low <= kernel.distance(fresh[:40], fresh[40:]) <= high
  assert 130 < inside < 190
  assert kernel.distance(fresh[:40] + 1.0, fresh[40:]) > high


def test_real_interval_with_labels(classes):
  """Sets that share their labels lie lower and closer together."""
  real, labels = classes
  interval = lambda labels=labels, **settings: kernel.real_interval(
    real, 30, 60, labels=labels, num_splits=100, **settings
  )
  plain, paired, several = interval(None), interval(), interval(num_draws=4)
  assert paired[1] < plain[1] and np.ptp(paired) < 0.8 * np.ptp(plain)
  assert np.ptp(several) < np.ptp(paired)
  assert interval() == paired != interval(seed=1)


def test_real_interval_is_of_distances(classes):
  """The same splits, a distance at a time."""
  real, labels = classes
  random, values = np.random.RandomState(7), []
  for _ in range(5):
    order = random.permutation(600)
    held_out, rest = order[:20], order[20:]
    wanted = np.resize(labels[held_out], 30)
    rows = kernel._matching(random, labels[rest], wanted)
    assert sorted(labels[rest][rows]) == sorted(wanted)
    assert len(set(rows)) == 30
    values.append(kernel.distance(real[rest[rows]], real[held_out]))
  options = dict(labels=labels, num_splits=5, seed=7, level=0.5)
  found = kernel.real_interval(real, 20, 30, **options)
  ends = np.quantile(values, [0.25, 0.75])
  np.testing.assert_allclose(found, ends)
  # Of one point each the variances are 1, of two independent sets the mean.
  parts = np.array([1 / (20 * 19), 2 / (20 * 30), 1 / (30 * 29)])
  for number in (2, 5):
    found = kernel.real_interval(real, 20, 30, num_draws=number, **options)
    scale = np.sqrt(parts @ [1, 1 / number, 1 / number] / parts.sum())
    middle = np.mean(values)
    np.testing.assert_allclose(found, middle + scale * (ends - middle))


@pytest.mark.parametrize("size, number", [(40, 5), (30, 3)])
def test_the_interval_covers_means_of_independent_draws(size, number):
  """Of the whole pool, in which several draws would be the same set again.

  Fresh sets, 200 means: some .92, as of one draw (a pool is no law); the
  interval of shared draws covers .99.
  """
  rng = np.random.default_rng(5)
  means = []
  for _ in range(200):
    held_out, *draws = rng.normal(size=(1 + number, size, 4))
    means.append(np.mean([kernel.distance(x, held_out) for x in draws]))
  means, covered = np.array(means), []
  for seed in range(8):
    pool = rng.normal(size=(2 * size, 4))
    low, high = kernel.real_interval(
      pool, size, size, num_draws=number, seed=seed
    )
    covered.append(np.mean((low <= means) & (means <= high)))
  assert 0.86 < np.mean(covered) < 0.965, np.mean(covered)


def test_bad_input_is_refused(classes):
  real, labels = classes
  few, interval = "b: expected at least 3 points, got 2", kernel.real_interval
  expect.error(few, kernel.distance, real, real[:2])
  expect.error("expected at least 2, got 1 and 9", interval, real, 1, 9)
  expect.error("real: expected at least 610 points", interval, real, 10, 600)
  expect.error("fewer samples", interval, real, 10, 560, labels=labels)
