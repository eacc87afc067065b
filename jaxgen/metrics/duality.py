"""Optimal transport of two weighted clouds as a linear programme, and its dual.

  primal  min  sum_ij P_ij c_ij,      P >= 0,  rows sum to a, columns to b
  dual    max  <a, u> + <b, v>,       u_i + v_j <= c_ij

Both have one value, and P_ij > 0 only where u_i + v_j = c_ij (complementary
slackness): a plan and a pair of potentials prove each other optimal. Each is
solved as its own programme, in SciPy's HiGHS; N M variables or constraints,
some ten thousand of them in a second.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Primal(NamedTuple):
  """A plan of least cost: its value, and how much goes where, [N, M]."""

  value: float
  plan: np.ndarray


class Dual(NamedTuple):
  """Potentials of greatest value: u [N] and v [M], with v_0 = 0."""

  value: float
  first: np.ndarray
  second: np.ndarray


def primal(
  cost: Float[np.ndarray, "..."],
  a: Float[np.ndarray, "..."],
  b: Float[np.ndarray, "..."],
) -> Primal:
  """The plan of least cost between two weighted clouds.

  Args:
    cost: c, [N, M].
    a: weights of the first cloud, [N], that sum to one.
    b: weights of the second, [M], that sum to one.

  Raises:
    ValueError: a cost that is no matrix of finite values, or empty; weights of
      another number, negative, or that do not sum to one.
    RuntimeError: HiGHS did not solve it.

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
  """The potentials that price the same transport the highest.

  Shifting u up and v down by a constant changes nothing, so v_0 is 0.

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
  """c_ij - u_i - v_j: at least 0 of feasible potentials, 0 where mass goes."""
  return cost - first[:, None] - second


def _margins(n, m):
  """[N + M, N M]: the sums of the rows, then of the columns, of a plan."""
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
    raise RuntimeError(f"HiGHS did not solve the programme: {found.message}")
  return found.x


def _check(cost, a, b):
  cost, a, b = (np.asarray(x, np.float64) for x in (cost, a, b))
  if cost.ndim != 2 or not cost.size or not np.isfinite(cost).all():
    raise ValueError(
      "cost: expected a matrix [N, M] of finite values, one at least, got shape"
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
  # HiGHS's tolerances are absolute: costs of size 1. And one mass to the last
  # digit, or no plan would meet both margins.
  unit = np.abs(cost).max() or 1.0
  return cost / unit, a / a.sum(), b / b.sum(), unit
