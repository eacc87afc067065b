"""Couplings: pairings of source examples with data examples.

  c_ij = |data_i - source_j|^2

A coupling is a function (data [N, *D], source [N, *D], ...) -> order [N] of
indices: data[i] is paired with source[order[i]], and labels stay with the data.
All but the entropic coupling use every example of both exactly once.

Couplings run on the host, in NumPy and SciPy. They belong in the input pipeline
(data/pairs.py), where a thread computes them while the device trains. The
independent coupling needs no function: i.i.d. batches are already independent.
"""

import functools
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from jaxgen import keys

_SWEEPS = 20  # Sinkhorn sweeps; found by trials
_SMOOTHING = 0.02  # epsilon of Sinkhorn, relative to the mean cost
_EXACT = 1e-12  # relative error of a total cost that counts as rounding
_CANCELLED = 1e-6  # |x - y|^2 / (|x|^2 + |y|^2) below which digits are lost


def exact(
  data: Float[np.ndarray, "..."], source: Float[np.ndarray, "..."]
) -> Int[np.ndarray, "N"]:
  """Optimal transport of a batch: the permutation of minimal total cost.

    argmin over permutations of sum_i |data_i - source_order(i)|^2

  Uses SciPy's assignment solver (Jonker and Volgenant). The duals of a few
  Sinkhorn sweeps are first subtracted from the costs, which keeps the optimum
  and speeds up the solver; this is skipped where it would lose digits.

  Args:
    data: [N, *D].
    source: [N, *D], of the same size.

  Returns:
    order, [N].

  Raises:
    ValueError: a batch is empty, the sizes or dimensions differ, or a value is
      not finite.

  Reference: Tong et al. 2023, arXiv:2302.00482, section 4.2; Pooladian et al.
  2023, arXiv:2304.14772.
  """
  return assign(costs(data, source))


def conditional(
  data: Float[np.ndarray, "..."],
  source: Float[np.ndarray, "..."],
  condition: np.ndarray | None,
  *,
  ratio: float = 0.05,
) -> Int[np.ndarray, "N"]:
  """C2OT: optimal transport that keeps the source independent of a condition.

  Each source_j takes the condition of data_j. Without the condition in the
  cost, the pairing would make the source depend on the condition in training,
  while at sampling time the two are independent.

    discrete    c_ij only within a class: one assignment per class
    continuous  c_ij + w |condition_i - condition_j|^2, with w such that a
                fraction `ratio` of all pairs (i, j) costs at most as much as
                (i, i)

  w is a quantile of (c_ii - c_ij) / |condition_i - condition_j|^2, or 0 if the
  quantile is negative.

  Args:
    data: [N, *D].
    source: [N, *D], independent of the data.
    condition: of each data example, integers [N] or floats [N] or [N, K].
    ratio: for continuous conditions, in (0, 1]; smaller binds more tightly.

  Returns:
    order, [N].

  Raises:
    ValueError: as in `exact`; condition is None or not of length N; ratio is
      outside (0, 1].

  Reference: Cheng and Schwing 2025, arXiv:2503.10636, section 3.2.
  """
  cost = costs(data, source)
  condition = _check_condition(condition, len(cost))
  if not 0 < ratio <= 1:
    raise ValueError(f"ratio: expected above 0, at most 1, got {ratio}")
  if condition.dtype.kind in "biu":
    order = np.arange(len(cost))
    for value in np.unique(condition):
      rows = np.flatnonzero(condition == value)
      order[rows] = rows[assign(cost[np.ix_(rows, rows)])]
    return order
  from scipy.spatial import distance

  apart = distance.cdist(condition, condition, "sqeuclidean")
  gain = np.diag(cost)[:, None] - cost
  with np.errstate(divide="ignore", invalid="ignore"):
    enough = gain / apart  # the w at which (i, j) costs as much as (i, i)
  # For pairs of equal conditions, w makes no difference.
  enough[apart == 0] = np.where(gain[apart == 0] >= 0, np.inf, -np.inf)
  weight = np.quantile(enough, 1 - ratio, method="higher")
  return assign(cost + min(max(weight, 0.0), 1e8) * apart)


def entropic(
  key: Array,
  data: Float[np.ndarray, "..."],
  source: Float[np.ndarray, "..."],
  *,
  epsilon: float,
) -> Int[np.ndarray, "N"]:
  """A source for each example, sampled from the batch's entropic plan.

    plan = argmin sum_ij p_ij (c_ij + epsilon log p_ij),  uniform marginals
    order(i) ~ plan_i / sum_j plan_ij

  With a Brownian bridge of diffusion s between the pairs and epsilon = 2 s^2
  this is the Schrodinger bridge's coupling. Sinkhorn runs in ott-jax, on CPU.

  Args:
    key: a typed key, [].
    data: [N, *D].
    source: [N, *D]; an example may be used several times or not at all.
    epsilon: regularisation, in the cost's units, positive.

  Returns:
    order, [N].

  Raises:
    ValueError: as in `exact`; epsilon is not positive, or so small that
      Sinkhorn's iteration does not converge.

  Reference: Tong et al. 2023, arXiv:2302.00482, section 4.3; Cuturi 2013,
  arXiv:1306.0895.
  """
  keys.require_typed(key)
  if not epsilon > 0:
    raise ValueError(f"epsilon: expected a positive number, got {epsilon}")
  cost = costs(data, source).astype(np.float32)
  with jax.default_device(jax.local_devices(backend="cpu")[0]):
    plan, converged = _sinkhorn()(cost, np.float32(epsilon))
    uniform = np.asarray(jax.random.uniform(key, (len(cost), 1)))
  if not converged:
    raise ValueError(
      f"epsilon: expected a value at which Sinkhorn converges, got {epsilon}"
      f" for costs of {cost.mean():.3g} on average"
    )
  heights = np.cumsum(np.asarray(plan, np.float64), 1)
  return (heights < uniform * heights[:, -1:]).sum(1)


