import sys

import numpy as np
import pytest
from PIL import Image

from jaxgen.data import files

RNG = np.random.RandomState(0)
PIXELS = RNG.randint(0, 256, (40, 5, 4, 3)).astype(np.uint8)
LABELS = np.arange(40) % 3


def whole(source):
  return source.read(np.arange(source.size))


def save(path, **arrays):
  np.savez(path, **arrays)
  return path


def test_an_archive_is_read_and_split(tmp_path):
  path = save(tmp_path / "a.npz", images=PIXELS, labels=LABELS)
  sources, num_classes = files.load_npz(path)
  assert num_classes == 3
  order = np.random.RandomState(0).permutation(40)
  parts = {"test": order[:4], "validation": order[4:8], "train": order[8:]}
  assert sources.keys() == parts.keys()
  for name, rows in parts.items():
    pixels, labels = whole(sources[name])
    assert pixels.dtype == np.uint8 and labels.dtype == np.int32
    np.testing.assert_array_equal(pixels, PIXELS[rows])
    np.testing.assert_array_equal(labels, LABELS[rows])


def test_an_archive_without_labels_or_channels(tmp_path):
  gray = PIXELS[..., 0]
  sources, num_classes = files.load_npz(save(tmp_path / "a.npz", images=gray))
  pixels, labels = sources["train"].read(np.arange(2))
  assert num_classes == 0 and labels is None and pixels.shape == (2, 5, 4, 1)


def test_an_archive_may_bring_its_own_split(tmp_path):
  named = {"train_images": PIXELS, "train_labels": LABELS}
  named |= {"test_images": PIXELS[:7], "test_labels": np.zeros(7, int)}
  sources, _ = files.load_npz(save(tmp_path / "a.npz", **named))
  np.testing.assert_array_equal(whole(sources["test"])[0], PIXELS[:7])
  order = np.random.RandomState(0).permutation(40)
  validation = whole(sources["validation"])[0]
  np.testing.assert_array_equal(validation, PIXELS[order[:4]])
  np.testing.assert_array_equal(whole(sources["train"])[0], PIXELS[order[4:]])


@pytest.mark.parametrize(
  "arrays, message",
  [
    ({}, "expected an array images, or train_images, got nothing"),
    ({"x": PIXELS}, "expected an array images, or train_images, got x"),
    ({"test_images": PIXELS}, "train_images, got test_images"),
    (
      {"images": PIXELS, "train_images": PIXELS},
      "expected images, or train_images and so on, got both",
    ),
    ({"images": PIXELS, "labels": LABELS - 1}, "labels: expected 0 to 1, got"),
    ({"images": PIXELS, "labels": LABELS[1:]}, r"labels: expected \[40\]"),
    ({"images": PIXELS, "labels": LABELS * 2}, "0 to 4, got no 1"),
    ({"images": PIXELS / 255}, "none below 0"),
    ({"images": PIXELS * 1.0}, r"floats in \[-1, 1\], got 0 to 255"),
    ({"images": PIXELS[:2]}, "at least 3 examples to train on.*, got 2"),
    (
      {"train_images": PIXELS, "test_images": PIXELS[:, :4]},
      r"test: expected images \[5, 4, 3\] as in train, got \[4, 4, 3\]",
    ),
    (
      {"train_images": PIXELS, "train_labels": LABELS, "test_images": PIXELS},
      "test: expected labels in all parts or none",
    ),
    (
      {
        "train_images": PIXELS,
        "train_labels": LABELS,
        "test_images": PIXELS,
        "test_labels": LABELS + 1,
      },
      "test: labels: expected 0 to 2, got 1 to 3",
    ),
  ],
)
def test_a_bad_archive_is_one_line(tmp_path, arrays, message):
  path = save(tmp_path / "a.npz", **arrays)
  with pytest.raises(ValueError, match=message) as caught:
    files.load_npz(path)
  assert str(path) in str(caught.value) and "\n" not in str(caught.value)


class Bomb:
  def __reduce__(self):
    return exec, ("raise SystemExit('a pickle was read')",)


def bare(path):
  with path.open("wb") as file:
    np.save(file, PIXELS)


def damaged(path):
  save(path, images=PIXELS, labels=LABELS)
  path.write_bytes(path.read_bytes()[:-300])


@pytest.mark.parametrize(
  "write",
  [
    lambda path: path.write_bytes(b""),
    lambda path: path.write_text("not an archive"),
    bare,
    lambda path: save(path, images=np.array([Bomb()], object)),
    damaged,
  ],
)
def test_what_is_no_archive_is_one_line(tmp_path, write):
  path = tmp_path / "a.npz"
  write(path)
  with pytest.raises(ValueError, match=r"expected an \.npz archive") as caught:
    files.load_npz(path)
  assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("load", [files.load_npz, files.load_folder])
