"""Adaptive solutions of dx/dt = velocity, by diffrax.

An embedded Runge-Kutta pair estimates the error of each step; a controller
accepts the step or tries a shorter one, until

  |error| <= atol + rtol |x|     (root mean square over coordinates)

The number of steps depends on x, so it is returned with the result. Under vmap
every example has its own steps and counts, and the batch runs as long as its
slowest example. Needs diffrax: pip install 'jaxgen[adaptive]'.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from jaxgen import dtypes, fields


class Stats(NamedTuple):
  """Statistics of an adaptive solve, [] each.

  Attributes:
    num_steps: steps attempted.
    num_accepted: steps accepted.
    num_rejected: steps rejected and repeated with a shorter length.
    num_calls: evaluations of the field.
    succeeded: whether it reached the end with finite x, within max_steps.
  """

  num_steps: Int[Array, ""]
  num_accepted: Int[Array, ""]
  num_rejected: Int[Array, ""]
  num_calls: Int[Array, ""]
  succeeded: Bool[Array, ""]


def integrate(
  field: fields.Field,
  x: Float[Array, "*D"],
  start: Float[ArrayLike, ""],
  end: Float[ArrayLike, ""],
  *,
  rtol: float = 1e-5,
  atol: float = 1e-5,
  solver: Any = None,
  adjoint: Any = None,
  max_steps: int = 4096,
) -> tuple[Float[Array, "*D"], Stats]:
  """Integrates the velocity from time start to time end, before or after it.

  Args:
    field: the field to integrate; it must give a velocity.
    x: the state at start, [*D], of any float dtype, in which the field gets x;
      tolerances below its rounding error cost steps and gain nothing.
    start: initial time, [].
    end: final time, []; below start to generate, above to encode.
    rtol: relative tolerance of a step.
    atol: absolute tolerance of a step.
    solver: an explicit Runge-Kutta method of diffrax with an error estimate;
      None is diffrax.Tsit5(). diffrax.Dopri8() suits tight tolerances.
    adjoint: how diffrax differentiates; None is its
      RecursiveCheckpointAdjoint(), reverse mode through the steps taken. Use
      ForwardMode() for jvps. BacksolveAdjoint() solves the adjoint equation; it
      gives no gradients for start and end.
    max_steps: maximal number of steps attempted.

  Returns:
    The state at end, [*D], in x's dtype, NaN where the solve did not succeed
    (traced values cannot raise), and Stats.

  Raises:
    ValueError: the field gives no velocity of x's shape, a tolerance or
      max_steps is not positive, start or end is in half precision, or solver
      has no error estimate.
    ImportError: diffrax is not installed.

  Reference: Tsitouras 2011, Computers and Mathematics with Applications 62(2);
  Kidger 2021, arXiv:2202.02435, section 5.
  """
  diffrax = _diffrax()
  for name, t in dict(start=start, end=end).items():
    dtypes.require_wide(name, jnp.result_type(t, float))
  wide = dtypes.wider(x.dtype)
  start, end = jnp.asarray(start, wide), jnp.asarray(end, wide)
  _check(field, x, start, rtol=rtol, atol=atol, max_steps=max_steps)
  found, stats = _solve(
    *(fields.widened(field, x.dtype, wide), x.astype(wide), start, end),
    diffrax.Tsit5() if solver is None else solver,
    stepsize_controller=diffrax.PIDController(rtol, atol),
    adjoint=diffrax.RecursiveCheckpointAdjoint()
    if adjoint is None
    else adjoint,
    max_steps=max_steps,
  )
  return found.astype(x.dtype), stats


def _solve(field, x, start, end, solver, **settings):
  diffrax = _diffrax()
  kinds = diffrax.AbstractERK, diffrax.AbstractAdaptiveSolver
  if not all(isinstance(solver, kind) for kind in kinds):
    raise ValueError(
      "adaptive.integrate: expected solver an explicit Runge-Kutta method of"
      f" diffrax with an error estimate, got {type(solver).__name__}"
    )
  # Closed-over values must be arguments, as BacksolveAdjoint requires.
  velocity, closed = jax.closure_convert(
    lambda x, t: field(x, t).velocity, x, start
  )
  first = (end - start) / 1000  # the controller grows it tenfold a step
  solution = diffrax.diffeqsolve(
    diffrax.ODETerm(lambda t, x, closed: velocity(x, t, *closed)),
    *(solver, start, end, first, x, closed),
    throw=False,
    **settings,
  )
  x, stats = solution.ys[-1], solution.stats
  arrived = solution.result == diffrax.RESULTS.successful
  succeeded = arrived & jnp.all(jnp.isfinite(x))
  # With FSAL, the last stage of a step is the first stage of the next.
  fsal, steps = int(solver.tableau.fsal), stats["num_steps"]
  return jnp.where(succeeded, x, jnp.nan), Stats(
    num_steps=steps,
    num_accepted=stats["num_accepted_steps"],
    num_rejected=stats["num_rejected_steps"],
    num_calls=(solver.tableau.num_stages - fsal) * steps + fsal,
    succeeded=succeeded,
  )


def _diffrax():
  try:
    import diffrax
  except ModuleNotFoundError:
    raise ImportError(
      "adaptive.integrate needs diffrax: pip install 'jaxgen[adaptive]'"
    ) from None
  return diffrax


def _check(field, x, t, **positive):
  """Raises where the solve cannot run (traces the field once)."""
  for name, value in positive.items():
    if not value > 0:
      raise ValueError(f"adaptive.integrate: expected {name} > 0, got {value}")
  velocity = fields.outline(field, x, t.dtype).velocity
  if velocity is None or velocity.shape != x.shape:
    got = None if velocity is None else f"shape {velocity.shape}"
    raise ValueError(
      f"field: expected velocity of shape {x.shape}, which"
      f" adaptive.integrate needs, got {got}"
    )
