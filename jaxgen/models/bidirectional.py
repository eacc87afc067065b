"""A transformer of tokens [T, F] in which all positions attend to one another.

  h_i = Dense(token_i) + position_i + label vector
  h = h + attention(norm(h));   h = h + MLP(norm(h))       in every block
  out_i = Dense(norm(h_i)),     a layer that starts at zero

The network of BERT and of masked models: the mask is one of the tokens'
features, and there is no time.

Reference: Vaswani et al. 2017, arXiv:1706.03762; Devlin et al. 2019,
arXiv:1810.04805.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from jaxtyping import ArrayLike as Numeric

from jaxgen import dtypes
from jaxgen.models import causal, layers, shifted


class Transformer(nn.Module):
  """A bidirectional transformer, [T, F] -> [T, out_features].

  Attributes:
    length: number of learned positions, the most tokens of a sequence.
    out_features: numbers that each position outputs.
    width, depth, num_heads, mlp_ratio, dropout, num_classes, implementation,
      dtype, rotary: as in causal.Transformer.
  """

  length: int
  out_features: int
  width: int = 64
  depth: int = 3
  num_heads: int = 4
  mlp_ratio: int = 4
  dropout: float = 0.0
  num_classes: int = 0
  implementation: layers.Implementation = "xla"
  dtype: Any = jnp.float32
  rotary: bool = False

  @nn.compact
  def __call__(
    self,
    tokens: Float[Array, "T F"],
    label: Int[Numeric, ""] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "T K"]:
    """The outputs of all positions.

    Args:
      tokens: the tokens' features, the mask among them, [T, F], T at most
        length.
      label: [], in [0, num_classes]; None and num_classes are the null label.
      train: whether to apply dropout; the rng stream "dropout" is then needed
        if dropout is above 0.

    Raises:
      ValueError: there are more than `length` tokens or none, num_heads does
        not divide the width, or a setting or the label is out of range.
    """
    causal.check(self)
    layers.check_settings(self.num_classes, self.dropout, label)
    h = shifted.Inputs(
      self.length, self.width, self.num_classes, self.dtype, shift=0
    )(tokens, label)
    for i in range(self.depth):
      h = causal.Block(
        self.width,
        self.num_heads,
        self.mlp_ratio,
        self.dropout,
        self.implementation,
        self.dtype,
        is_causal=False,
        rotary=self.rotary,
        name=f"block_{i}",
      )(h, train)
    out = shifted.dense(self.out_features, self.dtype, zero=True)
    out = out(causal.norm(self.dtype)(h))
    return out.astype(dtypes.wider(self.dtype))
