"""Score matching at all levels of noise, sampled by Langevin dynamics.

  python -m experiments.score_matching digits --run-dir runs/ncsn
  python -m experiments.score_matching digits-pc --run-dir runs/pc
  python -m experiments.score_matching toy --run-dir runs/toy --loss sliced_vr
  python -m experiments.score_matching energy --run-dir runs/energy

The score of x_t at every t is computed from one network with any --prediction,
or is the negative gradient of an energy. --loss chooses how it is trained:
denoising score matching, or one of the losses that need no noise, applied to
x_t. Every solver can sample it.

Methods: Hyvarinen 2005, JMLR 6; Song et al. 2019, arXiv:1905.07088; Song and
Ermon 2019, arXiv:1907.05600; Song et al. 2021, arXiv:2011.13456; Salimans and
Ho 2021, "Should EBMs model the energy or the score?" (the energy).
"""

import dataclasses

import jax
import jax.numpy as jnp

from experiments import settings
from experiments.experiment import Experiment
from experiments.lib import checks, choices, command_line, datasets, training
from experiments.recipes import diffusion, presets, single
from jaxgen import fields, predictions, samplers
from jaxgen.losses import denoising, score_matching
from jaxgen.training import state


@dataclasses.dataclass(frozen=True)
class Config(settings.Diffusion):
  """Settings of one run; config.json stores all of them."""

  may_change = ("corrections", "snr")  # only samples depend on them

  loss: choices.LossName = "denoising"
  """Loss of the score; implicit needs one Jacobian-vector product per
  coordinate, explicit needs data with a known score."""
  energy: bool = False
  """Whether to learn a scalar energy; its negative gradient is the score."""
  corrections: int = 5
  """Number of Langevin steps per level of annealed and predictor_corrector."""
  snr: float = 0.25
  """Signal-to-noise ratio of the Langevin steps, positive."""


