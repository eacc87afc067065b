"""Solvers on manifolds: each step in the coordinates of its start.

With y = log(x_n, x), a step integrates the velocity in the flat tangent space
at x_n,

  dy/dt = d log(x_n, .)(x) v(x, t),   x = exp(x_n, y),

and ends at exp(x_n, y). So every state is a point of the manifold, and a
Runge-Kutta method keeps its order.

Reference: Munthe-Kaas 1999, Applied Numerical Mathematics 29(1) (Lie groups).
"""

import jax

from jaxgen import fields, manifolds
from jaxgen.samplers import driver


def on_manifold(
  solver: driver.Solver, manifold: manifolds.Manifold
) -> driver.Solver:
  """The solver on a manifold; the field's velocity is projected to tangents.

  A step must stay within the reach of log, shorter than the distance to the cut
  locus (pi on the sphere).

  Args:
    solver: a one-step method of the velocity alone: euler, heun, midpoint, rk4.
    manifold: one of jaxgen.manifolds.

  Raises:
    ValueError: the solver needs other estimates, or has memory.
  """
  if solver.needs != ("velocity",) or solver.init is not driver.no_memory:
    raise ValueError(
      "solver: expected a one-step method of the velocity (euler, heun,"
      f" midpoint, rk4), got {solver.name}"
    )

  def step(field, key, x, c, memory):
    def estimate(moved, t):
      place = manifold.exp(x, moved - x)
      velocity = manifold.tangent(place, field(place, t).velocity)
      there = lambda y: manifold.log(x, y)
      return fields.Estimate(jax.jvp(there, (place,), (velocity,))[1])

    end, memory = solver.step(fields.Field(estimate), key, x, c, memory)
    return manifold.exp(x, end - x), memory

  name = f"{solver.name} on the {manifold.name}"
  return solver._replace(name=name, step=step)
