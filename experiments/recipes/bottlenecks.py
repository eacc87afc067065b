"""What is between an encoder and a decoder: its settings, and its training.

A bottleneck gives the decoder a vector for each position and has a loss of its
own, which the script adds to that of the reconstruction.
"""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from experiments.lib import checks
from experiments.recipes import codecs
from jaxgen import codebooks, quantizers
from jaxgen.losses import variational

SMOOTHING = 1e-5  # of the counts of moving averages, in vectors
GROUP = 8  # largest number of bits whose joint entropy is exact
COUNTS = "num_codes num_stages latent factor width num_blocks"


@dataclasses.dataclass(frozen=True)
class Settings:
  """An autoencoder of images and its bottleneck."""

  quantizer: Literal["vq", "fsq", "lfq", "residual", "gaussian"] = "vq"
  """What latents are: tokens, by the nearest of a codebook, levels of each
  coordinate, signs, or the nearest of several codebooks in turn; or numbers, a
  sample of a Gaussian."""
  codebook: Literal["ema", "gradient"] = "ema"
  """How the codebooks of vq and residual are learned: by moving averages, or by
  gradient."""
  transport: Literal["straight_through", "rotate"] = "straight_through"
  """How the decoder's gradient passes from a code to its vector: unchanged, or
  rotated and scaled as the vector is to the code."""
  num_codes: int = 64
  """Number of codes of each codebook of vq and residual, at least 1."""
  num_stages: int = 2
  """Number of codebooks of residual, at least 1."""
  levels: tuple[int, ...] = (4, 4, 4)
  """Number of levels of each coordinate of fsq, each at least 2."""
  latent: int = 8
  """Number of coordinates of a code of vq and residual, of signs of lfq, or of
  numbers per position of gaussian, at least 1."""
  beta: float = 0.25
  """Weight of the squared distance of vectors to their codes, which moves the
  encoder alone, at least 0; not for fsq and gaussian."""
  entropy: float = 0.1
  """Weight of the entropies of lfq, in nats: of each vector's code, less that
  of all; at least 0."""
  temperature: float = 1.0
  """Temperature of the soft codes in these entropies, positive."""
  codebook_decay: float = 0.99
  """Decay of the moving averages of a codebook, from 0 to below 1."""
  restart: float = 0.1
  """Share of the mean number of vectors per code, below which a code of ema
  becomes a vector of the batch, from 0 to below 1; 0 for none."""
  kl_weight: float = 1e-3
  """Weight of the KL of gaussian, in nats per coordinate of the image, at least
  0."""

  factor: int = 2
  """Ratio of the sides of an image and its map of latents, a power of 2."""
  width: int = 32
  """Number of channels at full size; it doubles where the sides are halved."""
  num_blocks: int = 1
  """Number of residual blocks of each size."""


class Coded(NamedTuple):
  """What a bottleneck makes of a batch.

  Attributes:
    value: what the decoder gets, [B, h, w, D].
    loss: the bottleneck's own loss, [].
    metrics: {name: []}.
    extras: those after the batch.
  """

  value: Any
  loss: Any
  metrics: dict[str, Any]
  extras: Any


def check(config: Any) -> None:
  """Checks what `codecs.make` does not, beside COUNTS.

  Raises:
    ValueError: an invalid setting.
  """
  checks.nonnegative(config, "beta", "entropy", "kl_weight")
  checks.positive(config, "temperature")
  checks.fraction(config, "codebook_decay", "restart")
  if any(number < 2 for number in config.levels):
    raise ValueError(
      f"levels: expected integers of at least 2, got {list(config.levels)}"
    )


def code(
  config: Any,
  codec: codecs.Codec,
  params: Any,
  extras: Any,
  key: Any,
  examples: Any,
) -> Coded:
  """Encodes a batch in training.

  Args:
    config: the settings.
    codec: the codec, of the same settings.
    params: its parameters.
    extras: its codebooks that are learned by moving averages.
    key: draws the noise of gaussian, or the codes that restart.
    examples: images, [B, H, W, C].
  """
  if codec.is_gaussian:
    return _sampled(config, codec, params, extras, key, examples)
  return _quantised(config, codec, params, extras, key, examples)


