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

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from jaxtyping import ArrayLike as Numeric

from jaxgen import arrangements, bijectors, elementwise, inversion
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
    patches = arrangements.patches(self.shape, self.patch)
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
    return bijectors.chain(*self.blocks(label, train=train)).forward(x)

  def _turns(self):
    """The order in which each block reads: odd ones reverse the sequence."""
    forward = np.arange(self._tokens()[0])
    reverse = arrangements.permuted(forward[::-1])
    same = arrangements.permuted(forward)
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
    return bijectors.chain(*self.blocks(label, guidance)).inverse(y)

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
    return bijectors.inverse_states(self.blocks(label, guidance), y)

  def blocks(
    self,
    label: Int[Numeric, ""] | None = None,
    guidance: Float[Numeric, ""] | None = None,
    *,
    train: bool = False,
  ) -> list[bijectors.Bijector]:
    """The maps of images, data to latent; use them within `apply`."""
    patches = arrangements.patches(self.shape, self.patch)
    family, (length, size) = elementwise.affine(self.bound), self._tokens()

    def of(turn, net):
      def invert(conditioner, family, y):
        # Pure functions, as Flax modules cannot be called within a scan.
        module, variables = net.unbind()
        apply = functools.partial(module.apply, variables)
        params = lambda label, tokens: apply(tokens, label).reshape(
          length, size, 2
        )
        if self.sweeps:
          mixed = _guided(params, label, guidance)
          how = dict(num_blocks=self.sweeps)
          return inversion.jacobi(mixed, family, y, **how).x

        def step(caches, before, i):
          found = [apply(c, before, i, method="step") for c in caches]
          caches, outs = zip(*found, strict=True)
          return caches, _mix(outs, guidance).reshape(size, 2)

        labels = (label,) if guidance is None else (label, None)
        memory = tuple(apply(label, method="start") for label in labels)
        return inversion.cached(
          conditioner, family, y, step=step, memory=memory
        )

      guided = _guided(
        lambda label, tokens: net(tokens, label, train=train).reshape(
          length, size, 2
        ),
        label,
        guidance,
      )
      block = bijectors.autoregressive(guided, family, invert)
      return bijectors.between(bijectors.chain(patches, turn), block)

    pairs = zip(self._turns(), self.transformers, strict=True)
    return [of(*pair) for pair in pairs]


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
