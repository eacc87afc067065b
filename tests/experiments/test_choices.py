"""Every name on the command line means something that trains or samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import edm
from experiments.lib import choices, datasets, samples
from experiments.recipes import diffusion
from jaxgen import paths
from tests import expect
from tests.experiments import scripts
from tests.models import twins

TINY = scripts.small("edm", "never written", data="moons", sigma_data=1.3)
MOONS = datasets.load_data("moons")


TABLES = {
  "path": choices.PATHS,
  "sample_path": choices.PATHS,
  "prediction": choices.PREDICTIONS,
  "weight": choices.WEIGHTS,
  "draw": choices.DRAWS,
  "solver": choices.SOLVERS,
  "grid": choices.GRIDS,
}


def _varied(*flags):
  """Configurations that differ from TINY in one name."""
  return [
    pytest.param({flag: name}, id=f"{flag}-{name}")
    for flag in flags
    for name in TABLES[flag]
  ]


def _config(change):
  return edm.Config(**(vars(TINY) | change))


def _params(model):
  """Neither zero nor symmetric, so that every gradient has something to do."""
  return twins.randomise(model.init(jax.random.key(0)))


@pytest.mark.parametrize(
  "change", _varied("path", "prediction", "weight", "draw")
)
def test_a_batch_has_a_finite_loss_and_gradient(change):
  config = _config(change)
  model = diffusion.make(config, MOONS)
  batch = MOONS.batches(jax.random.key(1), config.batch_size)(0)
  loss_fn = edm.make_loss(config, model, 0)
  both = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
  (loss, metrics), grads = both(_params(model), jax.random.key(2), batch)
  assert metrics == {}
  assert np.isfinite(loss) and loss > 0
  for leaf in jax.tree.leaves(grads):
    assert np.all(np.isfinite(leaf)) and np.any(leaf != 0)


@pytest.mark.parametrize(
  "change", _varied("path", "solver", "grid", "sample_path")
)
def test_a_model_samples(change):
  config = _config(change)
  model = diffusion.make(config, MOONS)
  sampler = samples.make_sampler(edm.experiment(config))
  keys = jax.random.split(jax.random.key(1), 5)
  states, data = sampler({"model": _params(model)}, {}, keys, None)
  assert states.shape == (5, config.sample_steps + 1, 2)
  assert data.shape == (5, 2)
  assert np.all(np.isfinite(states)) and np.all(np.isfinite(data))
  assert len(np.unique(data[:, 0])) == 5
  ends = model.sample_path.ratio(model.times[jnp.array([0, -1])])
  np.testing.assert_allclose(ends, [80, 0.002], rtol=2e-3)


@pytest.mark.parametrize("name", choices.PATHS)
def test_a_path_has_its_own_name(name):
  own = paths.edm(0.01, 50.0) if name == "edm" else getattr(paths, name)()
  assert choices.PATHS[name](0.01, 50.0) is own


@pytest.mark.parametrize("prediction", choices.PREDICTIONS)
def test_the_weight_noise_is_on_the_noise_whatever_is_predicted(prediction):
  config = _config({"prediction": prediction, "weight": "noise"})
  model = diffusion.make(config, MOONS)
  t = jnp.float32(0.7)
  # noise = (alpha f - a x_t) / (alpha b - a sigma), where f = a data + b noise.
  a, b = model.prediction(model.path, t)
  alpha, sigma = model.path.alpha(t), model.path.sigma(t)
  gain = alpha / (alpha * b - a * sigma)
  np.testing.assert_allclose(model.weight(t), gain**2, rtol=1e-5)


@pytest.mark.parametrize("flag", TABLES)
def test_unknown_names_list_the_known_ones(flag):
  known = ", ".join(TABLES[flag])
  expected = f"^{flag}: expected one of {known}, got 'typo'$"
  expect.error(expected, diffusion.make, _config({flag: "typo"}), MOONS)
