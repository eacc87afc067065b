import json

import numpy as np
import pytest
from PIL import Image

from jaxgen.data import folders
from tests import expect
from tests.data.test_files import whole

RNG = np.random.RandomState(0)
PIXELS = RNG.randint(0, 256, (40, 5, 4, 3)).astype(np.uint8)


def write(path, pixels, **settings):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(pixels).save(path, **settings)


def test_a_folder_has_a_subfolder_a_class(tmp_path):
  for i in range(40):
    name = f"{'ab'[i % 2]}/{i:02}.{'png' if i % 3 else 'PNG'}"
    write(tmp_path / name, PIXELS[i])
  (tmp_path / "a" / "notes.txt").write_text("left alone")
  (tmp_path / "a" / ".hidden.png").write_text("left alone")
  (tmp_path / ".cache").mkdir()
  sources, num_classes = folders.load(tmp_path)
  assert num_classes == 2
  order = np.random.RandomState(0).permutation(40)
  by_class = np.concatenate([np.arange(0, 40, 2), np.arange(1, 40, 2)])
  for name, rows in (("test", order[:4]), ("train", order[8:])):
    pixels, labels = whole(sources[name])
    assert pixels.dtype == np.uint8 and labels.dtype == np.int32
    np.testing.assert_array_equal(pixels, PIXELS[by_class[rows]])
    np.testing.assert_array_equal(labels, by_class[rows] % 2)


def test_a_flat_folder_has_no_labels(tmp_path):
  for i in range(3):
    write(tmp_path / f"{i}.png", PIXELS[i, ..., 0])
  sources, num_classes = folders.load(tmp_path)
  assert num_classes == 0
  read = [whole(sources[name]) for name in ("test", "validation", "train")]
  assert all(labels is None for _, labels in read)
  pixels = np.concatenate([pixels for pixels, _ in read])
  order = np.random.RandomState(0).permutation(3)
  np.testing.assert_array_equal(pixels, PIXELS[order, ..., :1])


@pytest.mark.parametrize("names", ["train val Test", "training valid testing"])
def test_folders_of_parts_are_parts(tmp_path, names):
  """With the classes of train, of which the others may lack some."""
  of_part = dict(zip(names.split(), ("abbc", "cb", "c"), strict=True))
  rows = iter(range(40))
  for part, classes in of_part.items():
    for name in classes:
      i = next(rows)
      write(tmp_path / part / name / f"{i}.png", PIXELS[i])
  sources, num_classes = folders.load(tmp_path)
  assert num_classes == 3
  expected = {
    "train": ([0, 1, 2, 3], [0, 1, 1, 2]),
    "validation": ([5, 4], [1, 2]),
    "test": ([6], [2]),
  }
  assert sources.keys() == expected.keys()
  for part, (rows, classes) in expected.items():
    pixels, labels = whole(sources[part])
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(pixels, PIXELS[rows])
    np.testing.assert_array_equal(labels, classes)


def test_parts_may_be_flat_and_too_few(tmp_path):
  """Color in one of them makes color of all; validation is cut off train."""
  for i in range(4):
    write(tmp_path / "train" / f"{i}.png", PIXELS[i, ..., 0])
  write(tmp_path / "test" / "4.png", PIXELS[4])
  sources, num_classes = folders.load(tmp_path)
  assert num_classes == 0 and all(whole(s)[1] is None for s in sources.values())
  np.testing.assert_array_equal(whole(sources["test"])[0], PIXELS[4:5])
  order = np.random.RandomState(0).permutation(4)
  gray = PIXELS[order, ..., :1].repeat(3, -1)
  np.testing.assert_array_equal(whole(sources["validation"])[0], gray[:1])
  np.testing.assert_array_equal(whole(sources["train"])[0], gray[1:])


@pytest.mark.parametrize(
  "numbers, name, record",
  [
    ([0, 999, 1000, 2500], "{}/img{:08}.png", '{"labels": null}'),
    ([0, 999, 1000, 69999], "{}/{:05}.png", None),
    ([0, 1, 2, 3], "train/{}/img{:08}.png", None),
  ],
)
def test_shards_are_no_classes(tmp_path, numbers, name, record):
  """EDM's 00002/img00002500.png and FFHQ's 69000/69999.png."""
  for row, number in enumerate(numbers):
    shard = number // 1000 * (1 if "img" in name else 1000)
    write(tmp_path / name.format(f"{shard:05}", number), PIXELS[row])
  if record:
    (tmp_path / "dataset.json").write_text(record)
  sources, num_classes = folders.load(tmp_path)
  assert num_classes == 0
  order = np.random.RandomState(0).permutation(4)
  for part, rows in (("test", order[:1]), ("train", order[2:])):
    pixels, labels = whole(sources[part])
    assert labels is None
    np.testing.assert_array_equal(pixels, PIXELS[rows])


