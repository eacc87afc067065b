"""Generative adversarial networks: a generator against a discriminator.

  python -m experiments.gan r3gan --run-dir runs/r3gan
  python -m experiments.gan ring --run-dir runs/ring
  python -m experiments.gan wgan-gp --run-dir runs/wgan-gp
  python -m experiments.gan ring --run-dir runs/hinge --objective hinge
  python -m experiments.gan o-gan --run-dir runs/o-gan
  python -m experiments.encode runs/o-gan

--objective chooses the losses, functions of the scores of a real and a
generated example; --penalty chooses the penalty on the discriminator's
gradient. A sample is one call of the generator. With --correlation the
discriminator is an encoder (O-GAN), without labels: `encode` finds latents of
examples, and result.json measures them (recipes/encoders).

Methods: Goodfellow et al. 2014, arXiv:1406.2661; Nowozin et al. 2016,
arXiv:1606.00709; Mao et al. 2017, arXiv:1611.04076; Gulrajani et al. 2017,
arXiv:1704.00028; Wu et al. 2018, arXiv:1712.01026; Huang et al. 2025,
arXiv:2501.05441 (R3GAN); Su 2019, arXiv:1903.01931 (O-GAN).
"""

import dataclasses
import functools

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
  samples,
  training,
)
from experiments.pictures import latent_spaces, modes
from experiments.recipes import adversarial, encoders
from jaxgen.losses import wasserstein
from jaxgen.training import state, step


@dataclasses.dataclass(frozen=True)
class Config(
  settings.Logging,
  settings.Averages,
  settings.Devices,
  settings.Data,
  settings.Run,
):
  """Settings of one run; config.json stores all of them."""

  objective: choices.ObjectiveName = "relativistic"
  """Losses of both players, as functions of the discriminator's scores."""
  penalty: choices.PenaltyName = "r1_r2"
  """Penalty on the discriminator's gradient."""
  penalty_weight: float = 1.0
  """Weight of the mean penalty, positive; gamma / 2 for r1 and r1_r2."""
  penalty_last: float | None = None
  """Penalty weight after half of the steps, positive; None keeps the first."""
  penalty_every: int = 1
  """Number of steps between penalties, each multiplied by this number."""
  critic_steps: int = 1
  """Number of discriminator steps per generator step, at least 1."""
  clip: float | None = None
  """Largest absolute weight of the discriminator, positive; None clips none."""
  shift: float = 0.0
  """Probability, from 0 to 1, of shifting an image by up to a pixel."""
  correlation: float = 0.0
  """Weight, at least 0, of the correlation of latents with the encodings of
  their examples in both losses; above 0 the discriminator is an encoder."""

  latent: int = 2
  """Latent dimension, at least 1, and at least 3 for an encoder."""
  width: int = 128
  """Number of features per layer of both players, at least 1."""
  num_blocks: int = 3
  """Number of hidden layers of both players, at least 1."""

  num_steps: int = 8000
  """Number of generator steps, at least 1."""
  batch_size: int = 128
  """Number of examples per step, at least 1."""
  learning_rate: float = 1e-2
  """Peak learning rate of Adam, positive; the warm-up has at most 100 steps."""
  last_rate: float = 0.02
  """Last learning rate as a fraction of the peak, from 0 to below 1."""
  adam_b1: float = 0.0
  """Decay of Adam's first moment, from 0 to below 1."""
  adam_b2: float = 0.9
  """Decay of Adam's second moment, from 0 to below 1."""
  log_every: int = 50
  """Number of steps between records of metrics.jsonl."""
  save_every: int = 1000
  """Number of steps between checkpoints."""
  samples_every: int = 1000
  """Number of steps between small sheets of samples."""


