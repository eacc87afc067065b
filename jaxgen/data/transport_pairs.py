"""Pairs of distributions with known optimal transport: offline benchmarks.

A pair samples its optimal plan: the x and y of one key are matched. Duals and
maps are trained on unpaired samples: x from one key, y from another.

  distance  f is 1-Lipschitz:  W1 = E |x - y| = E f(x) - E f(y)
  squared   phi is convex:     W2^2 = E |x - y|^2,  y = grad phi(x)

f is high on the first distribution, as a critic is on real data. Every
transport cost is exactly E cost(x, y) over paired samples.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxgen import costs, keys


class Pair(NamedTuple):
  """Two distributions on R^D and the optimal transport from first to second.

  Attributes:
    dim: D.
    sample: key -> (x [D], y [D]), one sample of the optimal plan.
    cost: (x, y) -> [], |x - y| or |x - y|^2.
    potential: [D] -> [], f or phi as in the module's docstring.
    transport: x [D] -> y [D] if the plan is a map, otherwise None.
  """

  dim: int
  sample: Callable
  cost: Callable
  potential: Callable
  transport: Callable | None = None


def funnels(
  key: Array,
  dim: int,
  num_funnels: int,
  *,
  half_width: float = 2.5,
  power: float = 8.0,
) -> Pair:
  """The W1 benchmark of random MinFunnel potentials.

    u(x) = min_n |x - a_n| + b_n,   f = -u

  y ~ U[-L, L]^D lies on a ray of u, which runs from an anchor a_n through y to
  where u stops increasing at rate one. If y is at the fraction s of the ray, x
  is at s^power. |grad u| = 1 and mass moves along rays, so f is optimal and
  W1 = E u(y) - E u(x).

  Args:
    key: of the anchors a ~ U[-L, L]^D and the heights b ~ .1 N(0, 1).
    dim: D, at least 1.
    num_funnels: N, at least 1.
    half_width: L, positive.
    power: at least 1; x is nearer to its anchor for larger powers.

  Raises:
    ValueError: a number is out of range, or key is a legacy key.

  Reference: Korotin et al. 2022, arXiv:2206.07767, section 4.
  """
  keys.require_typed(key)
  _at_least(1, dim=dim, num_funnels=num_funnels, power=power)
  if not half_width > 0:
    raise ValueError(f"half_width: expected above 0, got {half_width}")
  anchor_key, height_key = jax.random.split(key)
  uniform = lambda key, shape: jax.random.uniform(
    key, shape, minval=-half_width, maxval=half_width
  )
  anchors = uniform(anchor_key, (num_funnels, dim))
  heights = 0.1 * jax.random.normal(height_key, (num_funnels,))

  def values(x):
    return jax.vmap(lambda anchor: costs.norm(x - anchor))(anchors) + heights

  def sample(key):
    y = uniform(key, (dim,))
    value = values(y)
    n = jnp.argmin(value)
    from_anchor = y - anchors[n]
    reached = costs.norm(from_anchor)
    direction = from_anchor / reached
    box = (jnp.sign(direction) * half_width - y) / direction
    box = jnp.where(direction == 0, jnp.inf, jnp.abs(box))
    met = _meetings(y, direction, value[n], anchors, heights)
    met = jnp.where(jnp.arange(num_funnels) == n, jnp.inf, met)
    length = reached + jnp.minimum(jnp.min(met), jnp.min(box))
    x = anchors[n] + length * (reached / length) ** power * direction
    return x, y

  return Pair(dim, sample, costs.distance, lambda x: -jnp.min(values(x)))


def swapped(pair: Pair) -> Pair:
  """The pair with its two distributions exchanged, for W1; its potential is -f.

  Raises:
    ValueError: the pair has a map, whose inverse is unknown.
  """
  if pair.transport is not None:
    raise ValueError("pair: expected one for the cost |x - y|, got one for W2")
  return pair._replace(
    sample=lambda key: pair.sample(key)[::-1],
    potential=lambda x: -pair.potential(x),
  )


def shifted(dim: int, shift: float = 2.0) -> Pair:
  """N(0, I) and N(shift e, I), e = 1 / sqrt(D): W1 = |shift|, f = -+<e, x>.

  Args:
    dim: D, at least 1.
    shift: shift of the mean along the diagonal, of either sign.

  Raises:
    ValueError: dim is below 1.
  """
  _at_least(1, dim=dim)
  along = jnp.full((dim,), dim**-0.5)

  def sample(key):
    x = jax.random.normal(key, (dim,))
    return x, x + shift * along

  sign = jnp.sign(shift)
  return Pair(dim, sample, costs.distance, lambda x: -sign * jnp.sum(along * x))


def scaled(
  dim: int, scale: float = 2.0, *, num_axes: int | None = None
) -> Pair:
  """N(0, I) and N(0, scale^2 on some axes, 1 on the others): f = -+|P x|.

  P projects onto the scaled axes, rays are perpendicular to the other axes, and
  W1 = |scale - 1| E |P x|.

  Args:
    dim: D, at least 1.
    scale: factor on the scaled axes, positive.
    num_axes: the first num_axes axes are scaled, at most D; None means all.

  Raises:
    ValueError: a number is out of range.
  """
  num_axes = dim if num_axes is None else num_axes
  _at_least(1, num_axes=num_axes)
  _at_least(num_axes, dim=dim)
  if not scale > 0:
    raise ValueError(f"scale: expected above 0, got {scale}")
  those = (jnp.arange(dim) < num_axes).astype(jnp.float32)

  def sample(key):
    x = jax.random.normal(key, (dim,))
    return x, x + (scale - 1) * those * x

  sign = jnp.sign(scale - 1)
  potential = lambda x: -sign * costs.norm(those * x)
  return Pair(dim, sample, costs.distance, potential)


def exponential() -> Pair:
  """U[0, 1] and the exponential distribution of mean 1 on a line: W2^2 = 5/6.

  The monotone map, which is optimal for every convex cost of x - y:

    T(x) = -log(1 - x),   phi(x) = x + (1 - x) log(1 - x)
  """
  transport = lambda x: -jnp.log1p(-x)

  def sample(key):
    x = jax.random.uniform(key, (1,))
    return x, transport(x)

  potential = lambda x: jnp.sum(x - (1 - x) * transport(x))
  return Pair(1, sample, costs.square, potential, transport)


def gaussians(key: Array, dim: int) -> Pair:
  """The W2 benchmark of two random Gaussians, N(0, C) to N(0, S).

    covariance W W^T,  W = rotation diag(exp linspace(log .5, log 2))
    T x = A x,  A = C^-1/2 (C^1/2 S C^1/2)^1/2 C^-1/2,  phi(x) = <x, A x> / 2

  Reference: Korotin et al. 2021, arXiv:1909.13082, section 5; Dowson and
  Landau 1982, Journal of Multivariate Analysis 12.
  """
  keys.require_typed(key)
  _at_least(1, dim=dim)
  first, second = (_covariance(k, dim) for k in jax.random.split(key))
  root, inverse = _power(first, 0.5), _power(first, -0.5)
  matrix = inverse @ _power(root @ second @ root, 0.5) @ inverse
  matrix = (matrix + matrix.T) / 2
  transport = lambda x: matrix @ x

  def sample(key):
    x = root @ jax.random.normal(key, (dim,))
    return x, transport(x)

  potential = lambda x: jnp.dot(x, transport(x)) / 2
  return Pair(dim, sample, costs.square, potential, transport)


def log_sum_exp(
  key: Array,
  dim: int,
  *,
  num_planes: int = 8,
  temperature: float = 1.0,
  convexity: float = 0.5,
) -> Pair:
  """The W2 benchmark of a convex potential: N(0, I) and its image by grad phi.

    phi(x) = convexity |x|^2 / 2 + T log sum_k exp((<a_k, x> + b_k) / T)
    a_k ~ 3 / sqrt(D) N(0, I),   b_k ~ N(0, 1)

  With temperature .5 and convexity .1 this is the hard tier, where the map
  nearly sends everything to a few points.

  Raises:
    ValueError: a number is out of range, or key is a legacy key.
  """
  keys.require_typed(key)
  _at_least(1, dim=dim, num_planes=num_planes)
  if not (temperature > 0 and convexity > 0):
    raise ValueError(
      "log_sum_exp: expected positive temperature and convexity, got"
      f" {temperature} and {convexity}"
    )
  slope_key, height_key = jax.random.split(key)
  slopes = 3 * dim**-0.5 * jax.random.normal(slope_key, (num_planes, dim))
  heights = jax.random.normal(height_key, (num_planes,))

  def potential(x):
    planes = jax.nn.logsumexp((slopes @ x + heights) / temperature)
    return convexity * jnp.sum(x**2) / 2 + temperature * planes

  transport = jax.grad(potential)

  def sample(key):
    x = jax.random.normal(key, (dim,))
    return x, transport(x)

  return Pair(dim, sample, costs.square, potential, transport)


def _meetings(y, direction, value, anchors, heights):
  """For each funnel, the r with |y + r v - a| + b = u(y) + r; inf if none."""

  def meeting(anchor, height):
    delta, excess = y - anchor, value - height
    slope = 2 * (excess - jnp.sum(delta * direction))
    apart = slope != 0  # except its own funnel, where every r is a solution
    r = jnp.sum(delta**2) - excess**2
    r = r / jnp.where(apart, slope, 1.0)
    return jnp.where(apart & (r > 0) & (r > -excess), r, jnp.inf)

  return jax.vmap(meeting)(anchors, heights)


def _covariance(key, dim):
  rotation = jax.random.orthogonal(key, dim)
  spread = jnp.exp(jnp.linspace(jnp.log(0.5), jnp.log(2.0), dim))
  factor = rotation @ jnp.diag(spread)
  return factor @ factor.T


def _power(matrix, power):
  """The matrix power of a symmetric positive definite matrix."""
  values, vectors = jnp.linalg.eigh(matrix)
  return vectors @ jnp.diag(values**power) @ vectors.T


def _at_least(least, **numbers):
  for name, number in numbers.items():
    if not number >= least:
      raise ValueError(f"{name}: expected at least {least}, got {number}")
