"""Autoencoders, the first stage of a two-stage model: tokens or numbers.

  python -m experiments.vqvae digits --run-dir runs/vqvae
  python -m experiments.vqvae digits --run-dir runs/fsq --quantizer fsq
  python -m experiments.vqvae digits-kl --run-dir runs/kl
  python -m experiments.vqvae photos --run-dir runs/vqvae-photos
  python -m experiments.encode runs/vqvae

An image becomes a map of latents, and these become an image again. --quantizer
chooses how vectors become tokens: vq (the nearest of a learned codebook),
residual (several codebooks, one after the other), fsq (levels of each
coordinate) or lfq (signs). With gaussian there are no tokens: the encoder gives
a Gaussian of each coordinate, the decoder gets a sample of it in training and
its mean afterwards, and the loss is

  distortion + kl_weight sum_i KL(q(z_i | x) || N(0, 1)) / (H W C).

The run has no samples and no likelihood, as the codec is lossy; a second model
learns the latents, tokens [M, h, w] with M stages or means [h, w, D], which
`encode` stores. result.json has the squared error of reconstructions and the
use of codes, or the KL and the active units.

A codebook learned by moving averages (ema) starts by restarts: codes with too
few vectors are replaced by vectors of the batch in every step, and in the first
step nearly all are. Codes that an encoder in training has left behind come back
by the same rule. One learned by gradient starts from k-means++ on the features
of the encoder at step 0, and codes that are left behind stay so.

Methods: van den Oord et al. 2017, arXiv:1711.00937; Dhariwal et al. 2020,
arXiv:2005.00341 (restarts); Fifty et al. 2024, arXiv:2410.06424 (rotation);
Mentzer et al. 2023, arXiv:2309.15505 (FSQ); Yu et al. 2023, arXiv:2310.05737
(LFQ); Lee et al. 2022, arXiv:2203.01941 (residual); Rombach et al. 2022,
arXiv:2112.10752, section 3.1 (gaussian).
"""

import dataclasses
import functools
from typing import Literal

import jax

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
from experiments.recipes import (
  bottlenecks,
  codec_measures,
  codecs,
  latent_variables,
  single,
)
from jaxgen.training import state, step


@dataclasses.dataclass(frozen=True)
class Config(
  bottlenecks.Settings,
  settings.Logging,
  settings.Averages,
  settings.Optimizer,
  settings.Devices,
  settings.Data,
  settings.Run,
):
  """Settings of one run; config.json stores all of them."""

  likelihood: Literal[
    "squared_error", "bernoulli", "categorical", "logistic_mixture"
  ] = "squared_error"
  """Loss of a reconstruction: its squared error, or -log P of the levels."""
  num_components: int = 5
  """Number of components of logistic_mixture, at least 1."""
  ema_decay: tuple[float, ...] = (0.99,)
  """Decays of the averages, each from 0 to 1; the first average is used with
  the codebook of ema, whose memory should be alike."""


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
  "digits-kl": (
    "4 x 4 x 4 Gaussian numbers per digit: minutes on two CPU cores.",
    Config(
      run_dir="runs/kl",
      quantizer="gaussian",
      latent=4,
      num_steps=2000,
      learning_rate=2e-3,
      samples_every=1000,
    ),
  ),
  "photos": (
    "8 x 8 tokens of 512 codes per crop of 32 x 32: ten minutes on a core.",
    Config(
      run_dir="runs/vqvae-photos",
      data="photos",
      factor=4,
      num_codes=512,
      width=16,
      num_steps=1200,
      batch_size=32,
      learning_rate=2e-3,
      flip=True,
    ),
  ),
  "photos-kl": (
    "8 x 8 x 4 Gaussian numbers per crop of 32 x 32: ten minutes on a core.",
    Config(
      run_dir="runs/kl-photos",
      data="photos",
      quantizer="gaussian",
      factor=4,
      latent=4,
      width=16,
      num_steps=1500,
      batch_size=32,
      learning_rate=2e-3,
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
  codec = make_codec(config, data)
  shown = functools.partial(codec_measures.shown, codec, data)
  draw = lambda path, now: latent_spaces.reconstructions(path, *shown(now))
  pictures: tuple = (("reconstructions.png", draw),)
  if not codec.is_gaussian:
    counts = functools.partial(codec_measures.counts, codec, data)
    usage = lambda path, now: codes.usage(path, counts(now))
    pictures = (*pictures, ("usage.png", usage))
  return single.experiment_of(
    config,
    data,
    codec.init,
    make_turns(config, codec),
    measure=functools.partial(codec_measures.record, codec, data),
    sheet=draw,
    pictures=pictures,
    **codecs.parts(codec),
  )


def make_codec(config: Config, data: datasets.Data) -> codecs.Codec:
  """The codec of the settings, which has the same errors as codecs.make."""
  output = None
  if config.likelihood != "squared_error":
    output = latent_variables.make_output(config, data)
  return codecs.make(config, data, output)


def make_turns(config: Config, codec: codecs.Codec) -> tuple[step.Turn, ...]:
  """The game of one player, whose extras are the codebooks of ema."""

  def loss_fn(params, extras, key, batch, step):
    params, (examples, _) = params["model"], batch
    coded = bottlenecks.code(config, codec, params, extras, key, examples)
    decoded = jax.vmap(codec.decode, (None, 0))(params, coded.value)
    distortion = jax.vmap(codec.distortion)(decoded, examples).mean()
    metrics = dict(distortion=distortion) | coded.metrics
    return distortion + coded.loss, (metrics, coded.extras)

  optimizer, rules = training.adam(config), averages.rules(config)
  turn = step.Turn("model", loss_fn, optimizer, averages=rules)
  return (turn._replace(accumulate=config.accumulate),)


def run(config: Config) -> state.State:
  """Trains, measures and draws pictures; resumes an existing run directory."""
  return training.run(__file__, experiment(config))


def _check(config):
  counts = f"num_components {bottlenecks.COUNTS}"
  single.check(config, *counts.split())
  bottlenecks.check(config)


if __name__ == "__main__":
  command_line.main(__file__, PRESETS, run)
