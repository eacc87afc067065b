"""Assignment: the permutation of minimal total cost, and its certificate.

  primal   min over permutations of sum_i c_{i, order(i)}
  dual     max sum_i f_i + sum_j g_j   subject to   c_ij - f_i - g_j >= 0

Feasible duals bound the cost of every permutation from below, so an order whose
cost equals the bound is optimal, however it was found:

  1. Over-relaxed Sinkhorn sweeps in float32, with a decreasing epsilon, first
     for a random quarter of rows and columns, yield approximate duals.
  2. The pairs of smallest c_ij - f_i - g_j are kept, and SciPy solves the
     sparse problem. Its duals are lengths of shortest paths from the matching.
  3. If these duals are feasible for all pairs, the order is optimal. If not,
     the pairs that violate them are added to the sparse problem.

Where this fails, and for fewer points, SciPy solves the dense problem with the
costs c_ij - f_i - g_j, which has the same solutions and is solved faster.
Beside the costs, two float64 matrices of their size are held.

Reference: Thibault et al. 2017, arXiv:1711.01851 (over-relaxation); Schmitzer
2019, arXiv:1610.06519 (decreasing epsilon, sparse pairs).
"""

import numpy as np
from jaxtyping import Float, Int

# Found by trials; they change only how long the search takes.
_COARSE = (0.1, 0.05, 0.02)  # epsilon, relative to the median cost
_FINE = (0.05, 0.0125, 0.003, 0.0008)
_MIDDLE = (0.05, 0.005)  # of medium sizes
_SWEEPS = 12  # largest number of Sinkhorn sweeps for each epsilon
_MARGIN = 0.02  # mean error of the column sums at which the sweeps stop
_ROUGH = 0.05  # the same, of medium sizes
_RELAXATION = 1.7  # exponent of each Sinkhorn update, below 2
_KEPT = 12  # number of pairs kept for each row, on average
_ROUNDS = 8  # largest number of sparse problems
_RELAXED = 500  # largest number of steps of a shortest path
_MEDIUM = 64  # size from which duals speed up the dense problem
_LARGE = 1500  # size from which the sparse problem is faster than the dense one
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
    order = _by_duals(cost) if len(cost) >= _MEDIUM else None
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
    order = _certified(cost, f, g) if len(cost) >= _LARGE else None
    if order is None:
      order = _dense(cost - f[:, None] - g)
    total = cost[np.arange(len(cost)), order].sum()
    rounded = len(cost) * np.spacing(largest)
  return order if rounded <= _EXACT * total or total == 0 else None


def _dense(cost):
  from scipy import optimize

  return optimize.linear_sum_assignment(cost)[1]


