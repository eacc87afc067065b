"""A residual U-Net on one image [H, W, C], conditioned on time and label.

Level i works at 1 / 2^i of the image's sides with width * multipliers[i]
channels. Above the lowest level, every block on the way down leaves a skip, and
every block on the way up starts by adding one; the lowest level is the middle.

  down   h = block(h), skip = h;   then h = Dense(mean of 2 x 2)
  up     h = repeat(Dense(h));     then h = block(h + skip)
  block  x + Conv(silu(norm(Conv(silu(norm(x))); scale, shift)))

Scale and shift come from time and label. Skips are added, not concatenated, so
that a block up costs what a block down costs. The last convolution of every
block and of the network start at zero: blocks start as the identity and the
output as 0.

Reference: Ronneberger et al. 2015, arXiv:1505.04597; Dhariwal and Nichol 2021,
arXiv:2105.05233 (adaptive group normalisation, attention by resolution).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from jaxtyping import ArrayLike as Numeric

from jaxgen.models import layers


def conv(features, dtype, name, zero=False):
  """A 3 x 3 convolution that keeps the image's size."""
  init = nn.initializers.zeros if zero else nn.initializers.lecun_normal()
  return nn.Conv(features, (3, 3), dtype=dtype, kernel_init=init, name=name)


def halve(x):
  """Means of 2 x 2 positions: [H, W, C] -> [H / 2, W / 2, C]."""
  height, width, channels = x.shape
  return x.reshape(height // 2, 2, width // 2, 2, channels).mean((1, 3))


def double(x):
  """Every position 2 x 2 times: [H, W, C] -> [2 H, 2 W, C]."""
  height, width, channels = x.shape
  x = jnp.broadcast_to(x[:, None, :, None], (height, 2, width, 2, channels))
  return x.reshape(2 * height, 2 * width, channels)


class Block(nn.Module):
  """Two convolutions and, where asked, attention, each added to the input.

  Attributes:
    attend: whether attention follows.
    num_groups, dropout, num_heads, implementation, dtype: as in UNet.
  """

  attend: bool
  num_groups: int
  dropout: float
  num_heads: int
  implementation: layers.Implementation
  dtype: Any

  @nn.compact
  def __call__(
    self, x: Float[Array, "H W C"], condition: Float[Array, "E"], train: bool
  ) -> Float[Array, "H W C"]:
    """x and the condition's vector to an image of x's shape."""
    channels = x.shape[-1]
    dense = nn.Dense(2 * channels, dtype=self.dtype, name="adapt")
    scale, shift = jnp.split(dense(condition), 2)
    norm = lambda name: layers.GroupNorm(self.num_groups, name=name)
    h = nn.silu(norm("norm_0")(x))
    h = conv(channels, self.dtype, "conv_0")(h)
    h = nn.silu(norm("norm_1")(h, scale, shift))
    h = nn.Dropout(self.dropout, deterministic=not train)(h)
    x = x + conv(channels, self.dtype, "conv_1", zero=True)(h)
    if not self.attend:
      return x
    return layers.Attention(
      self.num_heads,
      self.num_groups,
      self.implementation,
      self.dtype,
      name="attention",
    )(x)


class UNet(nn.Module):
  """The network; `UNet(attention=(4,))` fits 8 x 8 images in minutes.

  Attributes:
    width: channels at the image's own size.
    multipliers: of width, one a level; sides must divide by 2^(levels - 1).
    num_blocks: blocks a level each way, at all levels but the lowest.
    num_middle_blocks: blocks at the lowest level.
    attention: sizes of the image's longer side at which attention follows a
      block; it does not follow the last of several middle blocks.
    num_heads: of attention; must divide the channels there.
    num_groups: of normalisation; must divide the channels.
    dropout: probability that an activation is dropped in training.
    num_classes: number of labels; 0 for an unconditional model.
    embedding_width: length of the vector that carries time and label.
    max_frequency: the time embedding's highest angular frequency.
    implementation: of attention, "xla" or "cudnn" (no jvp).
    remat: whether to recompute blocks in the backward pass, which keeps the
      activations of one block at a time: for large images.
    dtype: of the activations; parameters and output are float32.
  """

  width: int = 32
  multipliers: tuple[int, ...] = (1, 2)
  num_blocks: int = 1
  num_middle_blocks: int = 2
  attention: tuple[int, ...] = ()
  num_heads: int = 1
  num_groups: int = 8
  dropout: float = 0.0
  num_classes: int = 0
  embedding_width: int = 64
  max_frequency: float = 16.0
  implementation: layers.Implementation = "xla"
  remat: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "H W C"],
    t: Float[Numeric, ""],
    label: Int[Numeric, ""] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "H W C"]:
    """Predicts for one image.

    Args:
      x: the image, [H, W, C].
      t: what the path's conditioning gives of its time, [].
      label: [], in [0, num_classes]; None and num_classes are the null label.
      train: whether to drop units; the rng stream "dropout" is then needed if
        dropout is above 0.

    Returns:
      The prediction, [H, W, C].

    Raises:
      ValueError: the image's sides do not divide by 2^(levels - 1), attention
        names a size that no level has, or a setting or the label is out of
        range.
    """
    self.check(x.shape, label)
    condition = self.condition(t, label)
    widths = [self.width * m for m in self.multipliers]

    def run(h, name, last=False):
      attend = max(h.shape[:2]) in self.attention and not last
      return self.block(attend, name)(h, condition, train)

    h = conv(widths[0], self.dtype, "conv_in")(x.astype(self.dtype))
    skips = []
    for i, channels in enumerate(widths[1:]):
      for j in range(self.num_blocks):
        h = run(h, f"down_{i}_{j}")
        skips.append(h)
      h = nn.Dense(channels, dtype=self.dtype, name=f"halve_{i}")(halve(h))
    final = self.num_middle_blocks - 1
    for j in range(self.num_middle_blocks):
      h = run(h, f"middle_{j}", last=0 < j == final)
    for i, channels in reversed(list(enumerate(widths[:-1]))):
      h = double(nn.Dense(channels, dtype=self.dtype, name=f"double_{i}")(h))
      for j in range(self.num_blocks):
        h = run(h + skips.pop(), f"up_{i}_{j}")
    h = nn.silu(layers.GroupNorm(self.num_groups, name="norm_out")(h))
    h = conv(x.shape[-1], self.dtype, "conv_out", zero=True)(h)
    return h.astype(jnp.promote_types(self.dtype, jnp.float32))

  @nn.nowrap
  def block(self, attend, name):
    """One residual block, recomputed in the backward pass where asked."""
    module = nn.remat(Block, static_argnums=(3,)) if self.remat else Block
    return module(
      attend,
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
    """Refuses settings and images that do not fit, before any layer runs."""
    layers.check_settings(self.num_classes, self.dropout, label)
    for name in ("multipliers", "width", "num_blocks", "num_middle_blocks"):
      value = getattr(self, name)
      if not value or jax.tree.reduce(min, value) < 1:
        raise ValueError(f"{name}: expected at least 1, got {value}")
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
