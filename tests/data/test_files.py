import io
import zipfile

import numpy as np
import pytest

from jaxgen.data import files
from tests import expect

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
    ({"x": PIXELS}, "expected arrays named images, labels, .*, got x$"),
    ({"images": PIXELS, "label": LABELS}, r"got label \(is it labels\?\)$"),
    ({"image": PIXELS}, r"got image \(is it images\?\)$"),
    (
      {"train_images": PIXELS, "val_images": PIXELS[:9]},
      r"got val_images \(is it validation_images\?\)$",
    ),
    (
      {"train_images": PIXELS, "valid_labels": LABELS},
      r"got valid_labels \(is it validation_labels\?\)$",
    ),
    (
      {f"x{i}": LABELS for i in range(2500)},
      "got x0, x1, x2, x3, x4 and 2495 more$",
    ),
    ({"labels": LABELS}, "expected an array images as well as labels$"),
    (
      {"train_images": PIXELS, "test_labels": LABELS},
      "expected an array test_images as well as test_labels$",
    ),
    ({"images": PIXELS, "train_labels": LABELS}, "and so on, got both: "),
    ({"train_images": PIXELS, "labels": LABELS}, "and so on, got both: "),
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
  assert str(path) in expect.error(message, files.load_npz, path)


class Bomb:
  def __reduce__(self):
    return exec, ("raise SystemExit('a pickle was read')",)


def archive(path, **members):
  """A zip of these bytes."""
  with zipfile.ZipFile(path, "w") as zipped:
    for name, data in members.items():
      zipped.writestr(name, data)


def npy(header, data=b"abc"):
  size = len(header).to_bytes(2, "little")
  return b"\x93NUMPY\x01\x00" + size + header.encode() + data


def npy_of(path, header):
  archive(path, **{"images.npy": npy(header)})


def bare(path):
  with path.open("wb") as file:
    np.save(file, PIXELS)


def cut(path):
  save(path, images=PIXELS, labels=LABELS)
  path.write_bytes(path.read_bytes()[:-300])


def cut_inside(path):
  file = io.BytesIO()
  np.save(file, PIXELS)
  archive(path, **{"images.npy": file.getvalue()[:-1000]})


def flipped(path, write=np.savez):
  write(path, images=PIXELS)
  data = bytearray(path.read_bytes())
  data[100] ^= 255
  path.write_bytes(data)


HUGE = "{'descr': '|u1', 'fortran_order': False, 'shape': (10**17,), }\n"


@pytest.mark.parametrize(
  "write, message",
  [
    (lambda path: path.write_bytes(b""), "an .npz archive .*, got an empty fi"),
    (lambda path: path.write_text("not an archive"), "got something else$"),
    (bare, r"an \.npz archive .*, got a single array \(numpy.save\)$"),
    (cut, "an .npz archive .*, got an archive that is cut off or damaged$"),
    (cut_inside, "array images is not readable: EOF: reading array data, exp"),
    (flipped, "array images is not readable: Bad CRC-32 for file 'images.npy'"),
    (
      lambda path: flipped(path, np.savez_compressed),
      "array images is not readable: Error -3 while decompressing data",
    ),
    (
      lambda path: npy_of(path, "{'descr': '|u1', 'fortran_order': Fal\n"),
      "array images is not readable: [^()]*$",  # no repr
    ),
    (lambda path: npy_of(path, " " * 20000 + "\n"), "readable: Header info l"),
    (
      lambda path: npy_of(path, HUGE.replace("10**17", str(10**17))),
      "images is not readable: Unable to allocate 88.8 PiB",
    ),
    (
      lambda path: save(path, images=np.array([Bomb()], object)),
      "array images is not readable: Object arrays cannot be loaded",
    ),
    (
      lambda path: archive(path, images=b"hello"),
      "expected an array images, got a file images",
    ),
    (
      lambda path: archive(path, **{f"{i}.png": b"" for i in range(2500)}),
      "got 0.png, 1.png, 2.png, 3.png, 4.png and 2495 more$",
    ),
  ],
)
@pytest.mark.parametrize("load", [files.load_npz, files.load_points])
def test_what_is_no_archive_is_one_line(tmp_path, write, message, load):
  path = tmp_path / "a.npz"
  write(path)
  if load is files.load_points:
    rename(path)
    message = message.replace("images", "points")
  said = expect.error(message, load, path)
  assert said.startswith(f"{path}: ") and len(said) < 400


def rename(path):
  """Arrays images become points; of one length, so that offsets stay."""
  path.write_bytes(path.read_bytes().replace(b"images", b"points"))


def test_points_have_no_other_arrays_beside_them(tmp_path):
  points = np.arange(40.0).reshape(20, 2)
  path = save(tmp_path / "a.npz", points=points)
  order = np.random.RandomState(0).permutation(20)
  train = whole(files.load_points(path)["train"])
  assert train.dtype == np.float32
  np.testing.assert_array_equal(train, points[order[4:]])
  for name, message in (
    ("labels", "expected arrays named points, got labels$"),
    ("test_points", r"got test_points \(is it points\?\)$"),
  ):
    save(path, **{"points": points, name: points})
    expect.error(message, files.load_points, path)


def test_a_missing_path_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match="nothing"):
    files.load_npz(tmp_path / "nothing")