_RING = dict(data="ring")
_DIGITS = dict(
  data="digits",
  latent=32,
  width=384,
  shift=0.75,
  num_steps=4000,
  batch_size=64,
  learning_rate=1e-3,
  adam_b2=0.99,
  penalty_weight=5.0,
)
_ENCODER = dict(correlation=1.0, latent=28, width=128, num_blocks=1)
_ENCODER |= dict(shift=0.0, penalty_weight=1.0)
PRESETS = {
  "smoke": (
    "Digits in seconds: runs all code, but does not learn the data.",
    Config(
      run_dir="runs/smoke-gan",
      data="digits",
      latent=8,
      width=16,
      num_blocks=1,
      shift=0.5,
      penalty_every=2,
      critic_steps=2,
      num_steps=20,
      batch_size=16,
      log_every=5,
      save_every=10,
      samples_every=10,
    ),
  ),
  "r3gan": (
    "Class-conditional R3GAN on the digits: minutes on two CPU cores.",
    Config(run_dir="runs/r3gan", **_DIGITS),
  ),
  "o-gan": (
    "O-GAN on the digits, with an encoder: half a minute on a CPU core.",
    Config(run_dir="runs/o-gan", **_DIGITS | _ENCODER),
  ),
  "o-gan-photos": (
    "O-GAN on crops of two photos: five minutes on a CPU core.",
    Config(
      run_dir="runs/o-gan-photos",
      **_DIGITS | _ENCODER | dict(data="photos", latent=64, width=512),
    ),
  ),
  "ring": (
    "R3GAN on eight narrow Gaussians: a minute on two CPU cores.",
    Config(
      run_dir="runs/ring", penalty_weight=0.15, penalty_last=0.05, **_RING
    ),
  ),
  "wgan-gp": (
    "WGAN with a gradient penalty on the ring and five critic steps.",
    Config(
      run_dir="runs/wgan-gp",
      objective="wasserstein",
      penalty="gradient",
      penalty_weight=0.1,
      critic_steps=5,
      num_steps=2667,
      **_RING,
    ),
  ),
  "wgan": (
    "WGAN with clipped weights on the ring: finds all modes, but blurs them.",
    Config(
      run_dir="runs/wgan",
      objective="wasserstein",
      penalty="none",
      clip=0.1,
      critic_steps=5,
      learning_rate=1e-3,
      **_RING,
    ),
  ),
  "gan": (
    "The non-saturating GAN on the ring without a penalty: misses modes.",
    Config(
      run_dir="runs/gan",
      objective="non_saturating",
      penalty="none",
      learning_rate=1e-3,
      **_RING,
    ),
  ),
}


def experiment(config: Config) -> Experiment:
  """The experiment that the settings describe.

  Raises:
    ValueError, OSError: invalid settings, or missing or invalid data.
  """
  config = checks.plain(config)
  data = labelled = datasets.load(config)
  _check(config, data)
  if config.correlation:  # no probe of an encoder that knows the label
    data = samples.without_labels(data)
  model = adversarial.make_model(config, data)
  pictures: tuple = ()
  if data.mixture is not None:
    plot = functools.partial(_modes, model, data.mixture)
    pictures = (("modes.png", plot),)
  if model.encodes:
    plot = functools.partial(_reconstructions, model, data.real[0][:48])
    pictures = (*pictures, ("reconstructions.png", plot))
  turns = make_turns(config, model)
  ex = Experiment(
    config,
    data,
    model.players,
    turns,
    functools.partial(adversarial.make_batches, config, data, turns),
    sampled=("generator",),
    sample=lambda params, extras, key, label: (
      None,
      model.generate(params, key, label),
    ),
    pictures=pictures,
  )
  return encoders.encoding(ex, model, labelled) if model.encodes else ex


