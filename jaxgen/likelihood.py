"""Log-densities by the instantaneous change of variables.

Along dx/dt = v(x, t) the log-density falls by the divergence of v, so that for
a solve from a time `start` to a time `end`, in either direction of time,

  log p_start(x) = log p_end(x_end) + int_start^end div v dt

The integral is solved together with x, in one array [x ravelled, one integral
per probe]. Any solver that needs only a velocity can solve it, with fixed or
adaptive steps. `log_prob` takes the known density at the end of the solve,
`generate` at its start.

The result is the density of x_t at t = start. If start is t_min, this is not
yet the density of the data: `truncation` estimates the difference, and
dequantisation.py converts densities to probabilities of discrete levels. These
terms are returned separately.

Reference: Chen et al. 2018, arXiv:1806.07366, theorem 1; Song et al. 2021,
arXiv:2011.13456, appendix D.2.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float

from jaxgen import dtypes, fields, keys, samplers, traces


class Density(NamedTuple):
  """A log-density and its terms, in nats, [] each, in float32 or wider.

  Attributes:
    log_prob: log-density of x (from log_prob) or of end (from generate).
    prior: the given log-density, at the other end of the solve.
    divergence: int_start^end div v dt, the mean over probes.
    standard_error: standard error of divergence over probes; 0 if exact,
      infinite if it cannot be estimated (traces.mean).
    end: the state at the end of the solve, [*D], in x's dtype: the latent, or
      the sample.
    is_finite: whether log_prob and end are finite.
  """

  log_prob: Float[Array, ""]
  prior: Float[Array, ""]
  divergence: Float[Array, ""]
  standard_error: Float[Array, ""]
  end: Float[Array, "*D"]
  is_finite: Bool[Array, ""]


def normal(std: float) -> Callable[[Array], Array]:
  """The prior x -> log N(x; 0, std^2 I)."""
  if not 0 < std < math.inf:
    raise ValueError(f"normal: expected a positive std, got {std}")
  log_scale = math.log(2 * math.pi * std**2)
  return lambda x: -(jnp.sum((x / std) ** 2) + x.size * log_scale) / 2


def along(solver: samplers.Solver, times: Float[Array, "..."]) -> Callable:
  """A solve along a grid: increasing from data to noise, or the reverse.

  Args:
    solver: any deterministic solver that uses only the velocity (euler, heun,
      rk4, adams_bashforth, ...).
    times: the grid, [N + 1].

  Raises:
    ValueError: the solver needs other estimates.
  """
  if solver.needs != ("velocity",):
    raise ValueError(
      "along: expected a solver that needs the velocity alone, got"
      f" {solver.name}, which needs {' and '.join(solver.needs)}"
    )
  return lambda field, y, key: samplers.integrate(solver, field, y, times, key)


def adaptively(
  start: Float[ArrayLike, ""], end: Float[ArrayLike, ""], **settings: Any
) -> Callable:
  """An adaptive solve; settings are those of samplers.adaptive.integrate.

  The tolerances apply to x and the integrals together. If the solve does not
  succeed, the results are NaN.
  """

  def solve(field, y, key):
    return samplers.adaptive.integrate(field, y, start, end, **settings)[0]

  return solve


def log_prob(
  solve: Callable,
  field: fields.Field,
  x: Float[Array, "*D"],
  key: Array,
  *,
  prior: Callable[[Array], Array],
  trace: traces.Trace,
) -> Density:
  """log p_start(x), by integrating from x to a state with a known density.

    log p_start(x) = prior(x_end) + int_start^end div v dt

  Args:
    solve: (field, y, key) -> y at the end: along(solver, times) or
      adaptively(start, end). Times increase from data to noise.
    field: any field with a velocity, on a path or of a flow between datasets.
    x: a state at the start of the solve, [*D] (on a path: alpha(start) data).
    key: for the probes; exact() does not use it.
    prior: log-density of the state at the end, [*D] -> [], such as normal(std).
    trace: traces.exact(), hutchinson(K) or hutchpp(k).

  Returns:
    Density, whose end is the latent. Traced values cannot raise, so check
    is_finite. The interval log_prob +- q standard_error, with Student's q for
    num_probes - 1 degrees of freedom, does not include the solver's error.

  Raises:
    ValueError: the field gives no velocity, or (in an eager call) log_prob or
      end is not finite.
  """
  end, integrals = _carry("log_prob", solve, field, x, key, trace)
  at_end = prior(end)
  value, error = traces.mean(trace, integrals)
  end = end.astype(x.dtype)
  return _checked("log_prob", at_end + value, at_end, value, error, end)


def generate(
  solve: Callable,
  field: fields.Field,
  x: Float[Array, "*D"],
  key: Array,
  *,
  prior: Callable[[Array], Array],
  trace: traces.Trace,
) -> Density:
  """A sample and its log-density: log p_end = prior(x) - int div v dt.

  The reverse of `log_prob`: x is a sample of the prior, times decrease from
  noise to data, and log_prob is that of Density.end. Otherwise as `log_prob`.
  """
  end, integrals = _carry("generate", solve, field, x, key, trace)
  at_start = prior(x.astype(integrals.dtype))
  value, error = traces.mean(trace, integrals)
  end = end.astype(x.dtype)
  return _checked("generate", at_start - value, at_start, value, error, end)


def _carry(name, solve, field, x, key, trace):
  """The state at the end [*D] and the integrals [K], float32 or wider."""
  keys.require_typed(key)
  probe_key, solve_key = jax.random.split(key)
  dtype, wide = x.dtype, dtypes.wider(x.dtype)
  field, x = fields.widened(field, dtype, wide), x.astype(wide)
  probes = trace.draw(probe_key, x)

  def velocity_fn(x, t):
    velocity = field(x, t).velocity
    if velocity is None or velocity.shape != x.shape:
      got = None if velocity is None else f"shape {velocity.shape}"
      raise ValueError(
        f"field: expected velocity of shape {x.shape}, which {name} needs, got"
        f" {got}"
      )
    return velocity

  def estimate(y, t):
    velocity, rates = trace.estimate(
      lambda x: velocity_fn(x, t), y[: x.size].reshape(x.shape), probes
    )
    return fields.Estimate(jnp.concatenate([velocity.ravel(), rates]))

  zeros = jnp.zeros(trace.num_estimates, x.dtype)
  # Without a path, which a solver could only misuse for the integrals.
  augmented = fields.Field(estimate)
  y = solve(augmented, jnp.concatenate([x.ravel(), zeros]), solve_key)
  return y[: x.size].reshape(x.shape), y[x.size :]


def _checked(name, log_prob, prior, value, error, end):
  finite = jnp.isfinite(log_prob) & jnp.all(jnp.isfinite(end))
  if not isinstance(finite, jax.core.Tracer) and not np.asarray(finite):
    raise ValueError(
      f"{name}: expected a finite density, got {float(log_prob)} (prior"
      f" {float(prior)}, divergence {float(value)})"
    )
  return Density(log_prob, prior, value, error, end, finite)


def truncation(
  field: fields.Field,
  x: Float[Array, "*D"],
  t: Float[ArrayLike, ""],
  key: Array,
  *,
  trace: traces.Trace,
) -> Float[Array, ""]:
  """log p_0(x / alpha) - log p_t(x), to first order in the noise's variance.

    D log alpha - sigma^2 / 2 (div s + |s|^2),   s = grad log p_t

  by the heat equation, d log p / d ratio^2 = (div s + |s|^2) / 2 on the scale
  where alpha = 1. It needs a smooth density and small noise: sigma / alpha well
  below the width of every component of the data's density.

  Args:
    field: a field with a path and a score.
    x: a value of x_t, [*D]: alpha(t) data for the density of that data.
    t: time, [], near t_min.
    key: for the probes.
    trace: estimator of the score's divergence.

  Returns:
    The difference in nats, [], to be added to log p_t(x).

  Raises:
    ValueError: the field has no path or gives no score.
  """
  keys.require_typed(key)
  wide = dtypes.wider(x.dtype)
  t = jnp.asarray(t, wide)
  score = fields.outline(field, x, wide).score
  path = field.path
  if path is None or score is None:
    name = "path" if path is None else "score"
    raise ValueError(
      f"field: expected {name}, which truncation needs, got None"
    )
  field, x = fields.widened(field, x.dtype, wide), x.astype(wide)
  score, rates = trace.estimate(
    lambda x: field(x, t).score, x, trace.draw(key, x)
  )
  heat = rates.mean() + jnp.sum(score**2)
  scale = x.size * jnp.log(path.alpha(t))
  return scale - path.sigma(t) ** 2 / 2 * heat


def bits_per_dim(
  log_prob: Float[ArrayLike, "*N"], size: int
) -> Float[Array, "*N"]:
  """-log_prob / (size ln 2), for log_prob in nats over `size` coordinates."""
  return -jnp.asarray(log_prob) / (size * math.log(2))
