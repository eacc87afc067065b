"""Paths between two latents."""

from typing import Any

import jax
import jax.numpy as jnp


def spherical(a: jax.Array, b: jax.Array, weight: Any) -> jax.Array:
  """From a to b along the great circle, where a straight line is shorter.

    (sin((1 - w) angle) a + sin(w angle) b) / sin(angle)
    angle = 2 atan2(| |b| a - |a| b |, | |b| a + |a| b |)

  Between two samples of noise it keeps the norm, which the middle of a straight
  line loses (a factor sqrt 2). Where the angle is 0 to rounding it is linear;
  the ends are exact. It overshoots between unequal norms at wide angles, which
  points of the plane have and images do not.

  Args:
    a: latent at weight 0, [*D]; not opposite to b, where no circle is the
      shortest.
    b: latent at weight 1, [*D].
    weight: w, [], from 0 to 1.

  Returns:
    The point between, [*D].

  Reference: Shoemake 1985, SIGGRAPH, section 3.3; Kahan 2006, "How futile are
  mindless assessments of roundoff", section 12 (the angle).
  """
  square = lambda x: jnp.sum(x**2)
  to_a, to_b = jnp.sqrt(square(b)) * a, jnp.sqrt(square(a)) * b
  apart, along = square(to_a - to_b), square(to_a + to_b)
  near = apart <= jnp.finfo(apart.dtype).eps / 4 * along
  # Where it is not used it is a right angle, so that no gradient is NaN.
  root = lambda x: jnp.sqrt(jnp.where(near, 1, x))
  angle = 2 * jnp.arctan2(root(apart), root(along))
  share = lambda w: jnp.where(near, w, jnp.sin(w * angle) / jnp.sin(angle))
  return share(1 - weight) * a + share(weight) * b


def straight(a: jax.Array, b: jax.Array, weight: Any) -> jax.Array:
  """From a to b along the line, for latents that are not noise."""
  return (1 - weight) * a + weight * b
