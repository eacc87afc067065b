"""A diffusion transformer on one image [H, W, C] and its time and label.

The image's patches are tokens, to which sines and cosines of their position
are added; all tokens attend to one another. With c = MLP(time) + label vector:

  adapt(h; a, b) = norm(h) (1 + a) + b
  h = h + g_1 attention(adapt(h; a_1, b_1))
  h = h + g_2 MLP(adapt(h; a_2, b_2)),   (a_1, b_1, g_1, ...) = Dense(silu(c))

and the output is Dense(adapt(h; a, b)), one patch per token. The Dense layers
of scales, shifts and gates start at zero (adaLN-zero), so every block starts as
the identity, and the output at zero.

Published sizes (width, depth, num_heads): S (384, 12, 6), B (768, 12, 12),
L (1024, 24, 16), XL (1152, 28, 16), with patch 2, 4 or 8.

Reference: Peebles and Xie 2022, arXiv:2212.09748.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from jaxtyping import ArrayLike as Numeric

from jaxgen import dtypes
from jaxgen.models import layers


def positions(height: int, width: int, dim: int) -> np.ndarray:
  """Sines and cosines of each position on a grid.

    [sin(w_k i), cos(w_k i), sin(w_k j), cos(w_k j)],   w_k = 10^(-16 k / dim)

  for row i, column j and k = 0, ..., dim / 4 - 1.

  Args:
    height: number of rows.
    width: number of columns.
    dim: number of features, divisible by 4.

  Returns:
    The features, row by row, [height * width, dim], float32.
  """
  frequencies = 10.0 ** (-16 * np.arange(dim // 4) / dim)
  angles = np.indices((height, width)).reshape(2, -1, 1) * frequencies
  waves = np.concatenate([np.sin(angles), np.cos(angles)], -1)
  return np.concatenate(list(waves), -1).astype(np.float32)


def adapt(x, scale, shift):
  """Normalises each token of [L, C], then scales by 1 + scale and shifts."""
  dtype = dtypes.wider(x.dtype)
  y, scale, shift = (a.astype(dtype) for a in (x, scale, shift))
  y = y - y.mean(-1, keepdims=True)
  y = y * jax.lax.rsqrt((y * y).mean(-1, keepdims=True) + 1e-6)
  y = y * layers.spread(1 + scale, x) + layers.spread(shift, x)
  return y.astype(x.dtype)


class Block(nn.Module):
  """Attention and an MLP on tokens, both conditioned by `adapt`.

  Attributes:
    num_heads, mlp_ratio, dropout, implementation, dtype: as in DiT.
  """

  num_heads: int
  mlp_ratio: int
  dropout: float
  implementation: layers.Implementation
  dtype: Any

  @nn.compact
  def __call__(
    self, x: Float[Array, "L C"], condition: Float[Array, "C"], train: bool
  ) -> Float[Array, "L C"]:
    """Maps tokens and a condition vector to tokens."""
    width = x.shape[-1]
    drop = nn.Dropout(self.dropout, deterministic=not train)
    scale_1, shift_1, gate_1, scale_2, shift_2, gate_2 = jnp.split(
      dense(6 * width, self.dtype, "adapt", zero=True)(condition), 6
    )
    h = tokens(3 * width, self.dtype, "qkv")(adapt(x, scale_1, shift_1))
    h = layers.attend(h, self.num_heads, self.implementation)
    h = tokens(width, self.dtype, "out")(h)
    x = x + drop(h) * layers.spread(gate_1, x)
    h = adapt(x, scale_2, shift_2)
    h = tokens(self.mlp_ratio * width, self.dtype, "mlp_0")(h)
    h = tokens(width, self.dtype, "mlp_1")(nn.gelu(h, approximate=True))
    return x + drop(h) * layers.spread(gate_2, x)


def dense(features, dtype, name, zero=False, product=None):
  """A Dense layer with Xavier-uniform or zero initialisation."""
  init = nn.initializers.zeros if zero else nn.initializers.xavier_uniform()
  return nn.Dense(
    features, dtype=dtype, kernel_init=init, dot_general=product, name=name
  )


def tokens(features, dtype, name, zero=False):
  """A Dense layer applied to each token of [L, C]."""
  return dense(features, dtype, name, zero, layers.token_product)


class DiT(nn.Module):
  """A diffusion transformer; `DiT(patch=2)` splits 8 x 8 images into 16 tokens.

  Attributes:
    width: features of a token, divisible by 4.
    depth: number of blocks.
    num_heads: number of attention heads; must divide the width.
    patch: side of a patch; must divide the image's sides.
    mlp_ratio: the MLP's hidden width divided by the width.
    dropout: probability of dropping an activation of a block's two residual
      branches in training.
    num_classes: number of labels; 0 for an unconditional model.
    embedding_width: number of time features.
    max_frequency: the time embedding's highest angular frequency.
    implementation: attention kernel, "xla" or "cudnn" (no jvp).
    remat: whether to recompute blocks in the backward pass, which stores the
      activations of one block at a time: for large images.
    dtype: dtype of the activations; parameters and output are float32.
  """

  width: int = 128
  depth: int = 4
  num_heads: int = 4
  patch: int = 2
  mlp_ratio: int = 4
  dropout: float = 0.0
  num_classes: int = 0
  embedding_width: int = 256
  max_frequency: float = 16.0
  implementation: layers.Implementation = "xla"
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
  ) -> Float[Array, "H W C"]:
    """The prediction for one image.

    Args:
      x: the image, [H, W, C].
      t: the output of the path's conditioning for its time, []; or several
        times, [K], such as those of a flow map.
      label: [], in [0, num_classes]; None and num_classes are the null label.
      train: whether to apply dropout; the rng stream "dropout" is then needed
        if dropout is above 0.

    Returns:
      The prediction, [H, W, C].

    Raises:
      ValueError: the patch does not divide the image's sides, num_heads or 4
        does not divide the width, or a setting or the label is out of range.
    """
    self.check(x.shape, label)
    height, width, channels = x.shape
    side, rows, columns = self.patch, height // self.patch, width // self.patch
    condition = nn.silu(self.condition(t, label))
    h = x.astype(self.dtype).reshape(rows, side, columns, side, channels)
    h = h.swapaxes(1, 2).reshape(rows * columns, side * side * channels)
    h = tokens(self.width, self.dtype, "patches")(h)
    h = h + jnp.asarray(positions(rows, columns, self.width), self.dtype)
    for i in range(self.depth):
      h = self.block(f"block_{i}")(h, condition, train)
    scale, shift = jnp.split(
      dense(2 * self.width, self.dtype, "adapt_out", zero=True)(condition), 2
    )
    size = side * side * channels
    h = tokens(size, self.dtype, "out", zero=True)(adapt(h, scale, shift))
    h = h.reshape(rows, columns, side, side, channels).swapaxes(1, 2)
    h = h.reshape(x.shape)
    return h.astype(dtypes.wider(self.dtype))

  @nn.nowrap
  def block(self, name):
    """One block, recomputed in the backward pass if remat is set."""
    block = Block
    if self.remat:
      block = nn.remat(block, static_argnums=(3,))
    return block(
      self.num_heads,
      self.mlp_ratio,
      self.dropout,
      self.implementation,
      self.dtype,
      name=name,
    )

  def condition(self, t, label):
    """Time and label as one vector, [width]."""
    time = layers.time_embedding(t, self.embedding_width, self.max_frequency)
    h = dense(self.width, self.dtype, "time_0")(time.astype(self.dtype))
    h = dense(self.width, self.dtype, "time_1")(nn.silu(h))
    if not self.num_classes:
      return h
    return h + layers.LabelEmbedding(
      self.num_classes, self.width, self.dtype, name="label"
    )(label)

  @nn.nowrap
  def check(self, shape, label):
    """Raises for invalid settings or image sizes, before any layer runs."""
    layers.check_settings(self.num_classes, self.dropout, label)
    for name in ("width", "depth", "num_heads", "patch", "mlp_ratio"):
      value = getattr(self, name)
      if value < 1:
        raise ValueError(f"{name}: expected at least 1, got {value}")
    if self.width % 4:
      raise ValueError(f"width: expected a multiple of 4, got {self.width}")
    if self.width % self.num_heads:
      raise ValueError(
        f"width, num_heads: expected a divisor of width {self.width}, "
        f"got {self.num_heads}"
      )
    if shape[0] % self.patch or shape[1] % self.patch:
      raise ValueError(
        f"patch: expected a divisor of the sides {shape[0]} x {shape[1]}, "
        f"got {self.patch}"
      )
