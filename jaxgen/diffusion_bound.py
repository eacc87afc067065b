"""The diffusion bound on -log p(data), separate from the flow's likelihood.

With y = x_t / alpha = data + ratio z, the denoiser D of any field on a Gaussian
path and snr = 1 / ratio^2, three terms add up to an upper bound, in nats:

  prior           KL(q(x_T | data) || N(0, prior_std^2 I)),   T = ratio_max
  diffusion       1/2 int E|data - D(x_t)|^2 d snr            ratio_min..max
  reconstruction  E[-log p(data | x_t)]                       t at ratio_min

`continuous` samples log ratios. `discrete` sums over the intervals of a grid,
with the denoising error at each interval's noisier end: the bound of that
discrete chain, which decreases to the continuous one as the grid is refined.

With the exact denoiser and prior, the continuous bound is E -log p_t(x_t) at
ratio_min (on the scale where alpha = 1), which tends to -log p(data). It bounds
the likelihood of the reverse SDE's model, not of the probability flow's; the
two models differ where the network is not an exact denoiser.

Reference: Kingma et al. 2021, arXiv:2107.00630, eq. 11-18; Kong et al. 2023,
arXiv:2302.03792, eq. 9 (the pointwise identity).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxgen import dequantisation, dtypes, fields, keys


class Bound(NamedTuple):
  """An upper bound on -log p(data) and its parts, in nats, [] each.

  Attributes:
    total: prior + diffusion + reconstruction.
    prior: KL of the prior, in closed form.
    diffusion: Monte Carlo estimate of the diffusion term.
    reconstruction: Monte Carlo estimate, or the closed form for density().
    standard_error: Monte Carlo standard error of total.
  """

  total: Float[Array, ""]
  prior: Float[Array, ""]
  diffusion: Float[Array, ""]
  reconstruction: Float[Array, ""]
  standard_error: Float[Array, ""]


def density() -> Callable:
  """Reconstruction of continuous data: p(data | x_t) = N(x_t/alpha, ratio^2 I).

  The term is D/2 log(2 pi e ratio^2), in closed form.
  """

  def draws(key, data, path, t):
    log_scale = jnp.log(2 * math.pi * math.e * path.ratio(t) ** 2)
    return jnp.reshape(data.size / 2 * log_scale, (1,))

  return draws


def levels(num_levels: int, num_draws: int = 8) -> Callable:
  """Reconstruction of data at discrete levels in [-1, 1], not dequantised.

  The total bounds -log P(data): see dequantisation.level_log_prob.

  Args:
    num_levels: number of levels, at least 2.
    num_draws: number of samples of x_t, at least 2.

  Raises:
    ValueError: num_levels or num_draws is below 2.
  """
  for name, value in dict(num_levels=num_levels, num_draws=num_draws).items():
    if value < 2:
      raise ValueError(f"{name}: expected at least 2, got {value}")

  def draws(key, data, path, t):
    def one(key):
      noise = jax.random.normal(key, data.shape, data.dtype)
      x = path.alpha(t) * data + path.sigma(t) * noise
      return -dequantisation.level_log_prob(data, x, num_levels, path, t)

    return jax.vmap(one)(jax.random.split(key, num_draws))

  return draws


def continuous(
  field: fields.Field,
  data: Float[Array, "*D"],
  key: Array,
  *,
  prior_std: float,
  reconstruction: Callable,
  num_cells: int = 64,
  ratio_min: float = 0.002,
  ratio_max: float = 80.0,
) -> Bound:
  """The bound in continuous time, by stratified samples of the log ratio.

    diffusion = log(ratio_max / ratio_min) E[|data - D(x_t)|^2 / ratio^2],

  with log ratio uniform: two samples in each of num_cells equal cells, whose
  differences give the standard error.

  Args:
    field: a field with a path that estimates data.
    data: an example, [*D].
    key: a typed key.
    prior_std: the model's standard deviation of x_t at ratio_max.
    reconstruction: density() or levels(num_levels).
    num_cells: number of cells; the field is evaluated 2 num_cells times.
    ratio_min: noise ratio of the reconstruction term.
    ratio_max: noise ratio of the prior.

  Returns:
    Bound; not finite where the field is not, since traced values cannot raise.

  Raises:
    ValueError: the field has no path or no data estimate, num_cells is below 1,
      prior_std is not positive, or the path does not reach the ratios.
  """
  data = data.astype(dtypes.wider(data.dtype))
  path = _path("continuous", field, data, key, prior_std)
  if num_cells < 1:
    raise ValueError(
      f"continuous: expected num_cells at least 1, got {num_cells}"
    )
  low, high = (
    end.astype(data.dtype) for end in path.ends(ratio_min, ratio_max)
  )
  time_key, noise_key, last_key = jax.random.split(key, 3)
  u = jax.random.uniform(time_key, (num_cells, 2), data.dtype)
  cells = jnp.arange(num_cells, dtype=data.dtype)[:, None]
  width = math.log(ratio_max / ratio_min) / num_cells
  ratios = ratio_min * jnp.exp(width * (cells + u))
  times = jnp.clip(path.time(ratios), low, high)  # removes rounding errors only
  errors = _errors(field, data, times, noise_key) / ratios**2
  weights = jnp.full(num_cells, width, data.dtype)
  return _bound(
    field, data, weights, errors, prior_std, reconstruction, low, high, last_key
  )


def discrete(
  field: fields.Field,
  data: Float[Array, "*D"],
  times: Float[Array, "..."],
  key: Array,
  *,
  prior_std: float,
  reconstruction: Callable,
  num_draws: int = 2,
) -> Bound:
  """The bound of the discrete chain whose steps are the intervals of a grid.

    diffusion = sum_n (snr(s_n) - snr(t_n)) / 2 E|data - D(x_{t_n})|^2,

  where t_n is the noisier end of interval n and s_n the other end.

  Args:
    field: a field with a path that estimates data.
    data: an example, [*D].
    times: the grid, [N + 1], increasing or decreasing.
    key: a typed key.
    prior_std: the model's standard deviation of x_t at the noisiest time.
    reconstruction: density() or levels(num_levels).
    num_draws: samples at each time, at least 2; the field is evaluated
      N num_draws times.

  Returns:
    Bound.

  Raises:
    ValueError: the field has no path or no data estimate, times is not a grid,
      num_draws is below 2, or prior_std is not positive.

  Reference: Kingma et al. 2021, arXiv:2107.00630, eq. 13.
  """
  data = data.astype(dtypes.wider(data.dtype))
  path = _path("discrete", field, data, key, prior_std)
  if num_draws < 2:
    raise ValueError(
      f"discrete: expected num_draws at least 2, got {num_draws}"
    )
  if len(times) < 2:
    raise ValueError(
      f"times: expected shape [N + 1], N >= 1, got {times.shape}"
    )
  noise_key, last_key = jax.random.split(key)
  times = times.astype(data.dtype)
  weights = jnp.abs(jnp.diff(path.ratio(times) ** -2)) / 2
  noisier = jnp.maximum(times[:-1], times[1:])[:, None]
  noisier = jnp.broadcast_to(noisier, (len(noisier), num_draws))
  errors = _errors(field, data, noisier, noise_key)
  ends = times.min(), times.max()
  return _bound(
    field, data, weights, errors, prior_std, reconstruction, *ends, last_key
  )


def prior_kl(
  data: Float[Array, "*D"],
  alpha: Float[ArrayLike, ""],
  sigma: Float[ArrayLike, ""],
  prior_std: float,
) -> Float[Array, ""]:
  """KL(N(alpha data, sigma^2 I) || N(0, prior_std^2 I)), in nats."""
  sigma = jnp.asarray(sigma, data.dtype)
  scaled = data * alpha / prior_std
  square = data.size * (sigma / prior_std) ** 2 + jnp.sum(scaled**2)
  return square / 2 + data.size * (jnp.log(prior_std / sigma) - 0.5)


def _path(name, field, data, key, prior_std):
  """The field's path; raises where the bound does not exist."""
  keys.require_typed(key)
  if not 0 < prior_std < math.inf:
    raise ValueError(f"{name}: expected a positive prior_std, got {prior_std}")
  if field.path is None:
    raise ValueError(f"field: expected path, which {name} needs, got None")
  t = jnp.zeros((), data.dtype)
  if jax.eval_shape(field.estimate, data, t).data is None:
    raise ValueError(f"field: expected data, which {name} needs, got None")
  return field.path


