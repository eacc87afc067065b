"""A generator and a discriminator, two perceptrons for data of any shape.

  G(z, c) = Dense(trunk([z, e_c]))             e_c, a learned vector of class c
  D(x, c) = Dense(h) + <v_c, h>,  h = trunk(x)
  trunk(h):  h = silu(Dense(h)) ...

<v_c, h> is a projection onto the class: if D is the logarithm of a density
ratio p / q, it models the part that depends on the class.

Neither network uses normalisation, since batch normalisation would make the
output depend on other examples. silu is smooth: the gradient of |grad D|^2 has
second derivatives of D, which for a (leaky) relu are concentrated at its kinks,
where automatic differentiation omits them.

Penalties control the scale of D. Weights are initialised with variance
2 / inputs, which preserves that of the activations.

References: Miyato and Koyama 2018, arXiv:1802.05637, eq. 4 (the projection);
Huang et al. 2025, arXiv:2501.05441 (no normalisation).
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from jaxtyping import ArrayLike as Numeric

from jaxgen.models import layers


class Generator(nn.Module):
  """Dense layers with silu in between, from noise [Z] to [*D].

  Attributes:
    shape: shape of an example, *D.
    features: width of each hidden layer.
    num_classes: number of labels; 0 for an unconditional model.
    embedding_width: length of a label's vector.
    bounded: whether to apply tanh to the output, for data in [-1, 1].
  """

  shape: tuple[int, ...]
  features: tuple[int, ...] = (128, 128, 128)
  num_classes: int = 0
  embedding_width: int = 32
  bounded: bool = False

  @nn.compact
  def __call__(
    self, z: Float[Array, "Z"], label: Int[Numeric, ""] | None = None
  ) -> Float[Array, "*D"]:
    """Generates one example.

    Args:
      z: noise, [Z], from the same distribution as in training.
      label: [], in [0, num_classes - 1]; None where num_classes is 0.

    Returns:
      The example, [*D].

    Raises:
      ValueError: an unconditional model is given a label, or a conditional one
        is given no label or one out of range.
    """
    check_label(self.num_classes, label)
    h = z
    if self.num_classes:
      embed = layers.LabelEmbedding(
        self.num_classes, self.embedding_width, z.dtype, name="label"
      )
      h = jnp.concatenate([z, embed(label)])
    h = trunk(h, self.features)
    x = nn.Dense(math.prod(self.shape), name="out")(h).reshape(self.shape)
    return jnp.tanh(x) if self.bounded else x


class Discriminator(nn.Module):
  """Dense layers with silu in between, from [*D] to a score, high on data.

  Attributes:
    features: width of each hidden layer.
    num_classes: number of labels; 0 for an unconditional model.
  """

  features: tuple[int, ...] = (128, 128, 128)
  num_classes: int = 0

  @nn.compact
  def __call__(
    self, x: Float[Array, "*D"], label: Int[Numeric, ""] | None = None
  ) -> Float[Array, ""]:
    """Scores one example.

    Args:
      x: the example, [*D].
      label: as in Generator.

    Returns:
      The score, [], any real number: a logit, or a potential.

    Raises:
      ValueError: as in Generator.
    """
    check_label(self.num_classes, label)
    h = trunk(x.ravel(), self.features)
    score = nn.Dense(1, name="out")(h)[0]
    if not self.num_classes:
      return score
    embed = layers.LabelEmbedding(
      self.num_classes, h.size, h.dtype, name="label"
    )
    return score + embed(label) @ h / math.sqrt(h.size)


def trunk(h, features):
  """Hidden layers, [K] -> [features[-1]]; call it in a compact method."""
  if min(features, default=0) < 1:
    raise ValueError(
      f"features: expected at least one width, each >= 1, got {features}"
    )
  init = nn.initializers.he_normal()
  for i, width in enumerate(features):
    h = nn.silu(nn.Dense(width, kernel_init=init, name=f"hidden_{i}")(h))
  return h


def check_label(num_classes, label):
  """Raises for an invalid label, including the untrained null label."""
  layers.check_settings(num_classes, 0.0, label)
  if not num_classes or isinstance(label, jax.core.Tracer):
    return
  if label is None or not 0 <= int(label) < num_classes:
    raise ValueError(f"label: expected 0 to {num_classes - 1}, got {label}")
