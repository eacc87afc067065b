import numpy as np
import pytest
from scipy import spatial
from scipy.spatial import distance

from jaxgen.metrics import neighbours, pairs
from tests import expect


def _radii(points, k):
  among = distance.cdist(points, points)
  np.fill_diagonal(among, np.inf)
  return np.sort(among, 1)[:, k - 1]


def _direct(real, samples, k):
  """All four, by SciPy's distances of every pair in float64."""
  real, samples = np.float64(real), np.float64(samples)
  apart = distance.cdist(real, samples)
  balls, others = _radii(real, k)[:, None], _radii(samples, k)
  coverage = np.sum(apart < balls) / (k * len(samples)), (apart < balls).any(1)
  near = (apart <= balls).any(0), (apart <= others).any(1)
  return coverage[0], coverage[1].mean(), near[0].mean(), near[1].mean()


def _found(real, samples, k):
  coverage = neighbours.density_coverage(real, samples, k)
  return *coverage, *neighbours.precision_recall(real, samples, k)


def _by_loops(real, samples, k):
  """Density and coverage as they are defined, a ball at a time."""
  density, covered = 0, 0
  for i, x in enumerate(real):
    others = np.delete(real, i, 0)
    radius = np.sort(np.linalg.norm(others - x, axis=1))[k - 1]
    inside = np.linalg.norm(samples - x, axis=1) < radius
    density += inside.sum()
    covered += inside.any()
  return density / (k * len(samples)), covered / len(real)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_against_loops(k):
  rng = np.random.default_rng(k)
  real, samples = rng.normal(size=(40, 3)), 1.3 * rng.normal(size=(25, 3))
  found = neighbours.density_coverage(real, samples, k)
  np.testing.assert_allclose(found, _by_loops(real, samples, k), rtol=1e-12)


def _ends(number):
  """Two points far away, the mean of which is 0."""
  return 1e20 * np.array([1, -1] + [0] * (number - 2))[:, None]


CLOUDS = {
  "normal": lambda rng, n: rng.normal(size=(n, 5)),
  "grid": lambda rng, n: rng.integers(0, 3, (n, 4)).astype(float),  # ties
  "far": lambda rng, n: 1e4 + rng.normal(size=(n, 5)),
  "very far": lambda rng, n: 1e7 + rng.normal(size=(n, 5)),
  "outliers": lambda rng, n: rng.normal(size=(n, 5)) ** 15,
  "ends": lambda rng, n: _ends(n) + rng.normal(size=(n, 5)),
  "constant": lambda rng, n: np.full((n, 3), 0.1),
  "tiny": lambda rng, n: 1e-30 * rng.normal(size=(n, 3)),
  "huge": lambda rng, n: 1e30 * rng.normal(size=(n, 3)),
  "wide": lambda rng, n: np.maximum(rng.normal(size=(n, 700)), 0),
}