def _errors(field, data, times, key):
  """|data - D(x_t)|^2 for one x_t at each of times [N, M], M at a time."""

  def one(key, t):
    noise = jax.random.normal(key, data.shape, data.dtype)
    x = field.path.alpha(t) * data + field.path.sigma(t) * noise
    return jnp.sum((field(x, t).data - data) ** 2)

  def row(inputs):
    n, times = inputs
    draw_keys = jax.random.split(jax.random.fold_in(key, n), len(times))
    return jax.vmap(one)(draw_keys, times)

  return jax.lax.map(row, (jnp.arange(len(times)), times))


def _bound(
  field, data, weights, errors, prior_std, reconstruction, low, high, key
):
  """Adds the terms; errors [N, M] have weights [N], low and high are times."""
  path = field.path
  prior = prior_kl(data, path.alpha(high), path.sigma(high), prior_std)
  diffusion = jnp.sum(weights * errors.mean(1))
  variance = jnp.sum(weights**2 * errors.var(1, ddof=1)) / errors.shape[1]
  last = reconstruction(key, data, path, low)
  if len(last) > 1:
    variance = variance + last.var(ddof=1) / len(last)
  return Bound(
    prior + diffusion + last.mean(),
    prior,
    diffusion,
    last.mean(),
    jnp.sqrt(variance),
  )
