"""A gated PixelCNN on one image [H, W, F], causal in raster order.

Two stacks of convolutions without a blind spot: the vertical one sees the rows
above, the horizontal one the pixels to the left and, through the vertical one,
the rows above. The image enters the vertical stack one row lower and the
horizontal stack one pixel further right; from there on, no convolution reaches
below its row, or to the right in its own row.

  v, h = Conv(down(x)),  Conv(right(x)) + Dense(v)
  u = Conv(v);   v = gate(u + label vector)
  h = h + Dense(gate(Conv(h) + Dense(u) + label vector))        in every layer
  gate(a, b) = tanh(a) sigmoid(b)
  out = Dense(silu(Dense(silu(h)))),        a last layer that starts at zero

A channel of ones beside x tells the layers where the image ends, and a learned
vector for each pixel tells them where they are.

Reference: van den Oord et al. 2016, arXiv:1606.05328, section 2.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from jaxtyping import ArrayLike as Numeric

from jaxgen import dtypes
from jaxgen.models import layers


class PixelCNN(nn.Module):
  """A gated PixelCNN; the output of a pixel sees the pixels before it.

  Attributes:
    out_features: K, numbers that each pixel's output has.
    width: channels of each stack.
    depth: number of gated layers.
    first_kernel: side of the first convolutions, odd.
    kernel: side of the convolutions of the gated layers, odd.
    dropout: probability of dropping an activation of a layer in training.
    num_classes: number of labels; 0 for an unconditional model.
    dtype: dtype of the activations; parameters and output are float32.
  """

  out_features: int
  width: int = 48
  depth: int = 3
  first_kernel: int = 5
  kernel: int = 3
  dropout: float = 0.0
  num_classes: int = 0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "H W F"],
    label: Int[Numeric, ""] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "H W K"]:
    """The outputs of all pixels.

    Args:
      x: the image, values or one-hot vectors, [H, W, F].
      label: [], in [0, num_classes]; None and num_classes are the null label.
      train: whether to apply dropout; the rng stream "dropout" is then needed
        if dropout is above 0.

    Returns:
      The outputs, [H, W, K]; a pixel's depend on pixels before it.

    Raises:
      ValueError: a kernel is even, or a setting or the label is out of range.
    """
    self.check(label)
    height, width, _ = x.shape
    drop = nn.Dropout(self.dropout, deterministic=not train)
    ones = jnp.ones((height, width, 1), x.dtype)
    x = jnp.concatenate([x, ones], -1).astype(self.dtype)
    down = jnp.pad(x[:-1], ((1, 0), (0, 0), (0, 0)))
    right = jnp.pad(x[:, :-1], ((0, 0), (1, 0), (0, 0)))
    place = self.param(
      "positions",
      nn.initializers.normal(0.02),
      (height, width, self.width),
      jnp.float32,
    ).astype(self.dtype)
    size = self.first_kernel // 2
    v = self.above("vertical_in", down, size, self.width) + place
    h = self.left("horizontal_in", right, size, self.width)
    h = h + self.dense("between_in", self.width)(v)
    for i in range(self.depth):
      v, h = self.layer(i, v, h, label, drop)
    h = nn.silu(self.dense("out_0", self.width)(nn.silu(h)))
    out = self.dense("out_1", self.out_features, zero=True)(drop(h))
    return out.astype(dtypes.wider(self.dtype))

  def layer(self, i, v, h, label, drop):
    """One gated layer: (v, h) -> (v, h), [H, W, width] each."""
    size, double = self.kernel // 2, 2 * self.width
    u = self.above(f"vertical_{i}", drop(v), size, double)
    g = self.left(f"horizontal_{i}", drop(h), size, double)
    g = g + self.dense(f"between_{i}", double)(u)
    if self.num_classes:
      embed = layers.LabelEmbedding(
        self.num_classes, 2 * double, self.dtype, name=f"label_{i}"
      )
      of_v, of_h = jnp.split(embed(label), 2)
      u, g = u + layers.spread(of_v, u), g + layers.spread(of_h, g)
    return gate(u), h + self.dense(f"residual_{i}", self.width)(gate(g))

  def above(self, name, x, size, features):
    """A convolution over `size` rows above and the row itself."""
    x = jnp.pad(x, ((size, 0), (size, size), (0, 0)))
    return self.conv(name, features, (size + 1, 2 * size + 1))(x)

  def left(self, name, x, size, features):
    """A convolution over `size` pixels to the left and the pixel itself."""
    x = jnp.pad(x, ((0, 0), (size, 0), (0, 0)))
    return self.conv(name, features, (1, size + 1))(x)

  @nn.nowrap
  def conv(self, name, features, kernel):
    """A convolution without padding."""
    return nn.Conv(
      features, kernel, padding="VALID", dtype=self.dtype, name=name
    )

  @nn.nowrap
  def dense(self, name, features, zero=False):
    """A Dense layer on the channels, which may start at zero."""
    init = nn.initializers.zeros if zero else nn.initializers.lecun_normal()
    return nn.Dense(features, dtype=self.dtype, kernel_init=init, name=name)

  @nn.nowrap
  def check(self, label):
    """Raises for invalid settings, before any layer runs."""
    layers.check_settings(self.num_classes, self.dropout, label)
    for name in ("out_features", "width", "depth"):
      value = getattr(self, name)
      if value < 1:
        raise ValueError(f"{name}: expected at least 1, got {value}")
    for name in ("first_kernel", "kernel"):
      value = getattr(self, name)
      if value < 1 or value % 2 == 0:
        raise ValueError(f"{name}: expected an odd number, got {value}")


def gate(x):
  """tanh(a) sigmoid(b) of channels [a, b]."""
  a, b = jnp.split(x, 2, -1)
  return jnp.tanh(a) * nn.sigmoid(b)


def receptive_field(
  height: int, width: int, net: PixelCNN
) -> Bool[np.ndarray, "H W H W"]:
  """Which input pixels each output pixel depends on.

  With first the reach of the first kernels, (first_kernel - 1) / 2, k that of
  the others and L the depth, output (r, c) sees

    row r:       columns c - 1 - first - L k, ..., c - 1
    rows above:  rows r - 1 - first - l k, ..., r - 1 and
                 columns c - first - L k, ..., c + first + l k,   l = 0, ..., L

  since the vertical stack of l layers is seen by the horizontal layer l.

  Args:
    height, width: size of the image.
    net: the network.

  Returns:
    True where output [r, c] depends on input [i, j], [H, W, H, W].
  """
  first, k = net.first_kernel // 2, net.kernel // 2
  r, c, i, j = np.ogrid[:height, :width, :height, :width]
  reach = first + net.depth * k
  seen = (i == r) & (j < c) & (j >= c - 1 - reach)
  for layer in range(net.depth + 1):
    ahead = first + layer * k
    rows = (i < r) & (i >= r - 1 - ahead)
    seen = seen | (rows & (j >= c - reach) & (j <= c + ahead))
  return seen
