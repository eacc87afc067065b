"""A multilayer perceptron of masked tokens [D, F], for any order.

  h = [x, label vector];   h = silu(Dense(h)) ...;   out = Dense(h), [D, K]

Every output sees every input: which entries are known is in the inputs'
features, so that one network serves any set of them.

Reference: Uria et al. 2014, arXiv:1310.1757 (one network for all orders).
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from jaxtyping import ArrayLike as Numeric

from jaxgen import dtypes
from jaxgen.models import layers


class MaskedMLP(nn.Module):
  """Dense layers with silu in between, from [D, F] to [D, K].

  Attributes:
    out_features: K, numbers that each entry's output has.
    features: width of each hidden layer.
    dropout: probability of dropping a hidden unit in training.
    num_classes: number of labels; 0 for an unconditional model.
    label_width: length of a label's vector.
    dtype: dtype of the activations; parameters and output are float32.
  """

  out_features: int
  features: tuple[int, ...] = (512,)
  dropout: float = 0.0
  num_classes: int = 0
  label_width: int = 32
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "D F"],
    label: Int[Numeric, ""] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "D K"]:
    """The outputs of all entries.

    Args:
      x: the entries' features, the mask among them, [D, F].
      label: [], in [0, num_classes]; None and num_classes are the null label.
      train: whether to apply dropout; the rng stream "dropout" is then needed
        if dropout is above 0.

    Raises:
      ValueError: a setting or the label is out of range.
    """
    layers.check_settings(self.num_classes, self.dropout, label)
    if min(self.out_features, *self.features, 1) < 1:
      raise ValueError(
        "out_features, features: expected at least 1, got"
        f" {self.out_features}, {self.features}"
      )
    parts = [x.ravel().astype(self.dtype)]
    if self.num_classes:
      embed = layers.LabelEmbedding(
        self.num_classes, self.label_width, self.dtype, name="label"
      )
      parts.append(embed(label))
    h = jnp.concatenate(parts)
    for i, width in enumerate(self.features):
      h = nn.silu(nn.Dense(width, dtype=self.dtype, name=f"hidden_{i}")(h))
      h = nn.Dropout(self.dropout, deterministic=not train)(h)
    out = nn.Dense(
      len(x) * self.out_features,
      dtype=self.dtype,
      kernel_init=nn.initializers.zeros,
      name="out",
    )(h)
    wide = dtypes.wider(self.dtype)
    return out.reshape(len(x), self.out_features).astype(wide)
