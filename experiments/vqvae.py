"""Autoencoders with discrete codes: the first stage of a two-stage model.

  python -m experiments.vqvae digits --run-dir runs/vqvae
  python -m experiments.vqvae digits --run-dir runs/fsq --quantizer fsq
  python -m experiments.vqvae photos --run-dir runs/vqvae-photos
  python -m experiments.encode runs/vqvae

An image becomes a map of tokens, and these become an image again. --quantizer
chooses how vectors become codes: vq (the nearest of a learned codebook),
residual (several codebooks, one after the other), fsq (levels of each
coordinate) or lfq (signs). The run has no samples and no likelihood, as the
codec is lossy; a second model learns the tokens, [M, h, w] with M stages, which
`encode` stores as latents. result.json has the squared error of reconstructions
and the use of the codes.

A codebook learned by moving averages (ema) starts by restarts: codes with too
few vectors are replaced by vectors of the batch in every step, and in the first
step nearly all are. Codes that an encoder in training has left behind come back
by the same rule. One learned by gradient starts from k-means++ on the features
of the encoder at step 0, and codes that are left behind stay so.

Methods: van den Oord et al. 2017, arXiv:1711.00937; Dhariwal et al. 2020,
arXiv:2005.00341 (restarts); Fifty et al. 2024, arXiv:2410.06424 (rotation);
Mentzer et al. 2023, arXiv:2309.15505 (FSQ); Yu et al. 2023, arXiv:2310.05737
(LFQ); Lee et al. 2022, arXiv:2203.01941 (residual).
"""

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from experiments import settings
from experiments.experiment import Experiment
from experiments.lib import (
  averages,
  checks,
  command_line,
  datasets,
  training,
)
from experiments.pictures import codes, latent_spaces
from experiments.recipes import codec_measures, codecs, single
from jaxgen import codebooks, quantizers
from jaxgen.training import state, step

NUM_SHOWN = 48  # images of a picture


@dataclasses.dataclass(frozen=True)
class Config(
  settings.Logging,
  settings.Averages,
  settings.Optimizer,
  settings.Devices,
  settings.Data,
  settings.Run,
):
  """Settings of one run; config.json stores all of them."""

  quantizer: Literal["vq", "fsq", "lfq", "residual"] = "vq"
  """How vectors become codes: the nearest of a codebook, levels of each
  coordinate, signs, or the nearest of several codebooks in turn."""
  codebook: Literal["ema", "gradient"] = "ema"
  """How the codebooks of vq and residual are learned: by moving averages, or by
  gradient."""
  transport: Literal["straight_through", "rotate"] = "straight_through"
  """How the decoder's gradient passes from a code to its vector: unchanged, or
  rotated and scaled as the vector is to the code."""
  likelihood: Literal[
    "squared_error", "bernoulli", "categorical", "logistic_mixture"
  ] = "squared_error"
  """Loss of a reconstruction: its squared error, or -log P of the levels."""
  num_components: int = 5
  """Number of components of logistic_mixture, at least 1."""
  num_codes: int = 64
  """Number of codes of each codebook of vq and residual, at least 1."""
  num_stages: int = 2
  """Number of codebooks of residual, at least 1."""
  levels: tuple[int, ...] = (4, 4, 4)
  """Number of levels of each coordinate of fsq, each at least 2."""
  latent: int = 8
  """Number of coordinates of a code of vq and residual, or of signs of lfq, at
  least 1."""
  beta: float = 0.25
  """Weight of the squared distance of vectors to their codes, which moves the
  encoder alone, at least 0; not for fsq."""
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
  ema_decay: tuple[float, ...] = (0.99,)
  """Decays of the averages, each from 0 to 1; the first average is used with
  the codebook of ema, whose memory should be alike."""

  factor: int = 2
  """Ratio of the sides of an image and its map of tokens, a power of 2."""
  width: int = 32
  """Number of channels at full size; it doubles where the sides are halved."""
  num_blocks: int = 1
  """Number of residual blocks of each size."""


_SMOKE = dict(width=8, num_codes=16, latent=4, num_steps=20, warmup_steps=5)
_SMOKE |= dict(batch_size=16, log_every=5, save_every=10, samples_every=10)
PRESETS = {
  "smoke": (
    "Digits in seconds: runs all code, but does not learn the data.",
    Config(run_dir="runs/smoke-vqvae", **_SMOKE),
  ),
  "digits": (
    "4 x 4 tokens of 64 codes per digit: minutes on two CPU cores.",
    Config(
      run_dir="runs/vqvae",
      num_steps=2000,
      learning_rate=2e-3,
      samples_every=1000,
    ),
  ),
  "photos": (
    "8 x 8 tokens of 512 codes per crop of 32 x 32: for an accelerator.",
    Config(
      run_dir="runs/vqvae-photos",
      data="photos",
      factor=4,
      num_codes=512,
      num_steps=3000,
      learning_rate=1e-3,
      flip=True,
    ),
  ),
}


