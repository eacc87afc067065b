"""The truncated normal distribution, also accurate in the tails.

  p(x) = N(x; mean, std^2) / Z,   Z = Phi(b) - Phi(a),   low <= x <= high

with a, b the ends in standard deviations from the mean. Where both ends are
beyond two deviations on one side, Phi and its inverse lose digits in float32,
and beyond eight deviations all of them. There everything is computed relative
to the end nearer to the mean, say a (the other side follows by symmetry):

  x = low + std d,   p(x) = exp(-d (a + d / 2)) h(a) / (std mass),
  mass = 1 - Q(b) / Q(a),   Q = 1 - Phi,   h = phi / Q
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_FAR = 2.0  # up to here rounding of Phi changes d by less than 1e-6


def draw(
  key: Array,
  shape: tuple[int, ...],
  mean: float,
  std: float,
  low: float,
  high: float,
) -> Float[Array, "..."]:
  """Samples between the ends, up to rounding.

  Args:
    key: typed key.
    shape: shape of the result.
    mean: mean of the normal distribution before truncation.
    std: its standard deviation, positive.
    low: the lower end.
    high: the upper end.
  """
  tail = _tail(mean, std, low, high)
  if tail is None:
    ends = (low - mean) / std, (high - mean) / std
    return mean + std * jax.random.truncated_normal(key, *ends, shape)
  return tail.near + tail.scale * _distance(
    tail, jax.random.uniform(key, shape)
  )


def density(mean: float, std: float, low: float, high: float) -> Callable:
  """(x, rate) -> p(x) rate, the density over y of an x(y) with dx/dy = rate.

  Elementwise. Outside the ends it gives the same formula, not 0. Args: as in
  `draw`.
  """
  tail = _tail(mean, std, low, high)
  cdf = lambda x: math.erf((x - mean) / (std * 2**0.5)) / 2
  mass = cdf(high) - cdf(low)

  def near(x, rate):
    return jnp.exp(jax.scipy.stats.norm.logpdf(x, mean, std)) * rate / mass

  def far(x, rate):
    d = (x - tail.near) / tail.scale
    fall = jnp.exp(-d * (tail.start + d / 2))
    return fall * rate * (_hazard(tail.start) / (std * tail.mass))

  return near if tail is None else far


class _Tail(NamedTuple):
  """Two ends beyond `_FAR` deviations on one side: x = near + scale d."""

  near: float  # the end nearer to the mean
  scale: float  # std, negative if below the mean
  start: float  # near, in deviations from the mean, positive
  mass: float  # probability between the ends, relative to that beyond near


def _tail(mean, std, low, high):
  near, far, scale = (high, low, -std) if mean > high else (low, high, std)
  start, end = (near - mean) / scale, (far - mean) / scale
  if not start > _FAR:
    return None
  log_beyond = (start - end) * (start + end) / 2
  log_beyond += math.log(_hazard(start) / _hazard(end))
  return _Tail(near, scale, start, -math.expm1(log_beyond))


def _hazard(z):
  """h(z) for z >= 2, by Laplace's continued fraction; z is a float or array."""
  return functools.reduce(lambda rest, k: z + k / rest, range(32, 0, -1), z)


def _distance(tail, u):
  """d with Q(start + d) = v Q(start), v = 1 - mass u, by Newton's method.

  log Q(start + d) is concave in d, so from a start above the solution (with
  exp(-z^2 / 2) in place of Q) every step decreases d toward it; three steps
  reach float64's rounding.
  """
  log_v = jnp.log1p(-tail.mass * u)
  d = -2 * log_v / (tail.start + jnp.sqrt(tail.start**2 - 2 * log_v))
  for _ in range(3):
    hazard = _hazard(tail.start + d)
    log_q = jnp.log(_hazard(tail.start) / hazard) - d * (tail.start + d / 2)
    d = d + (log_q - log_v) / hazard
  return d