# The weight of NCSN: lambda(sigma) = sigma^2 on the error of the score.
_NCSN = dict(prediction="score", weight="noise")
# The prediction is not the score itself: at noise ratio 80 it needs more
# accuracy than this training reaches, and colours drift.
_IMAGES = dict(
  weight="noise",
  solver="predictor_corrector",
  sample_steps=60,
  corrections=1,
  snr=0.16,
)
PRESETS = {
  "smoke": (
    "Eight Gaussians in seconds: runs all code, but does not learn the data.",
    Config(
      run_dir="runs/smoke-score",
      data="eight_gaussians",
      loss="sliced_vr",
      width=16,
      num_blocks=1,
      solver="annealed",
      **presets.SMOKE,
    ),
  ),
  "digits": (
    "NCSN: noise-conditional scores, annealed Langevin; trains in a minute.",
    Config(
      run_dir="runs/score-digits",
      **_NCSN,
      solver="annealed",
      grid="log_snr",
      ratio_min=0.01,
      ratio_max=50.0,
      sample_steps=100,
    ),
  ),
  "digits-pc": (
    "The same scores, sampled by a predictor and a corrector.",
    Config(
      run_dir="runs/score-digits-pc",
      **_NCSN,
      solver="predictor_corrector",
      sample_steps=60,
      corrections=1,
      snr=0.16,
    ),
  ),
  "photos": (
    "32 x 32 crops of two photographs: ten minutes on two CPU cores.",
    Config(run_dir="runs/score-photos", **_IMAGES, **presets.PHOTOS),
  ),
  "images": (
    "Your images, --data folder:PATH: 32 x 32 in twenty minutes on two cores.",
    Config(run_dir="runs/score-images", **_IMAGES, **presets.IMAGES),
  ),
  "toy": (
    "A distribution on the plane, with Hyvarinen's loss at every level.",
    Config(
      run_dir="runs/score-toy",
      loss="implicit",
      solver="annealed",
      grid="log_snr",
      ratio_min=0.02,
      sample_steps=60,
      **presets.POINTS,
    ),
  ),
  "energy": (
    "The same distribution by an energy, trained by denoising.",
    Config(
      run_dir="runs/energy",
      energy=True,
      **_NCSN,
      solver="annealed",
      grid="log_snr",
      ratio_min=0.02,
      sample_steps=60,
      **presets.POINTS,
    ),
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
  model = make_model(config, data)
  loss_fn = make_loss(config, model, data)
  return diffusion.experiment_of(config, data, model, loss_fn)


def make_model(config: Config, data: datasets.Data) -> diffusion.Diffusion:
  """The model of recipes.diffusion with Langevin solvers or an energy."""
  _check(config, data)
  model = diffusion.make(config, data)
  how = dict(num_corrections=config.corrections, snr=config.snr)
  if config.solver == "annealed":
    model = model._replace(solver=samplers.annealed(**how))
  elif config.solver == "predictor_corrector":
    solver = samplers.predictor_corrector(samplers.ancestral(), **how)
    model = model._replace(solver=solver)
  if config.energy:
    model = model._replace(predict=_energy(config, model))
  calls = model.solver.num_calls(config.sample_steps) + 1
  return model._replace(num_calls=calls, learned="score")


def _energy(config, model):
  """The score of an energy that is computed from EDM's denoiser D.

  E(x, t) = |x - alpha D(x, t)|^2 / (2 sigma^2),   score = -grad E
  """
  path, row = model.path, predictions.edm(config.sigma_data)

  def predict(net):
    predict_fn = model.predict(net)

    def energy(x, t):
      how = dict(source=row, target=predictions.data)
      data = predictions.convert(predict_fn(x, t), x, t, path, **how)
      residual = (x - path.alpha(t) * data) / path.sigma(t)
      return jnp.sum(residual**2) / 2

    return score_matching.from_energy(energy)

  return predict


def make_loss(config: Config, model: diffusion.Diffusion, data: datasets.Data):
  """(params, key, batch) -> (loss, metrics), over a batch."""
  path = model.path

  def loss_fn(params, key, batch):  # examples [B, *D], labels [B] or None
    examples, labels = batch
    t_key, noise_key, label_key, net_key = jax.random.split(key, 4)
    t = model.draw(t_key, (len(examples),)).astype(examples.dtype)
    noise = jax.random.normal(noise_key, examples.shape, examples.dtype)
    labels = single.drop_labels(config, data.num_classes, label_key, labels)
    net_keys = jax.random.split(net_key, len(examples))

    def loss(example, noise, t, label, key):  # one example
      predict_fn = model.predict(
        lambda x, c: model.net.apply(
          params, x, c, label, train=True, rngs={"dropout": key}
        )
      )
      if config.loss == "denoising":
        how = dict(prediction=model.prediction, weight=model.weight)
        return denoising.denoising(
          predict_fn, example, noise, t, path=path, **how
        )
      field = fields.from_prediction(predict_fn, path, model.prediction)
      score_fn = lambda x: field(x, t).score
      x_t = path.alpha(t) * example + path.sigma(t) * noise
      if config.loss == "explicit":
        score = data.mixture.score(path, x_t, t)
        value = score_matching.explicit(score_fn, x_t, score)
      else:
        key = jax.random.fold_in(key, 1)
        direction = jax.random.rademacher(key, x_t.shape, x_t.dtype)
        fit = choices.SCORE_LOSSES[config.loss]
        value = fit(score_fn, x_t, direction)
      return path.sigma(t) ** 2 * value

    return jax.vmap(loss)(examples, noise, t, labels, net_keys).mean(), {}

  return loss_fn


def run(config: Config) -> state.State:
  """Trains, samples and draws pictures; resumes an existing run directory."""
  return training.run(__file__, experiment(config))


def _check(config, data):
  checks.known(config)
  checks.at_least(config, corrections=1)
  checks.positive(config, "snr")
  if config.loss == "explicit" and data.mixture is None:
    raise ValueError(
      "loss, data: expected data with a known score for explicit, got"
      f" {config.data}"
    )
  if config.energy and config.prediction != "score":
    raise ValueError(
      "prediction, energy: expected score with an energy, got"
      f" {config.prediction}"
    )


if __name__ == "__main__":
  command_line.main(__file__, PRESETS, run)
