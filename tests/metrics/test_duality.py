"""Linear programmes of transport: one value, each the proof of the other."""

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import distance

from jaxgen import couplings
from jaxgen.metrics import duality
from tests import expect


def problem(n, m, metric="sqeuclidean", seed=0):
  rng = np.random.default_rng(seed)
  cost = distance.cdist(rng.random((n, 2)), rng.random((m, 2)) + 0.3, metric)
  return cost, rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m))


SIZES = [(1, 1), (1, 6), (7, 1), (9, 5), (30, 30), (40, 25)]
METRICS = ["euclidean", "sqeuclidean"]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n, m", SIZES)
def test_there_is_no_gap_and_slackness_is_complementary(n, m, metric):
  cost, a, b = problem(n, m, metric)
  primal, dual = duality.primal(cost, a, b), duality.dual(cost, a, b)
  plan, u, v = primal.plan, dual.first, dual.second
  np.testing.assert_allclose(dual.value, primal.value, rtol=1e-9)
  # Feasible, both: then the equal values prove that both are optimal.
  assert plan.shape == (n, m) and plan.min() >= 0
  np.testing.assert_allclose(plan.sum(1), a, atol=1e-12)
  np.testing.assert_allclose(plan.sum(0), b, atol=1e-12)
  slack = duality.slack(cost, u, v)
  assert slack.min() > -1e-9 and v[0] == 0
  np.testing.assert_allclose(primal.value, (plan * cost).sum(), rtol=1e-12)
  np.testing.assert_allclose(dual.value, a @ u + b @ v, rtol=1e-12)
  assert slack[plan > 1e-12].max() < 1e-9
  assert np.count_nonzero(plan) <= n + m - 1  # a vertex


def test_feasible_potentials_lie_below_and_plans_above():
  cost, a, b = problem(8, 6)
  best = duality.primal(cost, a, b).value
  rng = np.random.default_rng(1)
  for _ in range(20):
    u = rng.uniform(-1, 1, 8)
    v = (cost - u[:, None]).min(0)
    assert a @ u + b @ v <= best + 1e-12
  assert (np.outer(a, b) * cost).sum() > best


@pytest.mark.parametrize("n", [3, 20])
def test_uniform_weights_are_the_assignment(n):
  x, y = np.random.default_rng(2).standard_normal((2, n, 3))
  cost, uniform = couplings.costs(x, y), np.full(n, 1 / n)
  order = couplings.exact(x, y)
  found = duality.primal(cost, uniform, uniform)
  truth = cost[np.arange(n), order].mean()
  np.testing.assert_allclose(found.value, truth, rtol=1e-10)
  np.testing.assert_array_equal(found.plan.argmax(1), order)
  dual = duality.dual(cost, uniform, uniform)
  np.testing.assert_allclose(dual.value, found.value, rtol=1e-9)


def test_on_a_line_it_is_scipys_distance():
  rng = np.random.default_rng(3)
  x, y = rng.standard_normal(30), 2 * rng.standard_normal(20) + 1
  a, b = rng.dirichlet(np.ones(30)), rng.dirichlet(np.ones(20))
  cost = abs(x[:, None] - y)
  truth = stats.wasserstein_distance(x, y, a, b)
  np.testing.assert_allclose(duality.primal(cost, a, b).value, truth, 1e-9)
  dual = duality.dual(cost, a, b)
  np.testing.assert_allclose(dual.value, truth, rtol=1e-9)


def test_by_hand():
  """Two heaps of .3 and .7 to .6 and .4: .3 stays, .3 goes 1, .4 goes none."""
  cost = np.array([[0.0, 1.0], [1.0, 0.0]])
  found = duality.primal(cost, np.array([0.3, 0.7]), np.array([0.6, 0.4]))
  np.testing.assert_allclose(found.plan, [[0.3, 0], [0.3, 0.4]], atol=1e-12)
  dual = duality.dual(cost, np.array([0.3, 0.7]), np.array([0.6, 0.4]))
  np.testing.assert_allclose([found.value, dual.value], 0.3, rtol=1e-12)
  np.testing.assert_allclose([*dual.first, *dual.second], [0, 1, 0, -1])


@pytest.mark.parametrize("size", [1e-14, 1.0, 1e5])
def test_costs_of_any_unit(size):
  """And below zero; points without mass; float32's sum of nearly one."""
  cost, a, b = problem(20, 15)
  a[2], b[3] = 0, 0
  a, b = np.float32(a / a.sum()), np.float32(b / b.sum())
  one = duality.primal(cost, a, b)
  for solve in (duality.primal, duality.dual):
    found = solve(size * (cost - 2), a, b)
    np.testing.assert_allclose(found.value, size * (one.value - 2), rtol=1e-9)
    assert solve(0 * cost, a, b).value == 0
  assert not one.plan[2].any() and not one.plan[:, 3].any()
  wide = size * np.array([[1e-20, 1.0], [1.0, 2.0]])
  for solve in (duality.primal, duality.dual):
    found = solve(wide, np.full(2, 0.5), np.full(2, 0.5))
    np.testing.assert_allclose(found.value, size, rtol=1e-9)


@pytest.mark.parametrize("solve", [duality.primal, duality.dual])
def test_bad_input(solve):
  cost, a, b = problem(3, 2)
  for bad in (cost[0], cost[:0], np.where(cost > cost.min(), cost, np.nan)):
    said = r"cost: expected a matrix \[N, M\]"
    expect.error(said, solve, bad, a[: len(bad)], b)
  expect.error("a: expected 3 weights, got shape", solve, cost, a[:2], b)
  expect.error("b: expected 2 weights, got shape", solve, cost, a, b[:, None])
  for bad in ([0.4, 0.4], [1.2, -0.2], [np.nan, 1]):
    match = "b: expected weights of at least 0 that sum to one, got the sum"
    expect.error(match, solve, cost, a, np.array(bad))
  expect.error("a: expected weights of at least 0", solve, cost, 2 * a, b)
