"""Vector quantisation: vectors replaced by codes of a finite set.

  index = argmin_k |z - c_k|,   value = c_index

A quantiser is a function z -> Quantized of one vector [D], or of an array of
vectors [*S, D], such as the feature map of one image, each quantised on its
own. `nearest` searches a table of codes, the codebook; `fsq` and `lfq` round to
a grid, and need none; `residual` applies any of them several times, each time
to what is left. A quantiser has no derivative in z. What training needs is
separate and goes with all of them: `straight_through` and `rotate` pass the
decoder's gradient on from value to z; `codebook_loss` moves codes to vectors,
and `commitment_loss` vectors to codes. Functions of a set of vectors are in
codebooks.py. In the formulas, sg is stop_gradient.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxgen import dtypes

Vectors = Float[Array, "*S D"]


class Quantized(NamedTuple):
  """Codes in the place of vectors.

  Attributes:
    value: the codes, [*S, D].
    indices: their numbers, int32, [*S].
  """

  value: Vectors
  indices: Int[Array, "*S"]


class Residual(NamedTuple):
  """What M stages make of vectors.

  Attributes:
    value: the sum of the codes of all stages, [*S, D].
    indices: the numbers of the codes, int32, [M, *S].
    inputs: what each stage quantises, [M, *S, D]: z, less the earlier codes.
    codes: the code of each stage, [M, *S, D].
  """

  value: Vectors
  indices: Int[Array, "M *S"]
  inputs: Float[Array, "M *S D"]
  codes: Float[Array, "M *S D"]


def nearest(z: Vectors, codebook: Float[Array, "..."]) -> Quantized:
  """The code at the least distance.

    argmin_k |z - c_k|^2 = argmin_k |c_k - m|^2 / 2 - (z - m) . (c_k - m)

  with m the code nearest to their mean: |z|^2 is the same for all codes, and
  without it and m float32 keeps its digits far from the origin too, though not
  for codes much farther from m than from one another. Of equal distances the
  lowest index is taken. The value has the derivative of codebook[indices] in
  the codebook, and none in z.

  Args:
    z: vectors, [*S, D].
    codebook: codes, [K, D].

  Returns:
    The codes, in the codebook's dtype, and indices from 0 to K - 1.

  Raises:
    ValueError: the codebook has another shape than [K, D], or K is 0.

  Reference: van den Oord et al. 2017, arXiv:1711.00937, eq. 1 to 2.
  """
  wide = codebook.shape[1:] == z.shape[-1:] and codebook.ndim == 2
  if not wide or not len(codebook):
    width = ", ".join(str(size) for size in z.shape[-1:])
    raise ValueError(
      f"codebook: expected shape [K, {width}] with K at least 1, got"
      f" {list(codebook.shape)}"
    )
  dtype = dtypes.wider(dtypes.wider(z.dtype), codebook.dtype)
  table = jax.lax.stop_gradient(codebook).astype(dtype)
  spread = table - jnp.mean(table, axis=0, keepdims=True)
  middle = table[jnp.argmin(jnp.sum(spread**2, axis=1))]
  table = table - middle[None]
  half = jnp.sum(table**2, axis=1) / 2

  def one(x):
    return jnp.argmin(half - jnp.matmul(table, x - middle, precision="highest"))

  vectors = jax.lax.stop_gradient(z).astype(dtype)
  indices = jnp.vectorize(one, signature="(d)->()")(vectors).astype("int32")
  return Quantized(codebook[indices], indices)


def fsq(z: Vectors, levels: Sequence) -> Quantized:
  """Finite scalar quantisation: each coordinate rounded to its own levels.

    value_i = 2 c_i / (L_i - 1) - 1,   c_i in 0, ..., L_i - 1 the nearest,
    index = sum_i c_i prod_{j < i} L_j

  It is `nearest` in the grid of all codes, without the search. The grid is in
  [-1, 1]^D, so bound a network's output x by y = tanh(x), through which the
  gradient then passes: straight_through(y, fsq(y, levels).value).

  In steps of 2 / (L - 1), a value is an integer if L is odd, and has an offset
  of half a step if L is even. The published values are then (c - L/2) / (L/2),
  of x plus a constant: other scales and biases of the layers next to it.

  Args:
    z: vectors, [*S, D].
    levels: L, number of levels of each coordinate, D integers.

  Returns:
    The values, and indices from 0 to prod L - 1. Halfway between two levels,
    the lower one.

  Raises:
    ValueError: levels are not D integers of at least 2, or their product is
      above 2^31.

  Reference: Mentzer et al. 2023, arXiv:2309.15505, section 3.
  """
  half, basis = _grid(levels, z.shape[-1])
  dtype = dtypes.wider(z.dtype)
  most = jnp.asarray(half, dtype)

  def one(x):
    place = jnp.ceil(most * jnp.clip(x, -1, 1) + (most - 0.5))
    return (place - most) / most, place.astype("int32") @ basis

  vectors = jax.lax.stop_gradient(z).astype(dtype)
  value, indices = jnp.vectorize(one, signature="(d)->(d),()")(vectors)
  return Quantized(value.astype(z.dtype), indices)


def fsq_values(indices: Int[Array, "*S"], levels: Sequence) -> Vectors:
  """The codes of indices: the inverse of fsq(value, levels).indices.

  Args:
    indices: integers from 0 to prod L - 1, [*S]. Others have no meaning.
    levels: L, as in `fsq`, which has the same errors.
  """
  half, basis = _grid(levels, len(levels))
  numbers = np.asarray(levels, "int32")

  def one(i):
    return ((i // basis % numbers).astype(half.dtype) - half) / half

  return jnp.vectorize(one, signature="()->(d)")(indices.astype("int32"))


def lfq(z: Float[Array, "*S B"]) -> Quantized:
  """Lookup-free quantisation: `fsq` with two levels, the signs of B numbers.

    value_i = 1 if z_i > 0, else -1,   index = sum_i 2^i [z_i > 0]

  Args:
    z: vectors, [*S, B], B at most 31.

  Returns:
    The signs, the inverse fsq_values(indices, (2,) * B), and indices.

  Raises:
    ValueError: B is above 31.

  Reference: Yu et al. 2023, arXiv:2310.05737, section 3.1.
  """
  return fsq(z, (2,) * z.shape[-1])


def residual(
  quantize_fn: Callable[[Array, Any], Quantized],
  z: Vectors,
  stages: Any,
) -> Residual:
  """Quantises in M stages, each of which quantises what is left.

    z_1 = z,   e_m = quantize_fn(z_m, stage m).value,   z_{m+1} = z_m - sg(e_m)

  residual(nearest, z, codebooks) is residual vector quantisation. The first m
  codes are a coarser description, codes[:m].sum(0). A stage learns as a
  quantiser alone does, from its inputs and codes.

  Args:
    quantize_fn: (vectors [*S, D], one stage) -> Quantized.
    z: vectors, [*S, D].
    stages: what distinguishes the stages, a pytree whose leaves have M as their
      first axis; codebooks [M, K, D] for `nearest`.

  Raises:
    ValueError: as quantize_fn does.

  Reference: Zeghidour et al. 2021, arXiv:2107.03312, algorithm 1; Lee et al.
  2022, arXiv:2203.01941, section 3.1.
  """

  def stage(rest, own):
    value, indices = quantize_fn(rest, own)
    left = rest - jax.lax.stop_gradient(value).astype(rest.dtype)
    return left, (indices, rest, value)

  _, (indices, inputs, codes) = jax.lax.scan(stage, z, stages)
  return Residual(jnp.sum(codes, axis=0), indices, inputs, codes)


def straight_through(z: Vectors, value: Vectors) -> Vectors:
  """The value, with the derivative of z.

    sg(value) + z - sg(z)

  Exactly the value for finite z. Nothing is differentiated in the codebook.

  Reference: Bengio et al. 2013, arXiv:1308.3432; van den Oord et al. 2017,
  arXiv:1711.00937, section 3.2.
  """
  return jax.lax.stop_gradient(value) + (z - jax.lax.stop_gradient(z))


def rotate(z: Vectors, value: Vectors) -> Vectors:
  """The value, with the derivative of a rotation and scaling of z.

    sg(value) + J (z - sg(z)),   J = |e| / |z| R,   R z / |z| = e / |e|

  with e = sg(value). R = (I - 2 r r^T) (I - 2 u u^T), where u = z / |z| and r
  is the unit vector along u + e / |e|: two reflections are the rotation in the
  plane of z and e. J is held constant; its scale grows without bound as |z|
  falls. Where it is not defined: z = 0 gives J = I, as in `straight_through`;
  e = 0 gives J = 0; vectors that are opposite, up to the root of the rounding
  error, give the reflection R = I - 2 u u^T.

  Exactly the value for finite z. Nothing is differentiated in the codebook.

  Reference: Fifty et al. 2024, arXiv:2410.06424.
  """
  return jnp.vectorize(_rotate, signature="(d),(d)->(d)")(z, value)


def codebook_loss(z: Vectors, value: Vectors) -> Float[Array, "*S"]:
  """|sg(z) - value|^2 of each vector: moves codes to vectors.

  Its sum with beta commitment_loss is the loss of a codebook learned by
  gradient; no factor beta reaches the codebook.

  Reference: van den Oord et al. 2017, arXiv:1711.00937, eq. 3.
  """
  return jnp.sum((jax.lax.stop_gradient(z) - value) ** 2, axis=-1)


def commitment_loss(z: Vectors, value: Vectors) -> Float[Array, "*S"]:
  """|z - sg(value)|^2 of each vector: moves vectors to codes."""
  return codebook_loss(value, z)


def _grid(levels, width):
  """(L - 1) / 2 and the place values of the index, as NumPy arrays [D]."""
  whole = all(isinstance(n, (int, np.integer)) and n >= 2 for n in levels)
  if not whole or len(levels) != width or not width:
    raise ValueError(
      f"levels: expected {width} integers of at least 2, got {list(levels)}"
    )
  if math.prod(map(int, levels)) > 2**31:
    raise ValueError(
      f"levels: expected a product of at most 2^31, got {list(levels)}"
    )
  basis = np.cumprod([1, *levels[:-1]], dtype="int64").astype("int32")
  return (np.asarray(levels, "float32") - 1) / 2, basis


def _rotate(z, value):
  dtype = dtypes.wider(z.dtype)
  x, e = (jax.lax.stop_gradient(a).astype(dtype) for a in (z, value))
  size = jnp.linalg.norm(x)
  u = _unit(x)
  middle = u + _unit(e)
  opposite = jnp.sum(middle**2) <= jnp.finfo(dtype).eps
  r = jnp.where(opposite, 0, _unit(middle))
  scale = jnp.linalg.norm(e) / jnp.where(size > 0, size, 1)
  change = z.astype(dtype) - x
  turned = scale * _reflect(r, _reflect(u, change))
  change = jnp.where(size > 0, turned, change).astype(z.dtype)
  return jax.lax.stop_gradient(value) + change


def _unit(x):
  size = jnp.linalg.norm(x)
  return x / jnp.where(size > 0, size, 1)


def _reflect(normal, x):
  return x - 2 * normal * jnp.dot(normal, x)
