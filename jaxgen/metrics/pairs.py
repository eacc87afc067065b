"""Comparisons of the distances of all pairs of points, exact at every size.

Products of matrices compare most pairs, in float32 and a block of rows at a
time; what their rounding errors might decide is compared by differences in
float64. If a block of points in float64 leaves many such pairs, its product is
made in float64 too.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num

_BLOCK = 2**27  # bytes of the products that are held in memory at once
_TILE = 2**25  # bytes of the centred points, or of the differences, likewise
_MANY = 1 / 32  # of the pairs: so many differences cost as much as a product


class Block(NamedTuple):
  """Products of a block of x and all of y, u and v the centred, scaled points.

    (scale |x - y|)^2 = -2 <u, v> + |u|^2 + |v|^2,
                        up to error(|u|^2) + error(|v|^2)

  Attributes:
    rows: slice of x.
    products: -2 <u, v>, [B, M], valid until the next block.
    squares: |u|^2, [B], and |v|^2, [M].
    error: a square -> its bound.
    scale: a power of two, so that scaling does not round.
    finer: () -> the same rows in the features' precision; None if this is it.
  """

  rows: slice
  products: np.ndarray
  squares: tuple[np.ndarray, np.ndarray]
  error: Callable
  scale: np.floating
  finer: Callable | None = None


def blocks(
  x: Num[np.ndarray, "N D"], y: Num[np.ndarray, "M D"]
) -> Iterator[Block]:
  """The blocks of x in turn, by products in float32; the values are finite."""
  dtype = np.result_type(x, y, np.float32)
  most = min(_BLOCK // len(y), _TILE // x.shape[1]) // dtype.itemsize
  height = min(max(most, 1), len(x))
  block = _maker(x, y, height, np.dtype("float32"))
  finer = functools.cache(lambda: _maker(x, y, height, dtype))
  for start in range(0, len(x), height):
    rows = slice(start, min(start + height, len(x)))
    more = None if dtype == np.float32 else lambda rows=rows: finer()(rows)
    yield block(rows)._replace(finer=more)


def _maker(x, y, height, dtype) -> Callable[[slice], Block]:
  """At most `height` rows of x -> their block, by products of a dtype.

  A sum of D products errs by D eps / 2 at most, in any order; centring and what
  callers add, by a few eps; in float64, the direct computation errs as well.
  """
  wide, size = np.result_type(x, y, np.float32), x.shape[1]
  peak = max(abs(float(end)) for a in (x, y) for end in (a.min(), a.max()))
  most = np.finfo(wide).maxexp - 2
  scale = wide.type(2.0 ** np.clip(-np.frexp(peak)[1], -most, most))
  middle = (y.mean(0, dtype=np.float64) * scale).astype(wide)
  limits = np.finfo(dtype)
  relative = float((size + 16) * (limits.eps + 2 * np.finfo(np.float64).eps))
  least = float(4 * limits.tiny / limits.eps)  # squares below it lose digits
  error = lambda squares: relative * (squares + least)
  square = lambda a: np.einsum("nd,nd->n", a, a)
  width = min(max(_TILE // (size * wide.itemsize), 1), len(y))
  buffers = [np.empty((n, size), dtype) for n in (height, width)]
  whole, y_squares = np.empty((height, len(y)), dtype), np.empty(len(y), dtype)

  def centred(points, out):
    """Rounded once, after the middle is subtracted."""
    out = out[: len(points)]
    scaled = np.multiply(points, scale, out=out if dtype == wide else None)
    return np.subtract(scaled, middle, out=out)

  def block(rows):
    u = centred(x[rows], buffers[0])
    x_squares, products = square(u), whole[: len(u)]
    u *= -2
    for left in range(0, len(y), width):
      tile = slice(left, left + width)
      v = centred(y[tile], buffers[1])
      y_squares[tile] = square(v)
      np.matmul(u, v.T, out=products[:, tile])
    return Block(rows, products, (x_squares, y_squares), error, scale)

  return block


def decided(
  block: Block, compare: Callable[[Block], tuple[Any, np.ndarray]]
) -> tuple[Any, Int[np.ndarray, "P"], Int[np.ndarray, "P"]]:
  """What the products of a block decide, and the pairs that they do not.

  Args:
    block: of `blocks`.
    compare: block -> (what is decided, which pairs are not, [B, M]).

  Returns:
    What is decided, and the rows (within the block) and columns of the other
    pairs: of the finer block, if those are more than 1 in 32.
  """
  found, rest = compare(block)
  if block.finer and np.count_nonzero(rest) > _MANY * rest.size:
    found, rest = compare(block.finer())
  return found, *np.nonzero(rest)


def distances(
  x: Num[np.ndarray, "N D"],
  y: Num[np.ndarray, "M D"],
  i: Int[np.ndarray, "P"],
  j: Int[np.ndarray, "P"],
) -> Float[np.ndarray, "P"]:
  """|x_i - y_j| of pairs (i, j), from differences in float64."""
  found = np.zeros(len(i))
  step = _TILE // (8 * x.shape[1]) + 1
  for start in range(0, len(i), step):
    part = slice(start, start + step)
    gaps = np.subtract(x[i[part]], y[j[part]], dtype=np.float64)
    found[part] = np.sqrt(np.einsum("nd,nd->n", gaps, gaps))
  return found
