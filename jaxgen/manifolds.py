"""Manifolds in ambient coordinates: exponential maps, logarithms, geodesics.

  exp(x, v)   the point that the geodesic from x with velocity v reaches at 1
  log(x, y)   the velocity of the shortest geodesic from x to y

A point is an array of ambient coordinates: unit vectors of the sphere [D],
angles of the flat torus [D], rotation matrices of SO(3) [3, 3]. A velocity is a
tangent vector in the same coordinates, and lengths are those of the ambient
space. log is smooth but at the cut locus (antipodes, half turns), where the
shortest geodesic is not unique.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

Point = Float[Array, "..."]


class Manifold(NamedTuple):
  """The functions of one manifold, each of one point.

  Attributes:
    name: for error messages.
    exp: (x, v) -> point.
    log: (x, y) -> tangent vector at x.
    tangent: (x, ambient vector) -> its projection to the tangent space at x.
  """

  name: str
  exp: Callable[[Array, Array], Array]
  log: Callable[[Array, Array], Array]
  tangent: Callable[[Array, Array], Array]

  def geodesic(self, x: Point, y: Point, t: ArrayLike) -> Point:
    """The point at t on the shortest geodesic from x (0) to y (1)."""
    return self.exp(x, jnp.asarray(t, x.dtype) * self.log(x, y))


def sphere() -> Manifold:
  """Unit vectors [D].

  exp(x, v) = cos|v| x + sin|v| / |v| v
  log(x, y) = a / sin a (y - cos a x),   a the angle between x and y
  """

  def exp(x, v):
    square = jnp.sum(v**2)
    cos = 1 - square * _sinc(square / 4) ** 2 / 2
    return cos * x + _sinc(square) * v

  def log(x, y):
    cos = jnp.sum(x * y)
    across = y - cos * x
    return _angle_over_sine(jnp.sum(across**2), cos) * across

  return Manifold("sphere", exp, log, lambda x, v: v - jnp.sum(x * v) * x)


def torus() -> Manifold:
  """Angles in [-pi, pi), any array of them: a product of circles."""
  wrap = lambda angle: jnp.mod(angle + jnp.pi, 2 * jnp.pi) - jnp.pi
  return Manifold(
    "torus",
    lambda x, v: wrap(x + v),
    lambda x, y: wrap(y - x),
    lambda x, v: v,
  )


def rotations() -> Manifold:
  """Rotation matrices [3, 3], SO(3).

    exp(R, R W) = R (I + sin a / a W + (1 - cos a) / a^2 W^2)
    log(R, S) = R W,   W = a / (2 sin a) (Q - Q^T),   Q = R^T S

  for skew-symmetric W and the angle a, |W|^2 = 2 a^2.

  Reference: Rodrigues' formula.
  """

  def exp(x, v):
    turn = x.T @ v
    square = jnp.sum(turn**2) / 2
    half = _sinc(square / 4)
    rest = half**2 / 2  # (1 - cos a) / a^2
    near = jnp.eye(3, dtype=x.dtype) + _sinc(square) * turn
    return x @ (near + rest * turn @ turn)

  def log(x, y):
    between = x.T @ y
    skew = (between - between.T) / 2  # sin a times the axis
    cos = (jnp.trace(between) - 1) / 2
    return x @ (_angle_over_sine(jnp.sum(skew**2) / 2, cos) * skew)

  def tangent(x, v):
    turn = x.T @ v
    return x @ (turn - turn.T) / 2

  return Manifold("rotations", exp, log, tangent)


# Square below which a series replaces a quotient: its first omitted term is
# below the rounding of float32, and for float64 at most 1e-13.
_SMALL = 1e-4


def _sinc(square):
  """sin a / a of a^2, smooth at 0."""
  small = square < _SMALL
  a = jnp.sqrt(jnp.where(small, 1.0, square))
  series = 1 - square / 6 * (1 - square / 20)
  return jnp.where(small, series, jnp.sin(a) / a)


def _angle_over_sine(square, cos):
  """a / sin a of sin^2 a and cos a, smooth at a = 0."""
  small = (square < _SMALL) & (cos > 0)
  sine = jnp.sqrt(jnp.where(small, 1.0, square))
  quotient = jnp.arctan2(sine, jnp.where(small, 1.0, cos)) / sine
  # arcsin(s) / s
  series = 1 + square / 6 * (1 + square * 9 / 20 * (1 + square * 25 / 42))
  return jnp.where(small, series, quotient)
