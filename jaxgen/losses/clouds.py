"""Differentiable distances between two point clouds, as losses of a generator.

  x [N, *D] with weights a, y [M, *D] with weights b; uniform by default

  OT_epsilon  min over plans of  <plan, c> + epsilon KL(plan | a b^T)
  Sinkhorn    OT_epsilon(x, y) - OT_epsilon(x, x) / 2 - OT_epsilon(y, y) / 2
  sliced      the mean over directions of W2^2 of the projections
  energy      2 E|x - y| - E|x - x'| - E|y - y'|

No critic is needed: each compares a batch of a generator with a batch of data.
As an estimate of the distance between distributions it is biased. All but
OT_epsilon are 0 for equal clouds. All are differentiable in x and y, and may be
traced.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxgen import costs, keys
from jaxgen.losses import sinkhorn


class Entropic(NamedTuple):
  """Entropic transport between two clouds.

  Attributes:
    value: OT_epsilon, by its dual: a lower bound, however large the error.
    first: u, [N]; 0 where a is 0.
    second: v, [M]; 0 where b is 0. exp((u + v - c) / epsilon) is the density of
      the plan with respect to a b^T, as in wasserstein.entropic.
    error: error of the marginals, sum_i |p_i - a_i| + sum_j |p_j - b_j|, [].
  """

  value: Array
  first: Array
  second: Array
  error: Array


class Divergence(NamedTuple):
  """A Sinkhorn divergence.

  Attributes:
    value: the divergence, [].
    error: the largest marginal error of its three plans, [], as in `Entropic`.
  """

  value: Array
  error: Array


def entropic(
  x: Float[Array, "N ..."],
  y: Float[Array, "M ..."],
  *,
  epsilon: float,
  cost: costs.Cost = costs.square,
  a: Float[Array, "..."] | None = None,
  b: Float[Array, "..."] | None = None,
  threshold: float = 1e-4,
  max_iterations: int = 2000,
) -> Entropic:
  """OT_epsilon of two clouds by Sinkhorn's iteration.

    max  <a, u> + <b, v> - epsilon (<a b^T, exp((u + v - c) / epsilon)> - 1)

  Its gradient is that of <plan, c> with the plan held constant, since u and v
  are optimal. Memory is proportional to N M.

  Args:
    x: [N, *D].
    y: [M, *D].
    epsilon: regularisation, in the cost's units, positive.
    cost: c, ([*D], [*D]) -> [].
    a: weights of x, [N], with sum one.
    b: weights of y, [M], with sum one.
    threshold: error at which the iteration stops; in float32 the error stays
      above about 1e-7 max c / epsilon.
    max_iterations: limit on the iterations, at least 1; check the error if it
      may be reached. About 20 log(max c / epsilon) iterations reduce the
      smoothing to epsilon, and some hundreds follow.

  Raises:
    ValueError: the points differ in shape, a cloud is empty, epsilon is not
      positive, max_iterations is below 1, or weights have the wrong length, or
      are concrete and negative or do not sum to one.

  Reference: Cuturi 2013, arXiv:1306.0895; Feydy et al. 2019, arXiv:1810.08278,
  eq. 4 and 6.
  """
  _check(x, y)
  a, b = _weights("a", a, x), _weights("b", b, y)
  limits = _limits(epsilon, threshold, max_iterations)
  return _transport(_pairs(cost, x, y), a, b, limits, sinkhorn.between)


def sinkhorn_divergence(
  x: Float[Array, "N ..."],
  y: Float[Array, "M ..."],
  *,
  epsilon: float,
  cost: costs.Cost = costs.square,
  a: Float[Array, "..."] | None = None,
  b: Float[Array, "..."] | None = None,
  threshold: float = 1e-4,
  max_iterations: int = 2000,
) -> Divergence:
  """The Sinkhorn divergence: entropic transport without its bias.

    OT_epsilon(x, y) - OT_epsilon(x, x) / 2 - OT_epsilon(y, y) / 2

  It interpolates between the transport cost, as epsilon -> 0, and a kernel
  distance, as epsilon -> infinity: |mean x - mean y|^2 for c = square, half of
  `energy_distance` for c = distance. For both costs it is at least 0, and 0 for
  equal clouds. The cost must be symmetric.

  Args and Raises: as in `entropic`.

  Returns:
    The value and its marginal error, which should be checked if epsilon is
    small.

  Reference: Genevay et al. 2018, arXiv:1706.00292; Feydy et al. 2019,
  arXiv:1810.08278, eq. 3.
  """
  _check(x, y)
  a, b = _weights("a", a, x), _weights("b", b, y)
  limits = _limits(epsilon, threshold, max_iterations)
  within = lambda cost, a, b, **limits: sinkhorn.within(cost, a, **limits)
  of_both, *own = (
    _transport(_pairs(cost, x, y), a, b, limits, sinkhorn.between),
    _transport(_pairs(cost, x, x), a, a, limits, within),
    _transport(_pairs(cost, y, y), b, b, limits, within),
  )
  value = of_both.value - (own[0].value + own[1].value) / 2
  errors = jnp.stack([of_both.error, own[0].error, own[1].error])
  return Divergence(value, jnp.max(errors))


def sliced_wasserstein(
  key: Array,
  x: Float[Array, "N ..."],
  y: Float[Array, "M ..."],
  num_directions: int,
) -> Float[Array, ""]:
  """The squared sliced 2-Wasserstein distance, a mean over random directions.

    mean_k int_0^1 (F_k^-1(q) - G_k^-1(q))^2 dq,   F_k of <x, e_k>, |e_k| = 1

  In one dimension the optimal plan pairs equal quantiles. These are step
  functions with steps 1 / N and 1 / M, so the integral is a sum, exact for any
  two sizes. In expectation over directions the value is at most W2^2 / D, with
  equality if y is a translation of x.

  Args:
    key: of the directions.
    x: [N, *D].
    y: [M, *D].
    num_directions: number of directions, at least 1.

  Raises:
    ValueError: the points differ in shape, a cloud is empty, num_directions is
      below 1, or key is a legacy key.

  Reference: Bonneel et al. 2015, Journal of Mathematical Imaging and Vision 51;
  Deshpande et al. 2018, arXiv:1803.11188.
  """
  keys.require_typed(key)
  _check(x, y)
  if not num_directions >= 1:
    raise ValueError(
      f"num_directions: expected at least 1, got {num_directions}"
    )
  x, y = x.reshape(len(x), -1), y.reshape(len(y), -1)
  middle = jax.lax.stop_gradient(x.mean(0))[None]
  x, y = x - middle, y - middle  # points far from zero would lose digits
  along = jax.random.normal(key, (num_directions, x.shape[1]), x.dtype)
  along = along / jax.vmap(costs.norm)(along)[:, None]
  # Starts and lengths of the steps of either function, in units of 1 / (N M).
  steps = np.union1d(np.arange(len(x) + 1) * len(y), np.arange(len(y)) * len(x))
  starts, lengths = steps[:-1], np.diff(steps) / steps[-1]
  gaps = (
    jnp.sort(along @ x.T)[:, starts // len(y)]
    - jnp.sort(along @ y.T)[:, starts // len(x)]
  )
  return jnp.mean(gaps**2 @ jnp.asarray(lengths, gaps.dtype))


def energy_distance(
  x: Float[Array, "N ..."], y: Float[Array, "M ..."]
) -> Float[Array, ""]:
  """The squared energy distance of two clouds; SciPy returns its square root.

    2 mean_ij |x_i - y_j| - mean_ij |x_i - x_j| - mean_ij |y_i - y_j|

  This is the distance of the clouds themselves, so it is never negative. As an
  estimate for their distributions, its bias is E|x - x'| / N + E|y - y'| / M.

  Args:
    x: [N, *D].
    y: [M, *D].

  Raises:
    ValueError: the points differ in shape, or a cloud is empty.

  Reference: Szekely and Rizzo 2013, Journal of Statistical Planning and
  Inference 143; Bellemare et al. 2017, arXiv:1705.10743.
  """
  _check(x, y)
  apart = lambda x, y: jnp.mean(
    jax.vmap(lambda x: jax.vmap(lambda y: costs.distance(x, y))(y))(x)
  )
  return 2 * apart(x, y) - apart(x, x) - apart(y, y)


def _check(x, y):
  if x.shape[1:] != y.shape[1:] or not len(x) or not len(y):
    raise ValueError(
      "y: expected points of the same shape as in x, at least one of each, got"
      f" x {list(x.shape)} and y {list(y.shape)}"
    )


def _weights(name, weights, x):
  """Validated weights, uniform for None; traced values are not checked."""
  if weights is None:
    return jnp.full(len(x), 1 / len(x), x.dtype)
  if weights.shape != x.shape[:1]:
    raise ValueError(
      f"{name}: expected one weight for each of {len(x)} points, got shape"
      f" {list(weights.shape)}"
    )
  if not isinstance(weights, jax.core.Tracer):
    total = np.asarray(weights, np.float64).sum()
    if not (np.all(np.asarray(weights) >= 0) and abs(total - 1) < 1e-4):
      raise ValueError(
        f"{name}: expected weights of at least 0 that sum to one, got the sum"
        f" {total:.6g} and the least {np.min(weights):.6g}"
      )
  return weights


def _pairs(cost, x, y):
  return jax.vmap(lambda x: jax.vmap(lambda y: cost(x, y))(y))(x)


def _limits(epsilon, threshold, max_iterations):
  if not epsilon > 0:
    raise ValueError(f"epsilon: expected a positive number, got {epsilon}")
  if max_iterations < 1:
    raise ValueError(
      f"max_iterations: expected at least 1, got {max_iterations}"
    )
  return dict(
    epsilon=float(epsilon),
    threshold=float(threshold),
    max_iterations=int(max_iterations),
  )


def _transport(paid, a, b, limits, solve):
  """Entropic transport of costs [N, M], from the potentials of `solve`."""
  held = jax.lax.stop_gradient((paid, a, b))
  u, v = jax.lax.stop_gradient(solve(*held, **limits))
  epsilon = limits["epsilon"]
  plan = a[:, None] * b[None]
  plan = plan * jnp.exp((u[:, None] + v[None] - paid) / epsilon)
  value = jnp.sum(a * u) + jnp.sum(b * v) - epsilon * (jnp.sum(plan) - 1)
  error = jnp.sum(jnp.abs(jnp.sum(plan, 1) - a))
  error = error + jnp.sum(jnp.abs(jnp.sum(plan, 0) - b))
  return Entropic(
    value, jnp.where(a > 0, u, 0.0), jnp.where(b > 0, v, 0.0), error
  )
