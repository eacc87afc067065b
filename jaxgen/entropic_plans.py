"""Entropic plans and Schrodinger bridges of Gaussian-mixture potentials.

The entropic plan of the cost |x - y|^2 / 2 at the temperature eps = std^2, from
a source x to data y, has the conditional distribution

  p(y | x) = exp(<x, y> / eps) v(y) / c(x),   c(x) = int exp(<x, y> / eps) v(y)

for a potential v that does not depend on x, and is exact for any source: every
v is the optimum between the source and the data that it gives. For a mixture

  v(y) = sum_k a_k N(y; r_k, C_k),   C_k = Q_k diag(c_k) Q_k^T

all of it has a closed form. With the same Brownian motion between the ends,
x_t at time t (t = 0 is data and t = 1 the source, as everywhere), the plan is
that of the Schrodinger bridge, the diffusion dx = b |dt| + std dW from the
source to the data, with the drift b = (E[data | x_t] - x_t) / t. In the
coordinates of Q_k, with A = eps t + (1 - t) c,

  E[data | x_t, k]   = (eps t r + c x_t) / A,   Var[data | x_t, k] = eps t c / A
  (E[data | x_t, k] - x_t) / t = (eps r + (c - eps) x_t) / A
  log p(k | x_t) = log a_k - sum(log A) / 2 + const
    + sum((r x_t - (1 - t) r^2 / 2 + (c - eps) x_t^2 / (2 eps)) / A)

over the axes. The drift has no division by t, and holds at t = 0.

References: Gushchin et al. 2023, arXiv:2306.10161, proposition 3.2 (exact
plans); Korotin et al. 2023, arXiv:2310.01174, propositions 3.2 and 3.3.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Key


class Potential(NamedTuple):
  """v(y) = sum_k a_k N(y; r_k, Q_k diag(c_k) Q_k^T) and std, a pytree.

  Every method takes one example, and scales of a are of no effect on a plan.
  Results have the dtype of the potential's arrays.

  Attributes:
    log_weights: log a, [K].
    means: r, [K, D].
    variances: c, positive, [K, D].
    basis: Q, orthonormal, the columns of each are the axes of its variances,
      [K, D, D]; None means the identity.
    std: of the Brownian motion, per square root of time, positive, []; eps is
      its square.
  """

  log_weights: Float[Array, "K"]
  means: Float[Array, "K D"]
  variances: Float[Array, "K D"]
  basis: Float[Array, "K D D"] | None
  std: Float[ArrayLike, ""]

  def log_potential(self, y: Float[Array, "D"]) -> Float[Array, ""]:
    """log v(y), []."""
    y = self._checked("y", y)
    apart = _into(self.basis, y[None] - self.means)
    energy = apart**2 / self.variances
    energy += jnp.log(2 * math.pi * self.variances)
    return jax.nn.logsumexp(self.log_weights - energy.sum(1) / 2)

  def log_normalizer(self, x: Float[Array, "D"]) -> Float[Array, ""]:
    """log c(x) = log int exp(<x, y> / eps) v(y) dy, []."""
    x = self._checked("x", x)
    there = _into(self.basis, jnp.broadcast_to(x, self.means.shape))
    there = there / self._eps()
    terms = (
      _into(self.basis, self.means) * there + self.variances * there**2 / 2
    )
    return jax.nn.logsumexp(self.log_weights + terms.sum(1))

  def log_prob(
    self, y: Float[Array, "D"], x: Float[Array, "D"]
  ) -> Float[Array, ""]:
    """log p(y | x) of the plan, the log-density of data y given a source x."""
    inner = jnp.sum(self._checked("x", x) * self._checked("y", y)) / self._eps()
    return inner + self.log_potential(y) - self.log_normalizer(x)

  def sample(
    self, key: Key[Array, ""], x: Float[Array, "D"], t: ArrayLike = 1.0
  ) -> Float[Array, "D"]:
    """Data given x_t = x; at t = 1, given a source: a sample of the plan."""
    component_key, noise_key = jax.random.split(key)
    log_weights, means, variances = self._posterior(x, t)
    k = jax.random.categorical(component_key, log_weights, mode="high")
    noise = jax.random.normal(noise_key, x.shape, means.dtype)
    y = means[k] + jnp.sqrt(variances[k]) * noise
    return y if self.basis is None else _times(self.basis[k], y)

  def mean(self, x: Float[Array, "D"], t: ArrayLike = 1.0) -> Float[Array, "D"]:
    """E[data | x_t = x], [D]."""
    log_weights, means, _ = self._posterior(x, t)
    return jax.nn.softmax(log_weights) @ _back(self.basis, means)

  def covariance(
    self, x: Float[Array, "D"], t: ArrayLike = 1.0
  ) -> Float[Array, "D D"]:
    """Cov[data | x_t = x], [D, D]."""
    log_weights, means, variances = self._posterior(x, t)
    weights, means = jax.nn.softmax(log_weights), _back(self.basis, means)
    apart = means - (weights @ means)[None]
    found = jnp.einsum("k,kd,ke->de", weights, apart, apart)
    if self.basis is None:
      return found + jnp.diag(weights @ variances)
    parts = weights, self.basis, variances, self.basis
    return found + jnp.einsum("k,kdi,ki,kei->de", *parts)

  def drift(self, x: Float[Array, "D"], t: ArrayLike) -> Float[Array, "D"]:
    """(E[data | x_t = x] - x) / t, per time left, for t in [0, 1], [D]."""
    log_weights, r, there, inside = self._at(x, t)
    eps = self._eps()
    each = (eps * r + (self.variances - eps) * there) / inside
    return jax.nn.softmax(log_weights) @ _back(self.basis, each)

  def _posterior(self, x, t):
    """Of data given x_t: log a [K]; means, variances [K, D] along the axes."""
    log_weights, r, there, inside = self._at(x, t)
    left = self._eps() * jnp.asarray(t, r.dtype)
    means = (left * r + self.variances * there) / inside
    return log_weights, means, left * self.variances / inside

  def _at(self, x, t):
    """log p(k | x_t) + const [K]; r, x_t and A along the axes, [K, D]."""
    x = self._checked("x", x)
    eps, c, t = self._eps(), self.variances, jnp.asarray(t, x.dtype)
    inside = eps * t + (1 - t) * c
    r = _into(self.basis, self.means)
    there = _into(self.basis, jnp.broadcast_to(x, r.shape))
    terms = r * there - (1 - t) * r**2 / 2 + (c - eps) * there**2 / (2 * eps)
    energy = jnp.log(inside) / 2 - terms / inside
    return self.log_weights - energy.sum(1), r, there, inside

  def _eps(self):
    return jnp.asarray(self.std, self.means.dtype) ** 2

  def _checked(self, name, x):
    """x in the potential's dtype."""
    num, dim = self.means.shape
    for part, expected in (("log_weights", (num,)), ("variances", (num, dim))):
      if (got := jnp.shape(getattr(self, part))) != expected:
        raise ValueError(f"{part}: expected shape {expected}, got {got}")
    if self.basis is not None and self.basis.shape != (num, dim, dim):
      raise ValueError(
        f"basis: expected shape {(num, dim, dim)}, got {self.basis.shape}"
      )
    if x.shape != (dim,):
      raise ValueError(f"{name}: expected shape {(dim,)}, got {x.shape}")
    return x.astype(self.means.dtype)


