"""Datasets by name: batches, splits and one example."""

import functools
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import edm, wasserstein
from experiments.lib import datasets
from experiments.recipes import critics
from jaxgen.data import digits, images, photos
from tests import expect
from tests.experiments import scripts

load = functools.cache(datasets.load_data)


@pytest.mark.parametrize(
  "name",
  [
    "typo",
    "",
    "tfds",
    "tfds:",
    "file:",
    "folder",
    "digits:",
    "Moons",
    "digits:fold-10",
    "binary_digits:3",
    "digits:fold-",
  ],
)
def test_unknown_data_lists_the_known_ones(name):
  known = "digits, binary_digits, digits:fold-K, binary_digits:fold-K, "
  known += "digits:LABEL, photos, " + ", ".join(datasets.TOYS)
  known += ", gaussian:DIM:MEAN"
  known += (
    f", tfds:NAME, file:PATH.npz, file:PATH.zip, folder:PATH, got {name!r}"
  )
  expect.error(f"^data: expected one of {known}$", datasets.load_data, name)


def test_the_help_lists_them_too(exits):
  _, printed = exits(scripts.main_of(edm), "digits", "--help")
  words = printed.replace(",", " ").replace(".", " ").split()
  assert {"digits", "photos", *datasets.TOYS, "tfds:NAME"} <= set(words)


def test_points_are_not_mirrored():
  said = "flip: expected images, got moons"
  expect.error(said, datasets.load_data, "moons", flip=True)


def test_a_configuration_says_all_of_its_data(monkeypatch):
  seen = {}
  note = lambda name, **given: seen.update(given, name=name)
  monkeypatch.setattr(datasets, "load_data", note)
  given = {"image_size": 7, "flip": True, "data_dir": "there", "convert": True}
  config = edm.Config(run_dir="", data="photos", **given)
  datasets.load(config)
  assert seen == {"name": "photos", "option": "data"} | given
  config = wasserstein.Config(run_dir="", other="digits", **given)
  datasets.load(config, "other")  # flip is of `data` alone
  known = {"name": "digits", "option": "other"}
  assert seen == known | given | {"flip": False}


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
  data = datasets.load_data(name, image_size=size)
  assert data.shape[:2] == (size, size)
  for split in datasets.SPLITS:
    examples, labels = data.split(split)
    expected, classes = module(split)
    np.testing.assert_array_equal(examples, images.to_float(expected))
    np.testing.assert_array_equal(labels, classes)
  np.testing.assert_array_equal(data.real[0], data.split("validation")[0])
  expect.error("split: expected one of train, valid", data.split, "all")


def test_splits_of_a_law_are_draws_of_their_own():
  data = load("moons")
  train, held_out = data.split("train")[0], data.split("test")[0]
  assert train.shape == (datasets.NUM_POINTS, 2)
  assert not {*map(bytes, train)} & {*map(bytes, held_out)}
  np.testing.assert_allclose(data.std, train.std(), rtol=1e-6)
  np.testing.assert_array_equal(data.real[0], data.split("validation")[0])
  expect.error("split: expected one of train, valid", data.split, "all")


def test_what_has_a_size_of_its_own_is_not_resized(tmp_path):
  np.savez(tmp_path / "points.npz", points=np.eye(20, 2))
  for name in ("digits", "digits:3", "moons", f"file:{tmp_path}/points.npz"):
    said = f"image_size: expected None for points and digits, got 12 for {name}"
    expect.error(said, datasets.load_data, name, image_size=12)
    if not name.startswith("digits"):
      said = f"flip: expected images, got {name}"
      expect.error(said, datasets.load_data, name, flip=True)


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
  levels = images.to_uint8(np.concatenate(parts))
  np.testing.assert_array_equal(levels, pixels[order])


