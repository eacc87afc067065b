"""Autoencoders that play against a discriminator of patches: VQGAN and KL-GAN.

  python -m experiments.vqgan digits --run-dir runs/vqgan
  python -m experiments.vqgan photos --run-dir runs/vqgan-photos
  python -m experiments.vqgan photos --quantizer gaussian --latent 4 \
    --run-dir runs/klgan-photos
  python -m experiments.encode runs/vqgan-photos

The first stage of a two-stage model, as vqvae is: with tokens (VQGAN) or, for
--quantizer gaussian, with numbers (the first stage of latent diffusion). A
squared error alone makes blurred images; here the loss of the autoencoder is

  L = R + s(step) game_weight w G + that of the bottleneck
  R = |x - y| + feature_weight d(features of x, features of y)

for a reconstruction y of x, with G the generator's loss against the
discriminator, s = 1 from start_step on and 0 before, and w the ratio of the
norms of the gradients of R and G in the decoder's last layer. d is a distance
of normalised features (jaxgen.losses.perceptual), of the discriminator unless
--features has others. The discriminator plays from start_step on.

result.json has the squared error and the sharpness of reconstructions, and the
use of the latents.

Methods: Esser et al. 2021, arXiv:2012.09841; Rombach et al. 2022,
arXiv:2112.10752 (gaussian); Isola et al. 2017, arXiv:1611.07004 (patches);
Larsen et al. 2016, arXiv:1512.09300 (features of the discriminator).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from experiments import settings
from experiments.experiment import Experiment
from experiments.lib import (
  averages,
  checks,
  choices,
  command_line,
  datasets,
  training,
)
from experiments.pictures import codes, latent_spaces
from experiments.recipes import (
  adversarial,
  bottlenecks,
  codec_measures,
  codecs,
  image_features,
  single,
)
from jaxgen.losses import balancing, perceptual
from jaxgen.models import patch_discriminator
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

  error: Literal["absolute", "squared"] = "absolute"
  """Error of a reconstruction, per coordinate."""
  features: str = "discriminator"
  """Features that reconstructions are compared by: those of the discriminator
  in training, random (of a fixed one), none, or module:function, images [N, H,
  W, C] to features [N, ..., K] that jax can differentiate."""
  feature_weight: float = 0.1
  """Weight of the distance of the features, at least 0."""
  objective: choices.ObjectiveName = "hinge"
  """Losses of both players, as functions of the scores of a patch."""
  game_weight: float = 0.2
  """Weight of the generator's loss in units of the adaptive weight, at least
  0."""
  start_step: int = 0
  """Number of first steps without the game, below num_steps."""
  patch_width: int = 32
  """Number of channels of the discriminator's first level, at least 1."""
  patch_levels: int = 2
  """Number of levels of the discriminator, 1 to 6: its patches have sides of 8,
  18, 38, ... pixels."""
  patch_rate: float = 1.0
  """Learning rate of the discriminator as a multiple of learning_rate,
  positive."""
  adam_b1: float = 0.5
  """Decay of Adam's first moment, from 0 to below 1."""
  ema_decay: tuple[float, ...] = (0.99,)
  """Decays of the averages, each from 0 to 1; the first average is used with
  the codebook of ema, whose memory should be alike."""


