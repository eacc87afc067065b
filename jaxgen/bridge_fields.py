"""Fields of bridges: from two drifts, or from the data of a pinned path."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen import dtypes, fields, paths


def from_drifts(
  to_source: Callable, to_data: Callable, std: float
) -> fields.Field:
  """Velocity and score of a diffusion that is known in both directions of time.

  With f the drift of dx = f dt + std dW as time increases, to the source, and b
  that of the same process as time decreases, to the data, dx = b |dt| + std dW,

    velocity = (f - b) / 2,   score = (f + b) / std^2

  so that samplers.euler_maruyama with eps = std^2 / 2 simulates either
  diffusion, by the direction of its grid, and ODE solvers the probability flow.

  Args:
    to_source: f, ([*D], []) -> [*D], parameters bound.
    to_data: b, ([*D], []) -> [*D], per time, with the sign of a displacement
      toward the data (losses.bridges).
    std: of the Brownian motion, per square root of time, positive.

  Raises:
    ValueError: std is not positive.

  Reference: Shi et al. 2023, arXiv:2303.16852, proposition 9.
  """
  if not std > 0:
    raise ValueError(f"std: expected a positive number, got {std}")

  def estimate(x, t):
    up, down = to_source(x, t), to_data(x, t)
    return fields.Estimate((up - down) / 2, (up + down) / std**2)

  return fields.Field(estimate)


def from_drift(drift: Callable, to_data: bool) -> fields.Field:
  """The field of a diffusion that is known in one direction of time alone.

    velocity = -drift if to_data else drift,   score = 0

  so that samplers.euler_maruyama with eps = std^2 / 2 simulates
  dx = drift |dt| + std dW, on grids of that direction. It has neither the other
  direction nor the flow, which take both drifts (from_drifts).

  Args:
    drift: ([*D], []) -> [*D], parameters bound, per time.
    to_data: whether time decreases, from the source to the data.
  """

  def estimate(x, t):
    velocity = -drift(x, t) if to_data else drift(x, t)
    return fields.Estimate(velocity, jnp.zeros_like(velocity))

  return fields.Field(estimate)


def from_pinned(
  denoise_fn: Callable,
  source: Float[Array, "*D"],
  path: paths.Path,
  bridge: Callable,
) -> fields.Field:
  """The field of a bridge whose source is known, from its data.

    z = (x - alpha data - sigma source) / gamma
    velocity = alpha' data + sigma' source + gamma' z,   score = -z / gamma

  These have the distribution of x_t given the source, which is one point at
  t_max: an ODE solver must start below it, from a sample that has noise.

  Args:
    denoise_fn: ([*D], [], [*D]) -> [*D], parameters bound, trained by
      losses.bridges.restoration.
    source: the source of this one example, [*D].
    path, bridge: as in training, such as those of losses.bridges.pinned.

  Reference: Zhou et al. 2023, arXiv:2309.16948, eq. 9 and theorem 1.
  """

  def estimate(x, t):
    data = denoise_fn(x, t, source)
    t = jnp.asarray(t, dtypes.wider(x.dtype))
    data, x, end = (value.astype(t.dtype) for value in (data, x, source))
    gamma, rate = jax.jvp(bridge, (t,), (jnp.ones_like(t),))
    alpha_rate, sigma_rate = path.rates(t)
    z = (x - path.alpha(t) * data - path.sigma(t) * end) / gamma
    velocity = alpha_rate * data + sigma_rate * end + rate * z
    return fields.Estimate(velocity, -z / gamma, data)

  return fields.Field(estimate)
