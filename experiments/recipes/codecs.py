"""An autoencoder and its bottleneck: images as latents, and back.

Latents are tokens [M, h, w], with M stages, 1 for all quantisers but residual;
or, for the bottleneck gaussian, means of posteriors [h, w, D].
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lib import checks, datasets
from experiments.recipes import latents
from jaxgen import codebooks, outputs, quantizers
from jaxgen.losses import decoders, variational
from jaxgen.models import autoencoder

MAX_CODES = 2**20  # of which the usage is counted
TABLES = ("vq", "residual")  # quantisers with a codebook


class Codec(NamedTuple):
  """An encoder, a bottleneck and a decoder.

  Attributes:
    encoder, decoder: Flax modules of one example.
    shape: shape of an example, (H, W, C).
    output: the distribution of levels that the decoder returns; None for the
      image itself.
    quantizer: vq, fsq, lfq, residual or gaussian.
    codebook: how the codebook is learned, ema or gradient.
    num_stages: M.
    num_codes: K, codes of a stage; None for gaussian.
    levels: those of fsq and lfq.
    first: images whose features are the first codebook learned by gradient,
      [B, H, W, C].
  """

  encoder: autoencoder.Encoder
  decoder: autoencoder.Decoder
  shape: tuple[int, ...]
  output: outputs.Output | None
  quantizer: str
  codebook: str
  num_stages: int
  num_codes: int | None
  levels: tuple[int, ...]
  first: np.ndarray

  def init(self, key: jax.Array) -> dict[str, Any]:
    """The first parameters."""
    encoder_key, decoder_key, code_key = jax.random.split(key, 3)
    x = jnp.zeros(self.shape)
    params = {"encoder": self.encoder.init(encoder_key, x)}
    z = jax.eval_shape(self.features, params, x)
    params["decoder"] = self.decoder.init(decoder_key, jnp.zeros(z.shape))
    if self.by_gradient:
      z = jax.vmap(self.features, (None, 0))(params, jnp.asarray(self.first))
      z = z.reshape(-1, self.encoder.latent)
      params["codebook"] = self._first_codes(code_key, z)
    return params

  def extras(self, key: jax.Array) -> dict[str, jax.Array]:
    """The codebook learned by moving averages, and its statistics.

    All codes start at 0. The first update leaves all but one of them without
    vectors, and `learn` then restarts these from the batch.
    """
    if not self.by_averages:
      return {}
    codes = jnp.zeros((self.num_stages, self.num_codes, self.encoder.latent))
    return {"codebook": codes, **jax.vmap(codebooks.start)(codes)._asdict()}

  @property
  def by_gradient(self) -> bool:
    """Whether the codebook is a parameter."""
    return self.quantizer in TABLES and self.codebook == "gradient"

  @property
  def by_averages(self) -> bool:
    """Whether the codebook is in the extras."""
    return self.quantizer in TABLES and self.codebook == "ema"

  def table(self, params: Any, extras: Any) -> Any:
    """The codebooks, [M, K, D]; None for a grid."""
    if self.quantizer not in TABLES:
      return None
    return (params if self.by_gradient else extras)["codebook"]

  @property
  def is_gaussian(self) -> bool:
    """Whether latents are Gaussian, not tokens."""
    return self.quantizer == "gaussian"

  def features(self, params: Any, x: Any) -> Any:
    """The vectors of an image, [h, w, D]: those of fsq are in (-1, 1), those of
    gaussian the means of the posterior.
    """
    if self.is_gaussian:
      return self.posterior(params, x).mean
    z = self.encoder.apply(params["encoder"], x)
    return jnp.tanh(z) if self.quantizer == "fsq" else z

  def posterior(self, params: Any, x: Any) -> variational.Gaussian:
    """q(z | x) of gaussian, leaves [h, w, D]."""
    z = self.encoder.apply(params["encoder"], x)
    return variational.gaussian(*jnp.split(z, 2, axis=-1))

  def quantise(self, table: Any, z: Any) -> quantizers.Residual:
    """The codes of vectors [*S, D]; a single quantiser has one stage."""
    if table is not None:
      return quantizers.residual(quantizers.nearest, z, table)
    value, indices = quantizers.fsq(z, self.levels)
    return quantizers.Residual(value, indices[None], z[None], value[None])

  def latent(self, params: Any, extras: Any, x: Any) -> Any:
    """The latent of an image: tokens, int32 [M, h, w], or means [h, w, D]."""
    z = self.features(params, x)
    if self.is_gaussian:
      return z
    return self.quantise(self.table(params, extras), z).indices

  def values(self, params: Any, extras: Any, latent: Any) -> Any:
    """What the decoder gets for a latent, [h, w, D]: codes, summed over the
    stages, or the latent itself.
    """
    if self.is_gaussian:
      return latent
    table = self.table(params, extras)
    if table is None:
      return quantizers.fsq_values(latent[0], self.levels)
    return jnp.sum(jax.vmap(lambda codes, i: codes[i])(table, latent), axis=0)

  def decode(self, params: Any, value: Any) -> Any:
    """What the decoder returns for vectors [h, w, D]."""
    return self.decoder.apply(params["decoder"], value)

  def image(self, params: Any, extras: Any, latent: Any) -> Any:
    """The image of a latent: for a distribution of levels its mean."""
    return self._mean(self.decode(params, self.values(params, extras, latent)))

  def distortion(self, decoded: Any, x: Any) -> Any:
    """The loss per coordinate: squared error, or -log P of levels in nats."""
    if self.output is None:
      return jnp.mean((decoded - x) ** 2)
    return -decoders.discrete(self.output, decoded, x) / x.size

  def counts(self, tokens: Any) -> Any:
    """How often each code occurs in tokens [B, M, h, w]: [M, K]."""
    rows = jnp.moveaxis(tokens, 1, 0).reshape(self.num_stages, -1)
    count = lambda row: jnp.bincount(row, length=self.num_codes)
    return jax.vmap(count)(rows)

  def _mean(self, decoded):
    return (
      decoded if self.output is None else outputs.mean(self.output, decoded)
    )

  def _first_codes(self, key, z):
    """k-means++ of each stage on what the earlier ones leave of [N, D]."""
    stages = []
    for stage_key in jax.random.split(key, self.num_stages):
      stages.append(codebooks.kmeans_plus_plus(stage_key, z, self.num_codes))
      z = z - quantizers.nearest(z, stages[-1]).value
    return jnp.stack(stages)


def make(
  config: Any, data: datasets.Data, output: outputs.Output | None = None
) -> Codec:
  """The codec of the settings.

  Args:
    config: the settings; bottlenecks.Settings among them.
    data: the dataset, of images.
    output: the distribution of levels that the decoder returns; None for the
      image itself.

  Raises:
    ValueError: the settings do not fit the data.
  """
  if len(data.shape) != 3:
    raise ValueError(f"data: expected images, got {config.data}")
  levels = make_levels(config)
  table, gaussian = config.quantizer in TABLES, config.quantizer == "gaussian"
  num_codes = config.num_codes if table else math.prod(levels)
  features = len(levels) or config.latent * (2 if gaussian else 1)
  size = data.shape if output is None else (*data.shape, output.num_params)
  how = dict(factor=config.factor, width=config.width)
  how |= dict(
    num_blocks=config.num_blocks, num_groups=math.gcd(config.width, 8)
  )
  with checks.naming(config, shape="factor, data"):
    height, width = autoencoder.map_shape(data.shape, config.factor)
  number = config.batch_size // config.accumulate
  if table and num_codes > (most := number * height * width):
    raise ValueError(
      "num_codes, batch_size, accumulate, factor: expected at most as many"
      f" codes as a part of a batch has vectors, {most}, got {num_codes}"
    )
  key = jax.random.fold_in(jax.random.key(config.seed), 1002)
  codec = Codec(
    autoencoder.Encoder(features, **how),
    autoencoder.Decoder(size, **how),
    data.shape,
    output,
    config.quantizer,
    config.codebook,
    config.num_stages if config.quantizer == "residual" else 1,
    None if gaussian else num_codes,
    levels,
    data.unlabelled(key, config.batch_size)(0),
  )
  params = jax.eval_shape(codec.init, jax.random.key(0))
  extras = jax.eval_shape(codec.extras, jax.random.key(0))
  jax.eval_shape(codec.latent, params, extras, jnp.zeros(data.shape))
  return codec


def parts(codec: Codec) -> dict[str, Any]:
  """The fields of an Experiment that belong to the codec of player "model"."""
  return dict(
    extras=codec.extras,
    encode=lambda p, extras, x, label: codec.latent(p["model"], extras, x),
    decode=lambda p, extras, z, label: codec.image(p["model"], extras, z),
    num_codes=codec.num_codes,
    between=latents.straight if codec.is_gaussian else latents.crossed,
  )


def make_levels(config: Any) -> tuple[int, ...]:
  """Levels of each coordinate of a grid; () for codebooks and for gaussian.

  Raises:
    ValueError: there are none, or too many codes.
  """
  if config.quantizer == "lfq":
    if config.latent > (most := MAX_CODES.bit_length() - 1):
      raise ValueError(
        f"latent: expected at most {most} bits for lfq, got {config.latent}"
      )
    return (2,) * config.latent
  if config.quantizer != "fsq":
    return ()
  if not config.levels or math.prod(config.levels) > MAX_CODES:
    raise ValueError(
      f"levels: expected one number or more, of a product up to {MAX_CODES},"
      f" got {list(config.levels)}"
    )
  return tuple(config.levels)
