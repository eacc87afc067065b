"""The inputs of networks of sequences [T, P], shifted by one position.

Position i receives token i - 1, so that a network that looks back, but not
ahead, has outputs that depend on the tokens before their own.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from jaxtyping import ArrayLike as Numeric

from jaxgen.models import layers


class Inputs(nn.Module):
  """What position i knows before any other position is asked.

    h_i = Dense(token_(i-1)) + position_i + label vector,   without Dense for 0

  Attributes:
    length: number of learned positions, the most tokens of a sequence.
    width: features of a position.
    num_classes: number of labels; 0 for none.
    dtype: dtype of the activations; parameters are float32.
    shift: number of positions by which tokens are shifted; 0 for networks in
      which position i may know token i.
  """

  length: int
  width: int
  num_classes: int
  dtype: Any
  shift: int = 1

  def setup(self):
    self.project = dense(self.width, self.dtype)
    self.positions = self.param(
      "positions",
      nn.initializers.normal(0.02),
      (self.length, self.width),
      jnp.float32,
    )
    if self.num_classes:
      self.label = layers.LabelEmbedding(
        self.num_classes, self.width, self.dtype
      )

  def __call__(
    self,
    tokens: Float[Array, "T P"],
    label: Int[Numeric, ""] | None,
  ) -> Float[Array, "T C"]:
    """The inputs of all positions."""
    count = len(tokens)
    if not 1 <= count <= self.length:
      raise ValueError(
        f"tokens: expected 1 to {self.length} tokens, got {count}"
      )
    # Shifted before the product: behind it, XLA:CPU would compute the gradient
    # of this sum anew, through all blocks, for each of its uses.
    tokens = jnp.pad(tokens.astype(self.dtype), ((self.shift, 0), (0, 0)))
    h = self.project(tokens[:count])
    if self.shift:  # Dense(0), its bias, is not nothing
      before = (jnp.arange(count) < self.shift)[:, None]
      h = h - jnp.where(before, self.project(jnp.zeros_like(tokens[:1])), 0)
    h = h + self.positions[:count].astype(self.dtype)
    return h + self.condition(label)[None]

  def step(
    self,
    token_before: Float[Array, "P"],
    i: Int[Numeric, ""],
    condition: Float[Array, "C"],
  ) -> Float[Array, "1 C"]:
    """The input of position i, from the label's vector."""
    h = self.project(token_before.astype(self.dtype)[None])
    h = jnp.where(i == 0, 0, h) + condition[None]
    return h + self.positions[i].astype(self.dtype)[None]

  def condition(self, label: Int[Numeric, ""] | None) -> Float[Array, "C"]:
    """The label's vector; zero without labels."""
    if not self.num_classes:
      return jnp.zeros(self.width, self.dtype)
    return self.label(label)


def dense(features, dtype, zero=False):
  """A Dense layer applied to each position of [T, C]."""
  init = nn.initializers.zeros if zero else nn.initializers.xavier_uniform()
  return nn.Dense(features, dtype=dtype, kernel_init=init, dot_general=product)


def product(x, kernel, dimension_numbers, precision=None, **kwargs):
  """The product of many positions as in layers, of one position as it is."""
  multiply = layers.token_product if len(x) > 1 else jax.lax.dot_general
  return multiply(x, kernel, dimension_numbers, precision, **kwargs)
