"""A residual U-Net on one image [H, W, C], conditioned on time and label.

Level i has 1 / 2^i of the image's sides and width * multipliers[i] channels.

  block  x + Conv(silu(norm(Conv(silu(norm(x))); scale, shift)))

Scale and shift come from time and label. The last convolutions of every block
and of the network start at zero, and so does the output. With skips="add",
skips are added, so that a block on the way up costs as much as one on the way
down. The lowest level is the middle, without skips:

  down   h = block(h), skip = h;   then h = Dense(mean of 2 x 2)
  up     h = repeat(Dense(h));     then h = block(h + skip)

With skips="concat", skips are concatenated at every level, as in DDPM++. The
first convolution and each halving also store a skip, for one more block per
level on the way up:

  down   h = block(h), skip = h;   then h = block to half the size, skip = h
  up     h = block([h, skip]);     then h = block to double the size

The network of Karras et al. for CIFAR-10, with 55.7 M parameters, is here

  UNet(width=128, multipliers=(2, 2, 2), num_blocks=4, skips="concat",
       attention=(16,), num_groups=32, embedding_width=256, dropout=0.13)

with 55.5 M. It differs in that scale and shift come from 256 features instead
of a shift from 512 (as many parameters, but fewer in the layers that make the
features), and residual sums have no factor sqrt(1/2).

Reference: Ronneberger et al. 2015, arXiv:1505.04597; Song et al. 2021,
arXiv:2011.13456 (DDPM++); Dhariwal and Nichol 2021, arXiv:2105.05233 (adaptive
group normalisation); Karras et al. 2022, arXiv:2206.00364.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from jaxtyping import ArrayLike as Numeric

from jaxgen import dtypes
from jaxgen.models import layers, residual


class UNet(nn.Module):
  """A residual U-Net; `UNet(attention=(4,))` trains on 8 x 8 images in minutes.

  Attributes:
    width: channels at the image's own size.
    multipliers: factors on width, one per level; the image's sides must be
      divisible by 2^(levels - 1).
    num_blocks: blocks per level and direction. With skips="add", the lowest
      level has none; with "concat", each level has one more on the way up.
    num_middle_blocks: blocks at the lowest level, between down and up.
    skips: "add" or "concat", the arrangement of blocks (see the module).
    attention: sizes of the image's longer side at which attention follows a
      block. With skips="add" it does not follow the last of several middle
      blocks. With "concat", on the way up, it follows only the last block of a
      level, and it always follows the first middle block.
    num_heads: number of attention heads; must divide the channels there.
    num_groups: number of groups of normalisation; must divide the channels.
    dropout: probability of dropping an activation in training.
    num_classes: number of labels; 0 for an unconditional model.
    embedding_width: length of the vector that represents time and label.
    max_frequency: the time embedding's highest angular frequency.
    implementation: attention kernel, "xla" or "cudnn" (no jvp).
    out_features: channels of the output; None has those of the image.
    remat: whether to recompute blocks in the backward pass, which stores the
      activations of one block at a time: for large images.
    dtype: dtype of the activations; parameters and output are float32.
  """

  width: int = 32
  multipliers: tuple[int, ...] = (1, 2)
  num_blocks: int = 1
  num_middle_blocks: int = 2
  skips: str = "add"
  attention: tuple[int, ...] = ()
  num_heads: int = 1
  num_groups: int = 8
  dropout: float = 0.0
  num_classes: int = 0
  embedding_width: int = 64
  max_frequency: float = 16.0
  implementation: layers.Implementation = "xla"
  out_features: int | None = None
  remat: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "H W C"],
    t: Float[Numeric, "*K"],
    label: Int[Numeric, ""] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "H W O"]:
    """The prediction for one image.

    Args:
      x: the image, [H, W, C].
      t: the output of the path's conditioning for its time, []; or several
        times, [K], such as those of a flow map.
      label: [], in [0, num_classes]; None and num_classes are the null label.
      train: whether to apply dropout; the rng stream "dropout" is then needed
        if dropout is above 0.

    Returns:
      The prediction, [H, W, O]; O is out_features, or C if that is None.

    Raises:
      ValueError: the image's sides are not divisible by 2^(levels - 1), no
        level has a size in attention, or a setting or the label is out of
        range.
    """
    self.check(x.shape, label)
    condition = self.condition(t, label)

    def run(name, h, features, attend, resample=residual.keep):
      block = self.block(features, attend, resample, name)
      return block(h, condition, train)

    arrange = self.added if self.skips == "add" else self.concatenated
    h = arrange(x.astype(self.dtype), run)
    h = nn.silu(layers.GroupNorm(self.num_groups, name="norm_out")(h))
    channels = self.out_features or x.shape[-1]
    h = residual.conv(channels, self.dtype, "conv_out", zero=True)(h)
    return h.astype(dtypes.wider(self.dtype))

  def added(self, x, run):
    """The arrangement of skips="add", [H, W, C] -> [H, W, width]."""
    widths = [self.width * m for m in self.multipliers]
    dense = lambda i, name: nn.Dense(widths[i], dtype=self.dtype, name=name)
    attend = lambda h: max(h.shape[:2]) in self.attention
    h = residual.conv(widths[0], self.dtype, "conv_in")(x)
    skips = []
    for i in range(len(widths) - 1):
      for j in range(self.num_blocks):
        h = run(f"down_{i}_{j}", h, widths[i], attend(h))
        skips.append(h)
      h = dense(i + 1, f"halve_{i}")(residual.halve(h))
    for j in range(self.num_middle_blocks):
      last = 0 < j == self.num_middle_blocks - 1
      h = run(f"middle_{j}", h, widths[-1], attend(h) and not last)
    for i in reversed(range(len(widths) - 1)):
      h = residual.double(dense(i, f"double_{i}")(h))
      for j in range(self.num_blocks):
        h = run(f"up_{i}_{j}", h + skips.pop(), widths[i], attend(h))
    return h

  def concatenated(self, x, run):
    """The arrangement of skips="concat", [H, W, C] -> [H, W, width]."""
    widths = [self.width * m for m in self.multipliers]
    attend = lambda h: max(h.shape[:2]) in self.attention
    h = residual.conv(self.width, self.dtype, "conv_in")(x)
    skips = [h]
    for i, width in enumerate(widths):
      if i:
        h = run(f"halve_{i - 1}", h, widths[i - 1], False, residual.halve)
        skips.append(h)
      for j in range(self.num_blocks):
        h = run(f"down_{i}_{j}", h, width, attend(h))
        skips.append(h)
    for j in range(self.num_middle_blocks):
      h = run(f"middle_{j}", h, widths[-1], j == 0)
    for i, width in reversed(list(enumerate(widths))):
      for j in range(self.num_blocks + 1):
        last = j == self.num_blocks
        h = jnp.concatenate([h, skips.pop()], -1)
        h = run(f"up_{i}_{j}", h, width, attend(h) and last)
      if i:
        h = run(f"double_{i - 1}", h, width, False, residual.double)
    return h

  @nn.nowrap
  def block(self, features, attend, resample, name):
    """One residual block, recomputed in the backward pass if remat is set."""
    block = residual.Block
    if self.remat:
      block = nn.remat(block, static_argnums=(3,))
    return block(
      features,
      attend,
      resample,
      self.num_groups,
      self.dropout,
      self.num_heads,
      self.implementation,
      self.dtype,
      name=name,
    )

  def condition(self, t, label):
    """Time and label as one vector, [embedding_width]."""
    width = self.embedding_width
    dense = lambda name: nn.Dense(width, dtype=self.dtype, name=name)
    h = layers.time_embedding(t, width, self.max_frequency)
    h = dense("time_0")(h.astype(self.dtype))
    if self.num_classes:
      h = h + layers.LabelEmbedding(
        self.num_classes, width, self.dtype, name="label"
      )(label)
    return nn.silu(dense("time_1")(nn.silu(h)))

  @nn.nowrap
  def check(self, shape, label):
    """Raises for invalid settings or image sizes, before any layer runs."""
    layers.check_settings(self.num_classes, self.dropout, label)
    for name in ("multipliers", "width", "num_blocks", "num_middle_blocks"):
      value = getattr(self, name)
      if not value or jax.tree.reduce(min, value) < 1:
        raise ValueError(f"{name}: expected at least 1, got {value}")
    if self.out_features is not None and self.out_features < 1:
      raise ValueError(
        f"out_features: expected None or at least 1, got {self.out_features}"
      )
    if self.skips not in ("add", "concat"):
      raise ValueError(f"skips: expected add or concat, got {self.skips!r}")
    factor = 2 ** (len(self.multipliers) - 1)
    if shape[0] % factor or shape[1] % factor:
      raise ValueError(
        f"x: expected sides divisible by {factor} for "
        f"{len(self.multipliers)} levels, got {shape[0]} x {shape[1]}"
      )
    sizes = [max(shape[:2]) >> i for i in range(len(self.multipliers))]
    missing = [size for size in self.attention if size not in sizes]
    if missing:
      raise ValueError(f"attention: expected sizes of {sizes}, got {missing}")
