"""Increasing maps of single numbers, with parameters and their derivatives.

Couplings and autoregressive flows apply such a map to each coordinate, with
parameters that a network computes from other coordinates. Parameters 0 are the
identity, so that a network whose last layer starts at 0 starts there too.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_LEAST = 1e-3  # of a bin's width and height, relative to all, and of a slope
# By how much the bins of a histogram are wider than levels are apart: rounding
# puts dequantised data on the edge of the outer bins, where y is infinite.
_WIDER = 1 + 1e-5


class Elementwise(NamedTuple):
  """A family of increasing maps R -> R.

  Attributes:
    name: name for error messages.
    num_params: K, parameters per coordinate.
    forward: (params [*D, K], x [*D]) -> (y [*D], log dy/dx [*D]).
    inverse: (params [*D, K], y [*D]) -> (x [*D], log dx/dy [*D]).
  """

  name: str
  num_params: int
  forward: Callable[[Array, Array], tuple[Array, Array]]
  inverse: Callable[[Array, Array], tuple[Array, Array]]


def affine(bound: float = 5.0) -> Elementwise:
  """y = exp(s) x + m with parameters (m, r), s = bound tanh(r / bound).

  Args:
    bound: largest |s|, positive; the scale stays within exp(+-bound).

  Raises:
    ValueError: bound is not positive.

  Reference: Dinh et al. 2017, arXiv:1605.08803, eq. 4.
  """
  if not 0 < bound < math.inf:
    raise ValueError(f"affine: expected a positive bound, got {bound}")

  def parts(params):
    return params[..., 0], bound * jnp.tanh(params[..., 1] / bound)

  def forward(params, x):
    shift, log_scale = parts(params)
    return jnp.exp(log_scale) * x + shift, log_scale

  def inverse(params, y):
    shift, log_scale = parts(params)
    return (y - shift) * jnp.exp(-log_scale), -log_scale

  return Elementwise("affine", 2, forward, inverse)


def spline(num_bins: int = 8, bound: float = 5.0) -> Elementwise:
  """A rational-quadratic spline on [-bound, bound], the identity outside.

    y = y_k + h_k (s t^2 + d_k t (1 - t)) / (s + (d_k + d_k+1 - 2 s) t (1 - t))

  in bin k, with t = (x - x_k) / w_k, s = h_k / w_k and d the slopes at the
  bins' ends. The 3 num_bins - 1 parameters of a coordinate are logits of the
  widths w and the heights h, and the slopes between bins; at +-bound the slope
  is 1. The inverse solves a quadratic equation in its stable form.

  Args:
    num_bins: number of bins, 2 to 500.
    bound: half the length of the interval, positive.

  Raises:
    ValueError: num_bins or bound is out of range.

  Reference: Durkan et al. 2019, arXiv:1906.04032, eq. 4 to 8 and appendix A.
  """
  if not 2 <= num_bins <= 500:
    raise ValueError(f"spline: expected num_bins from 2 to 500, got {num_bins}")
  if not 0 < bound < math.inf:
    raise ValueError(f"spline: expected a positive bound, got {bound}")

  find = functools.partial(_bin_at, num_bins, bound)

  def forward(params, x):
    inside, start, width, base, height, low, high = find(params, x, False)
    t = jnp.where(inside, _within((x - start) / width), 0.5)
    s, rest = height / width, t * (1 - t)
    over = height * (s * t**2 + low * rest)
    y = base + over / (s + (low + high - 2 * s) * rest)
    slope = _log_slope(t, s, low, high)
    return jnp.where(inside, y, x), jnp.where(inside, slope, 0)

  def inverse(params, y):
    inside, start, width, base, height, low, high = find(params, y, True)
    u = jnp.where(inside, _within((y - base) / height), 0.5)
    s = height / width
    # a t^2 + b t + c = 0, with b^2 - 4 a c as a sum of squares.
    rise = low * (1 - u) - high * u
    b, c = rise + 2 * s * u, -s * u
    t = 2 * c / (-b - jnp.sqrt(rise**2 + 4 * s**2 * u * (1 - u)))
    t = jnp.where(inside, _within(t), 0.5)
    slope = _log_slope(t, s, low, high)
    return jnp.where(inside, start + t * width, y), jnp.where(inside, -slope, 0)

  return Elementwise("spline", 3 * num_bins - 1, forward, inverse)


def of_bins(num_bins: int, bound: float) -> Elementwise:
  """`spline`, or `affine` where num_bins is 0."""
  return spline(num_bins, bound) if num_bins else affine(bound)


def _bin_at(num_bins, bound, params, value, of_y):
  """(inside, x_k, w_k, y_k, h_k, d_k, d_k+1) of the bin with the value.

  The search has no derivative; what has one, scales and sums up to a bin, is
  computed for the chosen bin alone.
  """
  logits = params[..., :num_bins], params[..., num_bins : 2 * num_bins]
  shares = [jax.nn.softmax(part) for part in logits]
  least, rest = 2 * bound * _LEAST, 2 * bound * (1 - _LEAST * num_bins)
  k = jnp.arange(num_bins).reshape((1,) * value.ndim + (num_bins,))
  dtype = params.dtype
  offset = lambda index: least * index.astype(dtype) - bound
  # Where all bins start.
  before = jnp.triu(jnp.ones((num_bins, num_bins), dtype), 1)
  sums = jnp.matmul(
    jax.lax.stop_gradient(shares[of_y]), before, precision="highest"
  )
  starts = rest * sums + offset(k)
  at = jnp.maximum(
    jnp.sum(starts <= value[..., None], -1, keepdims=True) - 1, 0
  )
  total = lambda chosen, array: jnp.sum(jnp.where(chosen, array, 0), -1)
  corners = [
    (
      rest * total(k < at, part) + offset(at[..., 0]),
      rest * total(k == at, part) + least,
    )
    for part in shares
  ]
  # At +-bound the slope is 1, as of parameter 0.
  knots, raw = k[..., 1:], params[..., 2 * num_bins :]
  slopes = (_slope(total(knots == at + end, raw)) for end in (0, 1))
  inside = (value > -bound) & (value < bound)
  return inside, *corners[0], *corners[1], *slopes


def _within(t):
  """t, whose value rounding may have put outside of [0, 1], where logs end."""
  return t + jax.lax.stop_gradient(jnp.clip(t, 0, 1) - t)


def _slope(raw):
  """Positive slopes; softplus(0 + shift) + least = 1."""
  shift = math.log(math.expm1(1 - _LEAST))
  return _LEAST + jax.nn.softplus(raw + shift)


def _log_slope(t, s, low, high):
  rest = t * (1 - t)
  over = high * t**2 + 2 * s * rest + low * (1 - t) ** 2
  under = s + (low + high - 2 * s) * rest
  return 2 * jnp.log(s) + jnp.log(over) - 2 * jnp.log(under)


def _pick(index, array):
  """array[..., index], by a sum: on accelerators faster than a gather."""
  chosen = jax.nn.one_hot(index, array.shape[-1], dtype=bool)
  return jnp.sum(jnp.where(chosen, array, 0), -1)


def histogram(
  log_probs: Float[Array, "*D L"],
) -> tuple[Callable, Callable]:
  """The map of each coordinate to N(0, 1), for a density constant in bins.

    y = Phi^-1(F(x)),   F the distribution function with P(bin l) = p_l

  The L bins have equal widths and fill [-1 - h, 1 + h], h = 1.00001 / (L - 1):
  levels with uniform dequantisation. With the levels' frequencies, a standard
  normal y is the model of independent coordinates, which a flow then improves
  on. All probabilities must be positive.

  Args:
    log_probs: log of the probabilities of the L bins, [*D, L].

  Returns:
    (forward, inverse) as in Elementwise, without their params. Outside of the
    bins, forward gives NaN: the density is 0 there.
  """
  num_levels = log_probs.shape[-1]
  probs = jax.nn.softmax(log_probs)
  ends = jnp.cumsum(probs, -1)
  # Distances from both ends, so that the tails keep their digits.
  starts, left = ends - probs, jnp.cumsum(probs[..., ::-1], -1)[..., ::-1]
  width = 2 / (num_levels - 1) * _WIDER

  def slope(index, y):
    log_normal = -(y**2 + math.log(2 * math.pi)) / 2
    log_p = _pick(index, jax.nn.log_softmax(log_probs))
    return log_p - math.log(width) - log_normal

  def forward(x):
    place = x / width + num_levels / 2  # 0 to L
    index = jnp.clip(jnp.floor(place), 0, num_levels - 1).astype("int32")
    part, p = place - index, _pick(index, probs)
    below = _pick(index, starts) + part * p
    above = _pick(index, left) - part * p
    tail = jnp.minimum(below, above)
    small = jax.scipy.special.ndtri(tail)
    y = jnp.where(below < above, small, -small)
    return y, slope(index, y)

  def inverse(y):
    below = jax.scipy.special.ndtr(y)
    above = jax.scipy.special.ndtr(-y)
    to_left = jnp.sum(ends <= below[..., None], -1)
    to_right = jnp.sum(left >= above[..., None], -1) - 1
    index = jnp.where(below < above, to_left, to_right)
    index = jnp.clip(index, 0, num_levels - 1)
    p = _pick(index, probs)
    from_left = (below - _pick(index, starts)) / p
    from_right = (_pick(index, left) - above) / p
    part = jnp.where(below < above, from_left, from_right)
    x = (index + part - num_levels / 2) * width
    return x, -slope(index, y)

  return forward, inverse
