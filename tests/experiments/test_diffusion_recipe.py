"""recipes.diffusion, and that a script needs no command line."""

import dataclasses

import jax
import numpy as np

from experiments import edm
from experiments.lib import datasets, samples
from experiments.recipes import diffusion
from tests import expect, processes
from tests.models import twins

CONFIG = edm.Config(run_dir="", data="eight_gaussians", width=16, num_blocks=1)


def test_run_is_importable_without_the_command_line():
  code = (
    "import sys; sys.modules['tyro'] = None; from experiments import edm, "
    "sample; edm.run, sample.run, edm.Config(run_dir='nowhere')"
  )
  result = processes.python("-c", code)
  assert (result.returncode, result.stdout) == (0, ""), result.stderr


def test_the_data_are_named_where_their_deviation_is_0():
  data = datasets.load_data("eight_gaussians")
  resolved = diffusion.resolve(CONFIG, data._replace(std=0.00151))
  assert resolved == dataclasses.replace(CONFIG, sigma_data=0.002)
  said, narrow = r"^data: .* 0.0004; give sigma_data$", data._replace(std=4e-4)
  expect.error(said, diffusion.resolve, CONFIG, narrow)
  given = dataclasses.replace(CONFIG, sigma_data=0.5)
  assert diffusion.resolve(given, data._replace(std=0.0)) == given


def test_a_model_of_one_path_samples_the_same_on_another():
  """vp and linear start from the same point, up to the scale that on_path
  undoes, and follow one curve: Heun's error, about 1 / steps^2, is all that
  may differ. Float32; points of size 4.
  """

  def sampled(path, sample_steps):
    sampled = dict(sample_path=path, sample_steps=sample_steps)
    config = dataclasses.replace(CONFIG, path="vp", sigma_data=4.0, **sampled)
    keys = jax.random.split(jax.random.key(1), 16)
    sampler = samples.make_sampler(edm.experiment(config))
    return sampler({"model": params}, {}, keys, None)[1]

  data = datasets.load_data("eight_gaussians")
  config = dataclasses.replace(CONFIG, sigma_data=4.0)
  start = diffusion.make(config, data).init(jax.random.key(0))
  params = twins.randomise(start)

  own, moved = sampled(None, 400), sampled("linear", 400)
  assert np.std(own) > 1
  coarse = np.abs(sampled(None, 4) - sampled("linear", 4)).max()
  fine = np.abs(own - moved).max()
  assert fine < 2e-3 and coarse > 10 * fine
