"""EDM-style diffusion: one network, any path, prediction, weight and solver.

  python -m experiments.edm digits --run-dir runs/mine
  python -m experiments.edm digits --run-dir runs/vp --path vp
  python -m experiments.edm toy --run-dir runs/toy --data moons

DDPM, DDIM, v-prediction, score matching and flow matching are flags of the
same script: see README.md for their command lines and figures.

Method: Karras et al. 2022, arXiv:2206.00364.
"""

from experiments.lib import build, edm_settings, report, training
from experiments.lib import run as runs
from jaxgen.losses import denoising
from jaxgen.training import state

MODULE = "experiments.edm"


Config = edm_settings.Config
PRESETS = edm_settings.PRESETS
make_method = build.method


def make_loss(config: Config, method: build.Method, num_classes: int):
  """(params, key, batch) -> (loss, metrics), over a batch."""

  def loss(net, key, data, noise, t):
    return denoising.denoising(
      method.predict(net),
      data,
      noise,
      t,
      path=method.path,
      prediction=method.prediction,
      weight=method.weight,
    )

  return training.make_loss(config, method, num_classes, loss)


def run(config: Config) -> state.State:
  """Trains, samples and draws; resumes the run directory if it has begun."""
  data = build.load_data(config)
  config = build.resolve(config, data)
  method = make_method(config, data)
  turns = training.make_turns(
    config, make_loss(config, method, data.num_classes)
  )
  make_batches = lambda key: data.batches(key, config.batch_size)
  return training.run(
    MODULE, config, data, method, turns, make_batches, report.pictures
  )


if __name__ == "__main__":
  runs.main(MODULE, PRESETS, run)