def from_bridge(
  weights: Float[Array, "K"],
  means: Float[Array, "K D"],
  variances: Float[Array, "K D"],
  basis: Float[Array, "K D D"] | None,
  std: Float[ArrayLike, ""],
) -> Potential:
  """The potential v of p(y | x) ~ N(y; x, eps I) sum_k w_k N(y; mu_k, S_k).

    C_k = (I / eps + S_k^-1)^-1,   r_k = C_k S_k^-1 mu_k
    a_k ~ w_k N(mu_k; 0, S_k + eps I)

  The plan is x -> sum_k w_k(x) N(C_k (S_k^-1 mu_k + x / eps), C_k), with w_k(x)
  in proportion to w_k N(x; mu_k, S_k + eps I).

  Args:
    weights: w, positive, [K].
    means: mu, [K, D].
    variances: eigenvalues of S, positive, [K, D].
    basis: their eigenvectors, as in Potential.
    std: eps is its square.

  Reference: Gushchin et al. 2023, arXiv:2306.10161, proposition 3.3.
  """
  eps = jnp.asarray(std, means.dtype) ** 2
  mu = _into(basis, means)
  energy = mu**2 / (variances + eps) + jnp.log(variances + eps)
  return Potential(
    jnp.log(weights) - energy.sum(1) / 2,
    _back(basis, eps * mu / (variances + eps)),
    eps * variances / (variances + eps),
    basis,
    std,
  )


def _into(basis, vectors):
  """Ambient vectors [K, D] in the coordinates of each basis."""
  if basis is None:
    return vectors
  return jax.vmap(_times)(jnp.swapaxes(basis, 1, 2), vectors)


def _back(basis, vectors):
  """The reverse of `_into`."""
  return vectors if basis is None else jax.vmap(_times)(basis, vectors)


def _times(matrix, vector):
  return jnp.dot(matrix, vector, precision=jax.lax.Precision.HIGHEST)
