"""Frechet distance between Gaussians fitted to two sets of features.

  F^2 = |m_a - m_b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2)

where m_a, A and m_b, B are the mean and covariance of each set. The last trace
is the sum of the singular values of K = L_a^T L_b for any factors with
A = L_a L_a^T and B = L_b L_b^T: Cholesky's, or of eigenvectors for a singular
covariance. They are the roots of the eigenvalues of K^T K, real and at least 0
in floating point, unlike square roots of the non-symmetric product A B. The
estimate is biased upwards, more so for smaller sets: compare only distances of
equal sizes, next to the distance between two sets of real data.

Reference: Dowson and Landau 1982, The Frechet distance between multivariate
normal distributions; Heusel et al. 2017, arXiv:1706.08500.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

_BLOCK = 4096  # number of points that are centred at once
_ROUNDED = 1e-9  # relative error of the overlap that counts as rounding


class Gaussian(NamedTuple):
  """A normal distribution: mean [D], covariance [D, D]."""

  mean: Float[np.ndarray, "D"]
  covariance: Float[np.ndarray, "D D"]


def fit(features: Float[np.ndarray, "N D"]) -> Gaussian:
  """The mean and the unbiased covariance of a set.

  Both are summed in float64, from blocks of points: memory beyond the features
  is that of one block and of the covariance.

  Args:
    features: a set of N >= 2 points, [N, D].

  Returns:
    The Gaussian, float64.

  Raises:
    ValueError: there are fewer than two points.
  """
  if len(features) < 2:
    raise ValueError(f"features: expected at least 2, got {len(features)}")
  points = np.asarray(features)
  mean = points.mean(0, dtype=np.float64)
  products = np.zeros((len(mean), len(mean)))
  for start in range(0, len(points), _BLOCK):
    centered = points[start : start + _BLOCK] - mean
    products += centered.T @ centered
  return Gaussian(mean, products / (len(points) - 1))


def distance(a: Float[np.ndarray, "N D"], b: Float[np.ndarray, "M D"]) -> float:
  """F^2 between the Gaussians fitted to two sets.

  Args:
    a: one set of features, [N, D].
    b: the other, [M, D].

  Returns:
    F^2, at least 0 up to rounding, in squared units of the features.

  Raises:
    ValueError: a set has fewer than two points.
  """
  return between(fit(a), fit(b))


def between(a: Gaussian, b: Gaussian) -> float:
  """F^2 between two Gaussians, such as stored statistics.

  Computed in float64, whatever the stored dtype.

  Args:
    a: one Gaussian.
    b: the other, of the same D.

  Returns:
    F^2, at least 0 up to rounding.

  Raises:
    ValueError: sizes differ, or a covariance is not symmetric positive
      semi-definite (to rounding).
  """
  if a.mean.shape != b.mean.shape:
    raise ValueError(
      f"b: expected {a.mean.size} features as in a, got {b.mean.size}"
    )
  a, b = (Gaussian(*(np.asarray(x, np.float64) for x in law)) for law in (a, b))
  overlap = _nuclear(_factor(a.covariance).T @ _factor(b.covariance))
  means = np.sum((a.mean - b.mean) ** 2)
  traces = np.trace(a.covariance) + np.trace(b.covariance)
  return float(means + traces - 2 * overlap)


def root(covariance: Float[np.ndarray, "D D"]) -> Float[np.ndarray, "D D"]:
  """The symmetric square root, S S = covariance.

  Args:
    covariance: symmetric positive semi-definite, [D, D]. Negative eigenvalues
      of the size of rounding errors (of float32, if it represents the values
      exactly) count as 0, and so do positive ones that are no larger.

  Returns:
    S, [D, D], symmetric positive semi-definite.

  Raises:
    ValueError: covariance is not symmetric or finite, or has a negative
      eigenvalue.
  """
  values, vectors = _eigen(*_symmetric(covariance))
  return (vectors * np.sqrt(values)) @ vectors.T


def _nuclear(matrix):
  """The sum of the singular values: roots of the smaller Gram matrix's values.

  An error e of an eigenvalue s^2 changes s by e / 2 s. Where this adds up to
  more than rounding, by the singular value decomposition, several times slower.
  """
  rows, columns = matrix.shape
  gram = matrix @ matrix.T if rows < columns else matrix.T @ matrix
  squares = np.linalg.eigvalsh(gram)
  if len(squares) and squares[0] > 0:
    values = np.sqrt(squares)
    error = np.finfo(np.float64).eps * squares[-1] * np.sum(1 / values)
    if error < _ROUNDED * values.sum():
      return values.sum()
  return np.linalg.svd(matrix, compute_uv=False).sum()


def _factor(covariance):
  """L with L L^T = covariance, [D, rank]."""
  matrix, slack = _symmetric(covariance)
  try:
    return np.linalg.cholesky(matrix)
  except np.linalg.LinAlgError:  # singular to rounding, or not semi-definite
    values, vectors = _eigen(matrix, slack)
  return (vectors * np.sqrt(values))[:, values > 0]


def _symmetric(covariance):
  """The matrix in float64, and the rounding error of its entries."""
  matrix = np.asarray(covariance, np.float64)
  with np.errstate(over="ignore"):
    single = np.array_equal(matrix, matrix.astype(np.float32))
  # Rounding to float32 changes an entry by at most eps / 2 of it, an eigenvalue
  # by at most D eps / 2 of the largest entry. In float64, 1e-10 is ample.
  slack = np.finfo(np.float32).eps if single else 1e-10
  slack = slack * np.abs(matrix).max()
  if not np.abs(matrix - matrix.T).max() <= slack:
    raise ValueError("covariance: expected finite and symmetric")
  return matrix, slack


def _eigen(matrix, slack):
  """Eigenvalues, those that may be rounding errors as 0, and eigenvectors."""
  values, vectors = np.linalg.eigh(matrix)
  if values[0] < -len(values) * slack:
    raise ValueError(
      f"covariance: expected no negative eigenvalue, got {values[0]:.3g}"
    )
  return np.where(values > max(-values[0], 0), values, 0), vectors
