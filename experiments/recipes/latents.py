"""Interpolation of two latents."""

from typing import Any

import jax
import jax.numpy as jnp


def spherical(a: jax.Array, b: jax.Array, weight: Any) -> jax.Array:
  """Interpolates from a to b along a great circle.

    (sin((1 - w) angle) a + sin(w angle) b) / sin(angle)
    angle = 2 atan2(| |b| a - |a| b |, | |b| a + |a| b |)

  For two samples of noise it keeps the norm, which would be lower by a factor
  sqrt 2 in the middle of a straight line. If the angle is 0 up to rounding, it
  is linear; the ends are exact. For unequal norms and wide angles, which occur
  for points on the plane but not for images, it overshoots.

  Args:
    a: latent at weight 0, [*D]; not opposite to b, where the circle is not
      unique.
    b: latent at weight 1, [*D].
    weight: w, [], from 0 to 1.

  Returns:
    The interpolated latent, [*D].

  Reference: Shoemake 1985, SIGGRAPH, section 3.3; Kahan 2006, "How futile are
  mindless assessments of roundoff", section 12 (the angle).
  """
  square = lambda x: jnp.sum(x**2)
  to_a, to_b = jnp.sqrt(square(b)) * a, jnp.sqrt(square(a)) * b
  apart, along = square(to_a - to_b), square(to_a + to_b)
  near = apart <= jnp.finfo(apart.dtype).eps / 4 * along
  # An unused angle is set to a right angle, so that no gradient is NaN.
  root = lambda x: jnp.sqrt(jnp.where(near, 1, x))
  angle = 2 * jnp.arctan2(root(apart), root(along))
  share = lambda w: jnp.where(near, w, jnp.sin(w * angle) / jnp.sin(angle))
  return share(1 - weight) * a + share(weight) * b


def straight(a: jax.Array, b: jax.Array, weight: Any) -> jax.Array:
  """Interpolates along a straight line, for latents that are not noise."""
  return (1 - weight) * a + weight * b


def crossed(a: jax.Array, b: jax.Array, weight: Any) -> jax.Array:
  """Tokens [M, h, w]: of b at the first positions, row by row, then of a.

  The weight is the share of b's positions; between two tokens there is nothing
  to interpolate. All stages of a position are of one image.
  """
  places = jnp.arange(a[0].size).reshape(a.shape[1:])
  return jnp.where((places < weight * a[0].size)[None], b, a)
