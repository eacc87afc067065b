"""Masked tokens: which entries of an example a network sees in training.

Data are levels 0, ..., L - 1. A masked entry has the token L, and the network
sees x_t [*D] with

  x_t = levels where visible, L elsewhere.

A schedule alpha gives the probability alpha(t) that an entry is visible, from
alpha(0) = 1 (data) to alpha(1) = 0 (all masked). The bound of
`losses.masked` does not depend on it, only its variance does. Two draws have
the same expectation under the loss with their own weight:

  independent(key, schedule, t, shape)   weight(schedule, t), t uniform
  of_number(key, number, shape)          D / (D - number), number uniform in
                                         0, ..., D - 1

Reference: Sahoo et al. 2024, arXiv:2406.07524; Shi et al. 2024,
arXiv:2406.04329 (continuous time); Hoogeboom et al. 2022, arXiv:2110.02037
(a number of entries).
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Integer, Num

from jaxgen import keys, outputs

Schedule = Callable[[ArrayLike], Array]


def linear(t: ArrayLike) -> Array:
  """alpha = 1 - t, whose weight is 1 / t."""
  return 1 - jnp.asarray(t)


def cosine(t: ArrayLike) -> Array:
  """alpha = 1 - cos(pi (1 - t) / 2), which stays longer near t = 1."""
  return 1 - jnp.cos(math.pi / 2 * (1 - jnp.asarray(t)))


def power(exponent: float) -> Schedule:
  """alpha = 1 - t^exponent; 1 is linear.

  Raises:
    ValueError: exponent is not positive.
  """
  if not exponent > 0:
    raise ValueError(f"exponent: expected a positive number, got {exponent}")
  return lambda t: 1 - jnp.asarray(t) ** exponent


def weight(schedule: Schedule, t: Float[ArrayLike, ""]) -> Float[Array, ""]:
  """-alpha'(t) / (1 - alpha(t)), for t in (0, 1].

  0 for t so small that alpha rounds to 1: `independent` masks nothing there.
  """
  t = jnp.asarray(t, float)
  alpha, slope = jax.jvp(schedule, (t,), (jnp.ones_like(t),))
  masked = 1 - alpha
  return jnp.where(masked > 0, -slope / jnp.where(masked > 0, masked, 1), 0)


def stratified(key: Array, number: int) -> Float[Array, "N"]:
  """N numbers in (0, 1], one in each of N equal cells, in random order.

  Each is uniform on its own, so the mean of a batch's losses is unbiased, with
  lower variance. Use them within one batch.

  Raises:
    ValueError: number is below 1, or key is a legacy key.
  """
  keys.require_typed(key)
  if number < 1:
    raise ValueError(f"number: expected at least 1, got {number}")
  shift_key, order_key = jax.random.split(key)
  shift = jax.random.uniform(shift_key)
  cells = (jnp.arange(number, dtype=shift.dtype) + 1 - shift) / number
  return jax.random.permutation(order_key, cells)


def independent(
  key: Array,
  schedule: Schedule,
  t: Float[ArrayLike, ""],
  shape: tuple[int, ...],
) -> Bool[Array, "*D"]:
  """Each entry is visible with probability alpha(t), independently, [*D]."""
  keys.require_typed(key)
  return jax.random.bernoulli(key, schedule(t), shape)


def of_number(
  key: Array, number: Int[ArrayLike, ""], shape: tuple[int, ...]
) -> Bool[Array, "*D"]:
  """A given number of entries is visible, a uniformly random subset, [*D]."""
  keys.require_typed(key)
  ranks = jax.random.permutation(key, math.prod(shape))
  return (ranks < number).reshape(shape)


def replace(
  key: Array,
  levels: Integer[Array, "*D"],
  keep: Float[ArrayLike, ""],
  noise: Float[Array | np.ndarray, "S"],
) -> Int[Array, "*D"]:
  """x_t of discrete diffusion: levels, each replaced by noise or not.

  Args:
    key: a typed key.
    levels: states from 0 to S - 1, [*D].
    keep: probability with which an entry stays, [].
    noise: the distribution of its replacement, [S]; all of it on one more state
      is masking, and 1 / S uniform noise.

  Returns:
    x_t, [*D], int32 or wider; a replacement may equal the level.
  """
  keys.require_typed(key)
  keep_key, noise_key = jax.random.split(key)
  levels = outputs.wide_levels(levels)
  kept = jax.random.bernoulli(keep_key, keep, levels.shape)
  log_noise = jnp.log(jnp.asarray(noise))
  drawn = jax.random.categorical(
    noise_key, log_noise, shape=levels.shape, mode="high"
  )
  return jnp.where(kept, levels, drawn.astype(levels.dtype))


def hide(
  levels: Num[Array, "*D"], visible: Bool[Array, "..."], num_levels: int
) -> Int[Array, "*D"]:
  """x_t: the levels where visible, else the mask token L; int32 or wider.

  Raises:
    ValueError: the shapes differ.
  """
  if jnp.shape(levels) != jnp.shape(visible):
    raise ValueError(
      f"visible: expected the shape of levels {jnp.shape(levels)}, got"
      f" {jnp.shape(visible)}"
    )
  return jnp.where(visible, outputs.wide_levels(levels), num_levels)
