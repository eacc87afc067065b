"""A multilayer perceptron of one point and its time, for data of any shape.

h = [x, time_embedding(t), label vector];  h = silu(Dense(h)) ...;  Dense(h)
"""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from jaxtyping import ArrayLike as Numeric

from jaxgen import dtypes
from jaxgen.models import layers


class MLP(nn.Module):
  """Dense layers with silu in between, from [*D] and a time to [*D].

  Attributes:
    features: width of each hidden layer.
    num_classes: number of labels; 0 for an unconditional model.
    embedding_width: number of time features, and length of a label's vector.
    max_frequency: the time embedding's highest angular frequency.
    dropout: probability of dropping a hidden unit in training.
    zero_output: whether the last layer, and so the output, starts at zero.
    dtype: dtype of the activations; parameters and output are float32.
  """

  features: tuple[int, ...] = (128, 128, 128)
  num_classes: int = 0
  embedding_width: int = 32
  max_frequency: float = 16.0
  dropout: float = 0.0
  zero_output: bool = True
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "*D"],
    t: Float[Numeric, "*K"],
    label: Int[Numeric, ""] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "*D"]:
    """The prediction for one example.

    Args:
      x: the example, [*D].
      t: the output of the path's conditioning for its time, []; or several
        times, [K], such as those of a flow map.
      label: [], in [0, num_classes]; None and num_classes are the null label.
      train: whether to apply dropout; the rng stream "dropout" is then needed
        if dropout is above 0.

    Returns:
      The prediction, [*D].

    Raises:
      ValueError: the model is unconditional but a label is given, or the label
        or a setting is out of range.
    """
    layers.check_settings(self.num_classes, self.dropout, label)
    if min(self.features, default=1) < 1:
      raise ValueError(f"features: expected widths >= 1, got {self.features}")
    time = layers.time_embedding(t, self.embedding_width, self.max_frequency)
    parts = [x.ravel().astype(self.dtype), time.astype(self.dtype)]
    if self.num_classes:
      embed = layers.LabelEmbedding(
        self.num_classes, self.embedding_width, self.dtype, name="label"
      )
      parts.append(embed(label))
    h = jnp.concatenate(parts)
    for i, width in enumerate(self.features):
      h = nn.silu(nn.Dense(width, dtype=self.dtype, name=f"hidden_{i}")(h))
      h = nn.Dropout(self.dropout, deterministic=not train)(h)
    init = nn.initializers
    out = nn.Dense(
      math.prod(x.shape),
      dtype=self.dtype,
      kernel_init=init.zeros if self.zero_output else init.lecun_normal(),
      name="out",
    )
    wide = dtypes.wider(self.dtype)
    return out(h).reshape(x.shape).astype(wide)
