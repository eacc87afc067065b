"""The divergence of a vector field, div f = tr J, exact or by random probes.

Every estimator takes f and x and also returns f(x). It linearises f once and
multiplies the Jacobian with vectors, each at about the cost of an evaluation.
Probes are sampled separately, so that they stay the same along a solve: its
integrand is then smooth, and the spread of the integrals of single probes
estimates the error of their mean.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen import dtypes

# Products computed together. On CPUs, 64 together take 1.7 times as long (a
# U-Net, 64 images), since their activations do not fit into the caches.
_AT_ONCE = 8


class Trace(NamedTuple):
  """An estimator of div f(x) = tr J(x), with probes sampled beforehand.

  Attributes:
    name: name for error messages and tables.
    num_estimates: K; their mean is the estimate.
    error: the K estimates, or their integrals -> standard error of their mean.
    num_products: size of x -> number of Jacobian products per evaluation.
    draw: (key, x) -> probes, any pytree.
    estimate: (f, x, probes) -> f(x) [*D] and K estimates of div f, [K].
  """

  name: str
  num_estimates: int
  error: Callable
  num_products: Callable[[int], int]
  draw: Callable
  estimate: Callable


def exact() -> Trace:
  """The exact trace of the Jacobian: one linearisation and D products."""

  def estimate(f, x, basis):
    value, products = _products(f, x, basis)
    return value, jnp.sum(products * basis)[None]

  return Trace(
    "exact",
    1,
    error=lambda values: jnp.zeros((), values.dtype),
    num_products=lambda size: size,
    draw=lambda key, x: jnp.eye(x.size, dtype=x.dtype),
    estimate=estimate,
  )


def hutchinson(
  num_probes: int, draw: Callable = jax.random.rademacher
) -> Trace:
  """Unbiased estimates z . J z, with probes z such that E z z^T = I.

  With random signs as probes, an estimate has the variance of the part off the
  diagonal, 2 |offdiag(S)|^2 (S the symmetric part of J): none where J is
  diagonal. With normal probes it is 2 |S|^2.

  In few dimensions, or if S has few nonzero entries off the diagonal, estimates
  from signs take few values. K equal ones are then no evidence that their mean
  is correct, and the error is set to infinity. Student's interval is inaccurate
  there (nominal 95 %; over all possible probes in three and four dimensions it
  covers 90 % on average over random Jacobians, 60 % for some); `exact` needs
  about as many products and has no error.

  Args:
    num_probes: K, at least 1.
    draw: (key, shape, dtype) -> probes: jax.random.rademacher or normal.

  Raises:
    ValueError: num_probes is below 1.

  Reference: Hutchinson 1989, Communications in Statistics 18(3); Grathwohl et
  al. 2019, arXiv:1810.01367 (probes that stay the same along the solve).
  """
  _require("hutchinson", num_probes, 1)

  def draw_probes(key, x):  # normal ones of bfloat16 have variance .994
    wide = dtypes.wider(x.dtype)
    return draw(key, (num_probes, x.size), wide).astype(x.dtype)

  def estimate(f, x, probes):
    value, products = _products(f, x, probes)
    return value, jnp.sum(products * probes, 1)

  return Trace(
    "hutchinson",
    num_probes,
    error=_spread_of_signs if draw is jax.random.rademacher else _spread,
    num_products=lambda size: num_probes,
    draw=draw_probes,
    estimate=estimate,
  )


def hutchpp(num_probes: int) -> Trace:
  """Hutch++: exact trace on a subspace, probes for the rest; unbiased.

    tr J = tr Q^T J Q + (D - 2 k) E u . J u,   u uniform on the unit sphere
                                               orthogonal to Q

  Q spans k random directions S and J S. The variance is 0 if J is a multiple of
  the identity plus rank k, as velocities of denoisers nearly are. Meyer et al.
  do not normalise u, and their Q spans J S alone: such a multiple has variance.

  The estimate is unbiased for any fixed Q, so derivatives treat Q as constant:
  that of QR is not finite where columns of J S are linearly dependent (J = 0 of
  a zero-initialised network, c I).

  Args:
    num_probes: k, at least 2 (the error is estimated from the k values of u)
      and below D / 2; needs 3 k products with the Jacobian.

  Raises:
    ValueError: num_probes is below 2, or, from draw, not below D / 2.

  Reference: Meyer et al. 2021, arXiv:2010.09649, algorithm 1; Epperly et al.
  2024, arXiv:2301.07825, section 2.3 (normalisation).
  """
  _require("hutchpp", num_probes, 2)

  def draw(key, x):
    if 2 * num_probes >= x.size:
      raise ValueError(
        f"hutchpp: expected num_probes below {x.size} / 2, the size of x, got"
        f" {num_probes}"
      )
    sketch_key, rest_key = jax.random.split(key)
    shape = x.size, num_probes
    sketch = _orthonormal(jax.random.normal(sketch_key, shape, x.dtype))
    return sketch.T, jax.random.normal(rest_key, shape[::-1], x.dtype)

  def estimate(f, x, probes):
    sketch, rest = probes
    value, times = _linear(f, x)
    image = times(sketch)
    spanned = jax.lax.stop_gradient(jnp.concatenate([sketch, image]))
    # The first k columns of q equal those of the sketch, up to sign.
    q = _orthonormal(spanned.T)
    beyond = q[:, num_probes:].T
    captured = jnp.sum(sketch * image) + jnp.sum(beyond * times(beyond))
    rest = rest - (rest @ q) @ q.T
    rest = rest / jnp.linalg.norm(rest, axis=1, keepdims=True)
    part = jnp.sum(rest * times(rest), 1)
    return value, captured + (x.size - 2 * num_probes) * part

  return Trace(
    "hutchpp",
    num_probes,
    error=_spread,
    num_products=lambda size: 3 * num_probes,
    draw=draw,
    estimate=estimate,
  )


def mean(
  trace: Trace, values: Float[Array, "K"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """The mean of K estimates (or of their integrals), and its standard error.

  The error is 0 where the trace is exact, and infinite where it cannot be
  estimated: from one probe, or from equal estimates by signs (see
  `hutchinson`).
  """
  return values.mean(), trace.error(values)


def _spread(values):
  if len(values) == 1:
    return jnp.full((), jnp.inf, values.dtype)
  return jnp.std(values, ddof=1) / math.sqrt(len(values))


def _spread_of_signs(values):
  rounding = 4 * jnp.finfo(values.dtype).eps * jnp.max(jnp.abs(values))
  return jnp.where(jnp.ptp(values) > rounding, _spread(values), jnp.inf)


def _require(name, num_probes, least):
  if num_probes < least:
    raise ValueError(
      f"{name}: expected num_probes at least {least}, got {num_probes}"
    )


def _orthonormal(columns):
  """Q of a QR decomposition, which half precision has none of."""
  wide = columns.astype(dtypes.wider(columns.dtype))
  return jnp.linalg.qr(wide)[0].astype(columns.dtype)


def _linear(f, x):
  """f(x), and a function from rows [N, D] to their Jacobian products [N, D]."""
  value, product = jax.linearize(f, x)

  def one(row):
    return product(_varying(row.reshape(x.shape), x)).ravel()

  def times(rows):
    if len(rows) <= 4:  # for two rows 2.4 evaluations, vmap 3.7 (an MLP)
      return jnp.stack([one(row) for row in rows])
    if len(rows) <= _AT_ONCE:
      return jax.vmap(one)(rows)
    return jax.lax.map(one, rows, batch_size=_AT_ONCE)

  return value, times


def _varying(row, x):
  """The row, inside a shard_map varying over devices as x does.

  Elsewhere it stays without the batch axis that vmap adds to x, so that the
  first layer's products with a basis are computed once for the whole batch.
  """
  inside = jax.sharding.get_abstract_mesh().manual_axes
  return jnp.where(True, row, x) if inside else row


def _products(f, x, rows):
  value, times = _linear(f, x)
  return value, times(rows)
