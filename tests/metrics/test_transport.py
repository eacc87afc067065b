"""Distances of clouds against SciPy, energies of paths in closed form."""

import numpy as np
import pytest
from scipy import optimize

from jaxgen.metrics import transport
from tests import expect


@pytest.mark.parametrize("shape", [(2,), (64,), (4, 4, 1)])
def test_wasserstein_is_the_cost_of_scipys_assignment(shape):
  rng = np.random.default_rng(0)
  x, y = rng.standard_normal((2, 60, *shape))
  cost = ((x[:, None] - 1.5 * y) ** 2).sum(tuple(range(2, 2 + len(shape))))
  best = cost[optimize.linear_sum_assignment(cost)].mean()
  found = transport.wasserstein(x, 1.5 * y)
  np.testing.assert_allclose(found, np.sqrt(best), rtol=1e-12)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_wasserstein_of_a_shift_is_its_length(size):
  rng = np.random.default_rng(1)
  x, shift = rng.standard_normal((80, 3)), np.array([2.0, -3.0, 6.0])
  moved = rng.permutation(x + size * shift)
  np.testing.assert_allclose(transport.wasserstein(x, moved), 7 * size, 1e-6)


@pytest.mark.parametrize("offset, outlier", [(0, 0), (1e4, 0), (3, 1e9)])
def test_wasserstein_of_equal_clouds_is_0(offset, outlier):
  """Whatever the order; with a neighbour at 1e-7 of every point."""
  x = offset + np.random.default_rng(1).standard_normal((40, 3))
  x = np.concatenate([x, x + 1e-7])
  x[3] += outlier
  for dtype in (np.float64, np.float32):
    a = x.astype(dtype)
    assert transport.wasserstein(a, np.flip(a, 0)) == 0
  a, b = np.float32(x), np.float32(1.25 * x - 0.25 * offset)
  cost = ((np.float64(a)[:, None] - b) ** 2).sum(-1)
  best = cost[optimize.linear_sum_assignment(cost)].mean()
  np.testing.assert_allclose(transport.wasserstein(a, b), np.sqrt(best), 1e-9)


def test_a_straight_line_has_the_energy_of_its_length():
  ends = np.random.default_rng(2).standard_normal((2, 5, 2, 3))
  for times in (np.linspace(0, 2, 9), np.geomspace(3, 1, 6)):  # either way
    share = ((times - times[0]) / (times[-1] - times[0]))[None, :, None, None]
    states = (1 - share) * ends[0][:, None] + share * ends[1][:, None]
    squares = ((ends[1] - ends[0]) ** 2).sum((1, 2)).mean()
    energy = transport.energy(states, times)
    np.testing.assert_allclose(energy, squares / 2, rtol=1e-12)
    assert abs(transport.straightness(states, times)) < 1e-12 * squares


def test_a_circle_arc():
  """T chords 2 r sin(a / 2T) in the time tau; between the ends one of a."""
  number, tau, arc = 8, 0.5, 2.0
  radii = np.array([1.0, 3.0])
  times = np.linspace(0.2, 0.2 + tau, number + 1)
  angle = arc * np.linspace(0, 1, number + 1)
  circle = np.stack([np.cos(angle), np.sin(angle)], -1)
  states = radii[:, None, None] * circle
  chord = lambda a: 2 * radii * np.sin(a / 2)
  energy = np.mean((number * chord(arc / number)) ** 2) / tau
  straight = energy - np.mean(chord(arc) ** 2) / tau
  np.testing.assert_allclose(transport.energy(states, times), energy, 1e-12)
  found = transport.straightness(states, times)
  np.testing.assert_allclose(found, straight, 1e-12)


def test_a_line_at_uneven_speed_is_not_straight():
  """Lengths 1 and 3 in times .5 and .5: 2 + 18 - 16."""
  states = np.array([[[0.0, 0.0], [0.6, 0.8], [2.4, 3.2]]])
  times = np.array([1.0, 0.5, 0.0])
  np.testing.assert_allclose(transport.energy(states, times), 20, 1e-12)
  np.testing.assert_allclose(transport.straightness(states, times), 4, 1e-12)


@pytest.mark.parametrize("shape", [(3,), (4, 4, 1)])
def test_unexplained_variance(shape):
  """0 of the map, 100 of its mean, and what a shift and noise add."""
  rng = np.random.default_rng(3)
  truth = 2 + rng.standard_normal((50, *shape)) * rng.uniform(0.5, 3, shape)
  assert transport.unexplained_variance(truth, truth) == 0
  mean = np.broadcast_to(truth.mean(0), truth.shape)
  np.testing.assert_allclose(transport.unexplained_variance(mean, truth), 100)
  off = rng.standard_normal(truth.shape)
  variance = np.trace(np.cov(truth.reshape(50, -1).T, bias=True))
  share = 100 * (off**2).sum() / 50 / variance
  moved = [5 - 3 * a for a in (truth + off, truth)]  # of no unit
  for pair in ((truth + off, truth), moved):
    found = transport.unexplained_variance(*pair)
    np.testing.assert_allclose(found, share, rtol=1e-12)


def test_cosine_of_fields_turned_by_angles():
  """Whatever their lengths; where one vanishes it counts as 0."""
  rng = np.random.default_rng(4)
  angles = rng.uniform(0, 2 * np.pi, (2, 40))
  sizes = rng.uniform(0.1, 9, (2, 40))
  x, y = (
    size[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    for angle, size in zip(angles, sizes, strict=True)
  )
  truth = np.cos(angles[0] - angles[1])
  np.testing.assert_allclose(transport.cosine(x, y), truth.mean(), rtol=1e-12)
  np.testing.assert_allclose(transport.cosine(x, -3 * x), -1, rtol=1e-12)
  images = (a.reshape(40, 2, 1, 1) for a in (x, y))
  np.testing.assert_allclose(transport.cosine(*images), truth.mean(), 1e-12)
  y[:10] = 0
  found = transport.cosine(x, y)
  np.testing.assert_allclose(found, truth[10:].sum() / 40, rtol=1e-12)


def test_bad_input():
  x = np.ones((4, 2))
  for y in (np.ones((4, 3)), np.ones((3, 2))):
    expect.error("source: expected shape", transport.wasserstein, x, y)
  expect.error("source: expected shape", transport.wasserstein, x[:0], x[:0])
  expect.error("expected finite values", transport.wasserstein, x, np.nan * x)
  states = np.ones((4, 3, 2))
  for bad, times in (
    (states, np.arange(2.0)),
    (states[:, :1], np.arange(1.0)),
    (states[0], np.arange(3.0)),
    (states, np.ones((3, 1))),
  ):
    for metric in (transport.energy, transport.straightness):
      expect.error("times: expected one for each", metric, bad, times)
  for metric in (transport.unexplained_variance, transport.cosine):
    least = 1 if metric is transport.cosine else 2
    match = f"truth: expected the same {least} or more"
    for bad in (x[:0], x[: least - 1], x[0]):
      expect.error(match, metric, bad, bad)
    expect.error(match, metric, x, x[:, :1])
  said = "truth: expected points that differ"
  expect.error(said, transport.unexplained_variance, 0 * x, x)
