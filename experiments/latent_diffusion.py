"""Latent diffusion: a diffusion model of the latents of a first stage.

  python -m experiments.vqvae digits-kl --run-dir runs/kl
  python -m experiments.latent_diffusion digits --codec runs/kl \
    --run-dir runs/latent
  python -m experiments.latent_diffusion photos --codec runs/kl-photos \
    --run-dir runs/latent-photos
  python -m experiments.evaluate runs/latent

--codec is the run of an autoencoder with continuous latents (experiments.vqgan
or vqvae with --quantizer gaussian, or vae). They are scaled to mean 0 in each
channel and standard deviation 1 over all of them, and the losses, paths and
solvers of experiments.edm work on them unchanged: flow matching is --path
linear --prediction velocity --level-mean 0. A sample is decoded once, at
its end. A likelihood of images does not survive the first stage, which is
lossy. The run directory names the first stage's run, its step and checksum; a
first stage that has changed since is rejected.

Method: Rombach et al. 2022, arXiv:2112.10752; Vahdat et al. 2021,
arXiv:2106.05931.
"""

import dataclasses

import jax

from experiments import settings
from experiments.experiment import Experiment
from experiments.lib import checks, command_line, datasets, training
from experiments.recipes import diffusion, presets, second_stage, single
from jaxgen.losses import denoising
from jaxgen.training import state


@dataclasses.dataclass(frozen=True)
class Config(settings.SecondStage, settings.Diffusion):
  """Settings of one run; config.json stores all of them."""

  codec: str | None = None
  """Run directory of a first stage with continuous latents, which are modelled
  in place of the images; required."""


PRESETS = {
  "smoke": (
    "Digits in seconds, after vqvae smoke --quantizer gaussian: runs all code.",
    Config(
      run_dir="runs/smoke-latent",
      codec="runs/smoke-vqvae",
      width=8,
      multipliers=(1, 1),
      **presets.SMOKE,
    ),
  ),
  "digits": (
    "Class-conditional digits from 4 x 4 latents: minutes on two CPU cores.",
    Config(run_dir="runs/latent-digits", codec="runs/kl"),
  ),
  "photos": (
    "32 x 32 crops of two photographs from 8 x 8 latents: ten minutes.",
    Config(
      run_dir="runs/latent-photos",
      codec="runs/kl-photos",
      width=64,
      flip=True,
      **presets.PHOTOS | dict(multipliers=(1, 2), num_steps=3000),
    ),
  ),
}


def experiment(config: Config) -> Experiment:
  """The experiment that the settings describe.

  Raises:
    ValueError, OSError: invalid settings, or missing or invalid data or first
      stage.
  """
  config = checks.plain(config)
  if config.codec is None:
    raise ValueError("codec: expected the run directory of a first stage")
  data = datasets.load(config)
  first = second_stage.read(config, data, tokens=False)
  latents = second_stage.latents(first, data, config.flip)
  config = diffusion.resolve(config, latents)
  model = diffusion.make(config, latents)
  loss_fn = make_loss(config, model, data.num_classes)
  ex = diffusion.experiment_of(config, latents, model, loss_fn)
  return second_stage.decoded(first, data, ex)


def make_loss(config: Config, model: diffusion.Diffusion, num_classes: int):
  """(params, key, batch) -> (loss, metrics), over a batch."""

  def loss_fn(params, key, batch):  # latents [B, *E], labels [B] or None
    latents, labels = batch
    t_key, noise_key, label_key, net_key = jax.random.split(key, 4)
    t = model.draw(t_key, (len(latents),)).astype(latents.dtype)
    noise = jax.random.normal(noise_key, latents.shape, latents.dtype)
    labels = single.drop_labels(config, num_classes, label_key, labels)
    net_keys = jax.random.split(net_key, len(latents))

    def loss(latent, noise, t, label, key):  # one example
      net = lambda x, c: model.net.apply(
        params, x, c, label, train=True, rngs={"dropout": key}
      )
      return denoising.denoising(
        model.predict(net),
        latent,
        noise,
        t,
        path=model.path,
        prediction=model.prediction,
        weight=model.weight,
      )

    return jax.vmap(loss)(latents, noise, t, labels, net_keys).mean(), {}

  return loss_fn


def run(config: Config) -> state.State:
  """Trains, samples and draws pictures; resumes an existing run directory."""
  return training.run(__file__, experiment(config))


if __name__ == "__main__":
  command_line.main(__file__, PRESETS, run)
