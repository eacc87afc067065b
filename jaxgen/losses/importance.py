"""Bounds on log p(x) from K weighted samples of the posterior, in nats.

  w_k = p(x | z_k) p(z_k) / q(z_k | x),   log p(x) >= E log (1/K) sum_k w_k

K = 1 is the evidence lower bound; the bound increases with K to log p(x).

References: Burda et al. 2016, arXiv:1509.00519; Tucker et al. 2018,
arXiv:1810.04152.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen import costs, dequantisation
from jaxgen.losses import normalizing_flow, variational


def log_weights(
  likelihood_fn: Callable,
  posterior: variational.Gaussian,
  noise: Float[Array, "K *Z"],
  *,
  prior_fn: Callable[[Array], Array] = normalizing_flow.standard_normal,
) -> Float[Array, "K"]:
  """log w_k of K samples, [K], each summed over coordinates.

  Args:
    likelihood_fn: log p(x | z), [*Z] -> [], parameters and example bound.
    posterior: q(z | x).
    noise: standard normal samples, [K, *Z].
    prior_fn: log p(z), [*Z] -> [].

  Raises:
    ValueError: the shapes differ, or a function returns no scalar.
  """
  z = _samples(posterior, noise)
  return _log_weights(likelihood_fn, posterior, z, prior_fn)


def iwae(log_weights: Float[Array, "K"]) -> Float[Array, ""]:
  """log (1/K) sum_k w_k: the importance-weighted bound, [].

  Reference: Burda et al. 2016, arXiv:1509.00519, eq. 8.
  """
  return dequantisation.importance(log_weights)


def doubly_reparameterised(
  likelihood_fn: Callable,
  posterior: variational.Gaussian,
  noise: Float[Array, "K *Z"],
  *,
  prior_fn: Callable[[Array], Array] = normalizing_flow.standard_normal,
) -> Float[Array, ""]:
  """The importance-weighted bound with the DReG gradient, to be maximised.

  Its value is iwae(log_weights(...)). With v_k = w_k / sum_j w_j, the gradient
  is

    encoder   sum_k v_k^2 (d log w_k / dz_k) (dz_k / d encoder)
    model     sum_k v_k d log w_k / d model

  where log w_k depends on the encoder through z_k alone. Both have the same
  expectation as the bound's own gradient, whose signal-to-noise ratio for the
  encoder decreases with K, while here it increases. The decoder is evaluated
  twice with equal inputs, which a compiler merges.

  Args:
    likelihood_fn, posterior, noise, prior_fn: as in log_weights.

  Raises:
    ValueError: as in log_weights.

  Reference: Tucker et al. 2018, arXiv:1810.04152, eq. 6.
  """
  z = _samples(posterior, noise)
  fixed = jax.lax.stop_gradient(posterior)
  log_w = _log_weights(likelihood_fn, fixed, z, prior_fn)
  log_w = jax.lax.stop_gradient(log_w)
  shares = jax.nn.softmax(log_w)
  scaled = jax.vmap(_scale_tangent)(z, shares)
  again = _log_weights(likelihood_fn, fixed, scaled, prior_fn)
  # The sum is 0 and adds the gradient.
  return iwae(log_w) + jnp.sum(shares * (again - jax.lax.stop_gradient(again)))


def _samples(posterior, noise):
  if jnp.ndim(noise) != jnp.ndim(posterior.mean) + 1 or not len(noise):
    raise ValueError(
      f"noise: expected shape [K, *Z] with *Z = {posterior.mean.shape}, got"
      f" {jnp.shape(noise)}"
    )
  return jax.vmap(variational.sample, (None, 0))(posterior, noise)


def _log_weights(likelihood_fn, posterior, z, prior_fn):
  def one(z):
    joint = costs.value(likelihood_fn, z) + costs.value(prior_fn, z)
    return joint - variational.log_prob(posterior, z)

  return jax.vmap(one)(z)


@jax.custom_jvp
def _scale_tangent(z, factor):
  """z itself, whose derivative is multiplied by the factor."""
  return z


@_scale_tangent.defjvp
def _scaled(primals, tangents):
  z, factor = primals
  return z, factor * tangents[0]
