"""A normalizing flow of couplings, for data of any shape.

Block b keeps half of the coordinates and moves the others by an elementwise map
whose parameters a residual network computes from those kept, the label and the
context c, on which the density p(x | c) may depend:

  h = Dense([x_kept, c, label vector]), h = h + Dense(silu(Dense(silu(h)))), ...

Blocks come in pairs: the second one keeps what the first one moved. Halves are
random, the same for every model of that size. The last layers start at 0, so
the flow starts at the identity.
"""

import functools
import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from jaxtyping import ArrayLike as Numeric

from jaxgen import bijectors, dtypes, elementwise
from jaxgen.models import layers


class Conditioner(nn.Module):
  """A residual network [M], [C] or None -> [outputs], which starts at 0.

  Attributes:
    outputs: number of outputs.
    width: number of features.
    depth: number of residual blocks.
    num_classes, dropout, dtype: as in CouplingFlow.
  """

  outputs: int
  width: int
  depth: int
  num_classes: int = 0
  dropout: float = 0.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "M"],
    label: Int[Numeric, ""] | None = None,
    context: Float[Array, "*C"] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "outputs"]:
    """The parameters of a coupling, for one example."""
    dense = lambda name: nn.Dense(self.width, dtype=self.dtype, name=name)
    if context is not None:
      x = jnp.concatenate([x, context.ravel()])
    h = dense("first")(x.astype(self.dtype))
    if self.num_classes:
      embed = layers.LabelEmbedding(
        self.num_classes, self.width, self.dtype, name="label"
      )
      h = h + embed(label)
    for i in range(self.depth):
      inner = nn.silu(dense(f"inner_{i}")(nn.silu(h)))
      inner = nn.Dropout(self.dropout, deterministic=not train)(inner)
      h = h + dense(f"outer_{i}")(inner)
    zeros = nn.initializers.zeros
    out = nn.Dense(self.outputs, kernel_init=zeros, name="out")
    return out(nn.silu(h).astype(dtypes.wider(self.dtype)))


class CouplingFlow(nn.Module):
  """Couplings with rational-quadratic splines, or affine ones.

  Attributes:
    shape: shape of an example, *D, with at least 2 coordinates.
    num_classes: number of labels; 0 for an unconditional model.
    context_size: number C of numbers that the density is given; 0 for none.
    num_blocks: number of couplings.
    width: number of features of a conditioner.
    depth: number of its residual blocks.
    num_bins: number of bins of a spline; 0 for affine couplings (RealNVP).
    bound: the splines' interval is [-bound, bound]; affine scales are within
      exp(+-bound).
    dropout: probability of dropping a hidden unit in training.
    dtype: dtype of the conditioners' activations; parameters, maps and
      log-determinants are float32.

  Reference: Dinh et al. 2017, arXiv:1605.08803; Durkan et al. 2019,
  arXiv:1906.04032.
  """

  shape: tuple[int, ...]
  num_classes: int = 0
  context_size: int = 0
  num_blocks: int = 8
  width: int = 256
  depth: int = 2
  num_bins: int = 8
  bound: float = 5.0
  dropout: float = 0.0
  dtype: Any = jnp.float32

  def setup(self):
    size, family = math.prod(self.shape), self._family()
    if size < 2:
      raise ValueError(
        f"shape: expected 2 coordinates or more, got {self.shape}"
      )
    if min(self.num_blocks, self.width) < 1:
      raise ValueError(
        "num_blocks, width: expected at least 1, got"
        f" {self.num_blocks} and {self.width}"
      )
    self.conditioners = [
      Conditioner(
        int(np.sum(~mask)) * family.num_params,
        self.width,
        self.depth,
        self.num_classes,
        self.dropout,
        self.dtype,
      )
      for mask in self._masks()
    ]

  def _family(self):
    return elementwise.of_bins(self.num_bins, self.bound)

  def _masks(self):
    """The kept halves of all blocks, [*D] booleans each."""
    size, masks = math.prod(self.shape), []
    for i in range(self.num_blocks):
      order = np.random.RandomState(i // 2).permutation(size)
      kept = (order < (size + 1) // 2) ^ bool(i % 2)
      masks.append(kept.reshape(self.shape))
    return masks

  def blocks(
    self,
    label: Int[Numeric, ""] | None = None,
    context: Float[Array, "*C"] | None = None,
    *,
    train: bool = False,
  ) -> list[bijectors.Bijector]:
    """The couplings from data to the latent; use them within `apply`."""
    layers.check_settings(self.num_classes, self.dropout, label)
    size = 0 if context is None else context.size
    if size != self.context_size:
      raise ValueError(
        f"context: expected {self.context_size} numbers, got {size}"
      )
    family, given = self._family(), dict(label=label, context=context)
    return [
      bijectors.coupling(
        mask, functools.partial(net, **given, train=train), family
      )
      for mask, net in zip(self._masks(), self.conditioners, strict=True)
    ]

  def __call__(
    self,
    x: Float[Array, "*D"],
    label: Int[Numeric, ""] | None = None,
    context: Float[Array, "*C"] | None = None,
    *,
    train: bool = False,
  ) -> tuple[Float[Array, "*D"], Float[Array, ""]]:
    """The latent and log |det| of its derivative, for one example.

    Args:
      x: the example, [*D].
      label: [], in [0, num_classes]; None and num_classes are the null label.
      context: what the density is given, of context_size numbers; None if that
        is 0.
      train: whether to apply dropout; the rng stream "dropout" is then needed
        if dropout is above 0.

    Raises:
      ValueError: x has another shape, the context another size, or the label
        or a setting is out of range.
    """
    blocks = self.blocks(label, context, train=train)
    return bijectors.chain(*blocks).forward(x)

  def inverse(
    self,
    y: Float[Array, "*D"],
    label: Int[Numeric, ""] | None = None,
    context: Float[Array, "*C"] | None = None,
  ) -> tuple[Float[Array, "*D"], Float[Array, ""]]:
    """The example of a latent, and log |det| of its derivative."""
    return bijectors.chain(*self.blocks(label, context)).inverse(y)

  def states(
    self,
    y: Float[Array, "*D"],
    label: Int[Numeric, ""] | None = None,
    context: Float[Array, "*C"] | None = None,
  ) -> Float[Array, "T *D"]:
    """A latent and what each inverse makes of it, [num_blocks + 1, *D].

    The last state is the example.
    """
    return bijectors.inverse_states(self.blocks(label, context), y)