def experiment(config: Config) -> Experiment:
  """The experiment that the settings describe.

  Raises:
    ValueError, OSError: invalid settings, or missing or invalid data.
  """
  config = checks.plain(config)
  _check(config)
  data = datasets.load(config)
  codec = codecs.make(config, data)
  return single.experiment_of(
    config,
    data,
    codec.init,
    make_turns(config, codec),
    extras=codec.extras,
    encode=lambda p, extras, x, label: codec.tokens(p["model"], extras, x),
    decode=lambda p, extras, z, label: codec.image(p["model"], extras, z),
    num_codes=codec.num_codes,
    between=crossed,
    measure=functools.partial(codec_measures.record, codec, data),
    sheet=functools.partial(_reconstructions, codec, data),
    pictures=(
      ("reconstructions.png", functools.partial(_reconstructions, codec, data)),
      ("usage.png", functools.partial(_usage, codec, data)),
    ),
  )


def make_turns(config: Config, codec: codecs.Codec) -> tuple[step.Turn, ...]:
  """The game of one player, whose extras are the codebooks of ema."""

  def loss_fn(params, extras, key, batch, step):
    params = params["model"]
    table = codec.table(params, extras)
    loss = functools.partial(_loss, config, codec, params, table)
    losses, parts, found = jax.vmap(loss)(batch[0])
    counts = codec.counts(found.indices)
    metrics = {name: part.mean() for name, part in parts.items()}
    metrics["perplexity"] = jax.vmap(codebooks.perplexity)(counts).mean()
    extras = codec.learn(
      key, extras, found, config.codebook_decay, config.restart
    )
    more = _clear_and_even(config, found.inputs)
    return losses.mean() + more, (metrics, extras)

  optimizer, rules = training.adam(config), averages.rules(config)
  turn = step.Turn("model", loss_fn, optimizer, averages=rules)
  return (turn._replace(accumulate=config.accumulate),)


def _loss(config, codec, params, table, x):
  """(loss, its parts, quantizers.Residual) of one image.

  The squared distances are means over stages, positions and coordinates.
  """
  z = codec.features(params, x)
  found = codec.quantise(table, z)
  transport = getattr(quantizers, config.transport)
  distortion = codec.distortion(
    codec.decode(params, transport(z, found.value)), x
  )
  mean = lambda squares: jnp.mean(squares) / z.shape[-1]
  commitment = mean(quantizers.commitment_loss(found.inputs, found.codes))
  loss = distortion
  if config.quantizer != "fsq":
    loss = loss + config.beta * commitment
  if codec.by_gradient:
    loss = loss + mean(quantizers.codebook_loss(found.inputs, found.codes))
  return loss, dict(distortion=distortion, commitment=commitment), found


def _clear_and_even(config, inputs):
  """The entropy loss of lfq for the vectors of a batch; 0 for the others."""
  if config.quantizer != "lfq" or not config.entropy:
    return 0.0
  entropies = codebooks.lfq_entropies(
    inputs.reshape(-1, config.latent),
    config.temperature,
    codecs.entropy_group(config.latent),
  )
  return config.entropy * (entropies.mean - entropies.of_mean)


def crossed(a: jax.Array, b: jax.Array, weight: Any) -> jax.Array:
  """Tokens [M, h, w]: of b at the first positions, row by row, then of a.

  The weight is the share of b's positions; between two tokens there is nothing
  to interpolate. All stages of a position are of one image.
  """
  places = jnp.arange(a[0].size).reshape(a.shape[1:])
  return jnp.where((places < weight * a[0].size)[None], b, a)


def run(config: Config) -> state.State:
  """Trains, measures and draws pictures; resumes an existing run directory."""
  return training.run(__file__, experiment(config))


def _reconstructions(codec, data, path, now):
  examples = data.real[0][:NUM_SHOWN]
  params, extras = now.params["model"], now.extras

  @jax.jit
  @jax.vmap
  def made(x):
    return codec.image(params, extras, codec.tokens(params, extras, x))

  title = f"held-out images from {codec_measures.bits(codec):.0f} bits each"
  latent_spaces.reconstructions(
    path, examples, np.asarray(made(examples)), "decoded", title
  )


def _usage(codec, data, path, now):
  splits = ("train", "validation")
  codes.usage(
    path,
    {s: codec_measures.of_split(codec, data, now, s).counts for s in splits},
  )


def _check(config):
  counts = "num_components num_codes num_stages latent factor width num_blocks"
  single.check(config, *counts.split())
  checks.nonnegative(config, "beta", "entropy")
  checks.positive(config, "temperature")
  checks.fraction(config, "codebook_decay", "restart")


if __name__ == "__main__":
  command_line.main(__file__, PRESETS, run)
