"""Density, coverage, precision, recall and copies by nearest neighbours.

  B_i = the open ball around real point i whose radius is the distance to its
        k-th nearest real neighbour;  C_j = the same around sample j
  density   = 1/(k M) sum_j #{i: sample j in B_i}
  coverage  = 1/N #{i: some sample in B_i}
  precision = 1/M #{j: sample j in some closed B_i}
  recall    = 1/N #{i: real point i in some closed C_j}

Two sets of N = M points of one distribution have, in expectation, density 1 and
coverage 1 - prod_{l<k} (N - 1 - l) / (2 N - 1 - l), about 1 - 2^-k, so compare
sets of equal sizes. Copies of real points score well in both, so report the
distances to the training data as well.

Distances are compared by matrix products in float32, a block of rows at a time.
A comparison that rounding errors of the product might decide is made again from
differences in float64, so that every count equals that of differences; where a
block of features in float64 has many of these, its product is made in float64.

Reference: Naeem et al. 2020, arXiv:2002.09797, eq. 5 and 6; Kynkaanniemi et al.
2019, arXiv:1904.06991, eq. 1 and 2.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num

from jaxgen.metrics import pairs


class Coverage(NamedTuple):
  """Density and coverage of samples among real points."""

  density: float
  coverage: float


class PrecisionRecall(NamedTuple):
  """Precision and recall of samples among real points, each 0 to 1."""

  precision: float
  recall: float


def density_coverage(
  real: Float[np.ndarray, "N D"], samples: Float[np.ndarray, "M D"], k: int = 5
) -> Coverage:
  """Density and coverage of samples among real points.

  Args:
    real: features of real data, [N, D], N > k.
    samples: features of samples, [M, D]; M = N to compare with the closed form.
    k: the radius of a ball is the distance to its k-th real neighbour.

  Returns:
    The density, at least 0, above 1 where samples concentrate, and the
    coverage, 0 to 1.

  Raises:
    ValueError: k is below 1 or not below N, there are no samples, or a value is
      not finite.
  """
  if not len(samples):
    raise ValueError("samples: expected at least 1, got 0")
  real, samples = _finite(real=real, samples=samples)
  radii, zeros = _radii(real, k), np.zeros(len(samples))
  number, covered = 0, 0
  for block in pairs.blocks(real, samples):
    inside = _inside(block, real, samples, radii, zeros, np.less)
    number += int(inside.sum())
    covered += int(inside.any(1).sum())
  return Coverage(number / (k * len(samples)), covered / len(real))


def precision_recall(
  real: Float[np.ndarray, "N D"], samples: Float[np.ndarray, "M D"], k: int = 3
) -> PrecisionRecall:
  """Shares of samples among real points and of real points among samples.

  Args:
    real: features of real data, [N, D], N > k.
    samples: features of samples, [M, D], M > k.
    k: the radius of a ball is the distance to its k-th neighbour in its set.

  Returns:
    The precision and the recall.

  Raises:
    ValueError: k is below 1 or not below N and M, or a value is not finite.
  """
  real, samples = _finite(real=real, samples=samples)
  radii, others = _radii(real, k), _radii(samples, k)
  points = np.zeros(len(real)), np.zeros(len(samples))  # balls of radius 0
  precise, recalled = np.zeros(len(samples), bool), np.zeros(len(real), bool)
  for block in pairs.blocks(real, samples):
    balls = real, samples, radii, points[1], np.less_equal
    precise |= _inside(block, *balls).any(0)
    balls = real, samples, points[0], others, np.less_equal
    recalled[block.rows] = _inside(block, *balls).any(1)
  return PrecisionRecall(float(precise.mean()), float(recalled.mean()))


def nearest(
  points: Float[np.ndarray, "N D"], reference: Float[np.ndarray, "M D"]
) -> tuple[Float[np.ndarray, "N"], Num[np.ndarray, "N"]]:
  """The distance of every point to its nearest neighbour in a reference set.

  Distances are computed from differences, so that they are exactly 0 for a
  copy.

  Args:
    points: a set, [N, D].
    reference: the set to search, [M, D], at least one point.

  Returns:
    The distances, [N], and the neighbours' rows in the reference, [N], the
    first of equally near ones.

  Raises:
    ValueError: a set is empty, or a value is not finite.
  """
  for name, found in dict(points=points, reference=reference).items():
    if not len(found):
      raise ValueError(f"{name}: expected at least 1, got 0")
  points, reference = _finite(points=points, reference=reference)
  return _neighbour(points, reference, 1)


def num_copies(
  samples: Float[np.ndarray, "N ..."],
  train: Float[np.ndarray, "M ..."],
  levels: int | None = None,
) -> int:
  """The number of samples that equal a training example.

  Args:
    samples: [N, *D].
    train: [M, *D].
    levels: compare after clipping to [-1, 1] and rounding to this many equally
      spaced levels, as an image file stores them; None compares exact values.

  Returns:
    The count, 0 to N.

  Raises:
    ValueError: levels is below 2, or the examples differ in shape.
  """
  if levels is not None and levels < 2:
    raise ValueError(f"levels: expected at least 2, got {levels}")
  if samples.shape[1:] != train.shape[1:]:
    raise ValueError(
      f"samples: expected shape {train.shape[1:]} each as in train,"
      f" got {samples.shape[1:]}"
    )

  def stored(examples):
    flat = np.asarray(examples, np.float64).reshape(len(examples), -1)
    if levels is not None:
      flat = np.round((np.clip(flat, -1, 1) + 1) / 2 * (levels - 1))
      flat = flat.astype(np.int32)
    return [row.tobytes() for row in flat + 0]  # + 0 turns -0 into 0

  known = set(stored(train))
  return sum(row in known for row in stored(samples))


def _radii(points, k):
  """The distance of every point to its k-th neighbour among the others."""
  if not 1 <= k < len(points):
    raise ValueError(f"k: expected 1 to {len(points) - 1}, got {k}")
  return _neighbour(points, points, k, others=True)[0]


def _neighbour(points, reference, k, others=False):
  """Distances of points to their k-th neighbours, and the neighbours' rows.

  A reference whose lower bound exceeds the k-th smallest upper bound of its row
  is not among the k nearest; the distances to all others are computed.
  """
  distances = np.zeros(len(points))
  neighbours = np.zeros(len(points), np.int64)

  def compare(block):
    products, error, (x, y) = block.products, block.error, block.squares
    each = np.arange(len(x))
    if others:
      products[each, block.rows.start + each] = np.inf
    upper = products + (y + error(y))
    upper.partition(k - 1, axis=1)
    bound = upper[:, k - 1] + 2 * error(x)
    products += y - error(y)
    return None, products <= bound[:, None]

  for block in pairs.blocks(points, reference):
    _, i, j = pairs.decided(block, compare)
    rows = block.rows
    apart = pairs.distances(points[rows], reference, i, j)
    order = np.lexsort((apart, i))
    each = np.arange(rows.stop - rows.start)
    order = order[np.searchsorted(i, each) + k - 1]
    distances[rows], neighbours[rows] = apart[order], j[order]
  return distances, neighbours


def _inside(block, x, y, x_radii, y_radii, compare):
  """Which pairs of a block are closer than x_radii[i] + y_radii[j], [B, M].

  One of the radii is 0: the balls are around the points of the other set.
  `compare` is np.less for open balls and np.less_equal for closed ones.
  """
  x, x_radii = x[block.rows], x_radii[block.rows]

  def bounds(block):
    products, error = block.products, block.error
    x_squares, y_squares = block.squares
    squares = lambda radii: ((radii * block.scale) ** 2).astype(products.dtype)
    limit, x_error = squares(x_radii) - x_squares, error(x_squares)
    rest, y_error = y_squares - squares(y_radii), error(y_squares)
    inside = products + (rest + y_error) < (limit - x_error)[:, None]
    near = products + (rest - y_error) <= (limit + x_error)[:, None]
    return inside, near & ~inside

  inside, i, j = pairs.decided(block, bounds)
  apart = pairs.distances(x, y, i, j)
  inside[i, j] = compare(apart, x_radii[i] + y_radii[j])
  return inside


def _finite(**sets):
  """The sets as arrays."""
  found = [np.asarray(a) for a in sets.values()]
  for a in found:
    if not np.isfinite([a.min(initial=0), a.max(initial=0)]).all():
      raise ValueError(f"{', '.join(sets)}: expected finite values")
  return found
