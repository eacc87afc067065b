"""Gaussian mixtures, with exact estimates on every Gaussian path.

For data ~ sum_k w_k N(m_k, C_k) and x_t = alpha data + sigma noise (t = 0 is
data, t grows toward noise), component k of x_t is Gaussian:

  mean alpha m_k,   covariance V_k = alpha^2 C_k + sigma^2 I,
  E[data  | x_t, k] = V_k^-1 (sigma^2 m_k + alpha C_k x_t)
  E[noise | x_t, k] = V_k^-1 sigma (x_t - alpha m_k)
  grad log p_k(x_t) = -V_k^-1 (x_t - alpha m_k)

and each estimate is the average of these over the responsibilities, the
probabilities of k given x_t. Data and noise are each computed from the
posterior, never one from the other by subtraction, so that both stay accurate
at both ends of a path (in float32, for noise ratios from .002 to 80). The
velocity is alpha' E[data | x_t] + sigma' E[noise | x_t].

The C_k are diagonal in one basis that all components share. The flow map has a
closed form only for a single Gaussian.

Reference: Karras et al. 2022, arXiv:2206.00364, appendix B.3 (the denoiser of
point masses); Albergo et al. 2023, arXiv:2303.08797, appendix A (mixtures).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from jaxgen import dtypes, fields, paths


class _Posterior(NamedTuple):
  data: Array
  noise: Array
  score: Array
  log_prob: Array


class Mixture(NamedTuple):
  """sum_k w_k N(m_k, Q diag(s_k^2) Q^T), a pytree of arrays.

  Estimates have x's dtype and are computed in float32 or wider. Every method
  takes one example. At t = 0 the density, score and denoiser are those of the
  data, if stds > 0; the velocity needs a finite sigma', which vp and cosine
  have only for t > 0.

  Attributes:
    weights: w, positive, with sum one, [K].
    means: m, [K, D].
    stds: s, one per component [K], or one per component and axis [K, D].
    basis: Q, orthonormal; its columns are the axes of stds, [D, D]. None means
      the identity.
  """

  weights: Float[ArrayLike, "K"]
  means: Float[ArrayLike, "K D"]
  stds: Float[ArrayLike, "K"] | Float[ArrayLike, "K D"]
  basis: Float[ArrayLike, "D D"] | None = None

  def sample(self, key: Key[Array, ""]) -> Float[Array, "D"]:
    """One sample of the data, [D]."""
    component_key, noise_key = jax.random.split(key)
    dtype = jnp.result_type(float)
    weights, means, stds = self.arrays(dtype)
    k = jax.random.categorical(component_key, jnp.log(weights), mode="high")
    noise = jax.random.normal(noise_key, means.shape[1:], dtype)
    return self._rotate(means[k] + stds[k] * noise)

  def log_prob(
    self,
    path: paths.Path,
    x: Float[Array, "D"],
    t: Float[ArrayLike, ""],
  ) -> Float[Array, ""]:
    """log p_t(x), the density of x_t, in nats, []."""
    return self._posterior(path, x, t).log_prob.astype(x.dtype)

  def score(
    self,
    path: paths.Path,
    x: Float[Array, "D"],
    t: Float[ArrayLike, ""],
  ) -> Float[Array, "D"]:
    """grad log p_t(x), [D]."""
    return self._posterior(path, x, t).score.astype(x.dtype)

  def denoise(
    self,
    path: paths.Path,
    x: Float[Array, "D"],
    t: Float[ArrayLike, ""],
  ) -> Float[Array, "D"]:
    """E[data | x_t = x], [D]."""
    return self._posterior(path, x, t).data.astype(x.dtype)

  def velocity(
    self,
    path: paths.Path,
    x: Float[Array, "D"],
    t: Float[ArrayLike, ""],
  ) -> Float[Array, "D"]:
    """alpha' E[data | x_t = x] + sigma' E[noise | x_t = x], [D]."""
    return self._velocity(path, self._posterior(path, x, t), t).astype(x.dtype)

  def estimate(
    self,
    path: paths.Path,
    x: Float[Array, "D"],
    t: Float[ArrayLike, ""],
  ) -> fields.Estimate:
    """Every estimate at x_t = x; log_prob is the log-density of x_t.

    Args:
      path: the Gaussian path (alpha, sigma).
      x: a value of x_t, [D].
      t: time, [], with sigma > 0 (or t = 0, see the class).

    Returns:
      velocity, score, data, noise, each [D], and log_prob [].

    Raises:
      ValueError: the shapes of weights, means, stds, basis and x disagree.
    """
    posterior = self._posterior(path, x, t)
    data, noise, score, log_prob = posterior
    velocity = self._velocity(path, posterior, t)
    found = fields.Estimate(velocity, score, data, noise, log_prob)
    return jax.tree.map(lambda value: value.astype(x.dtype), found)

  def field(self, path: paths.Path) -> fields.Field:
    """The exact field of this distribution on a path, with all estimates."""
    return fields.Field(lambda x, t: self.estimate(path, x, t), path)

  def flow_map(
    self,
    path: paths.Path,
    x: Float[Array, "D"],
    s: Float[ArrayLike, ""],
    t: Float[ArrayLike, ""],
  ) -> Float[Array, "D"]:
    """The state at time t of the probability flow from x at time s, [D].

      alpha_t m + V_t^(1/2) V_s^(-1/2) (x - alpha_s m),
      V_t = alpha_t^2 C + sigma_t^2 I

    (the V commute, and so do their symmetric roots). Single Gaussians only.

    Args:
      path: the Gaussian path (alpha, sigma).
      x: the state at time s, [D].
      s: initial time, []; s > 0 where a std is zero.
      t: final time, [], before or after s.

    Returns:
      The state at time t, [D].

    Raises:
      ValueError: the mixture has more than one component.
    """
    num_components = jnp.shape(self.means)[0]
    if num_components != 1:
      raise ValueError(
        f"flow_map: expected one Gaussian, got {num_components} components"
      )
    self._check(x)
    dtype = dtypes.wider(x.dtype)
    _, means, stds = self.arrays(dtype)
    s, t = jnp.asarray(s, dtype), jnp.asarray(t, dtype)
    width = lambda u: jnp.hypot(path.alpha(u) * stds[0], path.sigma(u))
    delta = self._unrotate(x.astype(dtype)) - path.alpha(s) * means[0]
    there = path.alpha(t) * means[0] + width(t) / width(s) * delta
    return self._rotate(there).astype(x.dtype)

  def _velocity(self, path, posterior, t):
    alpha_rate, sigma_rate = path.rates(jnp.asarray(t, posterior.data.dtype))
    return alpha_rate * posterior.data + sigma_rate * posterior.noise

  def _posterior(self, path, x, t):
    self._check(x)
    dtype = dtypes.wider(x.dtype)
    t = jnp.asarray(t, dtype)
    alpha, sigma = path.alpha(t), path.sigma(t)
    weights, means, stds = self.arrays(dtype)
    # x is [1, D], the components are [K, D].
    coordinates = self._unrotate(x.astype(dtype))[None]
    delta = coordinates - alpha * means
    variance = (alpha * stds) ** 2 + sigma**2
    energy = delta**2 / variance + jnp.log(2 * math.pi * variance)
    log_joint = jnp.log(weights) - energy.sum(1) / 2
    log_prob = jax.nn.logsumexp(log_joint)
    responsibility = jnp.exp(log_joint - log_prob)
    # sigma^2 m + alpha C x, not m + gain (x - alpha m), which loses digits.
    data = (sigma**2 * means + alpha * stds**2 * coordinates) / variance
    data = self._rotate(responsibility @ data)
    score = -self._rotate(responsibility @ (delta / variance))
    return _Posterior(data, -sigma * score, score, log_prob)

  def arrays(self, dtype):
    """Weights [K], means in the basis [K, D], stds [K, D]."""
    weights = jnp.asarray(self.weights, dtype)
    means = jnp.asarray(self.means, dtype)
    stds = jnp.asarray(self.stds, dtype).reshape(len(means), -1)
    return (
      weights,
      self._unrotate(means),
      jnp.broadcast_to(stds, means.shape),
    )

  def _unrotate(self, x):
    if self.basis is None:
      return x
    basis = jnp.asarray(self.basis, x.dtype)
    return jnp.dot(x, basis, precision=jax.lax.Precision.HIGHEST)

  def _rotate(self, x):
    if self.basis is None:
      return x
    basis = jnp.asarray(self.basis, x.dtype)
    return jnp.dot(basis, x, precision=jax.lax.Precision.HIGHEST)

  def _check(self, x):
    shapes = jax.tree.map(jnp.shape, self)
    if len(shapes.means) != 2:
      raise ValueError(f"means: expected shape [K, D], got {shapes.means}")
    num, dim = shapes.means
    if shapes.weights != (num,):
      raise ValueError(f"weights: expected {(num,)}, got {shapes.weights}")
    if shapes.stds not in ((num,), (num, dim)):
      raise ValueError(
        f"stds: expected {(num,)} or {(num, dim)}, got {shapes.stds}"
      )
    if shapes.basis not in (None, (dim, dim)):
      raise ValueError(f"basis: expected {(dim, dim)}, got {shapes.basis}")
    if x.shape != (dim,):
      raise ValueError(f"x: expected {(dim,)}, got {x.shape}")


def gaussian(
  mean: Float[ArrayLike, "D"], covariance: Float[ArrayLike, "D D"]
) -> Mixture:
  """N(mean, covariance) as a mixture of one component, with a flow map.

  Args:
    mean: m, [D].
    covariance: C, symmetric and positive definite to the precision of its
      dtype (otherwise the estimates are NaN), [D, D].

  Returns:
    The mixture: stds are the square roots of C's eigenvalues, and basis holds
    its eigenvectors. Derivatives with respect to C go through the eigenvectors,
    so they are NaN where eigenvalues coincide; those with respect to mean, stds
    and x always exist.
  """
  variances, basis = jnp.linalg.eigh(jnp.asarray(covariance))
  mean = jnp.asarray(mean)
  return Mixture(
    jnp.ones_like(mean, shape=(1,)),
    mean[None],
    jnp.sqrt(variances)[None],
    basis,
  )
