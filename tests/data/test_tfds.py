"""Sets of tensorflow-datasets, prepared here and read back by name."""

import io
import shutil
import socket
import sys

import jax
import numpy as np
import pytest
import tensorflow_datasets as testbed
from PIL import Image

from jaxgen.data import digits, loaders, tfds
from tests import expect, processes
from tests.data.test_files import whole

SPLITS = ("train", "validation", "test")
CLASSES = testbed.features.ClassLabel(num_classes=4)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  directory = tmp_path_factory.mktemp("prepared")
  tfds.prepare_digits(directory)
  return directory


def prepare(data_dir, name, image, splits, label=CLASSES):
  """Writes a set of splits {name: [(image, label)]}, images or their files."""
  kind = label

  def info(self):
    features = {
      "image": image,
      "label": kind,
      "id": testbed.features.Scalar(np.int64),
    }
    return testbed.core.DatasetInfo(
      builder=self,
      features=testbed.features.FeaturesDict(features),
      disable_shuffling=True,
    )

  def examples(split):
    for row, (pixels, label) in enumerate(splits[split]):
      file = pixels
      if not isinstance(pixels, io.BytesIO):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        file.seek(0)
      yield row, {"image": file, "label": label, "id": row}

  members = {
    "VERSION": testbed.core.Version("1.0.0"),
    "_info": info,
    "_split_generators": lambda self, _: {s: examples(s) for s in splits},
    "_generate_examples": lambda self, split: examples(split),
  }
  base = testbed.core.GeneratorBasedBuilder
  builder = type(name, (base,), members, skip_registration=True)
  builder(
    data_dir=str(data_dir), file_format="array_record"
  ).download_and_prepare()


def pixels_of(number, height=5):
  rng = np.random.RandomState(number)
  return rng.randint(0, 256, (number, height, 4, 3)).astype(np.uint8)


@pytest.mark.parametrize("memory_limit", [2**20, 0])
def test_digits_come_back_bit_for_bit(data_dir, memory_limit):
  sources, num_classes = tfds.load("digits", data_dir, memory_limit)
  assert num_classes == 10 and set(sources) == set(SPLITS)
  for split in SPLITS:
    images, labels = digits.load(split)
    found, classes = whole(sources[split])
    assert found.dtype == np.float32 and classes.dtype == np.int32
    np.testing.assert_array_equal(found, images)
    np.testing.assert_array_equal(classes, labels)


def test_row_by_row_gives_the_same_batches(data_dir):
  both = [tfds.load("digits", data_dir, limit)[0] for limit in (2**20, 0)]
  key = jax.random.key(0)
  one, other = (loaders.batches_from(s["train"], key, 33) for s in both)
  for step in (0, 38, 5):  # 38 straddles two epochs
    for a, b in zip(one(step), other(step), strict=True):
      np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def pictures(data_dir):
  pixels, labels = pixels_of(30), np.arange(30) % 4
  image = testbed.features.Image(shape=(5, 4, 3))
  pairs = list(zip(pixels, labels, strict=True))
  splits = {"train": pairs, "test": [(pixels[0], -1)]}
  prepare(data_dir, "Pictures", image, splits)
  return pixels, labels


@pytest.mark.parametrize("memory_limit", [2**20, 0])
def test_png_keeps_its_levels_and_train_is_cut(
  data_dir, pictures, memory_limit
):
  sources, num_classes = tfds.load("pictures:1.0.0", data_dir, memory_limit)
  order = np.random.RandomState(0).permutation(30)
  for split, rows in (("validation", order[:3]), ("train", order[3:])):
    pixels, labels = whole(sources[split])
    assert pixels.dtype == np.uint8 and num_classes == 4
    np.testing.assert_array_equal(pixels, pictures[0][rows])
    np.testing.assert_array_equal(labels, pictures[1][rows])


def test_hidden_labels_are_refused_where_they_are_asked_for(data_dir, pictures):
  sources, _ = tfds.load("pictures", data_dir)
  said = r"tfds:pictures: test: labels: expected 0 to 3, got -1 to -1"
  expect.error(said, sources["test"].read, np.arange(1))


def test_a_label_without_classes_is_not_one(data_dir):
  """Such as a number of any size: the data are without labels."""
  image, pixels = testbed.features.Image(shape=(5, 4, 3)), pixels_of(3)
  pairs = [(one, 7 + row) for row, one in enumerate(pixels)]
  number = testbed.features.Scalar(np.int64)
  prepare(data_dir, "Numbers", image, {"train": pairs, "test": pairs}, number)
  sources, num_classes = tfds.load("numbers", data_dir)
  assert num_classes == 0
  found, labels = sources["test"].read(np.arange(3))
  np.testing.assert_array_equal(found, pixels)
  assert labels is None


def test_images_of_several_sizes_are_refused(data_dir):
  image = testbed.features.Image(shape=(None, None, 3))
  pairs = [(pixels_of(1, height)[0], 0) for height in (5, 5, 6)]
  prepare(data_dir, "Mixed", image, {"train": pairs, "test": pairs[:1]})
  sources, _ = tfds.load("mixed", data_dir)
  expected = r"one size, got \[5, 4, 3\] and \[6, 4, 3\]; resize"
  said = expect.error(expected, whole, sources["train"])
  assert "tfds:mixed: train" in said
  for memory_limit in (2**20, 0):
    sources, _ = tfds.load("mixed", data_dir, memory_limit, 4)
    found, _ = whole(sources["test"])  # the centered 4 x 4 of 5 x 4
    np.testing.assert_array_equal(found, pairs[0][0][None, :4])
    assert whole(sources["train"])[0].shape == (2, 4, 4, 3)


