"""Slopes of critics at random parameters and points."""

import jax
import jax.numpy as jnp
import numpy as np

RNG = np.random.default_rng(1)


def of(value_fn, params, x, y):
  """|grad f(x)|, and |f(x) - f(y)| / |x - y| within rounding of the values."""
  values = jax.vmap(jax.value_and_grad(value_fn, 1), (None, 0))

  def one(params):
    at, grads = values(params, jnp.concatenate([x, y]))
    (at_x, at_y), grads = jnp.split(at, 2), grads[: len(x)]
    rounding = 1e-6 * (jnp.abs(at_x) + jnp.abs(at_y))
    apart = jnp.linalg.norm(x - y, axis=1)
    rises = (jnp.abs(at_x - at_y) - rounding) / apart
    return jnp.linalg.norm(grads, axis=1), rises

  return jax.jit(jax.vmap(one))(params)


def points(dim, num=64):
  """Pairs of points, some of them near."""
  x, way = RNG.standard_normal((2, num, dim))
  y = 2 * x + way * np.geomspace(0.1, 9, num)[:, None]
  return jnp.float32(2 * x), jnp.float32(y)


def random_like(tree, sizes, num=4):
  """Normal draws of every leaf, so many of each size, in a leading axis."""
  sizes = np.repeat(sizes, num)

  def scaled(p):
    draws = RNG.standard_normal((len(sizes), *p.shape))
    return jnp.float32(draws * sizes.reshape(-1, *[1] * p.ndim))

  return jax.tree.map(scaled, tree)