_SMOKE = dict(width=8, num_codes=16, latent=4, num_steps=20, warmup_steps=5)
_SMOKE |= dict(batch_size=16, log_every=5, save_every=10, samples_every=10)
PRESETS = {
  "smoke": (
    "Digits in seconds: runs all code, but does not learn the data.",
    Config(run_dir="runs/smoke-vqgan", start_step=5, patch_width=8, **_SMOKE),
  ),
  "digits": (
    "4 x 4 tokens of 64 codes per digit: minutes on two CPU cores.",
    Config(
      run_dir="runs/vqgan",
      num_steps=2000,
      learning_rate=2e-3,
      start_step=500,
      patch_levels=1,
      samples_every=1000,
    ),
  ),
  "photos": (
    "8 x 8 tokens of 512 codes per crop of 32 x 32: ten minutes on a core.",
    Config(
      run_dir="runs/vqgan-photos",
      data="photos",
      factor=4,
      width=16,
      num_codes=512,
      num_steps=1200,
      batch_size=32,
      learning_rate=2e-3,
      start_step=300,
      samples_every=400,
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
  network = patch_discriminator.PatchDiscriminator(
    config.patch_width, config.patch_levels
  )
  key = jax.random.fold_in(jax.random.key(config.seed), 1003)
  compare = image_features.make(config.features, network, data.shape, key)

  def players(key):
    model_key, patch_key = jax.random.split(key)
    discriminator = network.init(patch_key, jnp.zeros(data.shape))
    return {"model": codec.init(model_key), "discriminator": discriminator}

  turns = make_turns(config, codec, network, compare)
  shown = functools.partial(codec_measures.shown, codec, data)
  draw = lambda path, now: latent_spaces.reconstructions(path, *shown(now))
  pictures: tuple = (("reconstructions.png", draw),)
  if not codec.is_gaussian:
    counts = functools.partial(codec_measures.counts, codec, data)
    usage = lambda path, now: codes.usage(path, counts(now))
    pictures = (*pictures, ("usage.png", usage))
  batches = functools.partial(adversarial.make_batches, config)
  return Experiment(
    config,
    data,
    players,
    turns,
    functools.partial(batches, data, turns),
    sampled=("model",),
    validation=functools.partial(batches, single.held_out(data), turns),
    measure=functools.partial(codec_measures.record, codec, data),
    sheet=draw,
    pictures=pictures,
    **codecs.parts(codec),
  )


def make_turns(
  config: Config, codec: codecs.Codec, network: Any, compare: Callable | None
) -> tuple[step.Turn, ...]:
  """The autoencoder's turn, then the discriminator's."""
  objective = choices.lookup(choices.OBJECTIVES, config.objective, "objective")
  judge = lambda params: functools.partial(
    network.apply, params["discriminator"]
  )
  on = lambda step: jnp.float32(step >= config.start_step)

  def model_loss(params, extras, key, batch, step):
    own, (examples, _) = params["model"], batch
    coded = bottlenecks.code(config, codec, own, extras, key, examples)
    see = judge(params)

    def reconstruction(made):
      return jax.vmap(functools.partial(_difference, config, compare, see))(
        made, examples
      ).mean()

    def generator(made):
      real, found = (jax.vmap(see)(x).logits for x in (examples, made))
      return objective.generator(real, found).mean()

    def decode(last):
      decoder = own["decoder"]["params"] | {"out": last}
      changed = own | {"decoder": {"params": decoder}}
      return jax.vmap(codec.decode, (None, 0))(changed, coded.value)

    found = balancing.balanced(
      reconstruction,
      generator,
      decode,
      own["decoder"]["params"]["out"],
      on(step) * config.game_weight,
    )
    metrics = dict(generator=found.second, reconstruction=found.first)
    metrics |= dict(weight=found.weight) | coded.metrics
    return found.loss + coded.loss, (metrics, coded.extras)

  def discriminator_loss(params, extras, key, batch, step):
    own, (examples, _) = params["model"], batch
    coded = bottlenecks.code(config, codec, own, extras, key, examples)
    made = jax.vmap(codec.decode, (None, 0))(own, coded.value)
    real, found = (jax.vmap(judge(params))(x).logits for x in (examples, made))
    loss = objective.discriminator(real, found).mean()
    return on(step) * loss, ({"gap": (real - found).mean()}, extras)

  adam = functools.partial(training.adam, config, config.adam_b1)
  rules, parts = averages.rules(config), config.accumulate
  patch = adam(config.patch_rate)
  return (
    step.Turn("model", model_loss, adam(), averages=rules, accumulate=parts),
    step.Turn("discriminator", discriminator_loss, patch, accumulate=parts),
  )


def _difference(config, compare, see, made, x):
  """R of one image: the error per coordinate, and that of the features."""
  gap = made - x
  loss = jnp.mean(gap**2 if config.error == "squared" else jnp.abs(gap))
  if compare is None or not config.feature_weight:
    return loss
  features = (compare(see, image) for image in (made, x))
  return loss + config.feature_weight * perceptual.distance(*features)


def run(config: Config) -> state.State:
  """Trains, measures and draws pictures; resumes an existing run directory."""
  return training.run(__file__, experiment(config))


def _check(config):
  single.check(config, *bottlenecks.COUNTS.split(), "patch_width")
  bottlenecks.check(config)
  checks.nonnegative(config, "feature_weight", "game_weight")
  checks.positive(config, "patch_rate")
  checks.fraction(config, "adam_b1")
  for name, low, high in (
    ("patch_levels", 1, 6),
    ("start_step", 0, config.num_steps - 1),
  ):
    if not low <= getattr(config, name) <= high:
      raise ValueError(
        f"{name}: expected {low} to {high}, got {getattr(config, name)}"
      )


if __name__ == "__main__":
  command_line.main(__file__, PRESETS, run)