def files(*names, text=""):
  """Writes images of these names, and other files with the text."""

  def make(folder):
    for name in names:
      if name.endswith(("png", "jpg")):
        write(folder / name, PIXELS[0])
      else:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)

  return make


def labelled(*names):
  """EDM's label file: labels 0, 3, 6, ..."""
  labels = [[name, 3 * row] for row, name in enumerate(names)]
  return json.dumps({"labels": labels})


SHARD = "00000/img00000000.png"


@pytest.mark.parametrize(
  "make, message",
  [
    (files("notes.txt"), "expected PNG or JPEG images, got none"),
    (files("0.png", "a/0.png"), "expected images, or sub-folders, got both"),
    (files("0.png", "train/0.png"), "expected images, or sub-folders, got bo"),
    (files("a/0.png", "b/notes.txt"), "b: expected PNG or JPEG images, got no"),
    (files("a/0.png", "a/b/0.png"), "a: expected only images, got .*/a/b$"),
    (files("train/a/b/0.png"), "train/a: expected only images, got .*/a/b$"),
    (files("a/0.png", "a/1.webp"), "1.webp: expected PNG or JPEG; convert or"),
    (files("0.png", "1.TIFF"), "1.TIFF: expected PNG or JPEG; convert or rem"),
    (
      files("train/0.png", "plane/0.png"),
      "expected only the sub-folder train and .*, got plane, train$",
    ),
    (
      files("test/0.png", "val/0.png"),
      "the sub-folder train and .* got test, val",
    ),
    (
      files("train/0.png", "val/0.png", "valid/0.png"),
      "got train, val, valid$",
    ),
    (
      files("train/a/0.png", "test/b/0.png"),
      r"test: expected the classes of train \(a\), got b$",
    ),
    (
      files("train/a/0.png", "test/0.png"),
      r"test: expected the classes of train \(a\), got no classes$",
    ),
    (
      files("train/0.png", "test/a/0.png"),
      r"test: expected the classes of train \(no classes\), got a$",
    ),
    (
      files(*(f"train/{i}/0.png" for i in range(9)), "val/x/0.png"),
      r"of train \(0, 1, 2, 3, 4 and 4 more\), got x$",
    ),
    (files(SHARD, "a/0.png"), "a/0.png: expected a shard such as 00000"),
    (files(SHARD, "00001/0.png"), "00001/0.png: expected a shard such as"),
    (files("00001/00000_00001.png"), "expected a shard .* other names$"),
    (files("00000/00000.png", "00001/00000.png"), "00001/00000.png: expected"),
    (files("00001/23456.png"), "23456.png: expected a shard .* other names$"),
    (
      files(SHARD, "dataset.json", text='{"labels": [["img", 0]]}'),
      "dataset.json: expected a label of every image, got none of 00000/img000",
    ),
    (
      files(SHARD, "dataset.json", text='{"labels": [["img", [0.5, 1]]]}'),
      r"dataset.json: img: expected an integer label, got \[0.5, 1\]$",
    ),
    (
      files(SHARD, "dataset.json", text='{"labels": [["img", true]]}'),
      "dataset.json: img: expected an integer label, got True$",
    ),
    (
      files(SHARD, "dataset.json", text='{"labels": 5}'),
      r"dataset.json: expected a record with labels \('int' object is not it",
    ),
    (
      files("0.png", "1.png", "dataset.json", text=labelled("0.png", "1.png")),
      "labels: expected every class of 0 to 3, got no 1;",
    ),
    (
      files("train/0.png", "dataset.json", text=labelled("train/0.png")),
      "dataset.json: expected the labels of each part in its own folder",
    ),
    (
      files(SHARD, "dataset.json", text='{"labels'),
      r"dataset.json: expected a record with labels \(Unterminated string",
    ),
  ],
)
def test_a_bad_folder_is_one_line(tmp_path, make, message):
  make(tmp_path)
  assert str(tmp_path) in expect.error(message, folders.load, tmp_path)


def test_what_is_no_folder_is_named(tmp_path):
  (tmp_path / "a").write_text("")
  said = "expected a folder of images, got a file"
  expect.error(said, folders.load, tmp_path / "a")
  with pytest.raises(FileNotFoundError, match="nothing: no such folder"):
    folders.load(tmp_path / "nothing")
