"""Cost functions of optimal transport, and helpers for scalar potentials.

  distance  |x - y|       the 1-Wasserstein distance
  square    |x - y|^2     the squared 2-Wasserstein distance
  inner     -<x, y>       the same optimal maps as the square, since |x - y|^2 =
                          |x|^2 + |y|^2 - 2 <x, y>; its potentials are convex

Every cost is a function (x [*D], y [*D]) -> [].
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

Cost = Callable[[Array, Array], Float[Array, ""]]


def norm(x: Float[Array, "*D"]) -> Float[Array, ""]:
  """|x|, the Euclidean norm over all elements, with gradient 0 at 0."""
  square = jnp.sum(x**2)
  positive = square > 0
  return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0)


def distance(x: Float[Array, "*D"], y: Float[Array, "*D"]) -> Float[Array, ""]:
  """|x - y|, with gradient 0 where x = y."""
  return norm(x - y)


def square(x: Float[Array, "*D"], y: Float[Array, "*D"]) -> Float[Array, ""]:
  """|x - y|^2."""
  return jnp.sum((x - y) ** 2)


def inner(x: Float[Array, "*D"], y: Float[Array, "*D"]) -> Float[Array, ""]:
  """-<x, y>."""
  return -jnp.sum(x * y)


def value(potential_fn: Callable, x: Float[Array, "*D"]) -> Float[Array, ""]:
  """f(x) of a potential, critic or discriminator f: [*D] -> [].

  Raises:
    ValueError: f(x) is not a scalar.
  """
  found = jnp.asarray(potential_fn(x))
  if found.shape != ():
    raise ValueError(
      f"potential: expected a scalar [] of one example {list(x.shape)}, got"
      f" shape {list(found.shape)}"
    )
  return found


def require_alike(**points: Array) -> None:
  """Raises ValueError if the given points differ in shape."""
  (name, first), *rest = points.items()
  for other, x in rest:
    if jnp.shape(x) != jnp.shape(first):
      raise ValueError(
        f"{other}: expected shape {list(jnp.shape(first))}, that of {name}, got"
        f" {list(jnp.shape(x))}"
      )
