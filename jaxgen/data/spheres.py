"""Mixtures of von Mises-Fisher distributions on the sphere in three dimensions.

  p(x) = sum_k w_k c(kappa_k) exp(kappa_k (<mu_k, x> - 1)),   |x| = 1
  c(kappa) = kappa / (2 pi (1 - exp(-2 kappa)))

with respect to the area. Flow matching on the sphere (losses.riemannian) from
the uniform distribution, independent of the data, has the point

  data = exp(x, -t u),   u = the velocity of the geodesic at x_t = x

so that E[velocity | x_t = x] and the density of x_t are integrals over u, whose
direction is uniform and whose length a in [0, pi] has the density sin(a) / 2:

  p_t(x) = E p(exp(x, -t u)),   v(x, t) = E[u p(exp(x, -t u))] / p_t(x)

Gauss-Legendre's rule in cos a and the trapezium rule in the direction give both
to rounding, for every t in [0, 1].

Reference: Mardia and Jupp 2000, Directional Statistics, section 9.3; Ulrich
1984, Applied Statistics 33(2) (sampling); Chen and Lipman 2023,
arXiv:2302.03660, eq. 4 (the marginal velocity).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Key

from jaxgen import fields, manifolds

LOG_UNIFORM = -math.log(4 * math.pi)  # the log-density of the uniform one


class VonMisesFisher(NamedTuple):
  """sum_k w_k vMF(mu_k, kappa_k) on the unit sphere, a pytree of arrays.

  Attributes:
    weights: w, positive, with sum one, [K].
    means: mu, unit vectors, [K, D], D = 3.
    concentrations: kappa, positive, [K].
  """

  weights: Float[ArrayLike, "K"]
  means: Float[ArrayLike, "K D"]
  concentrations: Float[ArrayLike, "K"]

  def log_prob(self, x: Float[Array, "D"]) -> Float[Array, ""]:
    """log p(x) of a unit vector, with respect to the area, [].

    Raises:
      ValueError: the shapes of weights, means, concentrations and x disagree.
    """
    self._check(x)
    weights, means, kappa = (jnp.asarray(a, x.dtype) for a in self)
    scale = jnp.log(kappa / (2 * math.pi)) - jnp.log(-jnp.expm1(-2 * kappa))
    # <mu, x> - 1, to the digits of a short distance.
    apart = -jnp.sum((means - x[None]) ** 2, 1) / 2
    return jax.nn.logsumexp(jnp.log(weights) + scale + kappa * apart)

  def sample(self, key: Key[Array, ""]) -> Float[Array, "3"]:
    """One sample, a unit vector, [3]: the inverse distribution function.

    <mu, x> = 1 + log(u + (1 - u) exp(-2 kappa)) / kappa,   u uniform
    """
    component_key, height_key, around_key = jax.random.split(key, 3)
    dtype = jnp.result_type(float)
    weights, means, kappas = (jnp.asarray(a, dtype) for a in self)
    k = jax.random.categorical(component_key, jnp.log(weights), mode="high")
    mean, kappa = means[k], kappas[k]
    u = jax.random.uniform(height_key, (), dtype)
    below = -jnp.log1p((1 - u) * jnp.expm1(-2 * kappa)) / kappa
    turn = jax.random.uniform(around_key, (), dtype, maxval=2 * math.pi)
    around = jnp.stack([jnp.cos(turn), jnp.sin(turn)]) @ _frame(mean)
    return (1 - below) * mean + jnp.sqrt(below * (2 - below)) * around

  def estimate(
    self, x: Float[Array, "D"], t: ArrayLike, num_nodes: int = 32
  ) -> fields.Estimate:
    """The velocity [3] and log_prob [] of flow matching from uniform points.

    Args:
      x: a point, [3].
      t: time, [], from 0 (the data) to 1 (uniform).
      num_nodes: number of nodes of each of the two rules. 32 give ten digits
        for concentrations up to 20; larger ones need more.

    Raises:
      ValueError: as in `log_prob`.
    """
    self._check(x)
    sphere = manifolds.sphere()
    cos, weights = np.polynomial.legendre.leggauss(num_nodes)
    turns = 2 * np.pi * np.arange(num_nodes) / num_nodes
    plane = np.stack([np.cos(turns), np.sin(turns)], 1)
    rays = jnp.asarray(plane, x.dtype) @ _frame(x)  # [J, 3]
    angles = jnp.asarray(np.arccos(cos), x.dtype)
    velocities = angles[:, None, None] * rays[None]  # [I, J, 3]
    u = velocities.reshape(-1, 3)
    log_weights = np.repeat(np.log(weights / 2 / num_nodes), num_nodes)
    t = jnp.asarray(t, x.dtype)
    at = lambda u: self.log_prob(sphere.exp(x, -t * u))
    log_joint = jax.vmap(at)(u) + jnp.asarray(log_weights, x.dtype)
    log_prob = jax.nn.logsumexp(log_joint)
    velocity = jnp.exp(log_joint - log_prob) @ u
    return fields.Estimate(velocity, log_prob=log_prob)

  def field(self, num_nodes: int = 32) -> fields.Field:
    """The exact field of flow matching from uniform points, see `estimate`."""
    return fields.Field(lambda x, t: self.estimate(x, t, num_nodes))

  def _check(self, x):
    shapes = [jnp.shape(a) for a in self]
    num = len(self.weights) if shapes[0] else 0
    for name, got, expected in zip(
      (*self._fields, "x"),
      (*shapes, x.shape),
      ((num,), (num, 3), (num,), (3,)),
      strict=True,
    ):
      if got != expected:
        raise ValueError(f"{name}: expected shape {expected}, got {got}")


def uniform(key: Key[Array, ""], dim: int = 3) -> Float[Array, "D"]:
  """A point uniform on the unit sphere, [D].

  Raises:
    ValueError: dim is below 1.
  """
  if dim < 1:
    raise ValueError(f"dim: expected at least 1, got {dim}")
  normal = jax.random.normal(key, (dim,))
  return normal / jnp.linalg.norm(normal)


def _frame(x):
  """Two orthonormal tangent vectors at x, [2, 3].

  The rotation that takes the nearer pole to x the shortest way, of the axes.
  """
  first, second, height = x
  slope = 1 / (1 + jnp.abs(height))
  down = -jnp.where(height < 0, -1.0, 1.0).astype(x.dtype)
  cross = -first * second * slope
  return jnp.stack(
    [
      jnp.stack([1 - first**2 * slope, cross, down * first]),
      jnp.stack([cross, 1 - second**2 * slope, down * second]),
    ]
  )
