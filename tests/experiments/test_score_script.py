"""experiments.score_matching: its losses, energies, solvers and rejections."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import score_matching
from experiments.lib import checks, choices, datasets
from experiments.recipes import diffusion
from jaxgen import predictions
from tests.experiments import scripts
from tests.models import twins

ENERGY = dict(energy=True, prediction="score", weight="noise")


def _tiny(**changes):
  return scripts.small("score", "", **{"loss": "denoising"} | changes)


def _model(config):
  data = datasets.load(config)
  config = diffusion.resolve(config, data)
  return config, data, score_matching.make_model(config, data)


def _params(model):
  return twins.randomise(model.init(jax.random.key(0)))


@pytest.mark.parametrize(
  "changes",
  [
    *(dict(loss=loss) for loss in choices.LOSSES),
    ENERGY,
    dict(loss="sliced_vr", **ENERGY),
  ],
  ids=str,
)
def test_a_batch_has_a_finite_loss_and_gradient(changes):
  config, data, model = _model(_tiny(**changes))
  loss_fn = score_matching.make_loss(config, model, data)
  batch = data.batches(jax.random.key(1), config.batch_size)(0)
  both = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
  (loss, _), grads = both(_params(model), jax.random.key(2), batch)
  assert np.isfinite(loss)
  for leaf in jax.tree.leaves(grads):
    assert np.all(np.isfinite(leaf)) and np.any(leaf != 0)


def test_the_losses_of_a_score_of_zero():
  """Zero without a target; sigma^2 E |score|^2 / D, at most 1, with one."""
  config, data, model = _model(_tiny(batch_size=4096, prediction="noise"))
  params = jax.tree.map(jnp.zeros_like, _params(model))
  batch = data.batches(jax.random.key(1), config.batch_size)(0)
  value = {}
  for loss in ("implicit", "explicit", "sliced"):
    changed = checks.replace(config, loss=loss)
    loss_fn = score_matching.make_loss(changed, model, data)
    value[loss] = jax.jit(loss_fn)(params, jax.random.key(2), batch)[0]
  assert value["implicit"] == value["sliced"] == 0  # the score is zero
  assert 0.1 < value["explicit"] < 1  # sigma^2 E |score|^2 / D, at most 1


def test_the_score_of_an_energy_is_its_gradient():
  config, _, model = _model(_tiny(**ENERGY))
  params, t = _params(model), jnp.float32(0.7)
  x = jnp.array([0.4, -1.2])
  field = model.field(params, None)
  jacobian = jax.jit(jax.jacfwd(lambda x: field(x, t).score))(x)
  np.testing.assert_allclose(jacobian, jacobian.T, rtol=1e-3, atol=1e-3)
  # Without a network the denoiser is c_skip x: E = (sigma |x| / S^2)^2 / 2.
  still = model.init(jax.random.key(0))
  scale = predictions.input_scale(model.path, t, config.sigma_data)
  score = model.field(still, None)(x, t).score
  np.testing.assert_allclose(score, -(t**2) / scale**4 * x, rtol=1e-5)


def test_calls_are_counted():
  for solver, calls in (
    ("annealed", 3 * 2 + 1),
    ("predictor_corrector", 3 * (1 + 2) + 1),
    ("heun", 7),
  ):
    assert _model(_tiny(solver=solver))[2].num_calls == calls
