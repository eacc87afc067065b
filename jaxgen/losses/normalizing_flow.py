"""Maximum likelihood of a normalizing flow.

  log p(x) = log p_latent(y) + log |det dy/dx|,
  (y, log |det dy/dx|) = forward(x)

A density of discrete levels needs dequantisation (dequantisation.py): add its
correction to log p. Everything here takes one example.
"""

import math
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float


def standard_normal(latent: Float[Array, "*E"]) -> Float[Array, ""]:
  """log N(y; 0, I) of a latent, in nats."""
  return -(jnp.sum(latent**2) + latent.size * math.log(2 * math.pi)) / 2


def log_prob(
  forward: Callable[[Array], tuple[Array, Array]],
  data: Float[Array, "*D"],
  *,
  prior: Callable[[Array], Array] = standard_normal,
) -> Float[Array, ""]:
  """log p(x) of the flow, in nats.

  Args:
    forward: x [*D] -> (y [*E], log |det dy/dx| []), parameters bound: that of a
      bijectors.Bijector or a network's.
    data: an example, [*D].
    prior: log-density of the latent, [*E] -> [].

  Raises:
    ValueError: y has another size than x, or the log-determinant is no scalar.

  Reference: Rezende and Mohamed 2015, arXiv:1505.05770, eq. 5.
  """
  latent, log_det = forward(data)
  if latent.size != data.size or jnp.ndim(log_det):
    raise ValueError(
      f"forward: expected {data.size} numbers and a scalar, got shapes"
      f" {latent.shape} and {jnp.shape(log_det)}"
    )
  return prior(latent) + log_det


def negative_log_likelihood(
  forward: Callable[[Array], tuple[Array, Array]],
  data: Float[Array, "*D"],
  *,
  prior: Callable[[Array], Array] = standard_normal,
) -> Float[Array, ""]:
  """-log p(x) / D, in nats per dimension; arguments as in log_prob.

  The division by the number of coordinates D makes learning rates comparable
  between sizes.
  """
  return -log_prob(forward, data, prior=prior) / data.size