def test_a_missing_path_is_named(tmp_path, load):
  with pytest.raises(FileNotFoundError, match="nothing"):
    load(tmp_path / "nothing")


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
  sources, num_classes = files.load_folder(tmp_path)
  assert num_classes == 2
  order = np.random.RandomState(0).permutation(40)
  by_class = np.concatenate([np.arange(0, 40, 2), np.arange(1, 40, 2)])
  for name, rows in (("test", order[:4]), ("train", order[8:])):
    pixels, labels = whole(sources[name])
    np.testing.assert_array_equal(pixels, PIXELS[by_class[rows]])
    np.testing.assert_array_equal(labels, by_class[rows] % 2)


def test_a_flat_folder_has_no_labels(tmp_path):
  for i in range(3):
    write(tmp_path / f"{i}.png", PIXELS[i, ..., 0])
  sources, num_classes = files.load_folder(tmp_path)
  assert num_classes == 0
  read = [whole(sources[name]) for name in ("test", "validation", "train")]
  assert all(labels is None for _, labels in read)
  pixels = np.concatenate([pixels for pixels, _ in read])
  order = np.random.RandomState(0).permutation(3)
  np.testing.assert_array_equal(pixels, PIXELS[order, ..., :1])


def test_gray_beside_color_becomes_color(tmp_path):
  write(tmp_path / "0.png", PIXELS[0, ..., 0])
  write(tmp_path / "1.jpg", PIXELS[1])
  with Image.fromarray(PIXELS[2]).quantize(16) as palette:
    palette.save(tmp_path / "2.png")
    expected = np.asarray(palette.convert("RGB"))
  sources, _ = files.load_folder(tmp_path)
  pixels = np.concatenate([whole(s)[0] for s in sources.values()])
  assert pixels.shape == (3, 5, 4, 3)
  flat = {x.tobytes() for x in pixels}
  assert expected.tobytes() in flat
  assert PIXELS[0, ..., :1].repeat(3, -1).tobytes() in flat


def nothing(folder):
  (folder / "notes.txt").write_text("")


def both(folder):
  write(folder / "0.png", PIXELS[0])
  write(folder / "a" / "0.png", PIXELS[0])


def empty_class(folder):
  write(folder / "a" / "0.png", PIXELS[0])
  (folder / "b").mkdir()


def sizes(folder):
  write(folder / "0.png", PIXELS[0])
  write(folder / "1.png", PIXELS[1, :4])


def unreadable(folder):
  write(folder / "0.png", PIXELS[0])
  (folder / "1.png").write_text("<html>")


def cut_short(folder):
  write(folder / "1.png", np.zeros((50, 50), np.uint8))
  whole = (folder / "1.png").read_bytes()
  (folder / "1.png").write_bytes(whole[: len(whole) - 30])


def alpha(folder):
  write(folder / "1.png", np.zeros((5, 4, 4), np.uint8))


def deep(folder):
  write(folder / "1.png", np.zeros((5, 4), np.uint16))


@pytest.mark.parametrize(
  "make, message",
  [
    (nothing, "expected PNG or JPEG images, got none"),
    (both, "expected images, or a subfolder a class, got both"),
    (empty_class, "b: expected PNG or JPEG images, got none"),
    (sizes, r"1.png: expected 4 x 5 pixels as .*0.png, got 4 x 4"),
    (unreadable, "1.png: not a readable image; delete it"),
    (cut_short, "1.png: not a readable image; delete it"),
    (alpha, "1.png: expected 8-bit gray or RGB, got Pillow's mode RGBA"),
    (deep, "1.png: expected 8-bit gray or RGB, got Pillow's mode I;16"),
  ],
)
def test_a_bad_folder_is_one_line(tmp_path, make, message):
  make(tmp_path)
  with pytest.raises(ValueError, match=message) as caught:
    files.load_folder(tmp_path)
  assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_is_no_folder(tmp_path):
  (tmp_path / "a").write_text("")
  with pytest.raises(ValueError, match="expected a folder of images, got a f"):
    files.load_folder(tmp_path / "a")


def test_without_pillow_one_line_says_what_to_do(tmp_path, monkeypatch):
  write(tmp_path / "0.png", PIXELS[0])
  monkeypatch.setitem(sys.modules, "PIL", None)
  with pytest.raises(ImportError, match=r"need Pillow: pip install"):
    files.load_folder(tmp_path)
