"""An autoencoder of one image, whose latent is a map of feature vectors.

  z = Encoder(x),   [H, W, C] -> [H / factor, W / factor, D]
  params = Decoder(z),   of shape (H, W, C) or (H, W, C, K)

Both are residual blocks x + Conv(silu(norm(Conv(silu(norm(x)))))) with halving
or doubling of the sides in between. It is the first stage of two: quantizers
replace the vectors of z by codes, and a second model learns the codes. An image
has no likelihood through it: what the codes lose cannot be recovered, and a
density of z is none of x.

Reference: van den Oord et al. 2017, arXiv:1711.00937, section 4.1; Esser et al.
2021, arXiv:2012.09841, table 7 (group normalisation, silu).
"""

import math

import flax.linen as nn
from jaxtyping import Array, Float

from jaxgen.models import layers, residual


class Encoder(nn.Module):
  """A map of feature vectors of an image.

  Each level of the image's size has num_blocks blocks, of 2^i width channels
  after halving i times. The last layer is a Dense layer at each position.

  Attributes:
    latent: D, number of coordinates of a vector.
    factor: ratio of the sides of image and map, a power of 2; 1 keeps them.
    width: number of channels at full size.
    num_blocks: number of residual blocks of each size.
    num_groups: groups of the normalisation, at most; must divide the channels.
  """

  latent: int
  factor: int = 2
  width: int = 32
  num_blocks: int = 1
  num_groups: int = 8

  @nn.compact
  def __call__(self, x: Float[Array, "H W C"]) -> Float[Array, "h w D"]:
    """The map of one image, [H / factor, W / factor, D].

    Raises:
      ValueError: the factor is no power of 2 or does not divide both sides, or
        a setting is out of range.
    """
    _check(self, latent=self.latent)
    map_shape(x.shape, self.factor)
    widths = _widths(self)
    x = residual.conv(widths[0], x.dtype, "start")(x)
    for i, width in enumerate(widths):
      if i:
        x = residual.conv(width, x.dtype, f"down_{i}")(residual.halve(x))
      x = _blocks(self, x, f"level_{i}")
    x = nn.silu(layers.GroupNorm(self.num_groups, name="norm")(x))
    return nn.Dense(self.latent, name="out")(x)


class Decoder(nn.Module):
  """An image, or the numbers of its distribution, from a map of vectors.

  Attributes:
    shape: shape of the output: (H, W, C) for a mean, (H, W, C, K) for
      outputs.Output.
    factor, width, num_blocks, num_groups: as in Encoder.
  """

  shape: tuple[int, ...]
  factor: int = 2
  width: int = 32
  num_blocks: int = 1
  num_groups: int = 8

  @nn.compact
  def __call__(self, z: Float[Array, "h w D"]) -> Float[Array, "*S"]:
    """The output for one map, of the given shape.

    Raises:
      ValueError: as in Encoder, or the map has another size than the shape's.
    """
    _check(self)
    expected = map_shape(self.shape, self.factor)
    if z.shape[:2] != expected:
      height, width = expected
      raise ValueError(
        f"z: expected shape [{height}, {width}, D], got {list(z.shape)}"
      )
    widths = _widths(self)[::-1]
    x = residual.conv(widths[0], z.dtype, "start")(z)
    for i, width in enumerate(widths):
      if i:
        x = residual.conv(width, x.dtype, f"up_{i}")(residual.double(x))
      x = _blocks(self, x, f"level_{i}")
    x = nn.silu(layers.GroupNorm(self.num_groups, name="norm")(x))
    out = residual.conv(math.prod(self.shape[2:]), x.dtype, "out")(x)
    return out.reshape(self.shape)


class Block(nn.Module):
  """x + Conv(silu(norm(Conv(silu(norm(x)))))), the identity at the start.

  Attributes:
    num_groups: as in Encoder.
  """

  num_groups: int

  @nn.compact
  def __call__(self, x: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
    """Maps an image to one of the same shape."""
    width, h = x.shape[-1], x
    for i in (0, 1):
      h = nn.silu(layers.GroupNorm(self.num_groups, name=f"norm_{i}")(h))
      h = residual.conv(width, h.dtype, f"conv_{i}", zero=i == 1)(h)
    return x + h


def map_shape(shape: tuple[int, ...], factor: int) -> tuple[int, int]:
  """(h, w) of the map of an image of a shape (H, W, ...).

  Raises:
    ValueError: the factor is no power of 2 or does not divide both sides.
  """
  if factor < 1 or factor & (factor - 1):
    raise ValueError(f"factor: expected a power of 2, got {factor}")
  sides = shape[:2]
  if len(shape) < 3 or min(shape) < 1 or any(n % factor for n in sides):
    raise ValueError(
      f"shape: expected an image whose sides are multiples of {factor}, got"
      f" {list(shape)}"
    )
  return sides[0] // factor, sides[1] // factor


def _blocks(net, x, name):
  for n in range(net.num_blocks):
    x = Block(net.num_groups, name=f"{name}_block_{n}")(x)
  return x


def _widths(net):
  """Channels of each size, from the image's to the map's."""
  return [net.width * 2**i for i in range(net.factor.bit_length())]


def _check(net, **more):
  counts = dict(width=net.width, num_blocks=net.num_blocks, **more)
  for name, value in counts.items():
    if value < 1:
      raise ValueError(f"{name}: expected at least 1, got {value}")
