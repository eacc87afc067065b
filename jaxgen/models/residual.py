"""Residual convolution blocks on one image, conditioned on a vector.

  x + Conv(silu(norm(Conv(silu(norm(x))); scale, shift)))

Scale and shift are a Dense layer of the condition. The last convolution and the
output of attention start at zero, so a block that keeps the shape starts as the
identity. A block may halve or double the image's sides between its first silu
and convolution; its shortcut is a Dense layer where sides or channels change.

Reference: Dhariwal and Nichol 2021, arXiv:2105.05233, app. A (adaptive group
normalisation, blocks that resample).
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen.models import layers


def conv(features, dtype, name, zero=False):
  """A 3 x 3 convolution that preserves the image's size."""
  init = nn.initializers.zeros if zero else nn.initializers.lecun_normal()
  return nn.Conv(features, (3, 3), dtype=dtype, kernel_init=init, name=name)


def halve(x):
  """Averages 2 x 2 positions: [H, W, C] -> [H / 2, W / 2, C]."""
  height, width, channels = x.shape
  return x.reshape(height // 2, 2, width // 2, 2, channels).mean((1, 3))


def double(x):
  """Repeats every position 2 x 2 times: [H, W, C] -> [2 H, 2 W, C]."""
  height, width, channels = x.shape
  x = jnp.broadcast_to(x[:, None, :, None], (height, 2, width, 2, channels))
  return x.reshape(2 * height, 2 * width, channels)


def keep(x):
  """Returns x, without a change of size."""
  return x


class Block(nn.Module):
  """Two convolutions and optionally attention, each added to its input.

  Attributes:
    features: number of output channels.
    attend: whether attention follows the convolutions.
    resample: the function keep, halve or double.
    num_groups, dropout, num_heads, implementation, dtype: as in UNet.
  """

  features: int
  attend: bool
  resample: Callable
  num_groups: int
  dropout: float
  num_heads: int
  implementation: layers.Implementation
  dtype: Any

  @nn.compact
  def __call__(
    self, x: Float[Array, "H W C"], condition: Float[Array, "E"], train: bool
  ) -> Float[Array, "H2 W2 C2"]:
    """Maps x and a condition vector to the resampled image, [..., features]."""
    dense = lambda n, name: nn.Dense(n, dtype=self.dtype, name=name)
    norm = lambda name: layers.GroupNorm(self.num_groups, name=name)
    scale, shift = jnp.split(dense(2 * self.features, "adapt")(condition), 2)
    h = self.resample(nn.silu(norm("norm_0")(x)))
    h = conv(self.features, self.dtype, "conv_0")(h)
    h = nn.silu(norm("norm_1")(h, scale, shift))
    h = nn.Dropout(self.dropout, deterministic=not train)(h)
    h = conv(self.features, self.dtype, "conv_1", zero=True)(h)
    if self.resample is not keep or x.shape[-1] != self.features:
      x = dense(self.features, "shortcut")(self.resample(x))
    x = x + h
    if not self.attend:
      return x
    return layers.Attention(
      self.num_heads,
      self.num_groups,
      self.implementation,
      self.dtype,
      name="attention",
    )(x)
