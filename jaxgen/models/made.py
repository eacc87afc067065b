"""MADE, the masked autoencoder, on a sequence [D, F] in any order.

Every unit has a degree, and a connection exists only where it can carry no
later coordinate: coordinate j has the degree of its place in the order, hidden
units have degrees spread evenly over 0, ..., D - 2,

  input to hidden, hidden to hidden:  exists if degree_in <= degree_out
  to the output of a coordinate:      exists if degree_in <  degree_out

so that output o_i depends on coordinates o_0, ..., o_(i-1), and on all of them.
Without hidden layers this is a logistic regression for each coordinate, the
fully visible sigmoid belief network (FVSBN). The order is an argument of the
call: one network serves several, as an ensemble, if it was trained on them.

Reference: Germain et al. 2015, arXiv:1502.03509, eq. 8 to 9.
"""

import itertools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from jaxtyping import ArrayLike as Numeric

from jaxgen import dtypes, orders
from jaxgen.models import layers


def masks(
  order: Array | np.ndarray, widths: tuple[int, ...]
) -> tuple[Bool[Array, "I O"], ...]:
  """The connections of each layer, True where one exists.

  Args:
    order: the coordinates in the order in which they are predicted, [D].
    widths: number of units of each hidden layer.

  Returns:
    len(widths) + 1 matrices [units of a layer, units of the next]; the first
    and the last layer are the D coordinates, in the data's own arrangement.

  Raises:
    ValueError: order is no permutation, or a width is below 1.
  """
  if min(widths, default=1) < 1:
    raise ValueError(f"widths: expected at least 1, got {widths}")
  place = orders.places(order)
  last = max(len(place) - 2, 0)
  hidden = [
    jnp.asarray(np.rint(np.linspace(0, last, width)), place.dtype)
    for width in widths
  ]
  degrees = [place, *hidden]
  through = [
    lower[:, None] <= upper[None, :]
    for lower, upper in itertools.pairwise(degrees)
  ]
  return (*through, degrees[-1][:, None] < place[None, :])


def receptive_field(matrices: tuple[Array, ...]) -> Bool[Array, "D D"]:
  """Which input (column) each output (row) depends on, through its masks."""
  product = jnp.eye(len(matrices[0]))
  for matrix in matrices:
    product = (product @ matrix.astype(product.dtype) > 0).astype(product.dtype)
  return product.T > 0


class MADE(nn.Module):
  """MADE; `MADE(1, features=())` is a fully visible sigmoid belief network.

  Attributes:
    out_features: K, numbers that each coordinate's output has.
    features: width of each hidden layer.
    dropout: probability of dropping a hidden unit in training.
    num_classes: number of labels; 0 for an unconditional model.
    label_width: length of a label's vector in each layer.
    dtype: dtype of the activations; parameters and output are float32.
  """

  out_features: int
  features: tuple[int, ...] = (500,)
  dropout: float = 0.0
  num_classes: int = 0
  label_width: int = 32
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "D F"],
    label: Int[Numeric, ""] | None = None,
    order: Int[Numeric, "..."] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "D K"]:
    """The outputs of all coordinates.

    Args:
      x: the coordinates' features, values or one-hot vectors, [D, F].
      label: [], in [0, num_classes]; None and num_classes are the null label.
      order: the coordinates in the order in which they are predicted, [D];
        None is 0, ..., D - 1.
      train: whether to apply dropout; the rng stream "dropout" is then needed
        if dropout is above 0.

    Returns:
      The outputs, [D, K]; row o_i depends on rows o_0, ..., o_(i-1) of x.

    Raises:
      ValueError: order is no permutation, or a setting or the label is out of
        range.
    """
    layers.check_settings(self.num_classes, self.dropout, label)
    if min(self.out_features, *self.features, 1) < 1:
      raise ValueError(
        "out_features, features: expected at least 1, got"
        f" {self.out_features}, {self.features}"
      )
    size, channels = x.shape
    order = orders.raster(size) if order is None else jnp.asarray(order)
    orders.require(order, size)
    matrices = masks(order, self.features)
    matrices = (jnp.repeat(matrices[0], channels, axis=0), *matrices[1:])
    outer = jnp.repeat(matrices[-1], self.out_features, axis=1)
    h = x.ravel().astype(self.dtype)
    # Labels reach hidden units and outputs: the first output sees nothing else.
    for i, width in enumerate(self.features):
      h = self.masked(f"hidden_{i}", h, matrices[i])
      h = nn.silu(h + self.condition(f"label_{i}", width, label))
      h = nn.Dropout(self.dropout, deterministic=not train)(h)
    out = self.masked("out", h, outer, zero=True)
    out = out + self.condition("label_out", out.size, label, zero=True)
    wide = dtypes.wider(self.dtype)
    return out.reshape(size, self.out_features).astype(wide)

  def masked(self, name, h, mask, zero=False):
    """A Dense layer with the connections of a mask."""
    init = nn.initializers
    start = init.zeros if zero else init.lecun_normal()
    kernel = self.param(f"{name}_kernel", start, mask.shape, jnp.float32)
    bias = self.param(f"{name}_bias", init.zeros, mask.shape[1:], jnp.float32)
    kernel = jnp.where(mask, kernel, 0).astype(self.dtype)
    return h @ kernel + bias.astype(self.dtype)

  def condition(self, name, features, label, zero=False):
    """A Dense layer of the label's vector; 0 without labels."""
    if not self.num_classes:
      return jnp.zeros((features,), self.dtype)
    embed = layers.LabelEmbedding(
      self.num_classes, self.label_width, self.dtype, name=f"{name}_embedding"
    )
    init = nn.initializers.zeros if zero else nn.initializers.lecun_normal()
    dense = nn.Dense(
      features, use_bias=False, dtype=self.dtype, kernel_init=init, name=name
    )
    return dense(embed(label))
