"""Encoders and decoders of a variational autoencoder, of one example.

  encoder   (mean, raw) = Dense(trunk([x, e_c])),   [Z] each
  decoder   params = Dense(trunk([z, e_c])),        of any shape
  trunk(h): h = silu(Dense(h)) ...

e_c is a learned vector of class c. For images the trunk of the encoder has
convolutions that halve the sides, and that of the decoder convolutions that
double them. raw is for losses.variational.gaussian, which bounds the log_std
that it makes of it. The last layers start at zero: the posterior starts as
N(0, I) for every example, and the decoder's output as 0.
"""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from jaxtyping import ArrayLike as Numeric

from jaxgen.models import layers, residual

Label = Int[Numeric, ""] | None


class Encoder(nn.Module):
  """Dense layers with silu in between, from [*D] to mean and raw, [Z] each.

  Attributes:
    latent: Z, number of latent coordinates.
    features: width of each hidden layer.
    num_classes: number of labels; 0 for an unconditional model.
    embedding_width: length of a label's vector.
    dropout: probability of dropping a hidden unit in training.
  """

  latent: int
  features: tuple[int, ...] = (256, 256)
  num_classes: int = 0
  embedding_width: int = 32
  dropout: float = 0.0

  @nn.compact
  def __call__(
    self, x: Float[Array, "*D"], label: Label = None, *, train: bool = False
  ) -> tuple[Float[Array, "Z"], Float[Array, "Z"]]:
    """The numbers of the posterior of one example.

    Args:
      x: the example, [*D].
      label: [], in [0, num_classes]; None and num_classes are the null label.
      train: whether to apply dropout; the rng stream "dropout" is then needed
        if dropout is above 0.

    Returns:
      (mean, raw), [Z] each.

    Raises:
      ValueError: an unconditional model is given a label, or the label or a
        setting is out of range.
    """
    h = _with_label(self, x.ravel(), label)
    h = _trunk(h, self.features, self.dropout, train)
    return _posterior(h, self.latent)


class Decoder(nn.Module):
  """Dense layers with silu in between, from [Z] to an output of any shape.

  Attributes:
    shape: shape of the output: *D for a mean, (*D, K) for outputs.Output.
    features, num_classes, embedding_width, dropout: as in Encoder.
  """

  shape: tuple[int, ...]
  features: tuple[int, ...] = (256, 256)
  num_classes: int = 0
  embedding_width: int = 32
  dropout: float = 0.0

  @nn.compact
  def __call__(
    self, z: Float[Array, "Z"], label: Label = None, *, train: bool = False
  ) -> Float[Array, "*S"]:
    """The output for one latent, of the given shape.

    Args:
      z: the latent, [Z].
      label, train: as in Encoder.

    Raises:
      ValueError: as in Encoder.
    """
    h = _with_label(self, z, label)
    h = _trunk(h, self.features, self.dropout, train)
    return _head(math.prod(self.shape), "out")(h).reshape(self.shape)


class ConvEncoder(nn.Module):
  """Convolutions, each followed by halving the sides, then a Dense layer.

  Attributes:
    features: number of channels of each convolution.
    latent, num_classes, embedding_width, dropout: as in Encoder.
  """

  latent: int
  features: tuple[int, ...] = (32, 64)
  num_classes: int = 0
  embedding_width: int = 32
  dropout: float = 0.0

  @nn.compact
  def __call__(
    self, x: Float[Array, "H W C"], label: Label = None, *, train: bool = False
  ) -> tuple[Float[Array, "Z"], Float[Array, "Z"]]:
    """The numbers of the posterior of one image, as in Encoder.

    Raises:
      ValueError: as in Encoder, or a side cannot be halved that often.
    """
    _smallest(x.shape, self.features)
    for i, width in enumerate(self.features):
      x = nn.silu(residual.conv(width, x.dtype, f"conv_{i}")(x))
      x = residual.halve(x)
    h = _with_label(self, x.ravel(), label)
    h = nn.Dropout(self.dropout, deterministic=not train)(h)
    return _posterior(h, self.latent)


class ConvDecoder(nn.Module):
  """A Dense layer, then convolutions, each after doubling the sides.

  Attributes:
    shape: shape of the output: (H, W, C) for a mean, (H, W, C, K) for
      outputs.Output.
    features: number of channels of each convolution.
    num_classes, embedding_width, dropout: as in Encoder.
  """

  shape: tuple[int, ...]
  features: tuple[int, ...] = (64, 32)
  num_classes: int = 0
  embedding_width: int = 32
  dropout: float = 0.0

  @nn.compact
  def __call__(
    self, z: Float[Array, "Z"], label: Label = None, *, train: bool = False
  ) -> Float[Array, "*S"]:
    """The output for one latent, of the given shape.

    Raises:
      ValueError: as in Encoder, or a side cannot be halved that often.
    """
    height, width = _smallest(self.shape, self.features)
    h = _with_label(self, z, label)
    first = self.features[0]
    h = nn.silu(nn.Dense(height * width * first, name="start")(h))
    h = nn.Dropout(self.dropout, deterministic=not train)(h)
    h = h.reshape(height, width, first)
    for i, features in enumerate(self.features):
      h = residual.double(h)
      h = nn.silu(residual.conv(features, h.dtype, f"conv_{i}")(h))
    channels = math.prod(self.shape[2:])
    out = residual.conv(channels, h.dtype, "out", zero=True)(h)
    return out.reshape(self.shape)


def _with_label(net: Any, h, label):
  """h [K] and the vector of the label, if the network has labels."""
  layers.check_settings(net.num_classes, net.dropout, label)
  if not net.num_classes:
    return h
  embed = layers.LabelEmbedding(
    net.num_classes, net.embedding_width, h.dtype, name="label"
  )
  return jnp.concatenate([h, embed(label)])


def _trunk(h, features, dropout, train):
  _check_widths(features)
  for i, width in enumerate(features):
    h = nn.silu(nn.Dense(width, name=f"hidden_{i}")(h))
    h = nn.Dropout(dropout, deterministic=not train)(h)
  return h


def _posterior(h, latent):
  if latent < 1:
    raise ValueError(f"latent: expected at least 1, got {latent}")
  mean, raw = jnp.split(_head(2 * latent, "posterior")(h), 2)
  return mean, raw


def _head(features, name):
  return nn.Dense(features, kernel_init=nn.initializers.zeros, name=name)


def _smallest(shape, features):
  """(height, width) after halving the sides once for each of features."""
  _check_widths(features)
  factor = 2 ** len(features)
  if len(shape) < 3 or shape[0] % factor or shape[1] % factor:
    raise ValueError(
      f"shape: expected an image whose sides are multiples of {factor}, got"
      f" {list(shape)}"
    )
  return shape[0] // factor, shape[1] // factor


def _check_widths(features):
  if min(features, default=0) < 1:
    raise ValueError(
      f"features: expected at least one width, each >= 1, got {features}"
    )
