"""Bridges: diffusions between data and a source, from pairs of both.

A pair is joined by a Brownian bridge (t = 0 is data, t = 1 the source),

  x_t = (1 - t) data + t source + std sqrt(t (1 - t)) z,   z ~ N(0, I)

and bridge matching learns the drifts of the two diffusions dx = drift dt + std
dW that have the distribution of x_t at every t, one in each direction of time:

  to the data    b(x, t) = (E[data | x_t = x] - x) / t
  to the source  f(x, t) = (E[source | x_t = x] - x) / (1 - t)

The second is the first with the ends exchanged and 1 - t for t, so that one
regression serves both (`matching`, `to_source`). Both together give the score
and the probability flow (bridge_fields.from_drifts).

  pairs                                         method
  of a coupling                                 bridge matching
  of the entropic coupling, epsilon = 2 std^2   [SF]2M, SB-CFM
  simulated by the other drift, in turns        DSBM-IMF
  that belong together                          I2SB, DDBM

For data that belong to their source, such as an image to a corrupted version
of it, the bridge of any Gaussian path from data to noise is pinned at the
source (`pinned`): it is a stochastic interpolant, whose data are learned
(`restoration`). A network that does not see the source gives I2SB, one that
does DDBM; both are sampled by samplers.ancestral() on the path itself, from the
source at t_max, since the reverse step given the data is that of the path.

References: Shi et al. 2023, arXiv:2303.16852; Tong et al. 2023,
arXiv:2307.03672; Liu et al. 2023, arXiv:2302.05872; Zhou et al. 2023,
arXiv:2309.16948.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxgen import paths, predictions
from jaxgen.losses import flow_matching


def problem(
  end: Float[Array, "..."],
  start: Float[Array, "..."],
  noise: Float[Array, "..."],
  t: ArrayLike,
  *,
  std: float,
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
  """The regression problem of one pair: (x_t, drift), both [*D].

    x_t = (1 - t) end + t start + std sqrt(t (1 - t)) noise
    drift = (end - x_t) / t = end - start - std sqrt((1 - t) / t) noise

  Args:
    end: the example that the diffusion ends at, [*D].
    start: the example that it starts from, [*D].
    noise: z, a standard normal sample, [*D].
    t: the time left until the end, [], in (0, 1].
    std: of the Brownian motion, per square root of time, at least 0.

  Raises:
    ValueError: shapes or dtypes differ, t is not a single time or is concrete
      and outside [0, 1], or std is negative.
  """
  bridge = flow_matching.brownian(std)
  # The velocity of this problem is not used, and never computed under jit.
  x_t, _ = flow_matching.problem(
    end, start, noise, t, path=paths.linear(), bridge=bridge
  )
  t = jnp.asarray(t, end.dtype)
  return x_t, end - start - std * jnp.sqrt((1 - t) / t) * noise


def matching(
  drift_fn: Callable,
  end: Float[Array, "..."],
  start: Float[Array, "..."],
  noise: Float[Array, "..."],
  t: ArrayLike,
  *,
  std: float,
  weight: predictions.Weight,
) -> Float[Array, ""]:
  """Bridge matching for one pair.

    w(t) * mean_i (b(x_t, t) - drift)_i^2

  The drift's variance given x_t grows as (1 - t) / t toward the end. The weight
  w = t bounds it.

  Args:
    drift_fn: b, (x_t [*D], time left []) -> [*D], parameters bound. With
      end = data, start = source it is the drift to the data at time t; with the
      two exchanged, `to_source` makes it of the drift to the source.
    end, start, noise, t, std: as in `problem`.
    weight: w, [] -> [], of the time left.

  Returns:
    The loss, []. Reduce over a batch with vmap and mean.

  Raises:
    ValueError: as in `problem`, or drift_fn returns another shape.

  Reference: Shi et al. 2023, arXiv:2303.16852, eq. 6 and 10.
  """
  x_t, drift = problem(end, start, noise, t, std=std)
  value = drift_fn(x_t, t)
  _check_output("drift_fn", value, drift)
  return weight(t) * jnp.mean((value - drift) ** 2)


def to_source(drift_fn: Callable) -> Callable:
  """A drift to the source f(x, t) as a function of the time left, 1 - t."""
  return lambda x, left: drift_fn(x, 1 - left)


def pinned(path: paths.Path) -> tuple[paths.Path, flow_matching.Bridge]:
  """The bridge of a Gaussian path from data to a source at t_max.

    x_t | data, source ~ N(A data + S source, G^2 I)
    q = (ratio / ratio_max)^2,   A = alpha (1 - q),
    S = alpha / alpha_max q,     G = sigma sqrt(1 - q)

  With alpha = 1 it is the Brownian bridge in the time sigma^2.

  Args:
    path: alpha and sigma, with alpha > 0 at t_max: edm, or vp.

  Returns:
    (the path with the scales A and S, gamma = G), for losses.flow_matching and
    `restoration`.

  Raises:
    ValueError: alpha is not above 1e-3 of sigma at t_max, where the bridge
      would not depend on the source.

  Reference: Zhou et al. 2023, arXiv:2309.16948, eq. 7.
  """
  with jax.ensure_compile_time_eval():
    last = float(path.alpha(jnp.asarray(path.t_max, float)))
    end = float(path.sigma(jnp.asarray(path.t_max, float))) / max(last, 1e-30)
  if not last > 0 or not end < 1e3:
    raise ValueError(
      "path: expected a scale of the data at t_max above 1e-3 of the noise's,"
      f" as of edm and vp, got {last:.3g}"
    )
  left = lambda t: (path.ratio(t) / end) ** 2

  def kept(t):  # 1 - q, which is exactly 0 at t_max
    return jnp.maximum(1 - left(t), 0.0)

  def gamma(t):
    inside = kept(t) > 0
    root = jnp.sqrt(jnp.where(inside, kept(t), 1.0))
    return jnp.where(inside, path.sigma(t) * root, 0.0)

  ends = paths.Path(
    lambda t: path.alpha(t) * kept(t),
    lambda t: path.alpha(t) / last * left(t),
    lambda ratio: path.time(end / jnp.sqrt(1 + 1 / (last * ratio))),
    path.t_min,
    path.t_max,
    path.conditioning,
  )
  return ends, gamma


def restoration(
  denoise_fn: Callable,
  data: Float[Array, "..."],
  source: Float[Array, "..."],
  noise: Float[Array, "..."],
  t: ArrayLike,
  *,
  path: paths.Path,
  bridge: flow_matching.Bridge,
  weight: predictions.Weight,
) -> Float[Array, ""]:
  """Regression on the data of a bridge, for one pair that belongs together.

    w(t) * mean_i (D(x_t, t, source) - data)_i^2,
    x_t = alpha(t) data + sigma(t) source + gamma(t) noise

  Args:
    denoise_fn: D, ([*D], [], [*D]) -> [*D], parameters bound; it may ignore the
      source.
    data, source, noise, t: as in flow_matching.problem.
    path, bridge: of `pinned`, or any path and bridge.
    weight: w, [] -> [].

  Returns:
    The loss, []. Reduce over a batch with vmap and mean.

  Raises:
    ValueError: as in flow_matching.problem, or denoise_fn returns another
      shape.

  References: Liu et al. 2023, arXiv:2302.05872, eq. 12; Zhou et al. 2023,
  arXiv:2309.16948, eq. 10.
  """
  x_t, _ = flow_matching.problem(
    data, source, noise, t, path=path, bridge=bridge
  )
  value = denoise_fn(x_t, t, source)
  _check_output("denoise_fn", value, data)
  return weight(t) * jnp.mean((value - data) ** 2)


def _check_output(name, value, target):
  if jnp.shape(value) != target.shape:
    raise ValueError(
      f"{name}: expected output shape {target.shape}, got {jnp.shape(value)}"
    )
