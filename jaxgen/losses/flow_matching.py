"""Flow matching between any two datasets, and stochastic interpolants.

  x_t = alpha(t) data + sigma(t) source + gamma(t) z,   z ~ N(0, I)
  velocity = alpha' data + sigma' source + gamma' z

t = 0 is data and t = 1 the source (papers on flow matching count the other
way). Regression on velocity learns E[velocity | x_t], whose flow has the
distribution of x_t at every t, for any coupling of data and source
(couplings.py):

  coupling     path, bridge gamma             method
  independent  linear, constant(s)            I-CFM; s = 0: rectified flow
  exact        linear, constant(s)            OT-CFM
  entropic     linear, brownian(s)            SB-CFM, at epsilon = 2 s^2
  of a flow    linear, constant(0)            reflow
  any          any, any                       stochastic interpolants

With a standard normal source and gamma = 0 it equals denoising.denoising on the
same path with predictions.velocity.

References: Tong et al. 2023, arXiv:2302.00482; Liu et al. 2022,
arXiv:2209.03003; Albergo et al. 2023, arXiv:2303.08797.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxgen import paths, predictions

Bridge = Callable[[ArrayLike], Float[Array, ""]]


def constant(std: float) -> Bridge:
  """gamma(t) = std, a constant: the bridge does not add to the velocity.

  The flow's ends are then data and source blurred by this noise, if std > 0.

  Raises:
    ValueError: std is negative.
  """
  _check_std(std)
  return lambda t: std * jnp.ones_like(t)


def brownian(std: float, t_max: float = 1.0) -> Bridge:
  """gamma(t) = std sqrt(t (1 - t / t_max)), a Brownian bridge of diffusion std.

  The ends of the flow are data and source themselves. gamma' is infinite there.

  Args:
    std: of the Brownian motion, per square root of time.
    t_max: the end of the bridge, equal to the path's: pi / 2 on trigonometric.

  Raises:
    ValueError: std is negative.
  """
  _check_std(std)
  return lambda t: std * jnp.sqrt(t * (1 - t / t_max))


def _check_std(std):
  if not std >= 0:
    raise ValueError(f"std: expected at least 0, got {std}")


def _check_bridge(bridge, path):
  with jax.ensure_compile_time_eval():
    end = bridge(jnp.asarray(path.t_max, float))
  # A learned bridge gives a traced value, which cannot be checked.
  if not isinstance(end, jax.core.Tracer) and not math.isfinite(end):
    raise ValueError(
      "bridge: expected a finite value at the path's t_max"
      f" = {path.t_max:.4g}, got {end}"
    )


def problem(
  data: Float[Array, "..."],
  source: Float[Array, "..."],
  noise: Float[Array, "..."],
  t: ArrayLike,
  *,
  path: paths.Path,
  bridge: Bridge,
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
  """The regression problem of one pair: (x_t, velocity), both [*D].

    x_t = alpha(t) data + sigma(t) source + gamma(t) noise,   velocity = dx_t/dt

  Args:
    data: an example, [*D].
    source: the source example that it is paired with, [*D].
    noise: z, a standard normal sample, [*D].
    t: time, [], in [path.t_min, path.t_max], except where gamma' is infinite.
    path: alpha and sigma; linear gives straight lines.
    bridge: gamma, [] -> [].

  Raises:
    ValueError: shapes or dtypes differ, t is not a single time or is concrete
      and outside the path's domain, or gamma is not finite at path.t_max.
  """
  for name, x in (("source", source), ("noise", noise)):
    if jnp.shape(x) != jnp.shape(data) or x.dtype != data.dtype:
      raise ValueError(
        f"{name}: expected {data.dtype} {list(data.shape)}, the data's, got"
        f" {x.dtype} {list(x.shape)}"
      )
  path.require_inside(t)
  _check_bridge(bridge, path)
  t = jnp.asarray(t, data.dtype)
  gamma, gamma_rate = jax.jvp(bridge, (t,), (jnp.ones_like(t),))
  x_t = path.alpha(t) * data + path.sigma(t) * source + gamma * noise
  velocity = predictions.target(path, predictions.velocity, data, source, t)
  return x_t, velocity + gamma_rate * noise


def flow_matching(
  velocity_fn: Callable,
  data: Float[Array, "..."],
  source: Float[Array, "..."],
  noise: Float[Array, "..."],
  t: ArrayLike,
  *,
  path: paths.Path,
  bridge: Bridge,
  weight: predictions.Weight,
) -> Float[Array, ""]:
  """Conditional flow matching for one pair.

    w(t) * mean_i (v(x_t, t) - velocity)_i^2

  Args:
    velocity_fn: v, ([*D], []) -> [*D], parameters bound.
    data, source, noise, t, path, bridge: as in `problem`.
    weight: w, [] -> [].

  Returns:
    The loss, []. Reduce over a batch with vmap and mean.

  Raises:
    ValueError: as in `problem`, or velocity_fn returns another shape.

  Reference: Tong et al. 2023, arXiv:2302.00482, eq. 9 and table 1.
  """
  x_t, velocity = problem(data, source, noise, t, path=path, bridge=bridge)
  value = velocity_fn(x_t, t)
  _check_output("velocity_fn", value, velocity)
  return weight(t) * jnp.mean((value - velocity) ** 2)


def stochastic_interpolant(
  predict_fn: Callable,
  data: Float[Array, "..."],
  source: Float[Array, "..."],
  noise: Float[Array, "..."],
  t: ArrayLike,
  *,
  path: paths.Path,
  bridge: Bridge,
  weight: predictions.Weight,
) -> Float[Array, ""]:
  """Regression on an interpolant's velocity and noise for one pair.

    w(t) * mean_i [(v - velocity)_i^2 + (eta - z)_i^2],   (v, eta) = f(x_t, t)

  eta learns E[z | x_t], so that -eta / gamma is the score: one model gives the
  flow and every SDE with the same marginals (fields.from_interpolant).

  Args:
    predict_fn: f, ([*D], []) -> (v, eta), both [*D], parameters bound.
    data, source, noise, t, path, bridge, weight: as in `flow_matching`.

  Returns and Raises: as in `flow_matching`.

  Reference: Albergo et al. 2023, arXiv:2303.08797, eq. 2.13 and 2.19.
  """
  x_t, velocity = problem(data, source, noise, t, path=path, bridge=bridge)
  value, eta = predict_fn(x_t, t)
  _check_output("predict_fn", value, velocity)
  _check_output("predict_fn", eta, noise)
  errors = (value - velocity) ** 2 + (eta - noise) ** 2
  return weight(t) * jnp.mean(errors)


def _check_output(name, value, target):
  if jnp.shape(value) != target.shape:
    raise ValueError(
      f"{name}: expected output shape {target.shape}, got {jnp.shape(value)}"
    )
