"""Distribution matching: a one-step model against the difference of denoisers.

The problem of one sample, to be compared by losses.flow_maps.regression.

Reference: Yin et al. 2023, arXiv:2311.18828 (DMD).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen.losses import flow_maps


def problem(
  sample: Float[Array, "..."],
  data: Float[Array, "..."],
  generated: Float[Array, "..."],
) -> flow_maps.Problem:
  """Moves a one-step model's sample by the difference of two denoisers.

    target = sample - (E_Q[data | x_t] - E_P[data | x_t])
                      / mean_i |sample - E_P[data | x_t]|_i

  for x_t = alpha(t) sample + sigma(t) noise. The difference is that of the
  scores times sigma^2 / alpha, so that the mean gradient over t and noise is
  one of KL(Q || P) at each noise level. A game of two: one player is the
  generator, the other a denoiser of its samples, trained by
  losses.denoising.

  Args:
    sample: the generator's, with a gradient, [*D].
    data: E_P[data | x_t], of a teacher, [*D].
    generated: E_Q[data | x_t], of the denoiser of generated samples, [*D].

  Raises:
    ValueError: shapes differ.

  Reference: Yin et al. 2023, arXiv:2311.18828.
  """
  for name, x in (("data", data), ("generated", generated)):
    if x.shape != sample.shape:
      raise ValueError(f"{name}: expected shape {sample.shape}, got {x.shape}")
  size = jnp.mean(jnp.abs(sample - data))
  step = (generated - data) / jnp.where(size > 0, size, 1)
  return flow_maps.Problem(sample, jax.lax.stop_gradient(sample - step))
