"""A network of an image and a time, as one of masked entries [D, F].

  h_ij = Dense(features of the entries of pixel ij) + position_ij
  out = net(h, share of masked entries, label)

A network of diffusion models, such as a U-Net, then predicts the masked entries
of an image from the others: it knows which pixels are neighbours, as dense
layers do not, and the share of masked entries is its time.

Reference: Ho et al. 2020, arXiv:2006.11239 (the U-Net of a noisy image); Austin
et al. 2021, arXiv:2107.03006 (of a masked one).
"""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from jaxtyping import ArrayLike as Numeric


class MaskedImage(nn.Module):
  """The entries of an image, masked in any order, from [D, F] to [D, K].

  Attributes:
    net: the network, (h [H, W, width], t, label, train) -> [H, W, C K]; t is in
      [0, 1].
    shape: (H, W, C), the image's; the D = H W C entries are in raster order.
    width: channels of the network's input.
    dtype: dtype of the input's layer; parameters are float32.
  """

  net: nn.Module
  shape: tuple[int, int, int]
  width: int = 32
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "D F"],
    label: Int[Numeric, ""] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "D K"]:
    """The outputs of all entries.

    Args:
      x: the entries' features, [D, F]; the last one is 1 for masked entries
        and 0 for the others.
      label: [], or None, as the network takes it.
      train: whether the network applies dropout.

    Raises:
      ValueError: x has another number of entries than the shape, or the
        network's output has other sides or does not split into entries.
    """
    rows, columns, channels = self.shape
    if len(x) != math.prod(self.shape):
      raise ValueError(
        f"x: expected the {math.prod(self.shape)} entries of shape"
        f" {list(self.shape)}, got {len(x)}"
      )
    pixels = x.reshape(rows, columns, -1)
    h = nn.Dense(self.width, dtype=self.dtype, name="pixels")(pixels)
    init = nn.initializers.normal(0.02)
    position = self.param("position", init, h.shape)
    h = h + position.astype(h.dtype)
    out = self.net(h, x[:, -1].mean(), label, train=train)
    if out.shape[:2] != (rows, columns) or out.shape[-1] % channels:
      raise ValueError(
        f"net: expected an output [{rows}, {columns}, a multiple of"
        f" {channels}], got {list(out.shape)}"
      )
    return out.reshape(len(x), -1)
