"""A generator and a discriminator, two perceptrons for data of any shape.

  G(z, c) = Dense(trunk([z, e_c]))             e_c a vector of the class
  D(x, c) = Dense(h) + <v_c, h>,  h = trunk(x)
  trunk(h):  h = silu(Dense(h)) ...

<v_c, h> projects onto the class: where D is the logarithm of a ratio p / q of
densities, the projection models what depends on the class in it.

Neither normalises: over a batch it would be no function of one example. silu
is smooth: the gradient of |grad D|^2 holds the second derivatives of D, which a
(leaky) relu has at its kinks only, where automatic differentiation drops them.

The penalties change D's sizes, not the layers': weights start with variance
2 / inputs, which keeps those of the activations.

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
  """Dense layers with silu between, from noise [Z] to [*D].

  Attributes:
    shape: of what is generated, *D.
    features: width of each hidden layer.
    num_classes: number of labels; 0 for an unconditional model.
    embedding_width: length of a label's vector.
    bounded: whether tanh follows, for data in [-1, 1] that has ends.
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
      z: noise, [Z], of a law that the training draws from too.
      label: [], in [0, num_classes - 1]; None where num_classes is 0.

    Returns:
      The example, [*D].

    Raises:
      ValueError: a label for an unconditional model, none for a conditional
        one, or one out of range.
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
  """Dense layers with silu between, from [*D] to a score, high on data.

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
  """[K] -> [features[-1]]; to be called in a compact method."""
  if min(features, default=0) < 1:
    raise ValueError(
      f"features: expected one width at least, each >= 1, got {features}"
    )
  init = nn.initializers.he_normal()
  for i, width in enumerate(features):
    h = nn.silu(nn.Dense(width, kernel_init=init, name=f"hidden_{i}")(h))
  return h


def check_label(num_classes, label):
  """Refuses the null label too, which no game has trained."""
  layers.check_settings(num_classes, 0.0, label)
  if not num_classes or isinstance(label, jax.core.Tracer):
    return
  if label is None or not 0 <= int(label) < num_classes:
    raise ValueError(f"label: expected 0 to {num_classes - 1}, got {label}")
