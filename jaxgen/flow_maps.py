"""Flow maps: where the flow takes a state from time t to time s, in one call.

  X(x, t, s) = x + (s - t) u(x, t, s)

u is the mean velocity along the flow from t to s, and the velocity itself at
s = t. Exact maps satisfy, for every t, r, s,

  X(x, t, t) = x                                          (boundary)
  X(X(x, t, r), r, s) = X(x, t, s)                        (semigroup)
  d/ds X(x, t, s) = v(X(x, t, s), s)                      (Lagrangian)
  d/dt X(x, t, s) + v(x, t) . grad X(x, t, s) = 0         (Eulerian)

which losses.flow_maps turns into regression problems. Time decreases from noise
to data, so that samples need s <= t; a map that is trained there only knows
that half. A FlowMap takes the place of a Field in `samplers.integrate`, with
the solvers of samplers.jumps: the grid gives both times.

Reference: Boffi et al. 2024, arXiv:2406.07507; Geng et al. 2025,
arXiv:2505.13447 (mean velocity).
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxgen import paths, predictions


@dataclasses.dataclass(frozen=True)
class FlowMap:
  """A function (x [*D], t [], s []) -> mean velocity from t to s, [*D].

  Attributes:
    mean_velocity: u, parameters bound.
    path: the Gaussian path of the flow, or None.
    both_ways: whether s may be above t; otherwise the map only goes from noise
      to data.
  """

  mean_velocity: Callable[[Array, ArrayLike, ArrayLike], Array]
  path: paths.Path | None = None
  both_ways: bool = False

  def __call__(
    self, x: Float[Array, "*D"], t: ArrayLike, s: ArrayLike
  ) -> Float[Array, "*D"]:
    found = self.mean_velocity(x, t, s)
    if found.shape != x.shape:
      raise ValueError(
        f"field: expected a mean velocity of shape {x.shape}, got {found.shape}"
      )
    return found


def jump(
  map_fn: Callable, x: Float[Array, "*D"], t: ArrayLike, s: ArrayLike
) -> Float[Array, "*D"]:
  """X(x, t, s) = x + (s - t) u(x, t, s), [*D].

  Args:
    map_fn: u, ([*D], [], []) -> [*D], such as a FlowMap.
    x: the state at t, [*D].
    t: time, [].
    s: the time to go to, [].
  """
  return x + jnp.asarray(s - jnp.asarray(t), x.dtype) * map_fn(x, t, s)


def velocity(map_fn: Callable) -> Callable:
  """The map's own velocity, (x [*D], t []) -> u(x, t, t)."""
  return lambda x, t: map_fn(x, t, t)


def preconditioned(
  net: Callable, path: paths.Path, sigma_data: float
) -> Callable:
  """u of a network with inputs of unit variance and two times.

    u(x, t, s) = R net(x / S(t), [c(t), c(t) - c(s)])

  with S(t) the standard deviation of x and R = sqrt(1 + sigma_data^2) that of
  the conditional velocity on the linear path.

  Args:
    net: ([*D], [2]) -> [*D], parameters bound. Losses with a derivative in time
      need a finite one of the network's time embedding: a low max_frequency,
      and attention with a forward derivative ("xla", not "cudnn").
    path: the path, whose conditioning c must have a finite derivative at all
      times that are used; all paths of jaxgen.paths have it inside of their
      domains.
    sigma_data: the standard deviation of the data.
  """
  speed = math.hypot(1.0, sigma_data)

  def map_fn(x, t, s):
    start, end = (path.conditioning(jnp.asarray(when)) for when in (t, s))
    with jax.numpy_dtype_promotion("standard"):
      scaled = x / predictions.input_scale(path, t, sigma_data)
    out = net(scaled.astype(x.dtype), jnp.stack([start, start - end]))
    return speed * out

  return map_fn
