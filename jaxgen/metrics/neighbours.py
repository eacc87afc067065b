"""Metrics from nearest neighbours: density, coverage, copies of training data.

  B_i = the open ball around real point i whose radius is the distance to its
        k-th nearest real neighbour
  density  = 1/(k M) sum_j #{i: sample j in B_i}
  coverage = 1/N #{i: some sample in B_i}

Two sets of N = M points of one distribution have, in expectation, density 1 and
coverage 1 - prod_{l<k} (N - 1 - l) / (2 N - 1 - l), about 1 - 2^-k, so compare
sets of equal sizes. Copies of real points score well in both, so report the
distances to the training data as well.

Reference: Naeem et al. 2020, arXiv:2002.09797, eq. 5 and 6.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num

from jaxgen import couplings

_BLOCK = 1024  # number of points whose distances are computed at once


class Coverage(NamedTuple):
  """Density and coverage of samples among real points."""

  density: float
  coverage: float


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
    ValueError: k is below 1 or not below N, or there are no samples.
    ImportError: SciPy is not installed.
  """
  if not 1 <= k < len(real):
    raise ValueError(f"k: expected 1 to {len(real) - 1}, got {k}")
  if not len(samples):
    raise ValueError("samples: expected at least 1, got 0")
  among = _distances(real, real)
  np.fill_diagonal(among, np.inf)
  radii = np.partition(among, k - 1, axis=1)[:, k - 1]
  inside = _distances(real, samples) < radii[:, None]
  return Coverage(
    float(inside.sum() / (k * len(samples))), float(inside.any(1).mean())
  )


def nearest(
  points: Float[np.ndarray, "N D"], reference: Float[np.ndarray, "M D"]
) -> tuple[Float[np.ndarray, "N"], Num[np.ndarray, "N"]]:
  """The distance of every point to its nearest neighbour in a reference set.

  couplings.squares finds the neighbour; the distance is then computed from the
  difference, so that it is exactly 0 for a copy.

  Args:
    points: a set, [N, D].
    reference: the set to search, [M, D], at least one point.

  Returns:
    The distances, [N], and the neighbours' rows in the reference, [N].

  Raises:
    ValueError: the reference is empty, or a value is not finite.
  """
  if not len(reference):
    raise ValueError("reference: expected at least 1, got 0")
  points = np.asarray(points, np.float64)
  reference = np.asarray(reference, np.float64)
  distances, rows = [], []
  for start in range(0, len(points), _BLOCK):
    block = points[start : start + _BLOCK]
    squares = couplings.squares(block, reference)
    if not squares.max() < np.inf:  # NaN too
      raise ValueError("points, reference: expected finite values")
    rows.append(np.argmin(squares, 1))
    difference = block - reference[rows[-1]]
    distances.append(np.sqrt(np.sum(difference**2, 1)))
  return np.concatenate(distances), np.concatenate(rows)


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


def _distances(a, b):
  """Euclidean distances of every pair, computed from differences, [N, M]."""
  try:
    from scipy.spatial import distance
  except ModuleNotFoundError:
    raise ImportError(
      "density_coverage needs SciPy: pip install 'jaxgen[data]'"
    ) from None
  return distance.cdist(np.asarray(a, np.float64), np.asarray(b, np.float64))
