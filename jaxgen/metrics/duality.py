"""Optimal transport of two weighted clouds as a linear program, and its dual.

  primal  min  sum_ij P_ij c_ij,      P >= 0,  rows sum to a, columns to b
  dual    max  <a, u> + <b, v>,       u_i + v_j <= c_ij

Both have the same value, and P_ij > 0 only where u_i + v_j = c_ij
(complementary slackness), so a plan and a pair of potentials certify each
other's optimality. Each is solved as a separate program, by SciPy's HiGHS, with
N M variables or constraints: about ten thousand of them in a second.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Primal(NamedTuple):
  """A plan of minimal cost: its value, and the mass P_ij moved, [N, M]."""

  value: float
  plan: np.ndarray


class Dual(NamedTuple):
  """Optimal potentials: the dual's value, u [N] and v [M], with v_0 = 0."""

  value: float
  first: np.ndarray
  second: np.ndarray


def primal(
  cost: Float[np.ndarray, "..."],
  a: Float[np.ndarray, "..."],
  b: Float[np.ndarray, "..."],
) -> Primal:
  """The plan of minimal cost between two weighted clouds.

  Args:
    cost: c, [N, M].
    a: weights of the first cloud, [N], with sum one.
    b: weights of the second cloud, [M], with sum one.

  Raises:
    ValueError: cost is not a matrix, is empty or not finite; weights have the
      wrong length, are negative or do not sum to one.
    RuntimeError: HiGHS did not solve the program.

  Reference: Kantorovich 1942; Peyre and Cuturi 2019, arXiv:1803.00567,
  section 2.3.
  """
  cost, a, b, unit = _check(cost, a, b)
  margins = _margins(*cost.shape)
  found = _solve(cost.ravel(), A_eq=margins, b_eq=np.append(a, b))
  plan = found.reshape(cost.shape)
  return Primal(float(unit * np.sum(plan * cost)), plan)


def dual(
  cost: Float[np.ndarray, "..."],
  a: Float[np.ndarray, "..."],
  b: Float[np.ndarray, "..."],
) -> Dual:
  """The potentials that maximise the dual.

  Adding a constant to u and subtracting it from v changes nothing; v_0 is 0.

  Args and Raises: as in `primal`.

  Reference: Kantorovich 1942; Peyre and Cuturi 2019, arXiv:1803.00567,
  section 2.5.
  """
  cost, a, b, unit = _check(cost, a, b)
  weights = np.append(a, b)
  bounds = np.tile([-np.inf, np.inf], (len(weights), 1))
  bounds[len(a)] = 0
  found = _solve(
    -weights, A_ub=_margins(*cost.shape).T, b_ub=cost.ravel(), bounds=bounds
  )
  first, second = np.split(unit * found, [len(a)])
  return Dual(float(a @ first + b @ second), first, second)


def slack(
  cost: Float[np.ndarray, "N M"],
  first: Float[np.ndarray, "N"],
  second: Float[np.ndarray, "M"],
) -> Float[np.ndarray, "N M"]:
  """c_ij - u_i - v_j: at least 0 if feasible, 0 where the plan has mass."""
  return cost - first[:, None] - second


def _margins(n, m):
  """[N + M, N M], the matrix of a plan's row sums, then its column sums."""
  from scipy import sparse

  rows = sparse.kron(sparse.eye_array(n), np.ones((1, m)))
  columns = sparse.kron(np.ones((1, n)), sparse.eye_array(m))
  return sparse.vstack([rows, columns], format="csr")


def _solve(objective, **programme):
  from scipy import optimize

  options = dict(
    primal_feasibility_tolerance=1e-10, dual_feasibility_tolerance=1e-10
  )
  found = optimize.linprog(
    objective, method="highs", options=options, **programme
  )
  if not found.success:
    raise RuntimeError(f"HiGHS: linear program not solved: {found.message}")
  return found.x


def _check(cost, a, b):
  cost, a, b = (np.asarray(x, np.float64) for x in (cost, a, b))
  if cost.ndim != 2 or not cost.size or not np.isfinite(cost).all():
    raise ValueError(
      "cost: expected a matrix [N, M] of finite values, at least one, got shape"
      f" {list(cost.shape)}"
    )
  for name, weights, number in (("a", a, len(cost)), ("b", b, cost.shape[1])):
    if weights.shape != (number,):
      raise ValueError(
        f"{name}: expected {number} weights, got shape {list(weights.shape)}"
      )
    if not (np.all(weights >= 0) and abs(weights.sum() - 1) < 1e-6):
      raise ValueError(
        f"{name}: expected weights of at least 0 that sum to one, got the sum"
        f" {weights.sum():.9g} and the least {weights.min():.6g}"
      )
  # HiGHS's tolerances are absolute, so costs are scaled to size 1. The weights
  # must have equal sums to the last digit, or no plan would be feasible.
  unit = np.abs(cost).max() or 1.0
  return cost / unit, a / a.sum(), b / b.sum(), unit
