"""Losses of flow maps, from scratch and from a teacher: one regression.

With u the mean velocity of a map (jaxgen.flow_maps), every function returns
(value, target) of one example: a value that depends on the parameters, and a
target whose gradient is stopped. `regression` compares them,

  w |value - target|^2,

and w, a function of the error, is where methods differ most.

  function     target                             methods
  eulerian     v - (t - s) du/dt                  MeanFlow, sCM, Eulerian
                                                  distillation
  lagrangian   v(X(x, t, s), s)                   Lagrangian distillation
  semigroup    the map from r on                  consistency training and
                                                  distillation, shortcut models,
                                                  progressive distillation
  chord        (x_s - x_t) / (s - t)              pairs and trajectories of a
                                                  teacher, reflow

The velocity v says what the map learns from: a teacher's; the conditional
velocity alpha' data + sigma' noise of flow matching, whose mean given x_t is
the velocity, and in which eulerian is linear; or the map's own velocity
u(x, s, s) with flow matching beside it (self-distillation). At s = t eulerian
is flow matching.

Derivatives are taken by jax.jvp: eulerian needs those of the network in x and
t, lagrangian those in s, semigroup and chord none.

References: Boffi et al. 2025, arXiv:2505.18825 (self-distillation); Geng et al.
2025, arXiv:2505.13447 (MeanFlow) and arXiv:2512.02012 (its improved form); Lu
and Song 2024, arXiv:2410.11081 (sCM); Song et al. 2023, arXiv:2303.01469
(consistency); Frans et al. 2024, arXiv:2410.12557 (shortcut models).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxgen import flow_maps


class Problem(NamedTuple):
  """A regression problem of one example.

  Attributes:
    value: depends on the parameters, [*D].
    target: what it is compared with, without a gradient, [*D].
  """

  value: Array
  target: Array


def regression(
  problem: Problem, scale: Callable = jnp.ones_like
) -> Float[Array, ""]:
  """scale(q) q for one example, q = mean_i (value - target)_i^2.

  Args:
    problem: value and target, both [*D].
    scale: w, a function of q [] without a gradient: 1, `adaptive` or
      `normalised`.

  Returns:
    The loss, []. Its gradient is that of q times w.

  Raises:
    ValueError: value and target differ in shape.
  """
  value, target = problem
  if value.shape != target.shape:
    raise ValueError(
      f"target: expected shape {value.shape}, got {target.shape}"
    )
  error = jnp.mean((value - jax.lax.stop_gradient(target)) ** 2)
  return jax.lax.stop_gradient(scale(error)) * error


def adaptive(power: float = 1.0, offset: float = 1e-3) -> Callable:
  """w = 1 / (q + offset)^power, which MeanFlow uses.

  Power .5 is the gradient of the pseudo-Huber loss sqrt(q + offset) up to a
  factor of 2, which improved consistency training uses.

  Raises:
    ValueError: the power is negative or the offset is not positive.

  Reference: Geng et al. 2025, arXiv:2505.13447 (adaptive weight); Song and
  Dhariwal 2023, arXiv:2310.14189 (pseudo-Huber).
  """
  if not (power >= 0 and offset > 0):
    raise ValueError(
      "power, offset: expected a power of at least 0 and a positive offset, got"
      f" {power} and {offset}"
    )
  return lambda q: 1 / (q + offset) ** power


def normalised(offset: float = 0.1) -> Callable:
  """w = 1 / (sqrt(q) + offset): the tangent over its norm, which sCM uses.

  Raises:
    ValueError: the offset is not positive.

  Reference: Lu and Song 2024, arXiv:2410.11081 (tangent normalisation).
  """
  if not offset > 0:
    raise ValueError(f"offset: expected a positive number, got {offset}")

  def scale(q):
    # The root's derivative is infinite at 0; regression stops it anyway.
    return 1 / (jnp.sqrt(q) + offset)

  return scale


def eulerian(
  map_fn: Callable,
  x_t: Float[Array, "..."],
  t: ArrayLike,
  s: ArrayLike,
  velocity: Float[Array, "..."],
  *,
  tangent: Float[Array, "..."] | None = None,
  warmup: ArrayLike = 1.0,
) -> Problem:
  """The mean velocity from the derivative along the flow at its start.

    u(x_t, t, s) = velocity - (t - s) du/dt,   du/dt = tangent . grad u + d_t u

  This is d/dt of (t - s) u = the integral of v from s to t. The derivative is
  one jvp of the network.

  Args:
    map_fn: u, ([*D], [], []) -> [*D], parameters bound.
    x_t: a state at t, [*D].
    t: time, [].
    s: the map's end, [], at most t.
    velocity: at (x_t, t), [*D]: the conditional one (MeanFlow) or a teacher's.
    tangent: direction of the derivative, [*D]; None is `velocity`. The map's
      own velocity, u(x_t, t, t), makes the target's variance smaller (improved
      MeanFlow).
    warmup: multiplies (t - s) du/dt, [], from 0 (flow matching) to 1; sCM
      raises it over the first steps.

  Raises:
    ValueError: shapes differ, or t and s are concrete and s is above t.

  Reference: Geng et al. 2025, arXiv:2505.13447 (the MeanFlow identity); Lu and
  Song 2024, arXiv:2410.11081 (s = 0, with a tangent warm-up).
  """
  _check_times(t, s)
  _check_shape("velocity", velocity, x_t)
  tangent = velocity if tangent is None else tangent
  _check_shape("tangent", tangent, x_t)
  along = jax.lax.stop_gradient(tangent)
  start, end = (jnp.asarray(when, x_t.dtype) for when in (t, s))
  value, rate = jax.jvp(
    lambda x, t: map_fn(x, t, end),
    (x_t, start),
    (along.astype(x_t.dtype), jnp.ones_like(start)),
  )
  target = velocity - warmup * (start - end) * rate
  return Problem(value, jax.lax.stop_gradient(target))


def lagrangian(
  map_fn: Callable,
  x_t: Float[Array, "..."],
  t: ArrayLike,
  s: ArrayLike,
  velocity_fn: Callable,
) -> Problem:
  """The velocity at the map's end: d/ds X(x_t, t, s) = v(X(x_t, t, s), s).

    value = u + (s - t) d_s u,   target = v(X, s)

  The gradient is one of a derivative, so reverse mode goes through a jvp.

  Args:
    map_fn: u, ([*D], [], []) -> [*D], parameters bound.
    x_t: a state at t, [*D].
    t: time, [].
    s: the map's end, [], at most t.
    velocity_fn: v, ([*D], []) -> [*D]: a teacher's, or flow_maps.velocity of
      the map.

  Raises:
    ValueError: as in `eulerian`.

  Reference: Boffi et al. 2024, arXiv:2406.07507; 2025, arXiv:2505.18825.
  """
  _check_times(t, s)
  end = jnp.asarray(s, x_t.dtype)
  place, rate = jax.jvp(
    lambda s: flow_maps.jump(map_fn, x_t, t, s), (end,), (jnp.ones_like(end),)
  )
  target = velocity_fn(jax.lax.stop_gradient(place), end)
  return Problem(rate, jax.lax.stop_gradient(target))


def semigroup(
  map_fn: Callable,
  x_t: Float[Array, "..."],
  x_r: Float[Array, "..."],
  t: ArrayLike,
  r: ArrayLike,
  s: ArrayLike,
  teacher_fn: Callable | None = None,
) -> Problem:
  """The map from t is that from r on, after a first part of the way.

    u(x_t, t, s) = (X(x_r, r, s) - x_t) / (s - t)

  x_r says which method it is: a point of the same data and noise at r
  (consistency training), a step of a teacher from t to r (consistency
  distillation), or the map's own jump (shortcut models, with r half-way;
  progressive self-distillation). As r tends to t, its residual is
  (t - r) / (t - s) times that of `eulerian`.

  Args:
    map_fn: u, ([*D], [], []) -> [*D], parameters bound.
    x_t: a state at t, [*D].
    x_r: the state of the same trajectory at r, [*D].
    t: time, [].
    r: a time between t and s, [].
    s: the map's end, [], below t.
    teacher_fn: u of the second part, such as an average of the parameters; None
      is map_fn.

  Raises:
    ValueError: shapes differ, or times are concrete and not t >= r >= s.

  Reference: Song et al. 2023, arXiv:2303.01469; Frans et al. 2024,
  arXiv:2410.12557.
  """
  _check_times(t, r)
  _check_times(r, s)
  _check_shape("x_r", x_r, x_t)
  second = map_fn if teacher_fn is None else teacher_fn
  end = flow_maps.jump(second, jax.lax.stop_gradient(x_r), r, s)
  return chord(map_fn, x_t, end, t, s)


def chord(
  map_fn: Callable,
  x_t: Float[Array, "..."],
  x_s: Float[Array, "..."],
  t: ArrayLike,
  s: ArrayLike,
) -> Problem:
  """The mean velocity between two states of a trajectory.

    u(x_t, t, s) = (x_s - x_t) / (s - t)

  Args:
    map_fn: u, ([*D], [], []) -> [*D], parameters bound.
    x_t: the state at t, [*D], such as a teacher's noise.
    x_s: the state of the same trajectory at s, [*D], such as its sample.
    t: time, [].
    s: the map's end, [], below t.

  Raises:
    ValueError: shapes differ, or t and s are concrete and s is above t.

  Reference: Luhman and Luhman 2021, arXiv:2101.02388 (pairs).
  """
  _check_times(t, s)
  _check_shape("x_s", x_s, x_t)
  span = jnp.asarray(s - jnp.asarray(t), x_t.dtype)
  target = (x_s - x_t) / span
  return Problem(map_fn(x_t, t, s), jax.lax.stop_gradient(target))


def _check_shape(name, x, like):
  if jnp.shape(x) != jnp.shape(like):
    raise ValueError(
      f"{name}: expected shape {jnp.shape(like)}, got {jnp.shape(x)}"
    )


def _check_times(t, s):
  for name, when in (("t", t), ("s", s)):
    if jnp.shape(when) != ():
      raise ValueError(
        f"{name}: expected shape (), one example, got {jnp.shape(when)}"
      )
  if isinstance(t, jax.core.Tracer) or isinstance(s, jax.core.Tracer):
    return
  if float(s) > float(t):
    raise ValueError(
      f"s: expected at most t = {float(t):.4g}, as maps go from noise to data,"
      f" got {float(s):.4g}"
    )
