"""EDM-style diffusion: one network, any path, prediction, weight and solver.

  python -m experiments.edm digits --run-dir runs/mine
  python -m experiments.edm digits --run-dir runs/vp --path vp
  python -m experiments.edm toy --run-dir runs/toy --data moons
  python -m experiments.edm images --run-dir runs/own --data folder:PATH

The preset digits takes one to three minutes on two CPU cores and reaches a
Frechet distance of about 1.1 on test, where real digits have 1.03 (README.md
has the table). DDPM, DDIM, v-prediction, score matching and flow
matching are available by flags of this script. To change the method, copy this
file, rename it and change its loss: every command works on the runs of the
copy.

Method: Karras et al. 2022, arXiv:2206.00364.
"""

import dataclasses

import jax

from experiments import settings
from experiments.experiment import Experiment
from experiments.lib import checks, command_line, datasets, training
from experiments.recipes import diffusion, presets, single
from jaxgen.losses import denoising
from jaxgen.training import state


@dataclasses.dataclass(frozen=True)
class Config(settings.Diffusion):
  """Settings of one run; config.json stores all of them."""


PRESETS = {
  "smoke": (
    "Digits in seconds: runs all code, but does not learn the data.",
    Config(run_dir="runs/smoke", width=8, multipliers=(1, 1), **presets.SMOKE),
  ),
  "digits": (
    "Class-conditional 8 x 8 digits: one to three minutes on two CPU cores.",
    Config(run_dir="runs/digits"),
  ),
  "digits-dit": (
    "The digits with a diffusion transformer: some minutes on two CPU cores.",
    Config(
      run_dir="runs/digits-dit",
      model="dit",
      width=128,
      num_blocks=4,
      num_heads=4,
      num_steps=4000,
      learning_rate=1e-3,
      warmup_steps=200,
    ),
  ),
  "photos": (
    "32 x 32 crops of two photographs: ten minutes on two CPU cores.",
    Config(run_dir="runs/photos", **presets.PHOTOS),
  ),
  "images": (
    "Your images, --data folder:PATH: 32 x 32 in twenty minutes on two cores.",
    Config(run_dir="runs/images", **presets.IMAGES),
  ),
  # python -m experiments.edm cifar10 --run-dir runs/cifar10
  # Karras et al. 2022, class-conditional DDPM++: they report 200 M images,
  # about 2 days on 8 V100, and an FID of 1.79, the lowest of 3 sets of 50,000
  # samples. We have not trained it. Differences: flips instead of their
  # augmentation pipeline, which contributes to their FID; 49,000 images, as
  # 1000 are held out for validation; gradients clipped at norm 1; those of the
  # U-Net, see jaxgen/models/unet.py.
  "cifar10": (
    "CIFAR-10 with the published settings of EDM: days on 8 GPUs.",
    Config(
      run_dir="runs/cifar10",
      data="tfds:cifar10",
      flip=True,
      sigma_data=0.5,
      level_mean=-1.2,
      width=128,
      multipliers=(2, 2, 2),
      attention=(16,),
      skips="concat",
      num_blocks=4,
      dropout=0.13,
      num_steps=390_625,
      batch_size=512,
      learning_rate=1e-3,
      adam_b2=0.999,
      schedule="constant",
      warmup_steps=19_531,
      ema_decay=(0.99929,),  # half-life of .5 M images
      sample_steps=17,
      log_every=100,
      save_every=5000,
      samples_every=10_000,
    ),
  ),
  "toy": (
    "A distribution on the plane: eight Gaussians, or another set by --data.",
    Config(run_dir="runs/toy", **presets.POINTS),
  ),
}


def experiment(config: Config) -> Experiment:
  """The experiment that the settings describe.

  Raises:
    ValueError, OSError: invalid settings, or missing or invalid data.
  """
  config = checks.plain(config)
  data = datasets.load(config)
  config = diffusion.resolve(config, data)
  model = diffusion.make(config, data)
  loss_fn = make_loss(config, model, data.num_classes)
  return diffusion.experiment_of(config, data, model, loss_fn)


def make_loss(config: Config, model: diffusion.Diffusion, num_classes: int):
  """(params, key, batch) -> (loss, metrics), over a batch."""

  def loss_fn(params, key, batch):  # examples [B, *D], labels [B] or None
    examples, labels = batch
    t_key, noise_key, label_key, net_key = jax.random.split(key, 4)
    t = model.draw(t_key, (len(examples),)).astype(examples.dtype)
    noise = jax.random.normal(noise_key, examples.shape, examples.dtype)
    labels = single.drop_labels(config, num_classes, label_key, labels)
    net_keys = jax.random.split(net_key, len(examples))

    def loss(data, noise, t, label, key):  # one example
      net = lambda x, c: model.net.apply(
        params, x, c, label, train=True, rngs={"dropout": key}
      )
      return denoising.denoising(
        model.predict(net),
        data,
        noise,
        t,
        path=model.path,
        prediction=model.prediction,
        weight=model.weight,
      )

    return jax.vmap(loss)(examples, noise, t, labels, net_keys).mean(), {}

  return loss_fn


def run(config: Config) -> state.State:
  """Trains, samples and draws pictures; resumes an existing run directory."""
  return training.run(__file__, experiment(config))


if __name__ == "__main__":
  command_line.main(__file__, PRESETS, run)
