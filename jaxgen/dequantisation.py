"""From densities to probabilities of data stored at levels.

Levels are equally spaced in [-1, 1], `width` = 2 / (num_levels - 1) apart, and
their bins reach half a width to either side. With a density p, a draw of noise
and a correction that depends on the draw alone,

  log P(data) >= E[log p(x) + correction]

Each function returns (x, correction) of one draw: the correction is a number
of its own. With several draws, `importance` is a tighter bound of the same
expectation. Bits are likelihood.bits_per_dim of the sum.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxgen import keys, paths


class Draw(NamedTuple):
  """A dequantised example.

  Attributes:
    x: where the density is to be evaluated, [*D].
    correction: to be added to the log-density, in nats, [].
  """

  x: Float[Array, "*D"]
  correction: Float[Array, ""]


def uniform(key: Array, data: Float[Array, "*D"], num_levels: int) -> Draw:
  """Uniform in the bins: x = data + width (u - 1/2), correction D log width.

  For a density of data (t = 0) that is smooth on the scale of a width; one
  trained on bare levels is not.

  Args:
    key: of the draw.
    data: an example at the levels, [*D].
    num_levels: how many there are.

  Reference: Theis et al. 2016, arXiv:1511.01844, section 3.1.
  """
  width = _width(key, num_levels)
  u = jax.random.uniform(key, data.shape, data.dtype)
  correction = jnp.asarray(data.size * math.log(width), data.dtype)
  return Draw(data + width * (u - 0.5), correction)


def gaussian(
  key: Array,
  data: Float[Array, "*D"],
  num_levels: int,
  path: paths.Path,
  t: Float[ArrayLike, ""],
) -> Draw:
  """The path's own noise: x = x_t, and the decoder of `level_log_prob`.

    x_t = alpha data + sigma z,
    correction = log P(data | x_t) - log N(x_t; alpha data, sigma^2 I)

  For a density of x_t, at a t where the noise is about the width: nothing is
  asked of the density of bare data, and no truncation is left.

  Args:
    key: of the draw.
    data: an example at the levels, [*D].
    num_levels: how many there are.
    path: the Gaussian path (alpha, sigma).
    t: time, [].

  Reference: Ho et al. 2019, arXiv:1902.00275, eq. 12 (variational
  dequantisation).
  """
  _width(key, num_levels)
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
  """log P(data | x_t) of a decoder that takes each coordinate alone, in nats.

    P(level | x_t) proportional to exp(-(x_t / alpha - level)^2 / (2 ratio^2))

  Args:
    data: an example at the levels, [*D]; the nearest levels are meant.
    x_t: a noisy one, [*D].
    num_levels: how many levels there are.
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
  """log mean exp of log p(x) + correction over S draws.

  Above their mean, below log P in expectation, and closer to it with S.

  Reference: Burda et al. 2016, arXiv:1509.00519, eq. 8.
  """
  return jax.nn.logsumexp(values) - math.log(len(values))


def _width(key, num_levels):
  keys.require_typed(key)
  if num_levels < 2:
    raise ValueError(f"num_levels: expected at least 2, got {num_levels}")
  return 2 / (num_levels - 1)
