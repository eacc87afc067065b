"""Distances of two clouds of points that a generator can descend.

  x [N, *D] of weights a, y [M, *D] of weights b; uniform where none are given

  OT_epsilon  min over plans of  <plan, c> + epsilon KL(plan | a b^T)
  Sinkhorn    OT_epsilon(x, y) - OT_epsilon(x, x) / 2 - OT_epsilon(y, y) / 2
  sliced      the mean over directions of W2^2 of the projections
  energy      2 E|x - y| - E|x - x'| - E|y - y'|

No critic: each is a loss of a generator's batch against one of data, biased as
an estimate of the same between laws, and 0 where the clouds are equal.
Differentiable in x and y, and traceable.
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
    value: OT_epsilon, by its dual: never too large, whatever the error.
    first: u, [N]; 0 where a is.
    second: v, [M]; 0 where b is. exp((u + v - c) / epsilon) is the density of
      the plan against a b^T, as in wasserstein.entropic.
    error: of the plan's margins, sum_i |p_i - a_i| + sum_j |p_j - b_j|, [].
  """

  value: Array
  first: Array
  second: Array
  error: Array


class Divergence(NamedTuple):
  """A Sinkhorn divergence.

  Attributes:
    value: [].
    error: the largest one of its three plans' margins, [], as in `Entropic`.
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

  Its gradient is that of the costs on the plan: u and v are at a maximum, and
  held. The memory is that of all pairs.

  Args:
    x: [N, *D].
    y: [M, *D].
    epsilon: in the cost's units, positive.
    cost: c, ([*D], [*D]) -> [].
    a: weights of x, [N], that sum to one.
    b: weights of y, [M], that sum to one.
    threshold: the error at which the iteration ends; float32 does not come
      below some 1e-7 max c / epsilon.
    max_iterations: at least 1, at which it ends in any case: see the error. 20
      log(max c / epsilon) until epsilon is reached, and some hundreds at it.

  Raises:
    ValueError: points of different shape, an empty cloud, an epsilon that is
      not positive, no iterations, weights of another number, or known not to
      be weights.

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
  """The Sinkhorn divergence, entropic transport less its bias.

    OT_epsilon(x, y) - OT_epsilon(x, x) / 2 - OT_epsilon(y, y) / 2

  It goes from the cost of transport at small epsilon to a kernel distance at
  large: |mean x - mean y|^2 for c = square, half of `energy_distance` for c =
  distance. For both costs at least 0, and 0 for equal clouds. The cost has to
  be symmetric.

  Args and Raises: as in `entropic`.

  Returns:
    The value and the error that it was left with: of a small epsilon, look.

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
  """The sliced 2-Wasserstein distance, squared: a mean over directions.

    mean_k int_0^1 (F_k^-1(q) - G_k^-1(q))^2 dq,   F_k of <x, e_k>, |e_k| = 1

  On a line the optimal plan pairs equal quantiles. These are steps of 1 / N and
  1 / M, so the integral is a sum, exact for any two sizes. Its mean over the
  directions is at most W2^2 / D, and just that of a shift.

  Args:
    key: of the directions.
    x: [N, *D].
    y: [M, *D].
    num_directions: how many, at least 1.

  Raises:
    ValueError: points of different shape, an empty cloud, no directions, a
      legacy key.

  Reference: Bonneel et al. 2015, Journal of Mathematical Imaging and Vision 51;
  Deshpande et al. 2018, arXiv:1803.11188.
  """
  keys.require_typed(key)
  _check(x, y)
  if not num_directions >= 1:
    raise ValueError(
      f"num_directions: expected 1 at least, got {num_directions}"
    )
  x, y = x.reshape(len(x), -1), y.reshape(len(y), -1)
  middle = jax.lax.stop_gradient(x.mean(0))[None]
  x, y = x - middle, y - middle  # what is far from zero loses digits
  along = jax.random.normal(key, (num_directions, x.shape[1]), x.dtype)
  along = along / jax.vmap(costs.norm)(along)[:, None]
  # In units of 1 / (N M): where a step of either begins, and its length.
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
  """The squared energy distance of two clouds; SciPy's is its root.

    2 mean_ij |x_i - y_j| - mean_ij |x_i - x_j| - mean_ij |y_i - y_j|

  Of the clouds themselves, so that it is never negative; between the laws that
  they are drawn from it is too large by E|x - x'| / N + E|y - y'| / M.

  Args:
    x: [N, *D].
    y: [M, *D].

  Raises:
    ValueError: points of different shape, or an empty cloud.

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
      "y: expected points of x's shape, one at least of each; got x"
      f" {list(x.shape)} and y {list(y.shape)}"
    )


def _weights(name, weights, x):
  """Uniform ones for None; those that are traced are believed."""
  if weights is None:
    return jnp.full(len(x), 1 / len(x), x.dtype)
  if weights.shape != x.shape[:1]:
    raise ValueError(
      f"{name}: expected one weight of each of {len(x)} points, got shape"
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
    raise ValueError(f"epsilon: expected positive, got {epsilon}")
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
  """Entropic transport of costs [N, M], by the potentials that solve finds."""
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
