"""NADE, the neural autoregressive distribution estimator, on a sequence [D, F].

All positions share one hidden layer, whose input grows by one product a
position, so that all D outputs cost O(D H) together, as does a sample:

  a_0 = c + label vector,       a_(i+1) = a_i + W_i^T x_i
  out_i = V_i^T sigmoid(a_i) + b_i

x_i are the F features of token i, its values or a one-hot vector. V starts at
zero.

Reference: Larochelle and Murray 2011, AISTATS, eq. 5 to 8; Uria et al. 2016,
arXiv:1605.02226.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from jaxtyping import ArrayLike as Numeric

from jaxgen.models import layers


class NADE(nn.Module):
  """NADE; output i depends on the label and tokens before i.

  Attributes:
    length: D, number of tokens.
    in_features: F, features of a token.
    out_features: K, numbers that each position outputs.
    width: H, hidden units.
    dropout: probability of dropping a hidden unit of a position in training.
    num_classes: number of labels; 0 for an unconditional model.
  """

  length: int
  in_features: int
  out_features: int
  width: int = 200
  dropout: float = 0.0
  num_classes: int = 0

  def setup(self):
    for name in ("length", "in_features", "out_features", "width"):
      if getattr(self, name) < 1:
        raise ValueError(
          f"{name}: expected at least 1, got {getattr(self, name)}"
        )
    init = nn.initializers
    hidden = self.length, self.in_features, self.width
    outer = self.length, self.width, self.out_features
    self.inner = self.param(
      "inner", init.lecun_normal(in_axis=(0, 1)), hidden, jnp.float32
    )
    self.inner_bias = self.param("inner_bias", init.zeros, (self.width,))
    self.outer = self.param("outer", init.zeros, outer, jnp.float32)
    self.outer_bias = self.param(
      "outer_bias", init.zeros, (self.length, self.out_features)
    )
    self.drop = nn.Dropout(self.dropout)
    if self.num_classes:
      self.label = layers.LabelEmbedding(self.num_classes, self.width)

  def __call__(
    self,
    x: Float[Array, "D F"],
    label: Int[Numeric, ""] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "D K"]:
    """The outputs of all positions.

    Args:
      x: the sequence, [D, F]. The last token has no effect.
      label: [], in [0, num_classes]; None and num_classes are the null label.
      train: whether to apply dropout; the rng stream "dropout" is then needed
        if dropout is above 0.

    Returns:
      The outputs, [D, K]; row i depends on tokens before i.

    Raises:
      ValueError: x has another shape, or a setting or the label is out of
        range.
    """
    shape = self.length, self.in_features
    if x.shape != shape:
      raise ValueError(f"x: expected shape {shape}, got {x.shape}")
    products = jnp.einsum("df,dfh->dh", x, self.inner)
    before = jnp.pad(products[:-1], ((1, 0), (0, 0)))
    h = self.start(label)[None] + jnp.cumsum(before, axis=0)
    h = self.drop(nn.sigmoid(h), deterministic=not train)
    return jnp.einsum("dh,dhk->dk", h, self.outer) + self.outer_bias

  def start(self, label: Int[Numeric, ""] | None = None) -> Float[Array, "H"]:
    """The memory before position 0: the hidden layer's input a_0, [H].

    Args and Raises: as in __call__.
    """
    layers.check_settings(self.num_classes, self.dropout, label)
    if not self.num_classes:
      return self.inner_bias
    return self.inner_bias + self.label(label)

  def step(
    self,
    memory: Float[Array, "H"],
    token_before: Float[Array, "F"],
    i: Int[Numeric, ""],
  ) -> tuple[Float[Array, "H"], Float[Array, "K"]]:
    """The output of position i, O(H).

    Args:
      memory: that of the step before, or `start(label)` for i = 0.
      token_before: token i - 1, [F]; any numbers for i = 0.
      i: the position, [], in [0, D).

    Returns:
      (a_i [H], outputs [K]).
    """
    at = jax.lax.dynamic_index_in_dim
    added = token_before @ at(self.inner, jnp.maximum(i - 1, 0), 0, False)
    memory = memory + jnp.where(i == 0, 0, added)
    out = nn.sigmoid(memory) @ at(self.outer, i, 0, False)
    return memory, out + at(self.outer_bias, i, 0, False)
