"""TarFlow: a normalizing flow of causal transformers over patches.

An image is a sequence of patches [T, P]. Each block is an affine autoregressive
map, whose shifts and scales a causal transformer computes from the patches
before; odd blocks read the sequence in reverse. The last layers start at 0, so
the flow starts at the identity.

The map from data to the latent evaluates all positions at once. Its inverse
needs the positions one by one: with the transformers' cache, or by Jacobi
sweeps over blocks of positions (inversion.jacobi).

Reference: Zhai et al. 2024, arXiv:2412.06329.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from jaxtyping import ArrayLike as Numeric

from jaxgen import bijectors, elementwise, inversion
from jaxgen.models import causal, layers


class TarFlow(nn.Module):
  """Causal transformers as affine autoregressive maps of an image.

  Attributes:
    shape: shape of an example, [H, W, C].
    num_classes: number of labels; 0 for an unconditional model.
    patch: side of a patch; it divides H and W.
    num_blocks: number of autoregressive maps.
    width, depth, num_heads: of each transformer (models.causal).
    bound: scales are within exp(+-bound).
    dropout: probability of dropping an activation in training.
    sweeps: 0 to invert with the cache; otherwise the number of blocks of
      positions that Jacobi sweeps solve one after the other (a divisor of T).
    implementation, dtype: as in models.causal; maps are float32.
  """

  shape: tuple[int, int, int]
  num_classes: int = 0
  patch: int = 2
  num_blocks: int = 6
  width: int = 64
  depth: int = 2
  num_heads: int = 4
  bound: float = 5.0
  dropout: float = 0.0
  sweeps: int = 0
  implementation: layers.Implementation = "xla"
  dtype: Any = jnp.float32

  def setup(self):
    if self.num_blocks < 1:
      raise ValueError(
        f"num_blocks: expected at least 1, got {self.num_blocks}"
      )
    length, size = self._tokens()
    self.transformers = [
      causal.Transformer(
        length,
        2 * size,
        self.width,
        self.depth,
        self.num_heads,
        dropout=self.dropout,
        num_classes=self.num_classes,
        implementation=self.implementation,
        dtype=self.dtype,
      )
      for _ in range(self.num_blocks)
    ]

  def _tokens(self):
    """(T, P), the number of patches and of numbers in each."""
    patches = bijectors.patches(self.shape, self.patch)
    image = jax.ShapeDtypeStruct(self.shape, jnp.float32)
    return jax.eval_shape(patches.forward, image)[0].shape

  def __call__(
    self,
    x: Float[Array, "H W C"],
    label: Int[Numeric, ""] | None = None,
    *,
    train: bool = False,
  ) -> tuple[Float[Array, "H W C"], Float[Array, ""]]:
    """The latent and log |det| of its derivative, for one example.

    Args:
      x: the image, [H, W, C].
      label: [], in [0, num_classes]; None and num_classes are the null label.
      train: whether to apply dropout; the rng stream "dropout" is then needed
        if dropout is above 0.

    Raises:
      ValueError: x has another shape, or the label or a setting is out of
        range.
    """
    if x.shape != tuple(self.shape):
      raise ValueError(f"x: expected shape {self.shape}, got {x.shape}")
    patches = bijectors.patches(self.shape, self.patch)
    family, (length, size) = elementwise.affine(self.bound), self._tokens()

    def conditioner(net, tokens):
      out = net(tokens, label, train=train)
      return out.reshape(length, size, 2)

    tokens, total = patches.forward(x)
    for turn, net in zip(self._turns(), self.transformers, strict=True):
      block = bijectors.autoregressive(
        lambda tokens, net=net: conditioner(net, tokens), family
      )
      block = bijectors.chain(turn, block, bijectors.inverted(turn))
      tokens, log_det = block.forward(tokens)
      total = total + log_det
    return patches.inverse(tokens)[0], total

  def _turns(self):
    """The order in which each block reads: odd ones reverse the sequence."""
    forward = np.arange(self._tokens()[0])
    reverse = bijectors.permuted(forward[::-1])
    same = bijectors.permuted(forward)
    return [reverse if i % 2 else same for i in range(self.num_blocks)]

  def inverse(
    self,
    y: Float[Array, "H W C"],
    label: Int[Numeric, ""] | None = None,
    *,
    guidance: Float[Numeric, ""] | None = None,
  ) -> tuple[Float[Array, "H W C"], Float[Array, ""]]:
    """The image of a latent, and log |det| of its derivative.

    With guidance w, shifts and scales are those of the null label + w (those
    of the label - those of the null label); as in fields' guidance, 1 changes
    nothing. The log-determinant is that of the guided map.
    """
    total, x = jnp.zeros((), y.dtype), y
    for block in self._inverses(label, guidance):
      x, log_det = block(x)
      total = total + log_det
    return x, total

  def states(
    self,
    y: Float[Array, "H W C"],
    label: Int[Numeric, ""] | None = None,
    *,
    guidance: Float[Numeric, ""] | None = None,
  ) -> Float[Array, "T H W C"]:
    """A latent and what each inverse makes of it, [num_blocks + 1, H, W, C].

    The last state is the example.
    """
    found = [y]
    for block in self._inverses(label, guidance):
      found.append(block(found[-1])[0])
    return jnp.stack(found)

  def _inverses(self, label, guidance) -> list[Callable]:
    """The inverse of each block on images, the last block first."""
    patches = bijectors.patches(self.shape, self.patch)
    family, (length, size) = elementwise.affine(self.bound), self._tokens()

    def of(turn, net):
      # Pure functions, as Flax modules cannot be called within a scan.
      module, variables = net.unbind()
      apply = lambda *args, **how: module.apply(variables, *args, **how)
      mixed = lambda fn: _guided(fn, label, guidance)
      conditioner = mixed(
        lambda label, tokens: apply(tokens, label).reshape(length, size, 2)
      )

      def step(caches, before, i):
        found = [apply(c, before, i, method="step") for c in caches]
        caches, outs = zip(*found, strict=True)
        return caches, _mix(outs, guidance).reshape(size, 2)

      if self.sweeps:
        invert = lambda *args: (
          inversion.jacobi(*args, tolerance=1e-6, num_blocks=self.sweeps).x
        )
      else:
        labels = (label,) if guidance is None else (label, None)
        memory = tuple(apply(label, method="start") for label in labels)
        invert = lambda *args: inversion.cached(*args, step=step, memory=memory)
      block = bijectors.autoregressive(conditioner, family, invert)
      whole = bijectors.chain(patches, turn)
      return bijectors.chain(whole, block, bijectors.inverted(whole)).inverse

    pairs = zip(self._turns(), self.transformers, strict=True)
    return [of(*pair) for pair in pairs][::-1]


def _guided(fn, label, guidance):
  """tokens -> the guided parameters, fn being (label, tokens) -> parameters."""
  if guidance is None:
    return lambda tokens: fn(label, tokens)
  return lambda tokens: _mix((fn(label, tokens), fn(None, tokens)), guidance)


def _mix(values, guidance):
  """Guidance of the values with a label and with the null label."""
  if guidance is None:
    return values[0]
  given, null = values
  return null + guidance * (given - null)
