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
import itertools
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from jaxgen import assignment, keys

_FEW = 8  # dimensions up to which differences are faster than a product
_BLOCK = 2**16  # number of pairs in a block of rows, which fits in a cache
_CANCELLED = 1e-6  # |x - y|^2 / (|x|^2 + |y|^2) below which digits are lost


def exact(
  data: Float[np.ndarray, "..."], source: Float[np.ndarray, "..."]
) -> Int[np.ndarray, "N"]:
  """Optimal transport of a batch: the permutation of minimal total cost.

    argmin over permutations of sum_i |data_i - source_order(i)|^2

  The solver is assignment.assign, in float64.

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
  return assignment.assign(costs(data, source))


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
      order[rows] = rows[assignment.assign(cost[np.ix_(rows, rows)])]
    return order
  from scipy.spatial import distance

  apart = distance.cdist(condition, condition, "sqeuclidean")
  gain = np.diag(cost)[:, None] - cost
  with np.errstate(divide="ignore", invalid="ignore"):
    enough = gain / apart  # the w at which (i, j) costs as much as (i, i)
  # For pairs of equal conditions, w makes no difference.
  enough[apart == 0] = np.where(gain[apart == 0] >= 0, np.inf, -np.inf)
  weight = np.quantile(enough, 1 - ratio, method="higher")
  return assignment.assign(cost + min(max(weight, 0.0), 1e8) * apart)


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

  In many dimensions computed as |x|^2 + |y|^2 - 2 <x, y>, one matrix product;
  in few dimensions, and where these terms cancel, from x_i - y_j. Not finite
  where a point or its square is not.
  """
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  square = lambda a: np.einsum("nd,nd->n", a, a)
  step = _BLOCK // max(len(y), 1) + 1
  blocks = [slice(first, first + step) for first in range(0, len(x), step)]
  with np.errstate(over="ignore", invalid="ignore"):
    if x.shape[1] <= _FEW:
      cost = np.zeros((len(x), len(y)))
      for rows, axis in itertools.product(blocks, range(x.shape[1])):
        gap = x[rows, axis, None] - y[:, axis]
        cost[rows] += gap * gap
      return cost
    middle = x.mean(0)  # centring, since points far from zero lose digits
    u, v = x - middle, y - middle
    cost = (-2 * u) @ v.T
    heights, widths = square(u), square(v)
    for rows in blocks:
      sizes = heights[rows, None] + widths
      cost[rows] += sizes
      i, j = np.nonzero(cost[rows] <= _CANCELLED * sizes)
      pairs = _BLOCK // x.shape[1] + 1  # number held in memory at once
      for first in range(0, len(i), pairs):
        a, b = i[first : first + pairs] + rows.start, j[first : first + pairs]
        cost[a, b] = square(x[a] - y[b])
  return cost


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