def test_what_cannot_be_decoded_is_one_line(data_dir):
  """A file that is cut off, and no image at all."""
  file = io.BytesIO()
  Image.fromarray(pixels_of(1)[0]).save(file, "PNG")
  messages = {
    "validation": r"not readable \(image file is truncated\); prepare it again",
    "test": r"not readable \(cannot identify image file\); prepare it again",
  }
  given = zip(messages, (file.getvalue()[:-40], b"<html>"), strict=True)
  splits = {part: [(io.BytesIO(data), 0)] for part, data in given}
  splits["train"] = [(pixels_of(1)[0], 0)]
  image = testbed.features.Image(shape=(5, 4, 3))
  prepare(data_dir, "Odd", image, splits)
  sources, _ = tfds.load("odd", data_dir)
  for part, message in messages.items():
    said = expect.error(message, whole, sources[part])
    assert said.startswith(f"tfds:odd: {part}: example 0") and "0x" not in said


def test_damaged_files_are_one_line(data_dir, tmp_path):
  shutil.copytree(data_dir / "digits", tmp_path / "digits")
  (path,) = (tmp_path / "digits").rglob("*test.array_record*")
  path.write_bytes(path.read_bytes()[:-5])
  sources, _ = tfds.load("digits", tmp_path)
  said = r"digits: test: example 0 is not readable \(Invalid Riegeli/records"
  expect.error(said, sources["test"].read, np.arange(1))
  (path,) = (tmp_path / "digits").rglob("dataset_info.json")
  path.write_text('{"a')
  said = r"or damaged \(Failed to load JSON"
  expect.error(said, tfds.load, "digits", tmp_path)


def test_tensorflow_is_never_imported(data_dir, pictures):
  code = """
import sys
from jaxgen.data import tfds
assert "tensorflow_datasets" not in sys.modules
for name in ("digits", "pictures"):
  tfds.load(name, sys.argv[1])[0]["train"].read([0, 1])
assert "tensorflow" not in sys.modules
print("read")
"""
  done = processes.python("-c", code, data_dir)
  assert (done.stdout, done.stderr) == ("read\n", "")


def test_mocked_cifar10_is_read(tmp_path):
  with testbed.testing.mock_data(num_examples=12):
    sources, num_classes = tfds.load("cifar10", tmp_path)
    pixels, labels = whole(sources["train"])
  assert num_classes == 10 and pixels.shape == (12, 32, 32, 3)
  assert pixels.dtype == np.uint8 and len(np.unique(labels)) > 2


@pytest.fixture
def offline(monkeypatch):
  def refuse(*args):
    raise AssertionError("asked the network")

  monkeypatch.setattr(socket.socket, "connect", refuse)
  monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize(
  "name, message",
  [
    (
      "cifar10",
      r"tfds:cifar10: not prepared \(no .*cifar10/3.0.2\); once, .* run tfds"
      r" build cifar10 --file_format=array_record --data_dir=DIR",
    ),
    ("mnist:3.0.1", r"tfds:mnist:3.0.1: not prepared \(no .*mnist/3.0.1\)"),
    (
      "cifar11",
      r"tfds:cifar11: no such dataset, .* \(Dataset cifar11 not found\)",
    ),
    ("digits:2.0.0", r"no such dataset, .* \(Dataset digits not found\)"),
    ("cifar10:9.9.9", r"no such dataset.*version 9.9.9, only: 3.0.2"),
    (
      "two words",
      r"no such dataset.* \(Parsing builder name string two words fail",
    ),
    ("imdb_reviews", "expected a feature named image, got text, label"),
  ],
)
def test_what_is_not_there_is_one_line_at_once(
  data_dir, offline, capfd, name, message
):
  with pytest.raises(ValueError, match=message) as caught:
    tfds.load(name, data_dir)
  error = caught.value
  assert "\n" not in str(error)
  assert error.__context__ is None or error.__suppress_context__
  assert capfd.readouterr() == ("", "")


def test_a_format_without_random_access_is_refused(data_dir, tmp_path):
  shutil.copytree(data_dir / "digits", tmp_path / "digits")
  for path in sorted((tmp_path / "digits" / "1.0.0").iterdir()):
    if path.suffix == ".json":
      path.write_text(path.read_text().replace("array_record", "tfrecord"))
    else:
      path.rename(str(path).replace("array_record", "tfrecord"))
  said = "no format with random access; once,"
  expect.error(said, tfds.load, "digits", tmp_path)


def test_a_set_without_train_is_refused(data_dir, tmp_path):
  shutil.copytree(data_dir / "digits", tmp_path / "digits")
  path = tmp_path / "digits" / "1.0.0" / "dataset_info.json"
  before, text = '"name": "train"', path.read_text()
  assert before in text
  path.write_text(text.replace(before, '"name": "training"'))
  said = "tfds:digits: Unknown split 'train'"
  expect.error(said, tfds.load, "digits", tmp_path)


def test_preparing_again_changes_nothing(data_dir):
  files = sorted((data_dir / "digits").rglob("*"))
  tfds.prepare_digits(data_dir)
  assert sorted((data_dir / "digits").rglob("*")) == files


def test_without_the_package_one_line_says_what_to_do(monkeypatch):
  monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
  with pytest.raises(ImportError, match=r"pip install 'jaxgen\[data\]'"):
    tfds.load("digits")
