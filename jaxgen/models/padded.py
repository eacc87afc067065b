"""Images of any size for a network whose input must have divisible sides.

  f(x) = crop(net(pad(x)))

Each side is padded to the next multiple, on both ends (the odd row or column at
the far end), by repeating the outermost pixels, and the output is cut back.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from jaxtyping import ArrayLike as Numeric


class Padded(nn.Module):
  """A network of one image, on padded images.

  Attributes:
    net: the network, (x [H, W, C], t, label, train) -> [H, W, O].
    multiple: the sides of its input are multiples of this number.
  """

  net: nn.Module
  multiple: int

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "H W C"],
    t: Float[Numeric, "*K"],
    label: Int[Numeric, ""] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "H W O"]:
    """The network's output on the padded image, cut to the image's size."""
    height, width, _ = x.shape
    rows, columns = (_margins(side, self.multiple) for side in (height, width))
    y = self.net(
      jnp.pad(x, (rows, columns, (0, 0)), mode="edge"), t, label, train=train
    )
    return y[rows[0] : rows[0] + height, columns[0] : columns[0] + width]

  @nn.nowrap
  def check(self, shape: Sequence[int], label: Any) -> None:
    """Raises ValueError as the network does for the padded size."""
    sides = (side + sum(_margins(side, self.multiple)) for side in shape[:2])
    self.net.check((*sides, *shape[2:]), label)


def fit(net: nn.Module, shape: Sequence[int], multiple: int) -> nn.Module:
  """The network itself if it fits the image's sides, or padded.

  Args:
    net: a network of one image, such as a U-Net or a DiT.
    shape: shape of the image, (H, W, C).
    multiple: the network's sides must be divisible by it, at least 1.

  Returns:
    A network with the same arguments for images of this size.

  Raises:
    ValueError: a side is smaller than multiple, so that a part of the padded
      image would contain no pixel of the image.
  """
  height, width = shape[:2]
  if min(height, width) < multiple:
    raise ValueError(
      f"multiple: expected sides of at least {multiple} pixels, to be padded to"
      f" a multiple of {multiple}, got {height} x {width}"
    )
  if height % multiple or width % multiple:
    return Padded(net, multiple)
  return net


def _margins(side, multiple):
  """Numbers of pixels added before and after a side."""
  total = -side % multiple
  return total // 2, total - total // 2
