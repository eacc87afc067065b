"""EDM-style diffusion: one network, any path, prediction, weight and solver.

  python -m experiments.edm digits --run-dir runs/mine
  python -m experiments.edm digits --run-dir runs/vp --path vp
  python -m experiments.edm toy --run-dir runs/toy --data moons

DDPM, DDIM, v-prediction, score matching and flow matching are flags of the
same script: see README.md for their command lines and figures.

Method: Karras et al. 2022, arXiv:2206.00364.
"""

from experiments.lib import build, datasets, edm_settings, training
from experiments.lib import run as runs
from jaxgen.losses import denoising
from jaxgen.training import state

MODULE = "experiments.edm"


Config = edm_settings.Config
PRESETS = edm_settings.PRESETS
make_method = build.method


def make_loss(config: Config, method: build.Method, data: datasets.Data):
  """(params, key, batch) -> (loss, metrics), over a batch."""

  def loss(net, key, example, noise, t):
    return denoising.denoising(
      method.predict(net),
      example,
      noise,
      t,
      path=method.path,
      prediction=method.prediction,
      weight=method.weight,
    )

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


if __name__ == "__main__":
  runs.main(MODULE, PRESETS, run)
