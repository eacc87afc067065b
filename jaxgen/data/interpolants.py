"""The exact flow between two independently paired Gaussian mixtures.

For x_t = alpha data + sigma source + gamma z (losses/flow_matching.py), where
data has components N(m_k, C_k) and source has components N(n_l, D_l), each pair
of components gives a Gaussian:

  mean alpha m_k + sigma n_l,   V = alpha^2 C_k + sigma^2 D_l + gamma^2 I
  E[(data, source, z) | x_t, k, l] =
    (m_k, n_l, 0) + (alpha C_k, sigma D_l, gamma) V^-1 (x_t - mean)

Velocity and score are averages over the posterior probabilities of (k, l) given
x_t. A standard normal source and gamma = 0 give oracles.Mixture on the path.

Reference: Albergo et al. 2023, arXiv:2303.08797, appendix A.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxgen import dtypes, fields, paths
from jaxgen.data import oracles


def between(
  data: oracles.Mixture,
  source: oracles.Mixture,
  path: paths.Path,
  bridge: Callable,
) -> fields.Field:
  """The field of velocity, score and log_prob of x_t.

  Args:
    data: the distribution at t = 0, in D dimensions.
    source: the distribution at t = 1.
    path: alpha and sigma.
    bridge: gamma, [] -> [].

  Raises:
    ValueError: the dimensions differ, or a mixture has a basis.
  """
  shapes = jnp.shape(data.means), jnp.shape(source.means)
  if shapes[0][1:] != shapes[1][1:]:
    raise ValueError(f"source: expected {shapes[0][1:]}, got {shapes[1][1:]}")
  if data.basis is not None or source.basis is not None:
    raise ValueError("data, source: expected mixtures without a basis")

  def estimate(x, t):
    dtype = dtypes.wider(x.dtype)
    t = jnp.asarray(t, dtype)
    one = jnp.ones_like(t)
    (alpha, sigma), rates = (path.alpha(t), path.sigma(t)), path.rates(t)
    gamma, gamma_rate = jax.jvp(bridge, (t,), (one,))
    weights, means, stds = (a[:, None] for a in data.arrays(dtype))
    others, places, widths = (a[None] for a in source.arrays(dtype))
    delta = (
      x.astype(dtype)[None, None] - alpha * means - sigma * places
    )  # [K, L, D]
    variance = (alpha * stds) ** 2 + (sigma * widths) ** 2 + gamma**2
    pull = delta / variance
    energy = delta * pull + jnp.log(2 * jnp.pi * variance)
    log_joint = jnp.log(weights * others) - energy.sum(-1) / 2  # [K, L]
    log_prob = jax.nn.logsumexp(log_joint)
    average = lambda a: jnp.einsum(
      "kl,kld->d", jnp.exp(log_joint - log_prob), a
    )
    velocity = (
      rates[0] * (means + alpha * stds**2 * pull)
      + rates[1] * (places + sigma * widths**2 * pull)
      + gamma_rate * gamma * pull
    )
    found = fields.Estimate(
      velocity=average(velocity), score=-average(pull), log_prob=log_prob
    )
    return jax.tree.map(lambda value: value.astype(x.dtype), found)

  return fields.Field(estimate)
