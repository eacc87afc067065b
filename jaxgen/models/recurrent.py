"""A recurrent network on a sequence of tokens [T, P]: GRU or LSTM layers.

Output i depends on the label and on tokens 0, ..., i - 1: the sequence is
shifted by one position at the input (shifted.py),

  h_i = Dense(token_(i-1)) + position_i + label vector
  carry, h_i = cell(carry, h_i)        in every layer
  out_i = Dense(h_i),                  a layer that starts at zero

The carry is the whole memory: a sample costs as much as one evaluation.

Reference: Hochreiter and Schmidhuber 1997 (LSTM); Cho et al. 2014,
arXiv:1406.1078 (GRU).
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from jaxtyping import ArrayLike as Numeric

from jaxgen import dtypes
from jaxgen.models import layers, shifted


class Recurrent(nn.Module):
  """GRU or LSTM layers; output i sees the label and tokens before i.

  Attributes:
    length: number of learned positions, the most tokens of a sequence.
    out_features: numbers that each position outputs.
    cell: "gru" or "lstm".
    width: features of a position and of a layer's carry.
    depth: number of layers.
    dropout: probability of dropping an output of a layer in training.
    num_classes: number of labels; 0 for an unconditional model.
    dtype: dtype of the activations; parameters and output are float32.
  """

  length: int
  out_features: int
  cell: str = "gru"
  width: int = 128
  depth: int = 1
  dropout: float = 0.0
  num_classes: int = 0
  dtype: Any = jnp.float32

  def setup(self):
    self.check()
    self.inputs = shifted.Inputs(
      self.length, self.width, self.num_classes, self.dtype
    )
    cell = nn.GRUCell if self.cell == "gru" else nn.OptimizedLSTMCell
    self.cells = [cell(self.width, dtype=self.dtype) for _ in range(self.depth)]
    self.drop = nn.Dropout(self.dropout)
    self.out = shifted.dense(self.out_features, self.dtype, zero=True)

  def __call__(
    self,
    tokens: Float[Array, "T P"],
    label: Int[Numeric, ""] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "T K"]:
    """The outputs of all positions.

    Args:
      tokens: the sequence, [T, P], T at most length. The last token has no
        effect.
      label: [], in [0, num_classes]; None and num_classes are the null label.
      train: whether to apply dropout; the rng stream "dropout" is then needed
        if dropout is above 0.

    Returns:
      The outputs, [T, out_features]; row i depends on tokens before i.

    Raises:
      ValueError: there are more than `length` tokens or none, or a setting or
        the label is out of range.
    """
    layers.check_settings(self.num_classes, self.dropout, label)
    h = self.inputs(tokens, label)
    for cell in self.cells:
      run = nn.scan(
        lambda cell, carry, x: cell(carry, x),
        variable_broadcast="params",
        split_rngs={"params": False},
      )
      _, h = run(cell, self.carry(), h)
      h = self.drop(h, deterministic=not train)
    return self.finish(h)

  def start(self, label: Int[Numeric, ""] | None = None) -> Any:
    """The memory before position 0: (carries of the layers, label vector).

    Args and Raises: as in __call__.
    """
    layers.check_settings(self.num_classes, self.dropout, label)
    carries = tuple(self.carry() for _ in range(self.depth))
    return carries, self.inputs.condition(label)

  def step(
    self, memory: Any, token_before: Float[Array, "P"], i: Int[Numeric, ""]
  ) -> tuple[Any, Float[Array, "K"]]:
    """The output of position i, without dropout.

    Args:
      memory: that of the step before, or `start(label)` for i = 0.
      token_before: token i - 1, [P]; any numbers for i = 0.
      i: the position, [], in [0, length).

    Returns:
      (the memory with position i, outputs [out_features]).
    """
    carries, condition = memory
    h = self.inputs.step(token_before, i, condition)[0]
    after = []
    for cell, carry in zip(self.cells, carries, strict=True):
      carry, h = cell(carry, h)
      after.append(carry)
    return (tuple(after), condition), self.finish(h[None])[0]

  def carry(self):
    """The carry of a layer before position 0."""
    zeros = jnp.zeros((self.width,), self.dtype)
    return zeros if self.cell == "gru" else (zeros, zeros)

  def finish(self, h):
    """Outputs of positions, [T, out_features]."""
    return self.out(h).astype(dtypes.wider(self.dtype))

  @nn.nowrap
  def check(self):
    """Raises for invalid settings, before any layer runs."""
    if self.cell not in ("gru", "lstm"):
      raise ValueError(f"cell: expected gru or lstm, got {self.cell!r}")
    for name in ("length", "out_features", "width", "depth"):
      value = getattr(self, name)
      if value < 1:
        raise ValueError(f"{name}: expected at least 1, got {value}")
