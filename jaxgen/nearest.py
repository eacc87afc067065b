"""The nearest neighbour of every point of a set, exact and under jit.

  rows[i] = argmin_j |x_i - y_j|^2,   the first of equally near ones

With u and v the points less the mean of the reference, every square is at least

  |u|^2 + |v|^2 - 2 <u, v> - e (|u|^2 + |v|^2),   e = (D + 16) machine epsilons,

a bound that one matrix product gives for a chunk of points and a tile of the
reference, of which only the least of every BLOCK is kept. The squares of the
most promising block are then computed from differences, block after block,
until no other block's bound is as low as the best square. So the result is the
nearest by the squares of differences in the points' own precision, while the
work is that of the product.

metrics.neighbours has the search on the host in float64, of k neighbours.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

BLOCK = 32  # references that share a bound
TILE = 512  # references of one product


class Nearest(NamedTuple):
  """Nearest neighbours of N points.

  Attributes:
    rows: their rows in the reference, [N], int32.
    squares: the squared distances, [N], differentiable in both sets.
  """

  rows: Array
  squares: Array


def nearest(
  points: Float[Array, "N ..."],
  reference: Float[Array, "M ..."],
  allowed: Bool[Array, "..."] | None = None,
  *,
  chunk: int = 512,
) -> Nearest:
  """The nearest reference of every point.

  Memory beside the arguments is chunk (M / BLOCK + TILE + BLOCK D) numbers and
  a copy of the reference. Where many references are equally near, up to
  rounding, all of them are computed from differences, which takes longer.

  Args:
    points: x, [N, *D], with finite squares.
    reference: y, [M, *D], the same, of the same dtype.
    allowed: which references may be neighbours, [M]; None for all. If none is
      allowed, the rows are 0 and the squares infinite.
    chunk: number of points searched at a time, at least 1; it may exceed N.

  Raises:
    ValueError: chunk is below 1, a set is empty, the points differ in shape or
      dtype, or there is not one value of allowed for each reference.
  """
  _check(points, reference, allowed, chunk)
  flat = lambda a: jax.lax.stop_gradient(a).reshape(len(a), -1)
  x, y = flat(points), flat(reference)
  if allowed is None:
    allowed = jnp.ones(len(y), bool)
  chunk = min(chunk, len(x))
  find = functools.partial(_chunk, _prepare(y, allowed))
  found = jax.lax.map(find, _padded(x, chunk).reshape(-1, chunk, x.shape[1]))
  rows = found.reshape(-1)[: len(x)]
  gaps = (points - reference[rows]).reshape(len(x), -1)
  squares = jnp.sum(gaps**2, 1)
  return Nearest(rows, jnp.where(allowed.any(), squares, jnp.inf))


class _Reference(NamedTuple):
  """The reference, padded to whole tiles.

  Attributes:
    blocks: y, [blocks, BLOCK, D].
    tiles: 2 v, [tiles, TILE, D].
    weights: (1 - e) |v|^2, infinite where not allowed, [tiles, TILE].
    allowed: [blocks, BLOCK].
    middle: the mean of y, [1, D].
  """

  blocks: Array
  tiles: Array
  weights: Array
  allowed: Array
  middle: Array


def _prepare(y, allowed):
  tile = min(TILE, -(-len(y) // BLOCK) * BLOCK)
  middle = y.mean(0, keepdims=True)
  v = y - middle
  weights = (1 - _error(y)) * jnp.sum(v**2, 1)
  weights = jnp.where(allowed, weights, jnp.inf)
  return _Reference(
    _padded(y, tile).reshape(-1, BLOCK, y.shape[1]),
    _padded(2 * v, tile).reshape(-1, tile, y.shape[1]),
    _padded(weights, tile, jnp.inf).reshape(-1, tile),
    _padded(allowed, tile).reshape(-1, BLOCK),
    middle,
  )


def _chunk(reference, x):
  """Rows of the nearest of x [C, D], [C]."""
  error = _error(x)
  u = x - reference.middle
  base = (1 - error) * jnp.sum(u**2, 1)

  def least(tile):
    v, weights = tile
    products = jnp.matmul(u, v.T, precision=jax.lax.Precision.HIGHEST)
    bounds = (weights[None] - products).reshape(len(u), -1, BLOCK)
    return bounds.min(2)

  bounds = jax.lax.map(least, (reference.tiles, reference.weights))
  bounds = jnp.moveaxis(bounds, 0, 1).reshape(len(u), -1) + base[:, None]

  def open_rows(carry):
    bounds, best, _ = carry
    return bounds.min(1) <= best * (1 + error)

  def search(carry):
    """Computes the squares of the block with the lowest bound of each row."""
    bounds, best, rows = carry
    block = jnp.argmin(bounds, 1)
    gaps = x[:, None] - reference.blocks[block]
    squares = jnp.sum(gaps**2, 2)
    squares = jnp.where(reference.allowed[block], squares, jnp.inf)
    place = jnp.argmin(squares, 1)
    found = jnp.take_along_axis(squares, place[:, None], 1)[:, 0]
    row = (block * BLOCK + place).astype(jnp.int32)
    better = (found < best) | ((found == best) & (row < rows))
    bounds = bounds.at[jnp.arange(len(x)), block].set(jnp.inf)
    return bounds, jnp.where(better, found, best), jnp.where(better, row, rows)

  none = jnp.full(len(x), jnp.inf, x.dtype), jnp.zeros(len(x), jnp.int32)
  start = search((bounds, *none))
  more = lambda carry: jnp.any(open_rows(carry) & jnp.isfinite(carry[1]))
  return jax.lax.while_loop(more, search, start)[2]


def _error(x):
  """The rounding of a square by the product, relative to |u|^2 + |v|^2."""
  return (x.shape[1] + 16) * float(jnp.finfo(x.dtype).eps)


def _padded(x, multiple, value=0):
  more = -len(x) % multiple
  return jnp.pad(
    x, [(0, more)] + [(0, 0)] * (x.ndim - 1), constant_values=value
  )


def _check(points, reference, allowed, chunk):
  if chunk < 1:
    raise ValueError(f"chunk: expected at least 1, got {chunk}")
  x, y = points, reference
  alike = x.shape[1:] == y.shape[1:] and x.dtype == y.dtype
  if not (alike and len(x) and len(y)):
    raise ValueError(
      "reference: expected points of the shape and dtype of points, at least"
      f" one of each, got points {x.dtype}{list(x.shape)} and reference"
      f" {y.dtype}{list(y.shape)}"
    )
  if allowed is not None and allowed.shape != y.shape[:1]:
    raise ValueError(
      f"allowed: expected shape {list(y.shape[:1])}, got {list(allowed.shape)}"
    )
