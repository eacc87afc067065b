"""Assignment: the permutation of minimal total cost.

  primal   min over permutations of sum_i c_{i, order(i)}
  dual     max sum_i f_i + sum_j g_j   subject to   c_ij - f_i - g_j >= 0

For any f and g, the costs c_ij - f_i - g_j have the same solutions; for optimal
ones they are 0 on a solution. Over-relaxed Sinkhorn sweeps in float32, with a
decreasing epsilon, yield nearly optimal f and g, with which SciPy's search is
short. Beside the costs, two float64 matrices of their size are held.

Reference: Thibault et al. 2017, arXiv:1711.01851 (over-relaxation); Schmitzer
2019, arXiv:1610.06519 (decreasing epsilon).
"""

import numpy as np
from jaxtyping import Float, Int

# Found by trials; they change only how long the search takes.
_EPSILONS = (0.05, 0.005)  # relative to the median cost
_SWEEPS = 12  # largest number of Sinkhorn sweeps for each epsilon
_MARGIN = 0.05  # mean error of the column sums at which the sweeps stop
_RELAXATION = 1.7  # exponent of each Sinkhorn update, below 2
_LARGE = 64  # size from which duals shorten the search
_BLOCK = 2**16  # number of pairs in a block of rows, which fits in a cache
_LEAST = -78  # log of a kernel; products of less are subnormal, slow on Intel

_EXACT = 1e-12  # relative error of a total cost that counts as rounding


def assign(cost: Float[np.ndarray, "..."]) -> Int[np.ndarray, "N"]:
  """The permutation of minimal total cost: argmin sum_i cost[i, order(i)].

  Args:
    cost: [N, N]; infinity forbids a pair.

  Returns:
    order, [N]. Its total cost is minimal to a relative error of 1e-12.

  Raises:
    ValueError: cost is not a square matrix or is empty, contains NaN or
      -infinity, or forbids every permutation.
  """
  cost = np.asarray(cost, np.float64)
  if cost.ndim != 2 or cost.shape[0] != cost.shape[1] or not cost.size:
    raise ValueError(f"cost: expected a matrix [N, N], got {list(cost.shape)}")
  try:
    order = _by_duals(cost) if len(cost) >= _LARGE else None
    return _dense(cost) if order is None else order
  except ValueError:
    raise ValueError(
      "cost: expected a permutation with finite costs, and no NaN or -infinity"
    ) from None


def _by_duals(cost):
  """The optimal order, by the duals of cost_ij less minima of rows and columns.

  None if there are no finite duals, or if the costs are of so wide a range that
  rounding in cost_ij - f_i - g_j may change which order is optimal.
  """
  with np.errstate(all="ignore"):
    cost = cost - cost.min(1, keepdims=True)
    cost -= cost.min(0)
    f, g = _approximate(cost)
    largest = np.abs(f).max() + np.abs(g).max()
    if not largest < np.inf:  # NaN too
      return None
    order = _dense(cost - f[:, None] - g)
    total = cost[np.arange(len(cost)), order].sum()
    rounded = len(cost) * np.spacing(largest)
  return order if rounded <= _EXACT * total or total == 0 else None


def _dense(cost):
  from scipy import optimize

  return optimize.linear_sum_assignment(cost)[1]


def _approximate(cost):
  """Approximate duals f and g of finite costs of at least 0, or NaN.

  u <- u (u sum_j k_ij v_j)^-w,   v <- v (v sum_i u_i k_ij)^-w,
  k_ij = exp((f_i + g_j - cost_ij) / epsilon)
  """
  n = len(cost)
  some = cost[np.random.default_rng(0).permutation(n)[:64]]
  some = some[(some > 0) & (some < np.inf)]
  if not some.size:
    return np.full((2, n), np.nan)
  blocks, kernel = _blocks(n), np.empty(cost.shape, np.float32)
  f, g = np.zeros((2, n))
  for epsilon in np.median(some) * np.array(_EPSILONS):
    for rows in blocks:
      height = ((f[rows, None] + g - cost[rows]) / epsilon).astype(np.float32)
      height[height < _LEAST] = -np.inf
      np.exp(height, out=kernel[rows])
    # Not by BLAS, whose threads would compete with training for the cores.
    u = np.ones(n, np.float32)
    v = 1 / np.einsum("i,ij->j", u, kernel)
    for _ in range(_SWEEPS):
      sums = np.zeros_like(v)
      for rows in blocks:
        part = kernel[rows]
        u[rows] *= (u[rows] * np.einsum("ij,j->i", part, v)) ** -_RELAXATION
        sums += np.einsum("i,ij->j", u[rows], part)
      sums *= v
      v *= sums**-_RELAXATION
      if np.abs(sums - 1).mean() < _MARGIN:
        break
    f, g = f + epsilon * np.log(u), g + epsilon * np.log(v)
  return f, g


def _blocks(n):
  step = max(_BLOCK // n, 1)
  return [slice(first, first + step) for first in range(0, n, step)]
