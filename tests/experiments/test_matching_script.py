"""experiments.distribution_matching: the game's losses and its one call."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import distribution_matching, sample
from experiments.lib import datasets, samples
from experiments.recipes import diffusion
from experiments.recipes import flow_maps as recipe
from jaxgen import fields, paths, predictions
from tests.experiments import scripts


@pytest.fixture(scope="module")
def game():
  """(model, parameters of both players, losses of a teacher) on the plane."""
  plane = dict(data="eight_gaussians", width=8, multipliers=(1,))
  config = scripts.small("matched", "", teacher="none", **plane)
  data = datasets.load(config)
  model = recipe.make(diffusion.resolve(config, data), data)
  keys = jax.random.split(jax.random.key(0))
  params = {"denoiser": model.init(keys[0]), "model": model.init(keys[1])}

  def losses(field):
    teacher = lambda: lambda label: field
    return distribution_matching.make_losses(config, model, teacher)

  return model, params, losses


def _at(loss_fn, params, seed=1):
  batch = jnp.zeros((6, 2)), None
  loss = lambda params: loss_fn(params, {}, jax.random.key(seed), batch, 0)[0]
  return jax.jit(jax.value_and_grad(loss))(params)


def _size(tree):
  return sum(float(jnp.abs(leaf).sum()) for leaf in jax.tree.leaves(tree))


def test_a_model_whose_denoiser_is_the_teacher_stays(game):
  model, params, losses = game
  own = model.field(params["denoiser"], None)
  value, slope = _at(losses(own)[1], params)
  assert value == 0 and _size(slope) == 0
  still = fields.from_prediction(
    lambda x, t: jnp.zeros_like(x), paths.linear(), predictions.data
  )
  value, slope = _at(losses(still)[1], params)
  assert value > 0 and _size(slope["model"]) > 0
  assert _size(slope["denoiser"]) == 0


def test_the_model_moves_from_its_own_data_to_the_teacher_s(game):
  """Samples p, whose denoiser says p, where the teacher says 3."""
  model, _, _ = game

  class Point(recipe.Model):
    def map(self, params, label, **how):
      return lambda x, t, s: (x - params) / t  # ends at params, for s = 0

    def field(self, params, label):
      return _constant(params)

  config = scripts.small("matched", "", teacher="none")
  teacher = lambda: lambda label: _constant(3.0)
  _, loss_fn = distribution_matching.make_losses(config, Point(*model), teacher)
  for place, sign in ((1.0, -1), (5.0, 1)):
    _, slope = _at(loss_fn, {"denoiser": place, "model": place})
    assert jnp.sign(slope["model"]) == sign


def _constant(data):
  return fields.from_prediction(
    lambda x, t: jnp.full_like(x, data), paths.linear(), predictions.data
  )


def test_the_denoiser_learns_from_samples_that_it_does_not_change(game):
  _, params, losses = game
  denoiser_loss, _ = losses(None)
  value, slope = _at(denoiser_loss, params)
  assert value.shape == () and value.dtype == jnp.float32 and value > 0
  assert _size(slope["model"]) == 0 and _size(slope["denoiser"]) > 0
  assert _at(denoiser_loss, params, seed=2)[0] != value  # the key matters


def test_the_denoiser_s_loss_is_flow_matching_of_the_model_s_samples(game):
  """A model that maps all noise to 0 has the flow with velocity x / t."""
  model, _, _ = game

  class Exact(recipe.Model):
    def map(self, params, label, **how):
      return lambda x, t, s: params * x / t

  exact = Exact(*model)
  config = scripts.small("matched", "", teacher="none")
  loss_fn, _ = distribution_matching.make_losses(config, exact, lambda: None)
  # The last time is .002 / 1.002, so that .002 of the noise stays.
  value, _ = _at(loss_fn, {"denoiser": 1.0, "model": 1.0})
  wrong, _ = _at(loss_fn, {"denoiser": 1.2, "model": 1.0})
  assert value < 1e-3 and wrong > 1e-2


def test_a_sample_is_one_call():
  run_dir, _ = scripts.first_stage("matched")
  ex = samples.read(run_dir)
  assert ex.num_calls == 1 and ex.times.marks.shape == (2,)
  found = sample.run(run_dir, sample.Config(number=4))
  assert found.shape == (4, 8, 8, 1) and np.all(np.isfinite(found))
