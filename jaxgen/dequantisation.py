"""Dequantisation: from densities to probabilities of discrete data.

Data take num_levels equally spaced values (levels) in [-1, 1], spaced by
`width` = 2 / (num_levels - 1); the bin of a level reaches half a width to
either side. For a density p, a noisy x and a correction from the same noise,

  log P(data) >= E[log p(x) + correction]

Each function returns one Monte Carlo sample (x, correction), with the
correction separate; both are float32 or wider, as in half precision noise has
few values and no tails. `importance` combines several samples into a tighter
bound. likelihood.bits_per_dim converts log p(x) + correction to bits per
dimension.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxgen import dtypes, keys, paths


class Draw(NamedTuple):
  """A dequantised example.

  Attributes:
    x: the point at which to evaluate the density, [*D].
    correction: the term to add to the log-density, in nats, [].
  """

  x: Float[Array, "*D"]
  correction: Float[Array, ""]


def uniform(key: Array, data: Float[Array, "*D"], num_levels: int) -> Draw:
  """Uniform noise: x = data + width (u - 1/2), correction = D log width.

  For a density of data (t = 0) that is smooth on the scale of a width, which
  a model trained on data without dequantisation noise is not.

  Args:
    key: a typed key.
    data: an example at the levels, [*D].
    num_levels: number of levels, at least 2.

  Reference: Theis et al. 2016, arXiv:1511.01844, section 3.1.
  """
  data, width = data.astype(dtypes.wider(data.dtype)), _width(key, num_levels)
  u = jax.random.uniform(key, data.shape, data.dtype)
  correction = jnp.asarray(data.size * math.log(width), data.dtype)
  return Draw(data + width * (u - 0.5), correction)


def learned(
  key: Array,
  data: Float[Array, "*D"],
  num_levels: int,
  flow: Callable[[Array], tuple[Array, Array]],
) -> Draw:
  """Noise within the bins from a learned distribution q(x | data), a flow.

    x = data + width (u - 1/2),   u = Phi(y),   y = flow(z),   z ~ N(0, I),
    correction = D log width + log |det dy/dz| + log N(y; 0, I) - log N(z; 0, I)

  For a density of data (t = 0) of any shape within the bins. With the identity
  as flow, x has the distribution of `uniform`. The bound is an equality if
  q(x | data) is proportional to p(x) within the bins of the data. In float32, x
  is on the edge of its bin from |y| of about 5 for 17 levels.

  Args:
    key: a typed key.
    data: an example at the levels, [*D].
    num_levels: number of levels, at least 2.
    flow: z [*D] -> (y [*D], log |det dy/dz| []), parameters and data bound: a
      direction of a bijectors.Bijector or of a network.

  Raises:
    ValueError: fewer than 2 levels, or the flow has other shapes.

  Reference: Ho et al. 2019, arXiv:1902.00275, section 3.1 (variational
  dequantisation), with Phi in place of a sigmoid.
  """
  data, width = data.astype(dtypes.wider(data.dtype)), _width(key, num_levels)
  z = jax.random.normal(key, data.shape, data.dtype)
  y, log_det = flow(z)
  if y.shape != data.shape or jnp.ndim(log_det):
    raise ValueError(
      f"flow: expected {data.shape} and a scalar, got shapes {y.shape} and"
      f" {jnp.shape(log_det)}"
    )
  gained = log_det + (jnp.sum(z**2) - jnp.sum(y**2)) / 2
  x = data + width * (jax.scipy.special.ndtr(y) - 0.5)
  return Draw(x, data.size * math.log(width) + gained)


def gaussian(
  key: Array,
  data: Float[Array, "*D"],
  num_levels: int,
  path: paths.Path,
  t: Float[ArrayLike, ""],
) -> Draw:
  """Gaussian noise of the path: x = x_t, decoded by `level_log_prob`.

    x_t = alpha data + sigma z,
    correction = log P(data | x_t) - log N(x_t; alpha data, sigma^2 I)

  For a density of x_t, at a t where the noise ratio is about the width. The
  density of noiseless data is not needed, so there is no truncation error.

  Args:
    key: a typed key.
    data: an example at the levels, [*D].
    num_levels: number of levels, at least 2.
    path: the Gaussian path (alpha, sigma).
    t: time, [].

  Reference: Ho et al. 2019, arXiv:1902.00275, eq. 12 (variational
  dequantisation).
  """
  data, _ = data.astype(dtypes.wider(data.dtype)), _width(key, num_levels)
  t = jnp.asarray(t, data.dtype)
  noise = jax.random.normal(key, data.shape, data.dtype)
  sigma = path.sigma(t)
  x = path.alpha(t) * data + sigma * noise
  log_scale = data.size * jnp.log(2 * math.pi * sigma**2)
  log_q = -(jnp.sum(noise**2) + log_scale) / 2
  return Draw(x, level_log_prob(data, x, num_levels, path, t) - log_q)


def level_log_prob(
  data: Float[Array, "*D"],
  x_t: Float[Array, "*D"],
  num_levels: int,
  path: paths.Path,
  t: Float[ArrayLike, ""],
) -> Float[Array, ""]:
  """log P(data | x_t) of a decoder that factorises over coordinates, in nats.

    P(level | x_t) proportional to exp(-(x_t / alpha - level)^2 / (2 ratio^2))

  Args:
    data: an example, [*D]; each coordinate is rounded to the nearest level.
    x_t: the noisy example, [*D].
    num_levels: number of levels.
    path: the Gaussian path (alpha, sigma).
    t: time, [], with sigma > 0.

  Reference: Kingma et al. 2021, arXiv:2107.00630, appendix B.1 (at t = 0).
  """
  values = jnp.linspace(-1, 1, num_levels, dtype=data.dtype)
  scaled = (x_t / path.alpha(t)).reshape(-1, 1)
  logits = -((scaled - values[None]) ** 2) / (2 * path.ratio(t) ** 2)
  index = jnp.rint((data.reshape(-1, 1) + 1) * (num_levels - 1) / 2)
  log_p = jax.nn.log_softmax(logits)
  return jnp.take_along_axis(log_p, index.astype(int), axis=1).sum()


def importance(values: Float[Array, "S"]) -> Float[Array, ""]:
  """log mean exp of S values of log p(x) + correction.

  At least their mean; in expectation below log P(data), and tighter as S grows.

  Reference: Burda et al. 2016, arXiv:1509.00519, eq. 8.
  """
  return jax.nn.logsumexp(values) - math.log(len(values))


def _width(key, num_levels):
  keys.require_typed(key)
  if num_levels < 2:
    raise ValueError(f"num_levels: expected at least 2, got {num_levels}")
  return 2 / (num_levels - 1)
