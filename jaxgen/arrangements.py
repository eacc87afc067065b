"""Bijectors that only move numbers; their log-determinant is 0."""

import functools
import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from jaxgen import bijectors, orders


def permuted(order: Sequence[int] | np.ndarray) -> bijectors.Bijector:
  """y = x[order] along the first axis.

  Raises:
    ValueError: order is not a permutation.
  """
  order = np.asarray(order)
  orders.require(order, order.size)
  back = np.argsort(order)

  def take(rows, x):
    if len(x) != len(rows):
      raise ValueError(
        f"x: expected {len(rows)} rows, as order has, got shape {x.shape}"
      )
    return x[rows], jnp.zeros((), x.dtype)

  return bijectors.Bijector(
    functools.partial(take, order), functools.partial(take, back)
  )


def reshaped(
  before: tuple[int, ...], after: tuple[int, ...]
) -> bijectors.Bijector:
  """From one shape to another, with as many numbers.

  Raises:
    ValueError: the sizes differ.
  """
  if math.prod(before) != math.prod(after):
    raise ValueError(
      f"reshaped: expected as many numbers in {after} as in {before}"
    )
  shape = lambda size, x: (x.reshape(size), jnp.zeros((), x.dtype))
  return bijectors.Bijector(
    functools.partial(shape, after), functools.partial(shape, before)
  )


def patches(shape: tuple[int, int, int], side: int) -> bijectors.Bijector:
  """An image [H, W, C] as tokens [H W / side^2, side^2 C], row by row.

  Raises:
    ValueError: side does not divide H and W.
  """
  height, width, channels = shape
  if side < 1 or height % side or width % side:
    raise ValueError(
      f"side: expected a divisor of {height} and {width}, got {side}"
    )
  rows, columns = height // side, width // side
  grid = rows, side, columns, side, channels

  def forward(x):
    tokens = x.reshape(grid).swapaxes(1, 2)
    return tokens.reshape(rows * columns, -1), jnp.zeros((), x.dtype)

  def inverse(y):
    parts = y.reshape(rows, columns, side, side, channels).swapaxes(1, 2)
    return parts.reshape(shape), jnp.zeros((), y.dtype)

  return bijectors.Bijector(forward, inverse)
