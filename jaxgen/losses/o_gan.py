"""O-GAN: a discriminator that is also an encoder of its generator.

  y = G(z),   D(x) = mean_i E(x)_i, high on data

A score needs one direction of the encoding, its mean; the directions orthogonal
to it are free to hold the latent, which the correlation of z and E(G(z)) over
their entries asks for. So one network gives the score and, up to scale and
shift, the latent of an example.

Reference: Su 2019, arXiv:1903.01931.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen import costs


def correlation(
  first: Float[Array, "*Z"], second: Float[Array, "*Z"]
) -> Float[Array, ""]:
  """Pearson's correlation over the entries of two arrays; 0 if one is constant.

  <a - mean a, b - mean b> / (|a - mean a| |b - mean b|)
  """
  costs.require_alike(first=first, second=second)
  a, b = (x - x.mean() for x in (first, second))
  lengths = costs.norm(a) * costs.norm(b)
  return jnp.sum(a * b) / jnp.where(lengths > 0, lengths, 1.0)


def quadratic_penalty(
  critic_fn: Callable,
  data: Float[Array, "..."],
  generated: Float[Array, "..."],
) -> Float[Array, ""]:
  """(f(x) - f(y))^2 / (4 mean_i (x - y)_i^2) for one pair; 0 if x = y.

  Added to the dual f(y) - f(x), it keeps the gap near twice that mean.

  Raises:
    ValueError: x and y differ in shape.

  Reference: Su 2018, arXiv:1811.07296, with squares for absolute values.
  """
  costs.require_alike(data=data, generated=generated)
  return _square(critic_fn(data) - critic_fn(generated), data, generated)


def loss(
  encode_fn: Callable,
  generate_fn: Callable,
  data: Float[Array, "*D"],
  latent: Float[Array, "Z"],
  *,
  weight: float = 0.5,
) -> Float[Array, ""]:
  """O-GAN for one pair: the discriminator is an encoder of its generator.

    t1 + t2 - weight rho(z, E(y)) + t1^2 / (4 mean_i (x - y)_i^2),
    t1 = D(sg y) - D(x),   t2 = D(sg y) - D(y),
    y = G(z),   D(x) = mean_i E(x)_i, high on data

  sg stops the gradient, so that one gradient step of this loss is a step of
  both players: t1 and its square teach the encoder, t2 has the gradient of
  -D(y) for the generator and none for the encoder, and the correlation rho
  teaches both. As rho does not depend on the mean of the encoding, the score
  uses one direction and the latent the others: E(x) up to scale and shift
  encodes x.

  Args:
    encode_fn: E, [*D] -> [Z], parameters bound.
    generate_fn: G, [Z] -> [*D], parameters bound.
    data: x, a data example, [*D].
    latent: z, standard normal, [Z] with Z >= 2.
    weight: of the correlation, at least 0.

  Raises:
    ValueError: weight is negative, G(z) and x differ in shape, or E(G(z)) and z
      do.

  Reference: Su 2019, arXiv:1903.01931, eq. 21 and 22, with the sign of D
  changed.
  """
  if not weight >= 0:
    raise ValueError(f"weight: expected at least 0, got {weight}")
  made = generate_fn(latent)
  costs.require_alike(data=data, generated=made)
  held, encoding = jax.lax.stop_gradient(made), encode_fn(made)
  costs.require_alike(latent=latent, encoding=encoding)
  fake = encode_fn(held).mean()
  gap = fake - encode_fn(data).mean()
  both = gap + (fake - encoding.mean()) + _square(gap, data, held)
  return both - weight * correlation(latent, encoding)


def _square(gap, data, generated):
  apart = jnp.mean((data - generated) ** 2)
  # If data = generated, the gap is 0, and so is its square.
  return gap**2 / (4 * jnp.where(apart > 0, apart, 1.0))
