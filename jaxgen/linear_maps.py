"""Linear bijectors: a scale and a shift, a matrix, a low-rank exponential.

Their parameters are arrays; `actnorm` and `random_rotation` give those that
training starts from.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxgen import bijectors, keys


def scale_and_shift(
  log_scale: Float[ArrayLike, "..."], shift: Float[ArrayLike, "..."]
) -> bijectors.Bijector:
  """y = exp(log_scale) x + shift; both are broadcast to x [*D]."""

  def forward(x):
    log_slopes = jnp.broadcast_to(log_scale, x.shape)
    y = jnp.exp(log_slopes) * x + jnp.broadcast_to(shift, x.shape)
    return y, jnp.sum(log_slopes)

  def inverse(y):
    log_slopes = jnp.broadcast_to(log_scale, y.shape)
    x = (y - jnp.broadcast_to(shift, y.shape)) * jnp.exp(-log_slopes)
    return x, -jnp.sum(log_slopes)

  return bijectors.Bijector(forward, inverse)


def actnorm(batch: Float[Array, "N *D"]) -> tuple[Array, Array]:
  """ActNorm's start: (log_scale [C], shift [C]) for `scale_and_shift`.

  The outputs of the batch then have mean 0 and variance 1 in each channel, the
  last axis. Compute it once, from the batch as it arrives at the layer; from
  then on both are parameters.

  Raises:
    ValueError: the batch has fewer than two values per channel.

  Reference: Kingma and Dhariwal 2018, arXiv:1807.03039, section 3.1.
  """
  rows = batch.reshape(-1, batch.shape[-1])
  if len(rows) < 2:
    raise ValueError(
      f"batch: expected two values per channel at least, got {batch.shape}"
    )
  # A channel that is constant in the batch keeps its scale. Its std may be the
  # rounding of its mean.
  varies = jnp.ptp(rows, axis=0) > 0
  log_scale = -jnp.log(jnp.where(varies, jnp.std(rows, axis=0), 1))
  return log_scale, -jnp.mean(rows, axis=0) * jnp.exp(log_scale)


class LU(NamedTuple):
  """A C x C matrix W = P L (U + diag(sign exp(log_scale))).

  Attributes:
    lower, upper: [C, C]; only L's entries below the diagonal and U's above it
      are read, and the diagonal of L is 1.
    log_scale: logarithms of the diagonal's absolute values, [C].
    sign: their signs, [C], constant.
    rows: the permutation P as a list of rows, [C] integers, constant.
  """

  lower: Array
  upper: Array
  log_scale: Array
  sign: Array
  rows: Array


def random_rotation(key: Array, size: int) -> LU:
  """A uniformly distributed orthogonal matrix in LU form, to start with."""
  keys.require_typed(key)
  matrix = jax.random.orthogonal(key, size)
  order, lower, upper = jax.scipy.linalg.lu(matrix)
  diagonal = jnp.diag(upper)
  log_scale, sign = jnp.log(jnp.abs(diagonal)), jnp.sign(diagonal)
  return LU(lower, upper, log_scale, sign, jnp.argmax(order, axis=1))


def linear(lu: LU) -> bijectors.Bijector:
  """y = W x along the last axis: the invertible 1 x 1 convolution.

    log |det| = (number of positions) sum_c log_scale_c

  sign and rows are constants: no gradient flows to them.

  Reference: Kingma and Dhariwal 2018, arXiv:1807.03039, eq. 10 to 11.
  """
  sign, rows = jax.lax.stop_gradient((lu.sign, lu.rows))
  lower = jnp.tril(lu.lower, -1) + jnp.eye(len(rows), dtype=lu.lower.dtype)
  upper = jnp.triu(lu.upper, 1) + jnp.diag(sign * jnp.exp(lu.log_scale))

  def log_det(x):
    return x.size // len(rows) * jnp.sum(lu.log_scale)

  def forward(x):
    y = (x @ upper.T) @ lower.T
    return y[..., rows], log_det(x)

  def inverse(y):
    columns = y.reshape(-1, len(rows))[:, jnp.argsort(rows)].T
    solve = jax.scipy.linalg.solve_triangular
    inner = solve(lower, columns, lower=True, unit_diagonal=True)
    return solve(upper, inner).T.reshape(y.shape), -log_det(y)

  return bijectors.Bijector(forward, inverse)


def low_rank_exponential(
  left: Float[Array, "D r"], right: Float[Array, "D r"]
) -> bijectors.Bijector:
  """y = exp(X Y^T) x on flat x [D], always invertible.

    exp(X Y^T) = I + X phi1(Y^T X) Y^T,   log det = tr(Y^T X)

  The inverse is that of -X. Costs are O(D r) per example and O(D r^2 + r^3) for
  the r x r function phi1(A) = sum_k A^k / (k + 1)!. Unlike I + X Y^T, which is
  singular at Y^T X = -1, nothing is special there.
  """
  inner = right.T @ left

  def run(sign, x):
    weights = phi1(sign * inner) @ (right.T @ x)
    return x + sign * (left @ weights), sign * jnp.trace(inner)

  return bijectors.Bijector(
    functools.partial(run, 1), functools.partial(run, -1)
  )


def phi1(matrix: Float[Array, "r r"]) -> Array:
  """phi1(A) = (exp(A) - I) A^-1 = sum_k A^k / (k + 1)!, A singular or not.

  It is the upper right block of exp([[A, I], [0, 0]]). For one number it is
  expm1(a) / a.

  Reference: Higham 2008, Functions of Matrices, section 10.7.4.
  """
  size = len(matrix)
  if size == 1:
    small = jnp.abs(matrix) < 1e-4  # where the series is exact to rounding
    safe = jnp.where(small, 1, matrix)
    series = 1 + matrix / 2 + matrix**2 / 6 + matrix**3 / 24
    return jnp.where(small, series, jnp.expm1(safe) / safe)
  one, zero = jnp.eye(size, dtype=matrix.dtype), jnp.zeros_like(matrix)
  block = jnp.block([[matrix, one], [zero, zero]])
  return jax.scipy.linalg.expm(block)[:size, size:]