def _sampled(config, codec, params, extras, key, examples):
  """A sample of each posterior; the loss is the KL per coordinate of x.

  kl_weight sum_i KL(q(z_i | x) || N(0, 1)) / (H W C)
  """
  posterior = jax.vmap(codec.posterior, (None, 0))(params, examples)
  noise = jax.random.normal(key, posterior.mean.shape)
  value = jax.vmap(variational.sample)(posterior, noise)
  kl = jax.vmap(variational.kl)(posterior).sum((1, 2, 3)).mean()
  loss = config.kl_weight * kl / examples[0].size
  return Coded(value, loss, dict(kl=kl), extras)


def _quantised(config, codec, params, extras, key, examples):
  """The codes, with the derivative of the vectors.

  The squared distances are means over stages, positions and coordinates.
  """
  z = jax.vmap(codec.features, (None, 0))(params, examples)
  table = codec.table(params, extras)
  found = jax.vmap(codec.quantise, (None, 0))(table, z)
  value = getattr(quantizers, config.transport)(z, found.value)
  mean = lambda squares: jnp.mean(squares) / z.shape[-1]
  commitment = mean(quantizers.commitment_loss(found.inputs, found.codes))
  loss = _clear_and_even(config, found.inputs)
  if config.quantizer != "fsq":
    loss = loss + config.beta * commitment
  if codec.by_gradient:
    loss = loss + mean(quantizers.codebook_loss(found.inputs, found.codes))
  counts = codec.counts(found.indices)
  perplexity = jax.vmap(codebooks.perplexity)(counts).mean()
  metrics = dict(commitment=commitment, perplexity=perplexity)
  extras = learn(config, codec, key, extras, found)
  return Coded(value, loss, metrics, extras)


def _clear_and_even(config, inputs):
  """The entropy loss of lfq for the vectors of a batch; 0 for the others."""
  if config.quantizer != "lfq" or not config.entropy:
    return 0.0
  entropies = codebooks.lfq_entropies(
    inputs.reshape(-1, config.latent),
    config.temperature,
    entropy_group(config.latent),
  )
  return config.entropy * (entropies.mean - entropies.of_mean)


def entropy_group(bits: int) -> int:
  """The largest divisor of the number of bits that is at most GROUP."""
  return max(n for n in range(1, min(bits, GROUP) + 1) if bits % n == 0)


def learn(
  config: Any, codec: codecs.Codec, key: Any, extras: Any, found: Any
) -> dict[str, jax.Array]:
  """The codebooks learned by moving averages, after one more batch.

  Args:
    config: the settings.
    codec: the codec.
    key: draws the codes that restart, different vectors of the batch.
    extras: the codebooks and statistics before.
    found: quantizers.Residual of a batch, [B, M, h, w] and [B, M, h, w, D].
  """
  if not codec.by_averages:
    return extras

  def one(key, codebook, statistics, z, indices):
    decay, share = config.codebook_decay, config.restart
    statistics = codebooks.update(statistics, z, indices, decay)
    codebook = codebooks.means(statistics, codebook, SMOOTHING)
    if share:
      rows = jax.random.choice(key, z, (codec.num_codes,), replace=False)
      threshold = share * len(z) / codec.num_codes
      codebook, statistics = codebooks.restart(
        codebook, statistics, rows, threshold
      )
    return {"codebook": codebook, **statistics._asdict()}

  by_stage = lambda a, *end: jnp.moveaxis(a, 1, 0).reshape(
    codec.num_stages, -1, *end
  )
  z = jax.lax.stop_gradient(found.inputs)
  old = codebooks.Statistics(
    *(extras[name] for name in codebooks.Statistics._fields)
  )
  return jax.vmap(one)(
    jax.random.split(key, codec.num_stages),
    extras["codebook"],
    old,
    by_stage(z, z.shape[-1]),
    by_stage(found.indices),
  )
