"""Conditional distributions of a plan against the exact ones.

  cBW-UVP = 100 E_x BW^2(N(m, C), N(m*, C*)) / (tr Cov(y) / 2)
  BW^2 = |m - m*|^2 / 2 + (tr C + tr C* - 2 tr (C*^1/2 C C*^1/2)^1/2) / 2

the unexplained variance, in percent, of the Gaussians with the moments of the
model's p(y | x) and of the true one, over source points x. The Gaussian of y
itself in place of every p(y | x) has the value of an independent coupling, and
a map of conditional means, C = 0, has 100 E tr C* / tr Cov(y): little where the
temperature is low. Therefore the error of the conditional variance is given
beside it,

  E tr C / E tr C* - 1.

With moments of n samples for each x the value has a bias of order D / n, which
samples of the true plan show.

Reference: Gushchin et al. 2023, arXiv:2306.10161, section 5.1.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxgen.metrics import frechet


class Scores(NamedTuple):
  """Errors of a plan.

  Attributes:
    uvp: cBW-UVP, in percent.
    variance: relative error of the conditional variance; -1 for a map.
  """

  uvp: float
  variance: float


def conditional(
  means: Float[np.ndarray, "..."],
  covariances: Float[np.ndarray, "..."],
  true_means: Float[np.ndarray, "..."],
  true_covariances: Float[np.ndarray, "..."],
  variance: float,
) -> Scores:
  """cBW-UVP and the error of the variance, from moments at N source points.

  Args:
    means: of the model's data given each source point, [N, D].
    covariances: theirs, [N, D, D].
    true_means, true_covariances: those of the exact plan.
    variance: tr Cov(y), of the data.

  Raises:
    ValueError: shapes differ, there are no points, the variance is not
      positive, or a covariance is not positive semi-definite.
  """
  if not len(means) or means.ndim != 2:
    raise ValueError(f"means: expected [N, D], N > 0, got {list(means.shape)}")
  square = (*means.shape, means.shape[1])
  for name, got, expected in (
    ("covariances", covariances.shape, square),
    ("true_means", true_means.shape, means.shape),
    ("true_covariances", true_covariances.shape, square),
  ):
    if got != expected:
      raise ValueError(f"{name}: expected shape {expected}, got {got}")
  if not variance > 0:
    raise ValueError(f"variance: expected above 0, got {variance}")
  rows = zip(means, covariances, true_means, true_covariances, strict=True)
  apart = [
    frechet.between(frechet.Gaussian(m, c), frechet.Gaussian(n, d))
    for m, c, n, d in rows
  ]
  spread = lambda c: np.trace(np.float64(c), axis1=1, axis2=2).mean()
  ratio = spread(covariances) / spread(true_covariances)
  return Scores(float(100 * np.mean(apart) / variance), float(ratio - 1))


def moments(
  samples: Float[np.ndarray, "N M D"],
) -> tuple[Float[np.ndarray, "N D"], Float[np.ndarray, "N D D"]]:
  """Means and covariances of M samples for each of N source points.

  Raises:
    ValueError: M is below 2.
  """
  found = [frechet.fit(row) for row in samples]
  return np.stack([g.mean for g in found]), np.stack(
    [g.covariance for g in found]
  )
