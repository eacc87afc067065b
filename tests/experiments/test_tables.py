"""Every name on the command line means something that trains or samples."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import edm
from experiments.lib import build, datasets, tables
from experiments.lib import run as runs
from jaxgen import paths
from jaxgen.data import digits, images, photos

TINY = edm.Config(
  run_dir="never written",
  data="moons",
  width=8,
  num_blocks=1,
  batch_size=8,
  sigma_data=1.3,
  sample_steps=3,
)
load = functools.cache(datasets.load_data)


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
  loss_fn = edm.make_loss(config, method, load("moons"))
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
  sampler = build.make_sampler(method)
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


@pytest.mark.parametrize(
  "name", ["typo", "", "tfds", "tfds:", "file:", "folder", "digits:", "Moons"]
)
def test_unknown_data_lists_the_known_ones(name):
  known = "digits, digits:LABEL, photos, " + ", ".join(datasets.TOYS)
  expected = (
    f"^data: expected one of {known}, tfds:NAME, file:.*, folder:PATH,"
    f" got {name!r}$"
  )
  with pytest.raises(ValueError, match=expected):
    datasets.load_data(name)


def test_the_help_lists_them_too(monkeypatch, capsys):
  monkeypatch.setattr(sys, "argv", ["edm", "digits", "--help"])
  with pytest.raises(SystemExit):
    runs.main(edm.MODULE, edm.PRESETS, edm.run)
  words = capsys.readouterr().out.replace(",", " ").replace(".", " ").split()
  assert {"digits", "photos", *datasets.TOYS, "tfds:NAME"} <= set(words)


def test_points_are_not_mirrored():
  with pytest.raises(ValueError, match="flip: expected images, got moons"):
    datasets.load_data("moons", flip=True)


def test_a_configuration_says_all_of_its_data(monkeypatch):
  seen = {}
  monkeypatch.setattr(
    datasets,
    "load_data",
    lambda name, **settings: seen.update(settings, name=name),
  )
  settings = {"image_size": 7, "flip": True, "data_dir": "there"}
  build.load_data(_config({"data": "photos"} | settings))
  assert seen == {"name": "photos"} | settings


@pytest.mark.parametrize("name", ["digits", "photos", *datasets.TOYS])
def test_data_have_their_shapes(name):
  data = load(name)
  examples, labels = data.batches(jax.random.key(0), 7)(3)
  assert examples.shape == (7, *data.shape)
  assert examples.dtype == jnp.float32
  real, real_labels = data.real
  assert real.shape[1:] == data.shape
  # The photographs differ from band to band.
  rtol = 0.2 if name == "photos" else 0.05
  np.testing.assert_allclose(np.std(real), data.std, rtol=rtol)
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


@pytest.mark.parametrize("name", ["digits", "photos", "moons"])
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


@pytest.mark.parametrize("name, size", [("digits", 8), ("photos", 12)])
def test_all_of_a_split_may_be_had(name, size):
  module = {"digits": digits.load, "photos": lambda s: photos.load(s, 12)}[name]
  data = datasets.load_data(name, image_size=12)
  assert data.shape[:2] == (size, size)
  for split in datasets.SPLITS:
    examples, labels = data.split(split)
    expected, classes = module(split)
    np.testing.assert_array_equal(examples, images.to_float(expected))
    np.testing.assert_array_equal(labels, classes)
  np.testing.assert_array_equal(data.real[0], data.split("validation")[0])
  with pytest.raises(ValueError, match="split: expected one of train, valid"):
    data.split("all")


def test_splits_of_a_law_are_draws_of_their_own():
  data = load("moons")
  train, held_out = data.split("train")[0], data.split("test")[0]
  assert train.shape == (datasets.NUM_POINTS, 2)
  assert not {*map(bytes, train)} & {*map(bytes, held_out)}
  np.testing.assert_allclose(data.std, train.std(), rtol=1e-6)
  np.testing.assert_array_equal(data.real[0], data.split("validation")[0])
  with pytest.raises(ValueError, match="split: expected one of train, valid"):
    data.split("all")


def test_mirrored_batches_are_the_same_images():
  plain, flipped = load("photos"), datasets.load_data("photos", flip=True)
  batch, labels = flipped.batches(jax.random.key(0), 32)(5)
  again, _ = flipped.batches(jax.random.key(0), 32)(5)
  np.testing.assert_array_equal(batch, again)
  order_key, _ = jax.random.split(jax.random.key(0))
  straight, same = plain.batches(order_key, 32)(5)
  np.testing.assert_array_equal(labels, same)
  mirrored = np.all(batch == straight[:, :, ::-1], (1, 2, 3))
  kept = np.all(batch == straight, (1, 2, 3))
  assert np.all(mirrored ^ kept) and 4 < mirrored.sum() < 28
  np.testing.assert_array_equal(flipped.real[0], plain.real[0])


def test_files_and_folders_are_data(tmp_path):
  pixels, labels = photos.load("validation", 8)
  np.savez(tmp_path / "a.npz", images=pixels, labels=labels)
  data = datasets.load_data(f"file:{tmp_path / 'a.npz'}")
  assert (data.shape, data.num_classes) == ((8, 8, 3), 2)
  train, classes = data.split("train")
  assert len(train) == len(classes) == 144
  for i in range(4):
    Image.fromarray(pixels[i]).save(tmp_path / f"{i}.png")
  data = datasets.load_data(f"folder:{tmp_path}")
  assert (data.shape, data.num_classes) == ((8, 8, 3), 0)
  examples, none = data.batches(jax.random.key(0), 5)(0)
  assert examples.dtype == np.float32 and none is None
  parts = [data.split(name)[0] for name in ("test", "validation", "train")]
  order = np.random.RandomState(0).permutation(4)
  np.testing.assert_array_equal(
    images.to_uint8(np.concatenate(parts)), pixels[order]
  )