@pytest.mark.parametrize("blocks", [None, (2**11, 2**9)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cloud", CLOUDS)
def test_counts_equal_those_of_all_distances(cloud, dtype, blocks, monkeypatch):
  """Every count, whatever rounding does to the product; so do the nearest."""
  if blocks:
    monkeypatch.setattr(pairs, "_BLOCK", blocks[0])
    monkeypatch.setattr(pairs, "_TILE", blocks[1])
  rng = np.random.default_rng(6)
  real, samples = (CLOUDS[cloud](rng, n).astype(dtype) for n in (90, 70))
  samples[5] = real[7]
  for k in (1, 4):
    assert _found(real, samples, k) == _direct(real, samples, k)
  apart = distance.cdist(np.float64(samples), np.float64(real))
  distances, rows = neighbours.nearest(samples, real)
  np.testing.assert_allclose(distances, apart.min(1), rtol=1e-12)
  np.testing.assert_array_equal(rows, apart.argmin(1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_points_at_the_border_of_a_ball(dtype):
  """One spacing of float64 inside, on and outside of a ball of radius 1."""
  real = np.array([[0, 0], [1, 0], [9, 0]], dtype)
  on = np.array([[0.0, -1.0]])
  inner, outer = on * (1 - 2**-50), on * (1 + 2**-50)
  for sample, density, precision in (
    (inner, 1, 1),
    (on, 0, 1),
    (outer, 0, 0),
  ):
    samples = np.concatenate([sample, [[50.0, 50.0]]])
    found = neighbours.density_coverage(real[:2], samples, 1)
    assert found == (density / 2, density / 2)
    found = neighbours.precision_recall(real[:2], samples, 1)
    assert found.precision == precision / 2


def test_precision_and_recall_of_half_and_of_more():
  """Samples of one mode of two: precise, half recalled; and the other way."""
  rng = np.random.default_rng(1)
  both = rng.normal(size=(200, 2)) + 100 * (np.arange(200) % 2)[:, None]
  half = rng.normal(size=(200, 2))
  found = neighbours.precision_recall(both, half)
  assert found.precision > 0.9 and 0.4 < found.recall <= 0.5
  other = neighbours.precision_recall(half, both)
  assert other == (found.recall, found.precision)
  assert neighbours.precision_recall(both, both) == (1, 1)
  assert neighbours.precision_recall(both, half + 1e3) == (0, 0)


def test_expectation_for_one_law():
  """Density 1 and the closed form of coverage, whatever the law; 400 tries."""
  rng = np.random.default_rng(0)
  n, k = 30, 3
  tries = [
    neighbours.density_coverage(*rng.exponential(size=(2, n, 2)), k)
    for _ in range(400)
  ]
  left = np.arange(k)
  coverage = 1 - np.prod((n - 1 - left) / (2 * n - 1 - left))
  error = np.std(tries, 0) / 20
  assert np.all(np.abs(np.mean(tries, 0) - [1, coverage]) < 4 * error)
  assert np.all(error < 0.02)


def test_half_of_the_law_covers_half():
  rng = np.random.default_rng(1)
  real = rng.normal(size=(200, 2)) + 100 * (np.arange(200) % 2)[:, None]
  half = rng.normal(size=(200, 2))
  found = neighbours.density_coverage(real, half)
  assert 0.4 < found.coverage <= 0.5 and found.density > 0.7
  assert neighbours.density_coverage(real, half + 1e3) == (0, 0)


def test_nearest_against_a_tree():
  rng = np.random.default_rng(2)
  reference = rng.normal(size=(50, 4)).astype(np.float32)
  points = rng.normal(size=(1031, 4))
  points[3] = reference[11]
  distances, rows = neighbours.nearest(points, reference)
  expected, at = spatial.cKDTree(reference.astype(float)).query(points)
  np.testing.assert_allclose(distances, expected, rtol=1e-12)
  np.testing.assert_array_equal(rows, at)
  assert distances[3] == 0 and rows[3] == 11


def test_a_copy_far_from_the_origin_is_at_distance_0():
  """Where |x|^2 - 2 x.y + |y|^2 alone would round to something else."""
  reference = 1e4 + np.random.default_rng(3).normal(size=(30, 5))
  distances, rows = neighbours.nearest(reference[::-1], reference)
  np.testing.assert_array_equal(distances, 0)
  np.testing.assert_array_equal(rows, np.arange(30)[::-1])


@pytest.mark.parametrize(
  "offset, outlier", [(0, 0), (1e4, 0), (1e7, 0), (0, 1e9)]
)
def test_the_nearest_of_points_that_lie_close_together(offset, outlier):
  """Copies at exactly 0, others as SciPy's tree has them."""
  rng = np.random.default_rng(5)
  reference = offset + rng.normal(size=(40, 3))
  reference = np.concatenate([reference, reference + 1e-5])
  reference[2] += outlier
  distances, rows = neighbours.nearest(reference, reference)
  np.testing.assert_array_equal(distances, 0)
  np.testing.assert_array_equal(rows, np.arange(80))
  points = reference[:40] + 3e-6
  distances, rows = neighbours.nearest(points, reference)
  expected, at = spatial.cKDTree(reference).query(points)
  np.testing.assert_allclose(distances, expected, rtol=1e-12)
  np.testing.assert_array_equal(rows, at)
  one = np.full((5, 3), offset + 0.1)  # a constant, which is its own copy
  np.testing.assert_array_equal(neighbours.nearest(one, one)[0], np.zeros(5))


def test_copies_are_counted():
  """Levels -1, -.5, 0, .5, 1; a copy moved by less than half a step is one."""
  rng = np.random.default_rng(4)
  train = rng.integers(0, 5, (20, 2, 3, 1)).astype(np.float32) / 2 - 1
  exact, near = train[4], train[7] + rng.uniform(-0.24, 0.24, (2, 3, 1))
  far = train[8] + np.where(np.arange(6).reshape(2, 3, 1) == 2, 0.26, 0)
  beyond = 1.5 * np.ones((2, 3, 1))
  samples = np.stack([exact, near, far, beyond])
  far_is_none = not np.any(
    np.all(np.round(np.clip(far, -1, 1) * 2) / 2 == train, (1, 2, 3))
  )
  assert far_is_none
  assert neighbours.num_copies(samples, train) == 1
  assert neighbours.num_copies(samples, train, levels=5) == 2
  white = np.concatenate([train, np.ones((1, 2, 3, 1), np.float32)])
  assert neighbours.num_copies(samples, white, levels=5) == 3
  zero = np.zeros((1, 2))
  assert neighbours.num_copies(-zero, zero) == 1
  assert neighbours.num_copies(zero + 1e-20, zero) == 0


def test_bad_input_is_refused():
  few, none = np.zeros((5, 2)), np.zeros((0, 2))
  covered, nearest = neighbours.density_coverage, neighbours.nearest
  precise = neighbours.precision_recall
  for k in (0, 5):
    expect.error(f"k: expected 1 to 4, got {k}", covered, few, few, k)
    expect.error(f"k: expected 1 to 4, got {k}", precise, few, few, k)
  expect.error("k: expected 1 to 2, got 3", precise, few, few[:3])
  expect.error("samples: expected at least 1", covered, few, none, 2)
  expect.error("reference: expected at least 1", nearest, few, none)
  expect.error("points: expected at least 1, got 0", nearest, none, few)
  for bad in (np.nan, np.inf):
    unfit, said = np.append(few, [[bad, 0]], 0), "reference: expected finite v"
    expect.error(said, nearest, few, unfit)
    expect.error(said, nearest, unfit, few)
    said = "real, samples: expected finite v"
    for measure in (covered, precise):
      expect.error(said, measure, unfit, few, 2)
      expect.error(said, measure, few, unfit, 2)
  copies, said = neighbours.num_copies, "levels: expected at least 2, got 1"
  expect.error(said, copies, few, few, levels=1)
  expect.error("samples: expected shape", copies, few, np.zeros((5, 3)))


def test_ties_in_many_dimensions_go_to_the_first():
  """|x - y| = sqrt(D) / 8 of 300 pairs exactly, where products of float32
  differ by their rounding; the other points move the mean away from x.
  """
  rng = np.random.default_rng(0)
  x = rng.integers(-4096, 4097, (1, 2048)) / 4096
  signs = rng.choice([-1, 1], (300, 2048))
  y = np.concatenate([x + signs / 8, -x - signs / 8]).astype("float32")
  distances, rows = neighbours.nearest(x.astype("float32"), y)
  np.testing.assert_array_equal(distances, [np.sqrt(2048) / 8])
  np.testing.assert_array_equal(rows, [0])
