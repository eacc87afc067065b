"""Generators without an adversary: every datum has a latent, or a neighbour.

  GLO    min over G and z_i  mean_i d(G(z_i), x_i),    |z_i| = 1 or at most 1
  IMLE   min over G          mean_i min_j d(G(e_j), x_i),    e_j noise
  GLANN  GLO, then IMLE of a map T from noise to the latents z_i

  d(a, b) = the mean of (phi(a) - phi(b))^2,    phi the features, or the data

In GLO the latents z_i are parameters, one for each example, projected after
each step. In IMLE every datum, not every sample, has a neighbour, so no mode is
left out; the matches are found by `match` for a pool of samples, exactly, and
are then held while d(G(e_j), x_i) is reduced. Its rejection form (RS-IMLE)
leaves out samples that are within epsilon of some datum already.

References: Bojanowski et al. 2018, arXiv:1707.05776 (GLO); Li and Malik 2018,
arXiv:1809.09087 (IMLE); Hoshen et al. 2019, arXiv:1812.08985 (GLANN); Vashist
et al. 2024, arXiv:2409.17439 (RS-IMLE).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen import costs, nearest


class Match(NamedTuple):
  """The samples that the data take.

  Attributes:
    rows: the row of each datum's sample, [N], int32.
    squares: the squared distances, [N]; infinite if every sample is rejected.
    accepted: which samples may be taken, [M].
  """

  rows: Array
  squares: Array
  accepted: Array


def on_sphere(latent: Float[Array, "Z"]) -> Float[Array, "Z"]:
  """z / |z|, the nearest latent of norm one; 0 stays 0."""
  length = costs.norm(latent)
  return latent / jnp.where(length > 0, length, 1.0)


def in_ball(latent: Float[Array, "Z"]) -> Float[Array, "Z"]:
  """z / max(1, |z|), the nearest latent of norm at most one."""
  return latent / jnp.maximum(costs.norm(latent), 1.0)


def reconstruction(
  generate_fn: Callable,
  latent: Float[Array, "*Z"],
  data: Float[Array, "*D"],
  *,
  features_fn: Callable = lambda x: x,
) -> Float[Array, ""]:
  """The distance of a generated example from its datum.

    mean_k (phi(G(z)) - phi(x))_k^2

  The loss of one example of GLO, with its own latent z, and of IMLE, with the
  noise that `match` found for it.

  Args:
    generate_fn: G, [*Z] -> [*D], parameters bound.
    latent: z, [*Z].
    data: x, [*D].
    features_fn: phi, [*D] -> [*F], with constant parameters; by default the
      data itself.

  Raises:
    ValueError: G(z) and x differ in shape.

  Reference: Bojanowski et al. 2018, arXiv:1707.05776, eq. 2.
  """
  made = generate_fn(latent)
  costs.require_alike(data=data, generated=made)
  return jnp.mean((features_fn(made) - features_fn(data)) ** 2)


def match(
  data: Float[Array, "N ..."],
  samples: Float[Array, "M ..."],
  *,
  epsilon: float = 0.0,
  chunk: int = 512,
) -> Match:
  """The nearest sample of every datum; no gradient passes through it.

  Args:
    data: the set whose every point takes a sample, or its features, [N, *D].
    samples: the pool, or its features, [M, *D]; a sample may be taken by
      several points or by none.
    epsilon: samples at a distance below epsilon from some point are rejected,
      at least 0; 0 rejects none.
    chunk: number of points searched at a time (jaxgen.nearest); it limits the
      memory and may exceed N and M.

  Raises:
    ValueError: epsilon is negative, and as in nearest.nearest.

  Reference: Li and Malik 2018, arXiv:1809.09087, algorithm 1; Vashist et al.
  2024, arXiv:2409.17439, algorithm 1 (epsilon).
  """
  if not epsilon >= 0:
    raise ValueError(f"epsilon: expected at least 0, got {epsilon}")
  data, samples = jax.lax.stop_gradient((data, samples))
  if not epsilon:
    found = nearest.nearest(data, samples, chunk=chunk)
    return Match(*found, jnp.ones(len(samples), bool))
  apart = nearest.nearest(samples, data, chunk=chunk).squares
  accepted = apart >= epsilon**2
  return Match(*nearest.nearest(data, samples, accepted, chunk=chunk), accepted)


def imle(
  generate_fn: Callable,
  data: Float[Array, "N ..."],
  noise: Float[Array, "M ..."],
  *,
  features_fn: Callable = lambda x: x,
  epsilon: float = 0.0,
  chunk: int = 512,
) -> Float[Array, ""]:
  """The loss of a set of data and a pool of noise.

    mean_i mean_k (phi(G(e_j(i))) - phi(x_i))_k^2,
    j(i) = argmin_j |phi(G(e_j)) - phi(x_i)|

  The pool is generated twice: once without gradients to match it, and the
  matched noise again, with gradients.

  Args:
    generate_fn: G, [*Z] -> [*D], parameters bound; for GLANN the map T, whose
      data are the latents of GLO.
    data: x, [N, *D].
    noise: e, [M, *Z].
    features_fn, epsilon, chunk: as in `reconstruction` and `match`.

  Returns:
    The loss, []; 0, with no gradient, if every sample is rejected.

  Raises:
    ValueError: as in `reconstruction` and `match`.
  """
  pool = jax.vmap(lambda e: features_fn(generate_fn(e)))
  made = pool(jax.lax.stop_gradient(noise))
  found = match(jax.vmap(features_fn)(data), made, epsilon=epsilon, chunk=chunk)
  losses = jax.vmap(
    lambda e, x: reconstruction(generate_fn, e, x, features_fn=features_fn)
  )(noise[found.rows], data)
  return jnp.mean(jnp.where(jnp.isfinite(found.squares), losses, 0.0))
