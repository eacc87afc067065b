"""Score matching at all levels of noise, sampled by Langevin dynamics.

  python -m experiments.score_matching digits --run-dir runs/ncsn
  python -m experiments.score_matching digits-pc --run-dir runs/pc
  python -m experiments.score_matching toy --run-dir runs/toy --loss sliced_vr
  python -m experiments.score_matching energy --run-dir runs/energy

The score of x_t at every t comes from one network of any --prediction, or is
the gradient of an energy; --loss says how it is fitted: denoising, or one of
the losses that need no noise, on x_t. Every solver samples it.

Methods: Hyvarinen 2005, JMLR 6; Song et al. 2019, arXiv:1905.07088; Song and
Ermon 2019, arXiv:1907.05600; Song et al. 2021, arXiv:2011.13456; Salimans and
Ho 2021, "Should EBMs model the energy or the score?" (the energy).
"""

import jax
import jax.numpy as jnp

from experiments.lib import (
  build,
  datasets,
  score_settings,
  settings,
  tables,
  training,
)
from experiments.lib import run as runs
from jaxgen import fields, predictions, samplers
from jaxgen.losses import denoising, score_matching
from jaxgen.training import state

MODULE = "experiments.score_matching"

Config = score_settings.Config
PRESETS = score_settings.PRESETS


def make_method(config: Config, data: datasets.Data) -> build.Method:
  """What the configuration says, as objects.

  Raises:
    ValueError: settings that do not go together, or no such name.
  """
  _check(config, data)
  method = build.method(config, data)
  how = dict(num_corrections=config.corrections, snr=config.snr)
  if config.solver == "annealed":
    solver = samplers.annealed(**how)
    method = method._replace(solver=solver)
  elif config.solver == "predictor_corrector":
    solver = samplers.predictor_corrector(samplers.ancestral(), **how)
    method = method._replace(solver=solver)
  if config.energy:
    method = method._replace(predict=_energy(config, method))
  calls = method.solver.num_calls(config.sample_steps) + 1
  return method._replace(num_calls=calls, learned="score")


def _energy(config, method):
  """The score of an energy by EDM's denoiser D.

  E(x, t) = |x - alpha D(x, t)|^2 / (2 sigma^2),   score = -grad E
  """
  path, row = method.path, predictions.edm(config.sigma_data)

  def predict(net):
    predict_fn = method.predict(net)

    def energy(x, t):
      how = dict(source=row, target=predictions.data)
      data = predictions.convert(predict_fn(x, t), x, t, path, **how)
      residual = (x - path.alpha(t) * data) / path.sigma(t)
      return jnp.sum(residual**2) / 2

    return score_matching.from_energy(energy)

  return predict


def make_loss(config: Config, method: build.Method, data: datasets.Data):
  """(params, key, batch) -> (loss, metrics), over a batch."""
  path = method.path

  def loss(net, key, example, noise, t):
    predict_fn = method.predict(net)
    if config.loss == "denoising":
      how = dict(path=path, prediction=method.prediction, weight=method.weight)
      return denoising.denoising(predict_fn, example, noise, t, **how)
    estimate = fields.from_prediction(predict_fn, path, method.prediction)
    score_fn = lambda x: estimate(x, t).score
    x_t = path.alpha(t) * example + path.sigma(t) * noise
    if config.loss == "explicit":
      score = data.law.mixture.score(path, x_t, t)
      value = score_matching.explicit(score_fn, x_t, score)
    else:
      direction = jax.random.rademacher(key, x_t.shape, x_t.dtype)
      value = tables.SCORE_LOSSES[config.loss](score_fn, x_t, direction)
    return path.sigma(t) ** 2 * value

  return training.batch_loss(config, method, data.num_classes, loss)


def run(config: Config) -> state.State:
  """Trains, samples and draws; resumes the run directory if it has begun."""
  return training.run(
    MODULE,
    config,
    make_method,
    training.one_player(make_loss),
    training.for_model(training.data_batches),
  )


def _check(config, data):
  settings.known(config)
  runs.at_least(config, corrections=1)
  settings.positive(config, "snr")
  if config.loss == "explicit" and (data.law is None or not data.law.mixture):
    raise ValueError(
      "loss, data: expected data with a known score with explicit, got"
      f" {config.data}"
    )
  if config.energy and config.prediction != "score":
    raise ValueError(
      "prediction, energy: expected score with an energy, got"
      f" {config.prediction}"
    )


if __name__ == "__main__":
  runs.main(MODULE, PRESETS, run)
