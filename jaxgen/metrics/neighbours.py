"""What nearest neighbours tell: density, coverage, and copies of training data.

  B_i = the ball around real point i that reaches to its k-th real neighbour
  density  = 1/(k M) sum_j #{i: sample j in B_i}
  coverage = 1/N #{i: some sample in B_i}

Two sets of N = M points of one law have density 1 and coverage
1 - prod_{l<k} (N - 1 - l) / (2 N - 1 - l), about 1 - 2^-k, in expectation:
give sets of equal sizes. Both look well for copies of real points, so the
distances to the training data belong beside them.

Reference: Naeem et al. 2020, arXiv:2002.09797, eq. 5 and 6.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num

from jaxgen import couplings

_BLOCK = 1024  # points whose distances are held at once


class Coverage(NamedTuple):
  """How well samples lie among real points, and real points among samples."""

  density: float
  coverage: float


def density_coverage(
  real: Float[np.ndarray, "N D"], samples: Float[np.ndarray, "M D"], k: int = 5
) -> Coverage:
  """Density and coverage of samples among real points.

  Args:
    real: features of real data, [N, D], N > k.
    samples: features of samples, [M, D]; M = N to compare with the closed form.
    k: which neighbour's distance is a ball's radius; the ball is open.

  Returns:
    The density, at least 0, above 1 where samples crowd; the coverage, 0 to 1.

  Raises:
    ValueError: k below 1, no more real points than k, or no samples.
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
  """The distance of every point to the nearest of a reference set.

  The neighbour is found by couplings.squares, the distance taken from the
  difference: a copy's is exactly 0.

  Args:
    points: a set, [N, D].
    reference: where neighbours are sought, [M, D], at least one.

  Returns:
    The distances, [N], and the neighbours' rows in the reference, [N].

  Raises:
    ValueError: the reference is empty, or values are not finite.
  """
  if not len(reference):
    raise ValueError("reference: expected at least 1, got 0")
  points = np.asarray(points, np.float64)
  reference = np.asarray(reference, np.float64)
  distances, rows = [], []
  for start in range(0, len(points), _BLOCK):
    block = points[start : start + _BLOCK]
    rows.append(np.argmin(couplings.squares(block, reference), 1))
    difference = block - reference[rows[-1]]
    distances.append(np.sqrt(np.sum(difference**2, 1)))
  found = np.concatenate(distances)
  if not np.isfinite(found).all():
    raise ValueError("points, reference: expected finite values")
  return found, np.concatenate(rows)


def num_copies(
  samples: Float[np.ndarray, "N ..."],
  train: Float[np.ndarray, "M ..."],
  levels: int | None = None,
) -> int:
  """How many samples equal a training example.

  Args:
    samples: [N, *D].
    train: [M, *D].
    levels: compare after clipping to [-1, 1] and rounding to this many equally
      spaced levels, as a picture is stored; None compares the numbers.

  Returns:
    The count, 0 to N.

  Raises:
    ValueError: levels below 2, or examples of different shapes.
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
    return [row.tobytes() for row in flat + 0]  # -0 is 0

  known = set(stored(train))
  return sum(row in known for row in stored(samples))


def _distances(a, b):
  """Euclidean distances of every pair, from differences: [N, M]."""
  try:
    from scipy.spatial import distance
  except ModuleNotFoundError:
    raise ImportError(
      "density_coverage needs SciPy: pip install 'jaxgen[data]'"
    ) from None
  return distance.cdist(np.asarray(a, np.float64), np.asarray(b, np.float64))
