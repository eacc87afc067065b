"""Assignment against enumeration and SciPy, in float64."""

import itertools

import numpy as np
import pytest
from scipy import optimize
from scipy.spatial import distance

from jaxgen import assignment
from tests import expect

KINDS = (
  *("plane", "wide", "images", "grid", "twice", "outlier", "forbidden"),
  *("blocks", "constant", "mostly_constant", "far", "any"),
)


def costs(kind, n):
  """Costs [n, n] of a kind."""
  rng = np.random.default_rng(0)
  size = dict(wide=64, images=784).get(kind, 2)
  x, y = rng.standard_normal((2, n, size))
  if kind == "grid":  # full of ties
    x, y = rng.integers(0, 6, (2, n, 2))
  if kind == "twice":
    x, y = x[np.arange(n) // 2], y[np.arange(n) // 3]
  if kind == "outlier":
    x[3] = 1e6
  if kind == "far":
    y = y + 1e4
  cost = distance.cdist(x, y, "sqeuclidean")
  if kind == "forbidden":
    cost[rng.random((n, n)) < 0.7] = np.inf
    cost[rng.permutation(n), np.arange(n)] = 5.0
  if kind == "blocks":
    labels = rng.permutation(np.arange(n) % 3)
    cost[labels[:, None] != labels] = np.inf
  if kind == "constant":
    cost[:] = 3.0
  if kind == "mostly_constant":
    cost[rng.random((n, n)) < 0.9] = 3.0
  if kind == "any":
    cost = rng.standard_normal((n, n)) ** 3
  return cost


def require_optimal(cost):
  rows = np.arange(len(cost))
  order = assignment.assign(cost)
  np.testing.assert_array_equal(np.sort(order), rows)
  best = cost[optimize.linear_sum_assignment(cost)].sum()
  np.testing.assert_allclose(cost[rows, order].sum(), best, rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 63, 64, 200])
@pytest.mark.parametrize("kind", KINDS)
def test_the_cost_is_that_of_scipy(kind, n):
  require_optimal(costs(kind, max(n, 4))[:n, :n] if n < 4 else costs(kind, n))


@pytest.mark.parametrize("n", [64, 300])
@pytest.mark.parametrize("kind", [k for k in KINDS if k != "constant"])
def test_the_duals_are_nearly_optimal(kind, n):
  """Made feasible, they bound every total from below, by .9 of the least."""
  cost = costs(kind, n)
  cost = cost - cost.min(1, keepdims=True)
  cost -= cost.min(0)
  with np.errstate(all="ignore"):
    f, g = assignment._approximate(cost)
  f = f + (cost - f[:, None] - g).min(1)
  best = cost[optimize.linear_sum_assignment(cost)].sum()
  assert 0.9 * best < f.sum() + g.sum() <= best


def test_duals_serve_where_rounding_changes_no_order():
  """Not at a total of 1 among costs of 1e6; at 0, whatever the others."""
  for total in (0, 1):
    cost = np.kron(np.eye(23), [[0, total, 0], [0, 0, 0], [0, 0, 0]])
    cost += 1e6 * (1 - np.kron(np.eye(23), np.ones((3, 3))))
    cost += np.kron(np.eye(23), [[0, 0, 1e6], [0, 1e6, 1e6], [1e6, 0, 0]])
    found = assignment._by_duals(cost)
    assert found is None or total == 0
    order = assignment.assign(cost)
    np.testing.assert_array_equal(order[:3], [1, 0, 2])


def test_assign_of_any_cost():
  cost = np.random.default_rng(2).standard_normal((50, 50)) ** 3
  rows = np.arange(50)
  for scale in (1e-6, 1.0, 1e6):
    order = assignment.assign(scale * cost)
    best = cost[optimize.linear_sum_assignment(cost)].sum()
    np.testing.assert_allclose(cost[rows, order].sum(), best, rtol=1e-9)


def best_of_all(cost):
  """The least cost of a permutation, one after another."""
  rows = np.arange(len(cost))
  orders = itertools.permutations(range(len(cost)))
  return min(cost[rows, list(order)].sum() for order in orders)


@pytest.mark.parametrize("forbidden", [1e3, 1e9, 1e18, 1e300, np.inf])
def test_assign_where_pairs_are_forbidden_by_a_large_cost(forbidden):
  b = forbidden
  cost = np.array([[b, b, 4, 5], [5, 7, 6, b], [3, 6, 7, 3], [1, 1, b, b]])
  assert cost[np.arange(4), assignment.assign(cost)].sum() == 13
  rng = np.random.default_rng(5)
  for number in (2, 3, 4, 5, 6, 5, 6):
    cost = rng.integers(1, 9, (number, number)).astype(float)
    allowed = rng.permutation(number), np.arange(number)
    free = cost[allowed]
    cost[rng.random(cost.shape) < 0.5] = forbidden
    cost[allowed] = free  # so that one permutation is possible
    for dtype in (np.float64, np.float32)[: 1 + (forbidden < 1e30)]:
      order = assignment.assign(cost.astype(dtype))
      assert cost[np.arange(number), order].sum() == best_of_all(cost)


@pytest.mark.parametrize("spread", [3, 6, 9])
def test_assign_of_costs_of_many_sizes(spread):
  rng, rows = np.random.default_rng(6), np.arange(60)
  cost = 10 ** rng.uniform(-spread, spread, (60, 60))
  for part in (cost[:6, :6], cost, cost - cost.mean()):
    order = assignment.assign(part)
    best = part[optimize.linear_sum_assignment(part)].sum()
    found = part[rows[: len(part)], order].sum()
    np.testing.assert_allclose(found, best, rtol=1e-12)
  few = cost[:6, :6]
  found = few[rows[:6], assignment.assign(few)].sum()
  np.testing.assert_allclose(found, best_of_all(few), rtol=1e-12)


def test_bad_costs_are_refused():
  for bad in (np.ones((2, 3)), np.ones(4), np.ones((0, 0))):
    expect.error(r"^cost: expected a matrix \[N, N\]", assignment.assign, bad)
  nan, low = np.ones((2, 3, 3))
  nan[1, 2], low[1, 2] = np.nan, -np.inf
  for bad in (nan, low, np.array([[np.inf, 1.0], [np.inf, 2.0]])):
    expect.error("^cost: expected a permutation with", assignment.assign, bad)


def test_sums_see_no_subnormal_numbers(monkeypatch):
  """With these, some processors calculate far more slowly."""
  least, einsum = [], np.einsum

  def watched(how, *arrays):
    least.extend(np.min(np.abs(a[a != 0])) for a in arrays)
    return einsum(how, *arrays)

  monkeypatch.setattr(np, "einsum", watched)
  x, y = np.random.default_rng(0).normal(size=(2, 100, 2))
  cost = np.sum((x[:, None] - y) ** 2, -1)
  order = assignment.assign(cost)
  assert least and min(least) >= np.finfo(np.float32).tiny
  best = optimize.linear_sum_assignment(cost)[1]
  assert cost[np.arange(100), order].sum() == pytest.approx(
    cost[np.arange(100), best].sum(), rel=1e-12
  )
