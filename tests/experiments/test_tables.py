"""Every name on the command line means something that trains or samples."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import edm
from experiments.lib import build, tables
from jaxgen import paths
from jaxgen.data import digits

TINY = edm.Config(
  run_dir="never written",
  data="moons",
  width=8,
  num_blocks=1,
  batch_size=8,
  sigma_data=1.3,
  sample_steps=3,
)
load = functools.cache(tables.load_data)


def _varied(**choices):
  """Configurations that differ from TINY in one name."""
  return [
    pytest.param({flag: name}, id=f"{flag}-{name}")
    for flag, names in choices.items()
    for name in names
  ]


def _config(change):
  return edm.Config(**(vars(TINY) | change))


def _params(method):
  """Neither zero nor symmetric, so that every gradient has something to do."""
  params = method.model.init(jax.random.key(0), jnp.zeros(2), jnp.zeros(()))
  leaves, tree = jax.tree.flatten(params)
  rng = np.random.default_rng(0)
  draws = [rng.normal(size=x.shape).astype(x.dtype) / 2 for x in leaves]
  return jax.tree.unflatten(tree, draws)


@pytest.mark.parametrize(
  "change",
  _varied(
    path=tables.PATHS,
    prediction=tables.PREDICTIONS,
    weight=tables.WEIGHTS,
    draw=tables.DRAWS,
  ),
)
def test_a_batch_has_a_finite_loss_and_gradient(change):
  config = _config(change)
  method = build.method(config, load("moons"))
  batch = load("moons").batches(jax.random.key(1), config.batch_size)(0)
  loss_fn = edm.make_loss(config, method, 0)
  both = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
  (loss, metrics), grads = both(_params(method), jax.random.key(2), batch)
  assert metrics == {}
  assert np.isfinite(loss) and loss > 0
  for leaf in jax.tree.leaves(grads):
    assert np.all(np.isfinite(leaf)) and np.any(leaf != 0)


@pytest.mark.parametrize(
  "change",
  _varied(
    path=tables.PATHS,
    solver=tables.SOLVERS,
    grid=tables.GRIDS,
    sample_path=tables.PATHS,
  ),
)
def test_a_model_samples(change):
  config = _config(change)
  method = build.method(config, load("moons"))
  sampler = build.make_sampler(config, method, (2,))
  keys = jax.random.split(jax.random.key(1), 5)
  states, data = sampler(_params(method), keys, None)
  assert states.shape == (5, config.sample_steps + 1, 2)
  assert data.shape == (5, 2)
  assert np.all(np.isfinite(states)) and np.all(np.isfinite(data))
  assert len(np.unique(data[:, 0])) == 5
  ends = method.sample_path.ratio(method.times[jnp.array([0, -1])])
  np.testing.assert_allclose(ends, [80, 0.002], rtol=2e-3)


@pytest.mark.parametrize("name", tables.PATHS)
def test_a_path_has_its_own_name(name):
  own = paths.edm(0.01, 50.0) if name == "edm" else getattr(paths, name)()
  assert tables.PATHS[name](0.01, 50.0) is own


@pytest.mark.parametrize("prediction", tables.PREDICTIONS)
def test_the_weight_noise_is_on_the_noise_whatever_is_predicted(prediction):
  config = _config({"prediction": prediction, "weight": "noise"})
  method = build.method(config, load("moons"))
  t = jnp.float32(0.7)
  # noise = (alpha f - a x_t) / (alpha b - a sigma), where f = a data + b noise.
  a, b = method.prediction(method.path, t)
  alpha, sigma = method.path.alpha(t), method.path.sigma(t)
  gain = alpha / (alpha * b - a * sigma)
  np.testing.assert_allclose(method.weight(t), gain**2, rtol=1e-5)


@pytest.mark.parametrize(
  "flag, table",
  [
    ("path", tables.PATHS),
    ("sample_path", tables.PATHS),
    ("prediction", tables.PREDICTIONS),
    ("weight", tables.WEIGHTS),
    ("draw", tables.DRAWS),
    ("solver", tables.SOLVERS),
    ("grid", tables.GRIDS),
  ],
)
def test_unknown_names_list_the_known_ones(flag, table):
  expected = f"^{flag}: expected one of {', '.join(table)}, got 'typo'$"
  with pytest.raises(ValueError, match=expected):
    build.method(_config({flag: "typo"}), load("moons"))


def test_unknown_data_lists_the_known_ones():
  with pytest.raises(ValueError, match=r"data: expected one of .*moons.*typo"):
    tables.load_data("typo")


@pytest.mark.parametrize("name", ["digits", *tables.TOYS])
def test_data_have_their_shapes(name):
  data = load(name)
  examples, labels = data.batches(jax.random.key(0), 7)(3)
  assert examples.shape == (7, *data.shape)
  assert examples.dtype == jnp.float32
  real, real_labels = data.real
  assert real.shape[1:] == data.shape
  np.testing.assert_allclose(np.std(real), data.std, rtol=0.05)
  if data.num_classes:
    assert labels.shape == (7,) and len(real) == len(real_labels)
    assert set(real_labels) == set(range(data.num_classes))
  else:
    assert labels is None and real_labels is None


def test_digits_train_on_train_and_show_held_out_ones():
  train, held_out = digits.load("train")[0], digits.load("validation")[0]
  data = load("digits")
  whole, _ = data.batches(jax.random.key(0), len(train))(0)
  order = lambda x: np.sort(x.reshape(len(x), -1).sum(1))
  np.testing.assert_array_equal(order(whole), order(train))
  np.testing.assert_array_equal(data.real[0], held_out)


@pytest.mark.parametrize("name", ["digits", "moons"])
def test_a_batch_is_a_function_of_key_and_step(name):
  data = load(name)
  first = data.batches(jax.random.key(0), 6)
  forward = [np.asarray(first(step)[0]) for step in range(4)]
  again = data.batches(jax.random.key(0), 6)
  for step in (2, 0, 3, 1, 1):
    np.testing.assert_array_equal(again(step)[0], forward[step])
  assert not np.array_equal(forward[0], forward[1])
  other = data.batches(jax.random.key(1), 6)
  assert not np.array_equal(other(0)[0], forward[0])
