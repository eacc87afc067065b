"""Residual blocks of convolutions on one image, conditioned on a vector.

  x + Conv(silu(norm(Conv(silu(norm(x))); scale, shift)))

Scale and shift are a Dense of the condition. The last convolution starts at
zero, and so does attention's output: where shapes agree, a block starts as the
identity. A block may halve or double the image's sides, between its first silu
and convolution; its shortcut is a Dense where sides or channels change.

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


def keep(x):
  """No change of size."""
  return x


class Block(nn.Module):
  """Two convolutions and, where asked, attention, each added to the input.

  Attributes:
    features: channels of the output.
    attend: whether attention follows.
    resample: keep, halve or double.
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
    """x and the condition's vector to the resampled image, [..., features]."""
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