def costs(
  data: Float[np.ndarray, "..."], source: Float[np.ndarray, "..."]
) -> Float[np.ndarray, "N N"]:
  """Squared distances of all pairs, [N, N], in float64.

  Raises:
    ValueError: a batch is empty, the sizes or dimensions differ, or a value is
      not finite.
  """
  x, y = (np.asarray(a, np.float64) for a in (data, source))
  if x.ndim == 0 or x.shape != y.shape or not x.size:
    raise ValueError(
      f"source: expected shape {list(x.shape)}, that of data, with at least one"
      f" example, got {list(y.shape)}"
    )
  cost = squares(x.reshape(len(x), -1), y.reshape(len(y), -1))
  if not cost.max() < np.inf:  # NaN too
    raise ValueError("data, source: expected finite values, below 1e150")
  return cost


def squares(
  x: Float[np.ndarray, "N D"], y: Float[np.ndarray, "M D"]
) -> Float[np.ndarray, "N M"]:
  """|x_i - y_j|^2 of all pairs, in float64, to nine digits; 0 if x_i = y_j.

  Computed as |x|^2 + |y|^2 - 2 <x, y>, one matrix product; where these terms
  cancel, from x_i - y_j. Not finite where a point or its square is not.
  """
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  square = lambda a: np.einsum("nd,nd->n", a, a)
  with np.errstate(over="ignore", invalid="ignore"):
    middle = x.mean(0)  # centring, since points far from zero lose digits
    u, v = x - middle, y - middle
    sizes = square(u)[:, None] + square(v)
    cost = sizes - 2 * u @ v.T
    rows, columns = np.nonzero(cost <= _CANCELLED * sizes)
    step = 2**20 // x.shape[1] + 1  # number of pairs held in memory at once
    for start in range(0, len(rows), step):
      i, j = (at[start : start + step] for at in (rows, columns))
      cost[i, j] = square(x[i] - y[j])
  return cost


def assign(cost: Float[np.ndarray, "..."]) -> Int[np.ndarray, "N"]:
  """The permutation of minimal total cost: argmin sum_i cost[i, order(i)].

  Args:
    cost: [N, N]; infinity forbids a pair.

  Returns:
    order, [N].

  Raises:
    ValueError: cost is not a square matrix or is empty, contains NaN or
      -infinity, or forbids every permutation.
  """
  cost = np.asarray(cost, np.float64)
  if cost.ndim != 2 or cost.shape[0] != cost.shape[1] or not cost.size:
    raise ValueError(f"cost: expected a matrix [N, N], got {list(cost.shape)}")
  order = _started(cost)
  try:
    return _solve(cost) if order is None else order
  except ValueError:
    raise ValueError(
      "cost: expected a permutation with finite costs, and no NaN or -infinity"
    ) from None


def _solve(cost):
  from scipy import optimize

  return optimize.linear_sum_assignment(cost)[1]


def _started(cost):
  """The optimal order by cost_ij - f_i - g_j, with entropic duals f and g.

  None if the costs are infinite, or of so wide a range that rounding in these
  differences may change which order is optimal.
  """
  with np.errstate(all="ignore"):
    cost = cost - cost.min(1, keepdims=True)
    cost = cost - cost.min(0)
    epsilon = _SMOOTHING * cost.mean()
    if epsilon == 0:
      return _solve(cost)
    kernel = np.exp(-cost / epsilon)  # has a 1 in every row and column
    u = np.ones(len(cost))
    for _ in range(_SWEEPS):
      # Not by BLAS, whose threads would compete with training for the cores.
      v = 1 / np.einsum("i,ij->j", u, kernel)
      u = 1 / np.einsum("ij,j->i", kernel, v)
    f, g = np.log(u), np.log(v)
    largest = epsilon * (np.abs(f).max() + np.abs(g).max())
  if not largest < np.inf:  # NaN too
    return None
  order = _solve(cost - epsilon * (f[:, None] + g))
  total = cost[np.arange(len(cost)), order].sum()
  rounded = len(cost) * np.spacing(largest)
  return order if rounded <= _EXACT * total or total == 0 else None


def _check_condition(condition, number):
  if condition is None:
    raise ValueError("condition: expected one value per example, got None")
  condition = np.asarray(condition)
  if condition.ndim == 0 or len(condition) != number:
    raise ValueError(
      f"condition: expected one for each of {number} examples, got"
      f" {list(condition.shape)}"
    )
  if condition.dtype.kind in "biu":
    return condition
  condition = np.float64(condition).reshape(number, -1)
  if not np.isfinite(condition).all():
    raise ValueError("condition: expected finite values")
  return condition


@functools.cache
def _sinkhorn() -> Callable:
  """(cost [N, N], epsilon) -> (plan, converged), compiled once."""
  import warnings

  with warnings.catch_warnings():
    # ott-jax imports a library with a deprecation warning.
    warnings.simplefilter("ignore", DeprecationWarning)
    from ott.geometry import geometry
    from ott.solvers import linear

  @jax.numpy_rank_promotion("allow")  # ott-jax relies on it
  @jax.numpy_dtype_promotion("standard")
  def solve(cost, epsilon):
    out = linear.solve(geometry.Geometry(cost, epsilon=epsilon))
    return out.matrix, out.converged

  return jax.jit(solve)
