"""Kernel distance (KID): the unbiased squared maximum mean discrepancy.

  D(a, b) = mean_{i != j} k(a_i, a_j) + mean_{i != j} k(b_i, b_j)
            - 2 mean_{i, j} k(a_i, b_j),        k(x, y) = (x.y / d + 1)^3

Its expectation is 0 for two independent sets of one distribution at any size,
so estimates may be negative. Sets that share their labels have a negative
expectation, since D assumes random differences in the classes' sizes.

Reference: Binkowski et al. 2018, arXiv:1801.01401; Gretton et al. 2012, A
kernel two-sample test, eq. 3.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Estimate(NamedTuple):
  """A distance and its standard error."""

  value: float
  error: float


def polynomial(
  a: Float[np.ndarray, "N D"], b: Float[np.ndarray, "M D"]
) -> Float[np.ndarray, "N M"]:
  """k(x, y) = (x.y / d + 1)^3 for every pair."""
  base = a @ b.T / a.shape[1] + 1
  return base * base * base


def distance(
  a: Float[np.ndarray, "N D"],
  b: Float[np.ndarray, "M D"],
  kernel: Callable = polynomial,
) -> float:
  """The unbiased squared distance D(a, b).

  Args:
    a: one set of features, [N, D].
    b: the other, [M, D].
    kernel: (a, b) -> k for every pair, [N, M].

  Returns:
    D, which may be negative.

  Raises:
    ValueError: a set has fewer than three points.
  """
  return estimate(a, b, kernel).value


def estimate(
  a: Float[np.ndarray, "N D"],
  b: Float[np.ndarray, "M D"],
  kernel: Callable = polynomial,
) -> Estimate:
  """D(a, b) and its jackknife standard error.

    error^2 = sum over both sets of (n - 1)/n sum_i (D_(-i) - mean D_(-.))^2

  D_(-i) is D without point i, from the row sums of the Gram matrices. If both
  distributions are nearly equal, the error tends to be too large; to decide
  whether two distributions differ, compare with real_interval.

  Args:
    a: one set of features, [N, D].
    b: the other, [M, D].
    kernel: (a, b) -> k for every pair, [N, M].

  Returns:
    The estimate and its standard error.

  Raises:
    ValueError: a set has fewer than three points.

  Reference: Efron and Stein 1981, The jackknife estimate of variance.
  """
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  for name, points in (("a", a), ("b", b)):
    if len(points) < 3:
      raise ValueError(f"{name}: expected at least 3 points, got {len(points)}")
  cross = kernel(a, b)
  rows = [_without_diagonal(kernel(x, x)) for x in (a, b)]
  values = [row.sum() / (len(row) * (len(row) - 1)) for row in rows]
  value = values[0] + values[1] - 2 * cross.mean()
  variance = 0.0
  for row, other, sums in zip(
    rows, values[::-1], (cross.sum(1), cross.sum(0)), strict=True
  ):
    n, pairs = len(row), cross.size - cross.size // len(row)
    within = (row.sum() - 2 * row) / ((n - 1) * (n - 2))
    left_out = within + other - 2 * (cross.sum() - sums) / pairs
    variance += (n - 1) * left_out.var()
  return Estimate(float(value), float(np.sqrt(variance)))


def real_interval(
  real: Float[np.ndarray, "N D"],
  num_held_out: int,
  num_samples: int,
  *,
  labels: Int[np.ndarray, "N"] | None = None,
  num_draws: int = 1,
  num_splits: int = 200,
  level: float = 0.95,
  seed: int = 0,
) -> tuple[float, float]:
  """An interval for D under the null hypothesis that the samples are real.

  In every random split, m of the real features act as the held-out set, and n
  of the others as the samples; D of the two is one value. With labels, these n
  have the labels of that held-out set (repeated if n > m), like samples of a
  class-conditional model. Memory grows as N^2: pass a few thousand points.

  A mean over several independent sets of samples varies less. Several sets from
  one pool would overlap, so the interval of single sets is scaled about its
  mean instead.

  Args:
    real: features of real data, [N, D], N >= num_held_out + num_samples.
    num_held_out: m, the size of the held-out set.
    num_samples: n, the size of a set of samples.
    labels: labels of real, [N].
    num_draws: R, the number of independent sets of samples that the model's
      figure averages over.
    num_splits: number of values that the quantiles are taken from.
    level: coverage of the interval.
    seed: seed of the splits.

  Returns:
    (low, high): the (1 -+ level) / 2 quantiles.

  Raises:
    ValueError: a set has fewer than two points, or there are too few real
      points, in any class if labels are given.
  """
  _check_sizes(len(real), num_held_out, num_samples)
  labels = np.zeros(len(real), int) if labels is None else labels
  random = np.random.RandomState(seed)
  sets = np.zeros((num_splits, 2, len(real)))
  for split in sets:
    order = random.permutation(len(real))
    held_out, rest = order[:num_held_out], order[num_held_out:]
    split[0, held_out] = 1
    wanted = np.resize(labels[held_out], num_samples)
    split[1, rest[_matching(random, labels[rest], wanted)]] = 1
  values = _between_subsets(np.asarray(real, np.float64), sets)[:, 0]
  sizes = num_held_out, num_samples
  scale = math.sqrt(_variance(*sizes, num_draws) / _variance(*sizes, 1))
  ends = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
  low, high = values.mean() + scale * (ends - values.mean())
  return float(low), float(high)


def _check_sizes(number, num_held_out, num_samples):
  if min(num_held_out, num_samples) < 2:
    raise ValueError(
      f"num_held_out, num_samples: expected at least 2, got {num_held_out} and"
      f" {num_samples}"
    )
  if num_held_out + num_samples > number:
    raise ValueError(
      f"real: expected at least {num_held_out + num_samples} points,"
      f" got {number}; ask for fewer samples"
    )


def _variance(m, n, r):
  """Variance, up to a factor, of a mean of D over r sets of n, under the null.

  The sums within the held-out set, across sets and within samples are
  uncorrelated.
  """
  return 1 / (m * (m - 1)) + 2 / (r * m * n) + 1 / (r * n * (n - 1))


def _between_subsets(points, sets):
  """D of subset [s, 0] to each of [s, 1:]; sets [S, 1 + R, N] holds 0 and 1.

  With K the Gram matrix of all points, sums over pairs of sets are w K w'.
  """
  gram = polynomial(points, points)
  through = (sets.reshape(-1, len(points)) @ gram).reshape(sets.shape)
  size = sets.sum(-1)
  within = np.sum(through * sets, -1) - sets @ np.diagonal(gram)
  within /= size * (size - 1)
  cross = np.einsum("srn,sn->sr", sets[:, 1:], through[:, 0])
  cross /= size[:, 1:] * size[:, :1]
  return within[:, :1] + within[:, 1:] - 2 * cross


def _without_diagonal(gram):
  """Row sums of a Gram matrix without its diagonal."""
  return gram.sum(1) - np.diagonal(gram)


def _matching(random, labels, wanted):
  """Random rows without repetition whose labels are the wanted ones."""
  order = random.permutation(len(labels))
  rows = []
  for label, count in zip(*np.unique(wanted, return_counts=True), strict=True):
    found = order[labels[order] == label][:count]
    if len(found) < count:
      raise ValueError(
        f"real: expected {count} of label {label} outside of the held-out set,"
        f" got {len(found)}; ask for fewer samples"
      )
    rows.append(found)
  return np.concatenate(rows)
