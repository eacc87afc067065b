"""Log-densities of flows on manifolds, by the change of variables.

Along dx/dt = v(x, t), v tangent to the manifold, the log-density with respect
to its volume falls by the Riemannian divergence of v,

  log p_start(x) = log p_end(x_end) + int_start^end div v dt
  div v = tr(P J P),   P the projection to the tangent space at x,

J the Jacobian of v in the ambient coordinates. One P suffices for the trace;
with both, the variance of random probes is that of the tangent space. Point and
integral are solved together, the integral as a flat coordinate beside the
manifold's, so that every state is a point of the manifold. The measure is that
of the given density: the area of the sphere if the uniform density of S^2 is
given as 1 / (4 pi).

Reference: Chen et al. 2018, arXiv:1806.07366, theorem 1; Mathieu and Nickel
2020, arXiv:2006.10605, proposition 2 (manifolds).
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen import fields, likelihood, manifolds, samplers, traces


def log_prob(
  solver: samplers.Solver,
  field: fields.Field,
  x: Float[Array, "*D"],
  times: Float[Array, "..."],
  key: Array,
  *,
  manifold: manifolds.Manifold,
  prior: Callable[[Array], Array],
  trace: traces.Trace,
) -> likelihood.Density:
  """log p(x) at times[0], from the known density at times[-1].

  Args:
    solver: a solver that samplers.on_manifold accepts: euler, heun, midpoint,
      rk4.
    field: a field with a velocity, which is projected to tangents.
    x: a point of the manifold, [*D].
    times: the grid from data to source, increasing, [N + 1].
    key: for the probes; exact() does not use it.
    manifold: one of jaxgen.manifolds.
    prior: log-density at the end, [*D] -> [].
    trace: as in likelihood.log_prob; exact() needs as many products as x has
      ambient coordinates.

  Returns:
    Density, whose end is a point of the manifold.

  Raises:
    ValueError: the solver is not accepted, or as in likelihood.log_prob.
  """
  solve, trace = _on(manifold, solver, x, times, trace)
  return likelihood.log_prob(solve, field, x, key, prior=prior, trace=trace)


def generate(
  solver: samplers.Solver,
  field: fields.Field,
  x: Float[Array, "*D"],
  times: Float[Array, "..."],
  key: Array,
  *,
  manifold: manifolds.Manifold,
  prior: Callable[[Array], Array],
  trace: traces.Trace,
) -> likelihood.Density:
  """A sample and its log-density, from x, a sample of the prior at times[0].

  The reverse of `log_prob`: times decrease from source to data, and log_prob is
  that of Density.end. Otherwise as `log_prob`.
  """
  solve, trace = _on(manifold, solver, x, times, trace)
  return likelihood.generate(solve, field, x, key, prior=prior, trace=trace)


def _on(manifold, solver, x, times, trace):
  """The solve of point and integrals, and the trace of the divergence."""
  both = _beside(manifold, x.size, x.shape)
  solve = likelihood.along(samplers.on_manifold(solver, both), times)

  def estimate(f, x, probes):
    def pulled(y):
      along = x + manifold.tangent(x, y - x)
      return manifold.tangent(x, manifold.tangent(along, f(along)))

    return trace.estimate(pulled, x, probes)

  return solve, trace._replace(estimate=estimate)


def _beside(manifold, size, shape):
  """The manifold, its points ravelled, times a flat space: [size + K]."""

  def each(on_point, on_rest):
    def fn(x, y):
      first = on_point(x[:size].reshape(shape), y[:size].reshape(shape))
      return jnp.concatenate([first.ravel(), on_rest(x[size:], y[size:])])

    return fn

  return manifolds.Manifold(
    manifold.name,
    exp=each(manifold.exp, lambda x, v: x + v),
    log=each(manifold.log, lambda x, y: y - x),
    tangent=each(manifold.tangent, lambda x, v: v),
  )
