"""A discriminator of the patches of one image (PatchGAN).

  h = leaky(Conv(x)), then h = leaky(norm(Conv(h))) at each further level,
  logits = Conv(h)

Each level is a 4 x 4 convolution of stride 2; the last one is 3 x 3. A logit
depends on a square of r x r pixels only, with

  r = 5 2^levels - 2:   8, 18, 38 for 1, 2, 3 levels.

Batch normalisation would make a logit depend on other images, and a group
normalisation over positions on the whole image; so the groups are those of one
position: all its channels.

References: Isola et al. 2017, arXiv:1611.07004, section 3.2.2 (with batch
normalisation, and other sizes); Esser et al. 2021, arXiv:2012.09841.
"""

from typing import NamedTuple

import flax.linen as nn
from jaxtyping import Array, Float

SLOPE = 0.2  # of leaky for negative inputs


class Patches(NamedTuple):
  """What a discriminator makes of an image.

  Attributes:
    logits: scores of patches, high on data, [h, w].
    features: activations of each level, finest first, each [h_i, w_i, C_i].
  """

  logits: Float[Array, "h w"]
  features: tuple[Array, ...]


class PatchDiscriminator(nn.Module):
  """Scores of the patches of one image.

  Attributes:
    width: number of channels of the first level; it doubles at each level.
    num_levels: number of levels, each of half the sides, rounded up.
  """

  width: int = 32
  num_levels: int = 2

  @nn.compact
  def __call__(self, x: Float[Array, "H W C"]) -> Patches:
    """The scores and activations of one image.

    Raises:
      ValueError: a setting is below 1.
    """
    counts = dict(width=self.width, num_levels=self.num_levels)
    for name, value in counts.items():
      if value < 1:
        raise ValueError(f"{name}: expected at least 1, got {value}")
    h, features = x, []
    for i in range(self.num_levels):
      width = self.width * 2**i
      h = nn.Conv(width, (4, 4), 2, dtype=x.dtype, name=f"level_{i}")(h)
      if i:
        h = nn.LayerNorm(
          dtype=x.dtype, use_fast_variance=False, name=f"norm_{i}"
        )(h)
      h = nn.leaky_relu(h, SLOPE)
      features.append(h)
    logits = nn.Conv(1, (3, 3), dtype=x.dtype, name="out")(h)
    return Patches(logits[..., 0], tuple(features))


def receptive_field(num_levels: int) -> int:
  """r, the side in pixels of the square that a logit depends on."""
  return 5 * 2**num_levels - 2
