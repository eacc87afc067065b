"""Sinkhorn's iteration in the log domain: potentials of entropic transport.

  max  <a, u> + <b, v> - epsilon (<a b^T, exp((u + v - c) / epsilon)> - 1)

  u_i = T(v)_i = -epsilon log sum_j b_j exp((v_j - c_ij) / epsilon)

is the optimal u for given v, and likewise v = T(u) for given u. Starting at a
small epsilon, these steps take on the order of c / epsilon iterations. Here the
smoothing falls by 5 % per iteration, from the largest difference of costs to
epsilon, and only then, near the optimum, iterates until the threshold.

Reference: Cuturi 2013, arXiv:1306.0895; Kosowsky and Yuille 1994, Neural
Networks 7 (epsilon scaling); Thibault et al. 2017, arXiv:1711.01851
(overrelaxation); Feydy et al. 2019, arXiv:1810.08278, section 3.1 (the
symmetric problem).
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_DECAY = 0.95
_OVERRELAXED = 1.5


def between(
  cost: Float[Array, "N M"],
  a: Float[Array, "N"],
  b: Float[Array, "M"],
  *,
  epsilon: float,
  threshold: float,
  max_iterations: int,
) -> tuple[Float[Array, "N"], Float[Array, "M"]]:
  """Entropic potentials u and v of two clouds.

  Updates u and v alternately, with overrelaxation 1.5.

  Args:
    cost: the cost c of every pair.
    a: weights of the rows, with sum one.
    b: weights of the columns, with sum one.
    epsilon: regularisation, positive.
    threshold: stop when the error of the row marginals, sum_i |p_i - a_i|, is
      below this value.
    max_iterations: limit on the number of iterations.

  Returns:
    u and v = T(u), so that the plan's columns sum to b.
  """
  return _solve(_by_turns, cost, a, b, epsilon, threshold, max_iterations)


def within(
  cost: Float[Array, "N N"],
  a: Float[Array, "N"],
  *,
  epsilon: float,
  threshold: float,
  max_iterations: int,
) -> tuple[Float[Array, "N"], Float[Array, "N"]]:
  """Potentials of a cloud with itself, c_ij = c_ji: u = v, averaged with T(u).

  Takes tens of iterations where `between` takes hundreds. Args and Returns: as
  there.
  """
  return _solve(_as_one, cost, a, a, epsilon, threshold, max_iterations)


def _best(cost, potential, weights, epsilon):
  exponents = (potential[None] - cost) / epsilon
  return -epsilon * jax.nn.logsumexp(exponents, axis=1, b=weights[None])


def _by_turns(cost, a, b, epsilon, u, v, far):
  """The next u and v, and T(v) for the given v."""
  best = _best(cost, v, b, epsilon)
  u = u + far * (best - u)
  return u, v + far * (_best(cost.T, u, a, epsilon) - v), best


def _as_one(cost, a, b, epsilon, u, v, far):
  best = _best(cost, u, a, epsilon)
  u = (u + best) / 2
  return u, u, best


@functools.partial(jax.jit, static_argnums=0)  # one program for every epsilon
def _solve(step, cost, a, b, epsilon, threshold, max_iterations):
  def iterate(state):
    number, smoothing, _, u, v = state
    smoothing = jnp.maximum(_DECAY * smoothing, epsilon)
    far = jnp.where(smoothing > epsilon, 1.0, _OVERRELAXED)
    after, v, best = step(cost, a, b, smoothing, u, v, far)
    # The rows of the plan of u and v sum to a exp((u - T(v)) / epsilon).
    error = jnp.sum(a * jnp.abs(jnp.expm1((u - best) / smoothing)))
    return number + 1, smoothing, error, after, v

  def goes_on(state):
    number, smoothing, error, *_ = state
    done = (smoothing <= epsilon) & (error <= threshold)
    return (number < max_iterations) & ~done

  first = (jnp.max(cost) - jnp.min(cost)) / _DECAY
  start = 0, first, jnp.full_like(first, jnp.inf), 0 * a, 0 * b
  *_, u, v = jax.lax.while_loop(goes_on, iterate, start)
  u = _best(cost, v, b, epsilon)
  return u, _best(cost.T, u, a, epsilon)
