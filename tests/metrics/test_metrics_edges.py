"""The smallest valid input of every metric, and its value by hand."""

import jax.numpy as jnp
import numpy as np

from jaxgen.metrics import (
  duality,
  fisher,
  frechet,
  kernel,
  neighbours,
  transport,
)
from tests import expect

LINE = np.array([[0.0], [1.0], [3.0]])


def test_coverage_by_the_farthest_neighbour_and_of_one_sample():
  # Radii to the second neighbour: 3, 2, 3. One sample at 2.5 is 2.5, 1.5, .5
  # away; one at 3 is 3 away from the first, on its open ball's edge.
  found = neighbours.density_coverage(LINE, np.array([[2.5]]), k=2)
  np.testing.assert_allclose(found, [3 / 2, 1])
  found = neighbours.density_coverage(LINE, np.array([[3.0]]), k=2)
  np.testing.assert_allclose(found, [1 / 2, 1 / 3])
  found = neighbours.density_coverage(LINE[:2], LINE[1:2], k=1)
  np.testing.assert_allclose(found, [1, 1 / 2])


def test_precision_by_the_farthest_neighbour():
  # Radii of the line 3, 2, 3; of the samples at 4, 6 and 9: 5, 3, 5. A point on
  # a ball's edge counts.
  samples = np.array([[4.0], [6.0], [9.0]])
  found = neighbours.precision_recall(LINE, samples, k=2)
  np.testing.assert_allclose(found, [2 / 3, 1])
  # Radii 1, 1, 2 and 2, 2, 3.
  found = neighbours.precision_recall(LINE, samples, k=1)
  np.testing.assert_allclose(found, [1 / 3, 1 / 3])
  found = neighbours.precision_recall(LINE[:2], LINE[1:], k=1)
  np.testing.assert_allclose(found, [1 / 2, 1])


def test_the_nearest_of_one():
  distances, rows = neighbours.nearest(LINE, LINE[1:2])
  np.testing.assert_allclose(distances, [1, 0, 2])
  np.testing.assert_array_equal(rows, [0, 0, 0])


def test_copies_at_two_levels():
  """-1 and 1; NumPy rounds the middle to the even level, -1."""
  train = np.array([[-1.0, -1.0], [1.0, 1.0]])
  count = lambda *row: neighbours.num_copies(np.array([row]), train, levels=2)
  assert count(-0.4, -0.9) == count(0.4, 7.0) == count(0.0, -0.1) == 1
  assert count(-0.4, 0.4) == count(0.0, 0.1) == 0
  assert neighbours.num_copies(train[:1], train[1:], levels=2) == 0
  # What lies beyond black or white is black or white, of five levels too.
  count = lambda *row: neighbours.num_copies(np.array([row]), train, levels=5)
  assert count(-9.0, -1.2) == count(1.2, 9.0) == count(-0.8, -1.0) == 1
  assert count(0.0, 0.0) == count(-0.5, -0.5) == count(0.5, 1.0) == 0


def test_kernel_of_three_points():
  """Each set of three on the line, D summed by hand: k = (x y + 1)^3."""
  a, b = LINE, LINE + 1
  k = lambda x, y: (x * y + 1.0) ** 3
  pairs = lambda x: sum(
    k(x[i, 0], x[j, 0]) for i, j in ((0, 1), (0, 2), (1, 2))
  )
  cross = sum(k(x, y) for x in a[:, 0] for y in b[:, 0])
  truth = pairs(a) / 3 + pairs(b) / 3 - 2 * cross / 9
  np.testing.assert_allclose(kernel.distance(a, b), truth, rtol=1e-12)
  for sets in ((a[:2], b), (a, b[:2])):
    expect.error("expected at least 3 points, got 2", kernel.distance, *sets)


def test_an_interval_takes_all_the_real_points():
  """20 held out and 20 drawn of 40: no choice but the split is left."""
  real = np.random.default_rng(0).normal(size=(40, 2))
  random, values = np.random.RandomState(0), []
  for _ in range(3):
    order = random.permutation(40)
    random.permutation(20)
    values.append(kernel.distance(real[order[:20]], real[order[20:]]))
  found = kernel.real_interval(real, 20, 20, num_splits=3)
  np.testing.assert_allclose(found, np.quantile(values, [0.025, 0.975]))
  interval = kernel.real_interval, real, 20, 21
  expect.error("real: expected at least 41 points", *interval, num_splits=3)


def test_frechet_of_two_points():
  a, b = np.array([[0.0, 0.0], [2.0, 0.0]]), np.array([[0.0, 1.0], [0.0, 5.0]])
  np.testing.assert_allclose(frechet.fit(a).covariance, [[2, 0], [0, 0]])
  # |(1, -3)|^2 + 2 + 8, of covariances that share no axis.
  np.testing.assert_allclose(frechet.distance(a, b), 20, rtol=1e-6)


def test_frechet_of_sets_without_width():
  zero = np.zeros((2, 2))
  np.testing.assert_array_equal(frechet.root(zero), zero)
  a, b = np.ones((3, 2)), np.array([[4.0, 5.0]] * 2)
  np.testing.assert_allclose(frechet.distance(a, b), 25)


def test_transport_of_the_fewest():
  x = np.array([[3.0, 4.0]])
  np.testing.assert_allclose(transport.cosine(x, x[:, ::-1]), 24 / 25)
  truth = np.array([[0.0], [2.0]])
  found = transport.unexplained_variance(0 * truth, truth)
  np.testing.assert_allclose(found, 200)
  states, times = np.array([[[0.0], [3.0]]]), np.array([1.0, 3.0])
  np.testing.assert_allclose(transport.energy(states, times), 4.5)
  assert transport.straightness(states, times) == 0
  # Short gradients have their angle too.
  np.testing.assert_allclose(transport.cosine(1e-3 * x, x[:, ::-1]), 24 / 25)


def test_weights_sum_to_one_within_a_millionth():
  cost, half = np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([0.5, 0.5])
  for solve in (duality.primal, duality.dual):
    for gap in (9.95e-7, -9.95e-7):
      weights = np.array([0.5, 0.5 + gap])
      assert abs(solve(cost, weights, half).value) < 1e-6
    beyond = np.array([0.5, 0.5 + 1.005e-6])
    expect.error("a: expected weights", solve, cost, beyond, half)
    found = solve(np.full((1, 1), 3.0), np.ones(1), np.ones(1))
    np.testing.assert_allclose(found.value, 3.0)


def test_fisher_of_two_points():
  points = jnp.array([[1.0, 0.0], [0.0, 3.0]])
  value, error = fisher.divergence(lambda x: 0 * x, lambda x: x, points)
  np.testing.assert_allclose(value, 5)  # of 1 and 9
  np.testing.assert_allclose(error, 4)  # sqrt(32) / sqrt(2)
