"""Couplings against enumeration, SciPy, bisection and Sinkhorn in NumPy."""

import itertools

import jax
import numpy as np
import pytest
from scipy import optimize, stats

from jaxgen import couplings
from tests import expect

CLOUDS = ("plane", "wide", "images", "duplicates", "far", "apart", "discrete")


def clouds(name, number=100):
  """Two clouds [N, *D] of a kind."""
  rng = np.random.default_rng(0)
  shape = dict(wide=(64,), images=(4, 4, 1)).get(name, (2,))
  x, y = rng.standard_normal((2, number, *shape))
  if name == "duplicates":
    x, y = x[np.arange(number) // 4], y[np.arange(number) // 3]
  if name == "far":  # from zero
    x, y = x + 1e5, y + 1e5
  if name == "apart":  # from each other
    y = y + 1e4
  if name == "discrete":  # full of ties
    x, y = np.round(2 * x), np.round(2 * y)
  return x, y


def total(x, y, order, apart=0.0, weight=0.0):
  """The order's cost, by direct differences."""
  x, y = np.float64(x), np.float64(y)
  assert order.shape == (len(x),)
  gap = ((x - y[order]) ** 2).sum()
  if weight:
    gap += weight * apart[np.arange(len(x)), order].sum()
  return gap


def squared(x, y):
  x, y = (np.float64(a).reshape(len(a), -1) for a in (x, y))
  return ((x[:, None] - y) ** 2).sum(-1)


@pytest.mark.parametrize("number", [1, 2, 3, 6])
def test_exact_is_the_best_of_all_permutations(number):
  x, y = clouds("plane", number)
  costs = [
    total(x, y, np.array(p)) for p in itertools.permutations(range(number))
  ]
  found = total(x, y, couplings.exact(x, y))
  np.testing.assert_allclose(found, min(costs), rtol=1e-12)


@pytest.mark.parametrize("name", CLOUDS)
def test_exact_has_the_cost_of_scipys_assignment(name):
  x, y = clouds(name)
  order = couplings.exact(x, y)
  np.testing.assert_array_equal(np.sort(order), np.arange(len(x)))
  best = optimize.linear_sum_assignment(squared(x, y))[1]
  # Apart from what is the same for every order.
  floor = total(x, y, best) - squared(x.mean(0)[None], y.mean(0)[None]) * len(x)
  gap = total(x, y, order) - total(x, y, best)
  assert abs(gap) <= 1e-9 * abs(floor.item()), gap


def test_a_cloud_is_coupled_with_itself():
  x, _ = clouds("wide")
  shuffled = np.random.default_rng(1).permutation(len(x))
  order = couplings.exact(x, x[shuffled])
  np.testing.assert_array_equal(shuffled[order], np.arange(len(x)))
  same = np.ones((5, 2))  # one point: any permutation
  np.testing.assert_array_equal(np.sort(couplings.exact(same, same)), range(5))


def test_discrete_conditions_are_never_mixed_and_optimal_within():
  x, y = clouds("plane")
  labels = np.random.default_rng(3).integers(0, 4, len(x))
  labels[0] = 9  # alone in its class
  order = couplings.conditional(x, y, labels)
  np.testing.assert_array_equal(labels[order], labels)
  np.testing.assert_array_equal(np.sort(order), np.arange(len(x)))
  for label in np.unique(labels):
    rows = np.flatnonzero(labels == label)
    cost = squared(x[rows], y[rows])
    best = cost[optimize.linear_sum_assignment(cost)].sum()
    found = ((x[rows] - y[order[rows]]) ** 2).sum()
    np.testing.assert_allclose(found, best, rtol=1e-12)


@pytest.mark.parametrize("size", [(), (2,)])
@pytest.mark.parametrize("ratio", [0.02, 0.05, 0.3])
def test_continuous_conditions_weigh_as_much_as_the_ratio_says(ratio, size):
  """w by bisection, as in the paper: the share of candidate pairs is r."""
  x, y = clouds("plane")
  condition = np.random.default_rng(4).standard_normal((len(x), *size))
  cost, apart = squared(x, y), squared(condition, condition)
  share = lambda w: (cost + w * apart <= np.diag(cost)[:, None]).mean()
  low, high = 0.0, 1e6
  for _ in range(200):
    middle = (low + high) / 2
    low, high = (middle, high) if share(middle) >= ratio else (low, middle)
  assert 0 <= share(low) - ratio < 1.5 / len(x) ** 2
  best = optimize.linear_sum_assignment(cost + low * apart)[1]
  found = couplings.conditional(x, y, condition, ratio=ratio)
  found_cost, least = (total(x, y, o, apart, low) for o in (found, best))
  np.testing.assert_allclose(found_cost, least, rtol=1e-9)
  np.testing.assert_array_equal(np.sort(found), np.arange(len(x)))


def test_continuous_conditions_at_the_ends_of_the_ratio():
  x, y = clouds("plane")
  condition = np.linspace(-1, 1, len(x))
  free = couplings.conditional(x, y, condition, ratio=1.0)
  np.testing.assert_array_equal(free, couplings.exact(x, y))
  bound = couplings.conditional(x, y, condition, ratio=1e-6)
  np.testing.assert_array_equal(bound, np.arange(len(x)))
  # All alike: nothing binds.
  same = couplings.conditional(x, y, np.zeros(len(x)), ratio=0.05)
  np.testing.assert_array_equal(same, couplings.exact(x, y))


def sinkhorn(cost, epsilon):
  """The plan of uniform margins, in NumPy, to rounding."""
  kernel, u = np.exp(-(cost - cost.min()) / epsilon), np.ones(len(cost))
  for _ in range(5000):
    v = 1 / (u @ kernel)
    u = 1 / (kernel @ v)
  return u[:, None] * kernel * v / len(cost)


@pytest.mark.parametrize("epsilon", [0.5, 1e6])
def test_entropic_draws_from_the_rows_of_the_plan(epsilon):
  """Chi-square of 400 draws of each of 8 rows; 1e6 is the uniform plan."""
  x, y = clouds("plane", 8)
  plan = sinkhorn(squared(x, y), epsilon)
  np.testing.assert_allclose(plan.sum(0), 1 / 8, rtol=1e-9)
  if epsilon == 1e6:
    np.testing.assert_allclose(plan, 1 / 64, rtol=1e-4)
  keys = jax.random.split(jax.random.key(0), 400)
  draws = np.array(
    [couplings.entropic(key, x, y, epsilon=epsilon) for key in keys]
  )
  counts = (draws[..., None] == np.arange(8)).sum(0)
  expected = 8 * len(keys) * plan
  likely = expected > 5
  statistic = ((counts - expected)[likely] ** 2 / expected[likely]).sum()
  assert statistic < stats.chi2.ppf(1 - 1e-4, likely.sum())
  wrong = np.roll(expected, 1, 0) if epsilon < 1 else 1.3 * expected
  assert ((counts - wrong)[likely] ** 2 / wrong[likely]).sum() > 4 * statistic


def test_entropic_is_the_inverse_of_the_plans_cumulative_sums():
  """On the same uniform draws, plan by NumPy: sharp in epsilon."""
  x, y = clouds("plane", 8)
  heights = [
    8 * np.cumsum(sinkhorn(squared(x, y), epsilon), 1)
    for epsilon in (0.3, 0.303)
  ]
  differ = np.zeros(2)
  for seed in range(500):
    found = couplings.entropic(jax.random.key(seed), x, y, epsilon=0.3)
    uniform = np.asarray(jax.random.uniform(jax.random.key(seed), (8, 1)))
    differ += [(found != (h < uniform).sum(1)).sum() for h in heights]
  # Sinkhorn stops at margins of 1e-3: a few in a thousand.
  assert differ[0] < 0.003 * 500 * 8 and differ[0] < differ[1] / 2


def test_entropic_needs_one_device(monkeypatch):
  x, y = clouds("plane", 8)
  order = couplings.entropic(jax.random.key(0), x, y, epsilon=0.3)
  first = jax.local_devices(backend="cpu")[:1]
  monkeypatch.setattr(jax, "local_devices", lambda **_: first)
  found = couplings.entropic(jax.random.key(0), x, y, epsilon=0.3)
  np.testing.assert_array_equal(found, order)


def test_entropic_key_decides():
  x, y = clouds("plane", 8)
  draw = lambda seed: couplings.entropic(
    jax.random.key(seed), x, y, epsilon=2.0
  )
  with jax.numpy_dtype_promotion("strict"):
    np.testing.assert_array_equal(draw(1), draw(1))
  assert (draw(1) != draw(2)).any()


def test_an_epsilon_that_is_too_small_or_none_is_refused():
  x, y = clouds("plane", 8)
  key = jax.random.key(0)
  refuses = lambda said, y, epsilon: expect.error(
    said, couplings.entropic, key, x, y, epsilon=epsilon
  )
  refuses("at which Sinkhorn converges, got 1e-09", 50 * y, 1e-9)
  for epsilon in (0.0, -1.0, float("nan")):
    refuses("epsilon: expected a positive number", y, epsilon)


def test_bad_clouds_are_refused_by_every_coupling():
  x, y = clouds("plane", 6)
  bad = [(x, y[:, :1]), (x, y[:5]), (x[:0], y[:0]), (np.ones(()), np.ones(()))]
  nan = x.copy()
  nan[2, 1] = np.nan
  for pair in bad:
    said = "^source: expected shape"
    expect.error(said, couplings.exact, *pair)
    expect.error(said, couplings.conditional, *pair, np.arange(6))
    key = jax.random.key(0)
    expect.error(said, couplings.entropic, key, *pair, epsilon=1.0)
  for pair in ((nan, y), (x, np.inf * y), (x, 1e200 * y)):
    expect.error("^data, source: expected finite", couplings.exact, *pair)


def test_bad_conditions_ratios_and_keys_are_refused():
  x, y = clouds("plane", 6)
  refuses = lambda said, condition, **more: expect.error(
    said, couplings.conditional, x, y, condition, **more
  )
  refuses("^condition: expected one value per example, got None", None)
  for condition in (np.arange(5), np.array(3.0), np.zeros((0, 6))):
    refuses("^condition: expected one for each of 6 examples", condition)
  refuses("^condition: expected finite values", np.full(6, np.nan))
  for ratio in (0.0, -1.0, 1.1, float("nan")):
    refuses("^ratio: expected above 0", np.arange(6.0), ratio=ratio)
  for key in (jax.random.PRNGKey(0), jax.random.split(jax.random.key(0))):
    expect.error("^key: ", couplings.entropic, key, x, y, epsilon=1.0)
