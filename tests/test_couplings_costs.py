"""Costs of pairs and the assignment: enumeration, SciPy, differences."""

import itertools

import numpy as np
import pytest
from scipy import optimize

from jaxgen import couplings
from tests import expect
from tests.test_couplings import clouds, squared


def test_costs_are_squared_distances():
  for name in ("images", "far"):
    x, y = clouds(name, 7)
    np.testing.assert_allclose(couplings.costs(x, y), squared(x, y), rtol=1e-9)
  # Also where the points are near or equal, for their distance from zero and
  # from an outlier.
  for offset, outlier in ((0, 0), (1e4, 0), (0, 1e9)):
    x = np.float32(clouds("plane", 9)[0] + offset)
    x[4] += outlier
    y = x * np.float32(1 + 1e-6 * (np.arange(9) % 3))[:, None]
    found = couplings.costs(x, y)
    assert found.shape == (9, 9) and found.dtype == np.float64
    np.testing.assert_allclose(found, squared(x, y), rtol=1e-8)
    np.testing.assert_array_equal(np.diag(found)[::3], 0)


def test_assign_of_any_cost():
  cost = np.random.default_rng(2).standard_normal((50, 50)) ** 3
  rows = np.arange(50)
  for scale in (1e-6, 1.0, 1e6):
    order = couplings.assign(scale * cost)
    best = cost[optimize.linear_sum_assignment(cost)].sum()
    np.testing.assert_allclose(cost[rows, order].sum(), best, rtol=1e-9)


def test_duals_serve_where_rounding_changes_no_order():
  """Not at costs of 1 among some of 1e6; at 0, whatever the others."""
  for total in (0, 1):
    cost = np.array([[0, total, 1e6], [0, 1e6, 1e6], [1e6, 0, 0]])
    assert (couplings._started(cost) is None) == (total == 1)
    np.testing.assert_array_equal(couplings.assign(cost), [1, 0, 2])


def best_of_all(cost):
  """The least cost of a permutation, one after another."""
  rows = np.arange(len(cost))
  orders = itertools.permutations(range(len(cost)))
  return min(cost[rows, list(order)].sum() for order in orders)


@pytest.mark.parametrize("forbidden", [1e3, 1e9, 1e18, 1e300, np.inf])
def test_assign_where_pairs_are_forbidden_by_a_large_cost(forbidden):
  b = forbidden
  cost = np.array([[b, b, 4, 5], [5, 7, 6, b], [3, 6, 7, 3], [1, 1, b, b]])
  assert cost[np.arange(4), couplings.assign(cost)].sum() == 13
  rng = np.random.default_rng(5)
  for number in (2, 3, 4, 5, 6, 5, 6):
    cost = rng.integers(1, 9, (number, number)).astype(float)
    allowed = rng.permutation(number), np.arange(number)
    free = cost[allowed]
    cost[rng.random(cost.shape) < 0.5] = forbidden
    cost[allowed] = free  # so that one permutation is possible
    for dtype in (np.float64, np.float32)[: 1 + (forbidden < 1e30)]:
      order = couplings.assign(cost.astype(dtype))
      assert cost[np.arange(number), order].sum() == best_of_all(cost)


@pytest.mark.parametrize("spread", [3, 6, 9])
def test_assign_of_costs_of_many_sizes(spread):
  rng, rows = np.random.default_rng(6), np.arange(60)
  cost = 10 ** rng.uniform(-spread, spread, (60, 60))
  for part in (cost[:6, :6], cost, cost - cost.mean()):
    order = couplings.assign(part)
    best = part[optimize.linear_sum_assignment(part)].sum()
    found = part[rows[: len(part)], order].sum()
    np.testing.assert_allclose(found, best, rtol=1e-12)
  few = cost[:6, :6]
  found = few[rows[:6], couplings.assign(few)].sum()
  np.testing.assert_allclose(found, best_of_all(few), rtol=1e-12)


@pytest.mark.parametrize("size", [1e9, 1e10, -1e12])
@pytest.mark.parametrize("sides", [(0,), (1,), (0, 1)])
def test_an_outlier_costs_the_others_nothing(size, sides):
  """All but its own pair are those of SciPy on direct differences."""
  pair = clouds("plane")
  for side in sides:
    pair[side][7 + side] = size
  x, y = pair
  order = couplings.exact(x, y)
  best = optimize.linear_sum_assignment(squared(x, y))[1]
  lengths = [np.sort(((x - y[o]) ** 2).sum(1)) for o in (order, best)]
  found, truth = (np.sum(a[: -len(sides)]) for a in lengths)
  np.testing.assert_allclose(found, truth, rtol=1e-9)


def test_bad_costs_are_refused():
  for bad in (np.ones((2, 3)), np.ones(4), np.ones((0, 0))):
    expect.error(r"^cost: expected a matrix \[N, N\]", couplings.assign, bad)
  nan, low = np.ones((2, 3, 3))
  nan[1, 2], low[1, 2] = np.nan, -np.inf
  for bad in (nan, low, np.array([[np.inf, 1.0], [np.inf, 2.0]])):
    expect.error("^cost: expected a permutation with", couplings.assign, bad)
