"""A masked autoregressive flow, for data of any shape.

Each block maps coordinate i by an elementwise map whose parameters a MADE
computes from the coordinates before; odd blocks read them in reverse. Data to
latent is one call per block; the inverse repeats Jacobi sweeps until no
coordinate changes by more than 1e-6, at most D of them per block. The last
layers start at 0, so the flow starts at the identity.

Reference: Papamakarios et al. 2017, arXiv:1705.07057.
"""

import functools
import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from jaxtyping import ArrayLike as Numeric

from jaxgen import arrangements, bijectors, elementwise, inversion
from jaxgen.models import layers, made


class MaskedFlow(nn.Module):
  """MADEs as autoregressive maps with splines, or affine ones (MAF).

  Attributes:
    shape: shape of an example, *D.
    num_classes: number of labels; 0 for an unconditional model.
    num_blocks: number of autoregressive maps.
    features: width of each hidden layer of a MADE.
    num_bins, bound, dropout, dtype: as in models.coupling_flow.
  """

  shape: tuple[int, ...]
  num_classes: int = 0
  num_blocks: int = 6
  features: tuple[int, ...] = (256, 256)
  num_bins: int = 8
  bound: float = 5.0
  dropout: float = 0.0
  dtype: Any = jnp.float32

  def setup(self):
    if self.num_blocks < 1:
      raise ValueError(
        f"num_blocks: expected at least 1, got {self.num_blocks}"
      )
    self.networks = [
      made.MADE(
        self._family().num_params,
        self.features,
        self.dropout,
        self.num_classes,
        dtype=self.dtype,
      )
      for _ in range(self.num_blocks)
    ]

  def _family(self):
    return elementwise.of_bins(self.num_bins, self.bound)

  def blocks(
    self, label: Int[Numeric, ""] | None = None, *, train: bool = False
  ) -> list[bijectors.Bijector]:
    """The maps from data to the latent; use them within `apply`."""
    layers.check_settings(self.num_classes, self.dropout, label)
    family, size = self._family(), math.prod(self.shape)
    flat = arrangements.reshaped(tuple(self.shape), (size,))
    reverse = arrangements.permuted(np.arange(size)[::-1])

    def of(i, net):
      def invert(conditioner, family, y):
        # A pure function, as Flax modules cannot be called within a loop.
        module, variables = net.unbind()
        apply = functools.partial(module.apply, variables)
        pure = lambda x: apply(x[:, None], label)
        return inversion.jacobi(pure, family, y).x

      conditioner = lambda x: net(x[:, None], label, train=train)
      block = bijectors.autoregressive(conditioner, family, invert)
      outer = bijectors.chain(flat, reverse) if i % 2 else flat
      return bijectors.between(outer, block)

    return [of(i, net) for i, net in enumerate(self.networks)]

  def __call__(
    self,
    x: Float[Array, "*D"],
    label: Int[Numeric, ""] | None = None,
    *,
    train: bool = False,
  ) -> tuple[Float[Array, "*D"], Float[Array, ""]]:
    """The latent and log |det| of its derivative, for one example.

    Args:
      x: the example, [*D].
      label: [], in [0, num_classes]; None and num_classes are the null label.
      train: whether to apply dropout; the rng stream "dropout" is then needed
        if dropout is above 0.

    Raises:
      ValueError: x has another shape, or the label or a setting is out of
        range.
    """
    if x.shape != tuple(self.shape):
      raise ValueError(f"x: expected shape {self.shape}, got {x.shape}")
    return bijectors.chain(*self.blocks(label, train=train)).forward(x)

  def inverse(
    self, y: Float[Array, "*D"], label: Int[Numeric, ""] | None = None
  ) -> tuple[Float[Array, "*D"], Float[Array, ""]]:
    """The example of a latent, and log |det| of its derivative."""
    return bijectors.chain(*self.blocks(label)).inverse(y)

  def states(
    self, y: Float[Array, "*D"], label: Int[Numeric, ""] | None = None
  ) -> Float[Array, "T *D"]:
    """A latent and what each inverse makes of it, [num_blocks + 1, *D]."""
    return bijectors.inverse_states(self.blocks(label), y)