def make_losses(config: Config, model: adversarial.Model):
  """The losses of the discriminator and of the generator, over a batch."""
  objective = choices.lookup(choices.OBJECTIVES, config.objective, "objective")
  penalty = choices.lookup(choices.PENALTIES, config.penalty, "penalty")
  weights, score = adversarial.penalty_weights(config), model.score
  views = functools.partial(adversarial.views, config, model)
  related = functools.partial(adversarial.related, config, model)

  def discriminator_loss(params, extras, key, batch, step):
    examples, labels = batch
    # The barrier keeps rounding independent of how the weight is computed.
    weight = jax.lax.optimization_barrier(jnp.asarray(weights)[step])
    view_key, mix_key = jax.random.split(key)
    real, made, pairs = views(params, view_key, examples, labels)
    mixes = jax.random.uniform(mix_key, (len(real),))

    def game(x, y, label):
      r, f = score(params, x, label), score(params, y, label)
      return objective.discriminator(r, f), r - f

    def bound(x, y, mix, label):
      return penalty(lambda x: score(params, x, label), x, y, mix)

    losses, gaps = jax.vmap(game)(real, made, labels)
    cost = jax.lax.cond(
      weight > 0,
      lambda: jnp.mean(jax.vmap(bound)(real, made, mixes, labels)),
      lambda: jnp.zeros(()),
    )
    term, metrics = related(params, pairs)
    metrics |= {"gap": gaps.mean(), "penalty": cost}
    return losses.mean() + weight * cost + term, (metrics, extras)

  def generator_loss(params, extras, key, batch, step):
    examples, labels = batch
    real, made, pairs = views(params, key, examples, labels)

    def game(x, y, label):
      return objective.generator(
        score(params, x, label), score(params, y, label)
      )

    losses = jax.vmap(game)(real, made, labels)
    return losses.mean() + related(params, pairs)[0], ({}, extras)

  return discriminator_loss, generator_loss


def make_turns(
  config: Config, model: adversarial.Model
) -> tuple[step.Turn, ...]:
  """The discriminator's turn, then the generator's."""
  discriminator_loss, generator_loss = make_losses(config, model)
  project = None
  if config.clip is not None:
    project = functools.partial(wasserstein.clip_weights, bound=config.clip)
  inner, rules = config.critic_steps, averages.rules(config)
  optimizer = adversarial.make_optimizer(config, inner * config.num_steps)
  return (
    step.Turn(
      "discriminator",
      discriminator_loss,
      optimizer,
      inner,
      project,
      averages=rules if model.encodes else None,
    ),
    step.Turn(
      "generator",
      generator_loss,
      adversarial.make_optimizer(config, config.num_steps),
      averages=rules,
    ),
  )


def run(config: Config) -> state.State:
  """Trains, samples and draws pictures; resumes an existing run directory."""
  return training.run(__file__, experiment(config))


def _modes(model, mixture, path, found):
  critic_fn = lambda x: model.score(found.players, x, None)
  modes.plot(path, critic_fn, found.samples, mixture)


def _reconstructions(model, examples, path, found):
  made = encoders.reconstructed(model, found.params, examples)
  title = "latents are encodings by the discriminator"
  latent_spaces.reconstructions(path, examples, made, "decoded", title)


def _check(config, data):
  counts = "num_steps batch_size critic_steps penalty_every latent width"
  counts += " num_blocks log_every save_every snapshot_every samples_every keep"
  checks.at_least(config, **dict.fromkeys(counts.split(), 1))
  checks.known(config)
  positive = "learning_rate", "clip", "penalty_weight", "penalty_last"
  checks.positive(config, *positive)
  checks.fraction(config, "adam_b1", "adam_b2", "last_rate")
  checks.nonnegative(config, "correlation")
  if config.correlation and config.latent < 3:
    raise ValueError(
      "latent, correlation: expected at least 3 for an encoder, as the"
      f" correlation of {config.latent} entries has no gradient, got"
      f" {config.latent}"
    )
  if not 0 <= config.shift <= 1:
    raise ValueError(f"shift: expected 0 to 1, got {config.shift}")
  if config.shift and len(data.shape) != 3:
    raise ValueError(
      f"shift, data: expected 0 for points, got {config.shift} for"
      f" {config.data}"
    )


if __name__ == "__main__":
  command_line.main(__file__, PRESETS, run)