def test_your_images_are_resized_and_converted(tmp_path):
  """In a folder, a zip and an archive; transparency only on request."""
  pixels, _ = photos.load("validation", 9)
  clear = np.concatenate([pixels[:3], pixels[:3, ..., :1] * 0], -1)
  for i in range(3):
    Image.fromarray(clear[i]).save(tmp_path / f"{i}.png")
  with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
    for i in range(3):
      archive.write(tmp_path / f"{i}.png", f"{i}.png")
  for name in (f"folder:{tmp_path}", f"file:{tmp_path}/a.zip"):
    expect.error("--convert", datasets.load_data, name, image_size=6)
    data = datasets.load_data(name, image_size=6, convert=True)
    train, _ = data.split("train")
    assert train.shape == (1, 6, 6, 3) and np.all(train == 1)
  np.savez(tmp_path / "a.npz", images=pixels)
  data = datasets.load_data(f"file:{tmp_path}/a.npz", image_size=6)
  assert data.shape == (6, 6, 3)
  said = "a.zip: expected a folder of images, got a file; file:PATH.zip reads"
  expect.error(said, datasets.load_data, f"folder:{tmp_path}/a.zip")
  said = "expected a file, got a folder; folder:PATH reads images of one"
  expect.error(said, datasets.load_data, f"file:{tmp_path}")


def test_points_of_a_file_are_data(tmp_path):
  points = np.random.default_rng(0).normal(2, 3, (400, 5)).astype("f")
  np.savez(tmp_path / "a.npz", points=points)
  data = datasets.load_data(f"file:{tmp_path}/a.npz")
  assert (data.shape, data.num_classes, data.levels) == ((5,), 0, None)
  order = np.random.RandomState(0).permutation(400)
  np.testing.assert_array_equal(data.split("train")[0], points[order[80:]])
  np.testing.assert_allclose(data.std, points[order[80:]].std(), rtol=1e-6)
  examples, labels = data.batches(jax.random.key(0), 7)(3)
  assert examples.shape == (7, 5) and labels is None


def _points(tmp_path, number=40):
  points = np.random.default_rng(0).normal(size=(number, 3)).astype("f")
  np.savez(tmp_path / "points.npz", points=points)
  return datasets.points(str(tmp_path / "points.npz"))


@pytest.mark.parametrize("kind", ["digits", "points", "noised"])
def test_a_set_draws_from_what_is_held_out(kind, tmp_path):
  data = load("digits") if kind == "digits" else _points(tmp_path)
  data = critics.noised(data, 0.5) if kind == "noised" else data
  keys = jax.random.split(jax.random.key(0), 200)
  found = np.asarray(jax.jit(jax.vmap(data.draw))(keys))
  assert found.shape == (200, *data.shape)
  held_out = {row.tobytes() for row in np.float32(data.real[0])}
  drawn = {row.tobytes() for row in found}
  assert drawn <= held_out
  # 200 of n examples: n (1 - e^{-200 / n}) different ones are expected.
  number = len(held_out)
  assert len(drawn) > 0.8 * number * (1 - np.exp(-200 / number))


def test_a_distribution_draws_fresh_samples():
  normal = np.random.default_rng(0).normal(size=(4000, 2))
  gaussian, moons = load("gaussian"), load("moons")
  sets = [(data, data.split("test")[0]) for data in (gaussian, moons)]
  for data, truth in [*sets, (datasets.noise((2,)), normal)]:
    keys = jax.random.split(jax.random.key(0), 4000)
    found = np.asarray(jax.vmap(data.draw)(keys))
    assert len(np.unique(found, axis=0)) == 4000
    error = 5 * data.std * np.sqrt(1 / len(found) + 1 / len(truth))
    np.testing.assert_allclose(found.mean(0), truth.mean(0), atol=2 * error)
    np.testing.assert_allclose(found.std(0), truth.std(0), atol=2 * error)


def test_noised_data_have_the_noise_of_the_deviation(tmp_path):
  plain = _points(tmp_path, 4000)
  data = critics.noised(plain, 0.5)
  assert data.std == pytest.approx(np.hypot(plain.std, 0.5))
  for name in datasets.SPLITS:
    noise = data.split(name)[0] - plain.split(name)[0]
    np.testing.assert_allclose(noise.std(), 0.5, rtol=0.1)
    np.testing.assert_array_equal(data.split(name)[0], data.split(name)[0])
  first, _ = data.batches(jax.random.key(0), 8)(1)
  again, _ = data.batches(jax.random.key(0), 8)(1)
  np.testing.assert_array_equal(first, again)
  assert np.any(np.asarray(data.batches(jax.random.key(0), 8)(2)[0]) != first)
