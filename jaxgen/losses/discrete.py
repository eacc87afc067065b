"""Discrete diffusion with noise of any distribution, by ratios of densities.

Each of S states is replaced, at rate sigma'(t), by one drawn from the noise
distribution pi [S]. With keep = exp(-sigma(t)) the probability that an entry
has not been replaced,

  p(x_t = y | data) = keep [y = data] + (1 - keep) pi(y),

independently for every entry. pi = 1 / S is uniform diffusion. One more state,
the mask, with all of pi on it, is absorbing diffusion: the masked models of
losses.masked. The time-reversed process jumps from x_t to y in one entry at the
rate sigma' pi(x_t) s_y, with the ratio

  s_y = p_t(x_t with y in this entry) / p_t(x_t)

which `score_entropy` learns and `posterior_ratios` computes from a network that
predicts the data. `masks.replace` draws x_t, `samplers.jump` samples from the
network that predicts the data, which any cross entropy trains (discrete flow
matching). Everything here takes one example.

Reference: Lou et al. 2024, arXiv:2310.16834 (score entropy, SEDD); Campbell et
al. 2022, arXiv:2205.14987; Gat et al. 2024, arXiv:2407.15595 (flow matching).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int


def score_entropy(
  log_ratios_fn: Callable[[Array], Array],
  levels: Int[Array, "*D"],
  x_t: Int[Array, "..."],
  keep: Float[ArrayLike, ""],
  noise: Float[Array | np.ndarray, "S"],
) -> Float[Array, ""]:
  """The denoising score entropy of one example, at least 0.

    sum_i pi(x_t,i) sum_(y != x_t,i) s_y - r_y log s_y + r_y (log r_y - 1)

  with r_y = p(y | data) / p(x_t,i | data). Its expectation is smallest at the
  exact ratios. Times sigma'(t) = -keep' / keep and integrated over time it is
  the diffusion part of the negative ELBO, in nats; for absorbing noise and
  s_y = keep / (1 - keep) P(y | visible) that is the bound of losses.masked.

  Args:
    log_ratios_fn: x_t -> log s, [*D, S]; the entries at y = x_t do not count.
    levels: the data, states from 0 to S - 1, [*D].
    x_t: noised data, [*D], of positive probability given the data.
    keep: exp(-sigma(t)), [], between 0 and 1.
    noise: pi, [S], which sums to 1.

  Raises:
    ValueError: a shape is another one, or concrete noise is no distribution.

  Reference: Lou et al. 2024, arXiv:2310.16834, eq. 7 and theorem 3.6.
  """
  noise = _distribution(noise)
  log_s = _checked("log_ratios_fn", log_ratios_fn(x_t), x_t, noise)
  if levels.shape != x_t.shape:
    raise ValueError(f"x_t: expected shape {levels.shape}, got {x_t.shape}")
  noise = noise.astype(log_s.dtype)
  data = jax.nn.one_hot(levels, len(noise), dtype=log_s.dtype)
  chance = _mixed(data, keep, noise)
  here = jnp.take_along_axis(chance, x_t[..., None], -1)
  ratio = chance / here
  safe = jnp.where(ratio > 0, ratio, 1)
  constant = jnp.where(ratio > 0, ratio * (jnp.log(safe) - 1), 0)
  each = jnp.exp(log_s) - ratio * log_s + constant
  other = ~jax.nn.one_hot(x_t, len(noise), dtype=bool)
  total = jnp.where(other, each, 0).sum(-1)
  # Where noise has no mass, no jump leads: a ratio there may be infinite.
  mass = noise[x_t]
  return jnp.where(mass > 0, mass * total, 0).sum()


def posterior_ratios(
  log_probs: Float[Array, "..."],
  x_t: Int[Array, "..."],
  keep: Float[ArrayLike, ""],
  noise: Float[Array | np.ndarray, "S"],
) -> Float[Array, "..."]:
  """log s from log P(data_i | x_t): the mean of the ratios given the data.

    s_y = sum_d P(d | x_t) p(y | d) / p(x_t,i | d)

  Exact for the exact posterior where pi(x_t,i) > 0, which are the entries that
  jump; so one network serves score entropy and cross entropy.

  Args:
    log_probs: log P of each state of each entry's data, [*D, S]; -inf for those
      that are none, such as the mask.
    x_t, keep, noise: as in score_entropy.

  Returns:
    log s, [*D, S].

  Raises:
    ValueError: as in score_entropy.
  """
  noise = _distribution(noise)
  log_probs = _checked("log_probs", log_probs, x_t, noise)
  noise = noise.astype(log_probs.dtype)
  size = len(noise)
  kernel = _mixed(jnp.eye(size, dtype=log_probs.dtype), keep, noise)
  here = kernel.T[x_t]  # p(x_t,i | d), [*D, S]
  # Data that cannot become x_t have posterior 0.
  seen = jnp.where(
    here > 0, jnp.exp(log_probs) / jnp.where(here > 0, here, 1), 0
  )
  return jnp.log(seen @ kernel)


def _mixed(data, keep, noise):
  """p(y | data) of one-hot data [..., S]."""
  keep = jnp.asarray(keep, data.dtype)
  return keep * data + (1 - keep) * jnp.broadcast_to(noise, data.shape)


def _distribution(noise):
  if not isinstance(noise, jax.core.Tracer):
    found = np.asarray(noise)
    if found.ndim != 1 or found.min() < 0 or abs(found.sum() - 1) > 1e-4:
      raise ValueError(
        f"noise: expected probabilities [S] that sum to 1, got {found}"
      )
  return jnp.asarray(noise)


def _checked(name, values, x_t, noise):
  shape = *x_t.shape, len(noise)
  if values.shape != shape:
    raise ValueError(f"{name}: expected shape {shape}, got {values.shape}")
  return values