def _approximate(cost):
  """Approximate duals f and g of finite costs of at least 0, or NaN."""
  rng, n = np.random.default_rng(0), len(cost)
  # Not every fourth, since examples may be sorted, by class or otherwise.
  rows, columns = (rng.permutation(n)[: n // 4] for _ in range(2))
  some = cost[rows[:64]]
  some = some[(some > 0) & (some < np.inf)]
  if not some.size:
    return np.full((2, n), np.nan)
  unit, zero = np.median(some), np.zeros(n)
  if n < _LARGE:
    return _sinkhorn(cost, zero, zero, unit * np.array(_MIDDLE), _ROUGH)
  coarse, fine = unit * np.array(_COARSE), unit * np.array(_FINE)
  few = cost[np.ix_(rows, columns)]
  u, v = _sinkhorn(few, zero[rows], zero[columns], coarse)
  f = _extended(cost[:, columns], v, coarse[-1])
  g = _extended(cost[rows].T, u, coarse[-1])
  return _sinkhorn(cost, f, g, fine)


def _sinkhorn(cost, f, g, epsilons, margin=_MARGIN):
  """Duals after over-relaxed sweeps, in turn for each epsilon.

  u <- u (u sum_j k_ij v_j)^-w,   v <- v (v sum_i u_i k_ij)^-w,
  k_ij = exp((f_i + g_j - cost_ij) / epsilon)
  """
  blocks, kernel = _blocks(len(cost)), np.empty(cost.shape, np.float32)
  for epsilon in epsilons:
    for rows in blocks:
      height = ((f[rows, None] + g - cost[rows]) / epsilon).astype(np.float32)
      height[height < _LEAST] = -np.inf
      np.exp(height, out=kernel[rows])
    # Not by BLAS, whose threads would compete with training for the cores.
    u = np.ones(len(cost), np.float32)
    v = 1 / np.einsum("i,ij->j", u, kernel)
    for _ in range(_SWEEPS):
      sums = np.zeros_like(v)
      for rows in blocks:
        part = kernel[rows]
        u[rows] *= (u[rows] * np.einsum("ij,j->i", part, v)) ** -_RELAXATION
        sums += np.einsum("i,ij->j", u[rows], part)
      sums *= v
      v *= sums**-_RELAXATION
      if np.abs(sums - 1).mean() < margin:
        break
    f, g = f + epsilon * np.log(u), g + epsilon * np.log(v)
  return f, g


def _extended(cost, g, epsilon):
  """Duals of more rows: -epsilon log mean_j exp((g_j - cost_ij) / epsilon)."""
  height = ((g - cost) / epsilon).astype(np.float32)
  top = height.max(1, keepdims=True)
  mean = np.exp(height - top).mean(1)
  return -epsilon * np.float64(np.log(mean) + top[:, 0])


def _certified(cost, f, g):
  """The order that sparse duals prove optimal; None if none was found."""
  n, pairs = len(cost), _nearest(cost, f, g)
  all_rows = np.arange(n)
  for _ in range(_ROUNDS):
    i, j = np.divmod(pairs, n)
    gap = cost[i, j] - f[i] - g[j]
    order = _sparse(i, j, gap, n)
    if order is None:
      return None
    f = f + _moves(i, j, gap, order)
    g = np.empty(n)
    g[order] = cost[all_rows, order] - f
    total = cost[all_rows, order].sum()
    violating = _below(cost, f, g, -_EXACT * total / n)
    if not len(violating):
      return order
    if len(violating) > n * _KEPT:
      return None
    pairs = np.union1d(pairs, violating)
  return None


def _nearest(cost, f, g):
  """Pairs i N + j of small cost_ij - f_i - g_j, some of each row and column.

  They are the smallest gap of each row and column, and all below a limit.
  """
  n, step = len(cost), max(len(cost) // 64, 1)
  some = np.sort(cost[::step] - f[::step, None] - g, None)
  limit = some[min(_KEPT * len(some) // n, len(some) - 1)]
  first, least, found = np.zeros(n, int), np.full(n, np.inf), []
  for rows in _blocks(n):
    gap = cost[rows] - f[rows, None] - g
    number = np.arange(len(gap)) + rows.start
    found.append(number * n + gap.argmin(1))
    low = gap.min(0)
    first = np.where(low < least, gap.argmin(0) + rows.start, first)
    least = np.minimum(least, low)
  found.append(first * n + np.arange(n))
  return np.unique(np.concatenate([*found, _below(cost, f, g, limit)]))


def _below(cost, f, g, limit):
  """Pairs i N + j with cost_ij - f_i - g_j < limit."""
  n, found = len(cost), []
  for rows in _blocks(n):
    near = np.flatnonzero(cost[rows] - g < f[rows, None] + limit)
    found.append(near + rows.start * n)
  return np.concatenate(found)


def _sparse(i, j, gap, n):
  """The optimal order within the pairs; None if they contain no permutation.

  By the dense solver, with infinity for the other pairs. SciPy's sparse one
  (min_weight_full_bipartite_matching) takes longer, and for some orders of the
  rows, 50 times as long.
  """
  matrix = np.full((n, n), np.inf)
  matrix[i, j] = gap
  try:
    return _dense(matrix)
  except ValueError:
    return None


def _moves(i, j, gap, order):
  """p with p_i + q_j <= gap_ij on all pairs, and equality on the order.

  As q_order(i) = gap_{i, order(i)} - p_i, p is bounded by differences,

    p_i <= p_k + gap_ij - gap_kj,   j = order(k),

  whose largest solution below 0 are shortest paths from all rows, and whose
  least one above 0 are paths to all rows. The mean of the two is far from the
  bounds, so that it violates few other pairs.
  """
  n = len(order)
  row_of, matched = np.empty(n, int), np.empty(n)
  row_of[order] = np.arange(n)
  own = order[i] == j
  matched[j[own]] = gap[own]
  k, weight = row_of[j], gap - matched[j]
  back = np.argsort(k, kind="stable")
  low = _shortest(i, k, weight, n)
  high = _shortest(k[back], i[back], weight[back], n)
  return (low - high) / 2


def _shortest(end, start, weight, n):
  """Lengths of shortest paths from anywhere, by Bellman and Ford."""
  first, length = np.searchsorted(end, np.arange(n)), np.zeros(n)
  for _ in range(_RELAXED):
    new = np.minimum.reduceat(length[start] + weight, first)
    if not (new < length).any():
      break
    length = np.minimum(length, new)
  return length


def _blocks(n):
  step = max(_BLOCK // n, 1)
  return [slice(first, first + step) for first in range(0, n, step)]
