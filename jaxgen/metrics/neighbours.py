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

Distances are compared by matrix products, a block of rows at a time, in the
features' own precision. A comparison that rounding errors of the product might
decide is made again from differences in float64, so that every count equals the
direct computation's.

Reference: Naeem et al. 2020, arXiv:2002.09797, eq. 5 and 6; Kynkaanniemi et al.
2019, arXiv:1904.06991, eq. 1 and 2.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num

_BLOCK = 2**27  # bytes of the products that are held in memory at once
_TILE = 2**25  # bytes of the centred points, or of the differences, likewise


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
  for block in _blocks(real, samples):
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
  precise, recalled = np.zeros(len(samples), bool), np.zeros(len(real), bool)
  for block in _blocks(real, samples):
    balls = real, samples, radii, 0 * others, np.less_equal
    precise |= _inside(block, *balls).any(0)
    balls = real, samples, 0 * radii, others, np.less_equal
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
    ValueError: the reference is empty, or a value is not finite.
  """
  if not len(reference):
    raise ValueError("reference: expected at least 1, got 0")
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
  for rows, products, x, y, error, _ in _blocks(points, reference):
    each = np.arange(len(x))
    if others:
      products[each, rows.start + each] = np.inf
    upper = products + (y + error(y))
    upper.partition(k - 1, axis=1)
    bound = upper[:, k - 1] + 2 * error(x)
    products += y - error(y)
    i, j = np.nonzero(products <= bound[:, None])
    apart = _distances(points[rows], reference, i, j)
    order = np.lexsort((apart, i))
    order = order[np.searchsorted(i, each) + k - 1]
    distances[rows], neighbours[rows] = apart[order], j[order]
  return distances, neighbours


def _inside(block, x, y, x_radii, y_radii, compare):
  """Which pairs of a block are closer than x_radii[i] + y_radii[j], [B, M].

  One of the radii is 0: the balls are around the points of the other set.
  `compare` is np.less for open balls and np.less_equal for closed ones.
  """
  rows, products, x_squares, y_squares, error, scale = block
  squares = lambda radii: ((radii * scale) ** 2).astype(products.dtype)
  limit, x_error = squares(x_radii[rows]) - x_squares, error(x_squares)
  rest, y_error = y_squares - squares(y_radii), error(y_squares)
  inside = products + (rest + y_error) < (limit - x_error)[:, None]
  near = products + (rest - y_error) <= (limit + x_error)[:, None]
  i, j = np.nonzero(near & ~inside)
  apart = _distances(x[rows], y, i, j)
  inside[i, j] = compare(apart, x_radii[rows][i] + y_radii[j])
  return inside


class _Block(NamedTuple):
  """Products of a block of x and all of y, u and v the centred, scaled points.

    (scale |x - y|)^2 = -2 <u, v> + |u|^2 + |v|^2,
                        up to error(|u|^2) + error(|v|^2)

  Attributes:
    rows: slice of x.
    products: -2 <u, v>, [B, M], valid until the next block.
    x_squares: |u|^2, [B].
    y_squares: |v|^2, [M].
    error: a square -> its bound.
    scale: a power of two, so that scaling does not round.
  """

  rows: slice
  products: np.ndarray
  x_squares: np.ndarray
  y_squares: np.ndarray
  error: Callable
  scale: np.floating


def _blocks(x, y) -> Iterator[_Block]:
  """The blocks of x in turn.

  A sum of D products errs by D eps / 2 at most, in any order; centring and what
  callers add, by a few eps; in float64, the direct computation errs as well.
  """
  dtype = np.result_type(x, y, np.float32)
  limits, size = np.finfo(dtype), x.shape[1]
  peak = max(abs(float(end)) for a in (x, y) for end in (a.min(), a.max()))
  most = limits.maxexp - 2
  scale = dtype.type(2.0 ** np.clip(-np.frexp(peak)[1], -most, most))
  middle = (y.mean(0, dtype=np.float64) * scale).astype(dtype)
  relative = float((size + 16) * (limits.eps + 2 * np.finfo(np.float64).eps))
  least = float(4 * limits.tiny / limits.eps)  # squares below it lose digits
  error = lambda squares: relative * (squares + least)
  square = lambda a: np.einsum("nd,nd->n", a, a)

  def centred(points, out):
    found = np.multiply(points, scale, out=out[: len(points)])
    found -= middle
    return found

  height = min(max(_BLOCK // (len(y) * dtype.itemsize), 1), len(x))
  width = min(max(_TILE // (size * dtype.itemsize), 1), len(y))
  buffers = [np.empty((n, size), dtype) for n in (height, width)]
  whole, y_squares = np.empty((height, len(y)), dtype), np.empty(len(y), dtype)
  for start in range(0, len(x), height):
    rows = slice(start, min(start + height, len(x)))
    u = centred(x[rows], buffers[0])
    x_squares, products = square(u), whole[: len(u)]
    u *= -2
    for left in range(0, len(y), width):
      tile = slice(left, left + width)
      v = centred(y[tile], buffers[1])
      y_squares[tile] = square(v)
      np.matmul(u, v.T, out=products[:, tile])
    yield _Block(rows, products, x_squares, y_squares, error, scale)


def _distances(x, y, i, j):
  """|x_i - y_j| of pairs (i, j), from differences in float64."""
  found = np.zeros(len(i))
  step = _TILE // (8 * x.shape[1]) + 1
  for start in range(0, len(i), step):
    part = slice(start, start + step)
    gaps = np.subtract(x[i[part]], y[j[part]], dtype=np.float64)
    found[part] = np.sqrt(np.einsum("nd,nd->n", gaps, gaps))
  return found


def _finite(**sets):
  """The sets as arrays."""
  found = [np.asarray(a) for a in sets.values()]
  for a in found:
    if not np.isfinite([a.min(initial=0), a.max(initial=0)]).all():
      raise ValueError(f"{', '.join(sets)}: expected finite values")
  return found
