"""Images converted on request: resized, composited on white, cut to 8 bits; and
EDM's layout with labels, in a folder or in a zip. Truth is Pillow called here.
"""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from jaxgen.data import files, folders, pictures
from tests import expect
from tests.data.test_pictures import png

RNG = np.random.RandomState(0)
PIXELS = RNG.randint(0, 256, (12, 6, 6, 3)).astype(np.uint8)
LABELS = np.array([2, 0, 1] * 4)


def whole(source):
  return source.read(np.arange(source.size))


def together(sources):
  """The images and labels of all parts, in the order of folders.load."""
  found = [whole(sources[name]) for name in ("test", "validation", "train")]
  order = np.argsort(np.random.RandomState(0).permutation(12))
  return [np.concatenate(arrays)[order] for arrays in zip(*found, strict=True)]


@pytest.mark.parametrize(
  "shape, crop",
  [
    ((9, 14), (2, 0, 11, 9)),
    ((15, 8), (0, 3, 8, 11)),
    ((3, 3), (0, 0, 3, 3)),
  ],
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_center_is_resized_by_lanczos(shape, crop, mode):
  color = RNG.randint(0, 256, (*shape, 3)).astype(np.uint8)
  image = Image.fromarray(color).convert(mode)
  levels = np.asarray(image).reshape(*shape, -1)
  found = pictures.square(levels, 5)
  expected = image.crop(crop).resize((5, 5), Image.Resampling.LANCZOS)
  assert found.dtype == np.uint8
  np.testing.assert_array_equal(found.squeeze(), np.asarray(expected))


def test_floats_are_resized_as_levels_are():
  levels = RNG.randint(60, 200, (12, 12, 3)).astype(np.uint8)
  found = pictures.square(np.float32(levels / 127.5 - 1), 7)
  assert found.dtype == np.float32
  expected = pictures.square(levels, 7) / 127.5 - 1
  np.testing.assert_allclose(found, expected, atol=1.5 / 127.5)
  edge = np.ones((12, 12, 1), np.float32)
  edge[:, :5] = -1  # the filter overshoots here
  found = pictures.square(edge, 7)
  assert (found.min(), found.max()) == (-1, 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_square_of_the_size_is_left_alone(dtype):
  image = PIXELS[0].astype(dtype)
  np.testing.assert_array_equal(pictures.square(image, 6), image)
  np.testing.assert_array_equal(pictures.square(image[:4], 4), image[:4, 1:5])


def test_sizes_may_be_mixed_if_a_size_is_given(tmp_path):
  shapes = [(6, 6), (9, 6), (30, 40)]
  images = [Image.new("L", shape, 40 * row) for row, shape in enumerate(shapes)]
  for row, image in enumerate(images):
    image.save(tmp_path / f"{row}.png")
  Image.fromarray(PIXELS[0]).save(tmp_path / "3.png")
  said = "must have one size, or be resized by --image-size"
  expect.error(said, folders.load, tmp_path)
  sources, _ = folders.load(tmp_path, size=4)
  found = [whole(sources[n])[0] for n in ("test", "validation", "train")]
  order = np.argsort(np.random.RandomState(0).permutation(4))
  found = np.concatenate(found)[order]
  assert found.shape == (4, 4, 4, 3)
  for row in range(3):
    assert np.all(found[row] == 40 * row)
  expected = Image.fromarray(PIXELS[0]).resize((4, 4), Image.Resampling.LANCZOS)
  np.testing.assert_array_equal(found[3], expected)


def test_arrays_are_resized_before_the_parts_are_compared(tmp_path):
  path = tmp_path / "a.npz"
  np.savez(path, train_images=PIXELS[:9], test_images=PIXELS[9:, 1:])
  sources, _ = files.load_npz(path, 5)
  for part, rows in (("test", slice(9, None)),):
    expected = np.stack([pictures.square(x[1:], 5) for x in PIXELS[rows]])
    np.testing.assert_array_equal(whole(sources[part])[0], expected)
  assert whole(sources["train"])[0].shape == (8, 5, 5, 3)


def deep(kind, levels):
  """A PNG of 16 bits per channel, one row of these numbers."""
  return png(16, kind, [np.array(levels, ">u2").tobytes()])


@pytest.mark.parametrize(
  "data, expected",
  [
    (deep(0, [0, 255, 256, 0x1234, 0xFFFF]), [0, 0, 1, 0x12, 0xFF]),
    (deep(2, [0, 0x12FF, 0xFF00, 256, 1, 2]), [0, 0x12, 0xFF, 1, 0, 0]),
    (deep(4, [0x8000, 0xFFFF, 0, 0]), [0x80, 255]),
    (deep(6, [0x1000, 0x2000, 0x3000, 0xFFFF]), [0x10, 0x20, 0x30]),
    (png(8, 4, [b"\0\xff\0\0\x64\x80"]), [0, 255, 177]),
    (png(8, 6, [b"abc\0\0\0\0\x80"]), [255, 255, 255, 127, 127, 127]),
    (png(8, 0, [b"\5\6"], tRNS=b"\0\5"), [255, 6]),
    (png(2, 0, [b"\x1b"], tRNS=b"\0\1"), [0, 255, 170, 255]),
    (png(8, 2, [b"abc"], tRNS=b"\0a\0b\0c"), [255, 255, 255]),
    (png(8, 3, [b"\1\0"], PLTE=b"abcdef", tRNS=b"\0"), [*b"def", *[255] * 3]),
  ],
)
def test_what_eight_bits_lose_is_converted_on_request(tmp_path, data, expected):
  """Level and alpha as in a viewer: a level + (1 - a) 255."""
  path = tmp_path / "a.png"
  path.write_bytes(data)
  expect.error("--convert$", pictures.read, [path])
  found = pictures.read([path], convert=True)
  assert found.dtype == np.uint8
  np.testing.assert_allclose(found.ravel(), expected, atol=0)


@pytest.mark.parametrize(
  "data, message",
  [
    (png(16, 0, [b"abcd"], tRNS=b"ab"), "16 bits per channel with a transp"),
    (png(16, 2, [b"abcdef"], tRNS=b"abcdef"), "16 bits per channel with a t"),
  ],
)
def test_what_has_no_conversion_is_still_rejected(tmp_path, data, message):
  (tmp_path / "a.png").write_bytes(data)
  expect.error(message, pictures.read, [tmp_path / "a.png"], convert=True)


def edm_layout(folder, labels):
  """What EDM's dataset_tool writes of PIXELS: returns the order by label."""
  names = [f"{row // 5:05}/img{row:08}.png" for row in range(len(PIXELS))]
  for name, pixels in zip(names, PIXELS, strict=True):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / name)
  known = None
  if labels is not None:
    known = [[n, int(label)] for n, label in zip(names, labels, strict=True)]
    known.append(["00009/img00009999.png", 7])  # not in this copy
  (folder / "dataset.json").write_text(json.dumps({"labels": known}))


def zipped(folder, path):
  with zipfile.ZipFile(path, "w") as archive:
    for file in folder.rglob("*"):
      if file.is_file():
        archive.write(file, file.relative_to(folder))
    archive.writestr("__MACOSX/._img.png", b"left alone")
  return path


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_edms_layout_has_its_labels(tmp_path, kind):
  edm_layout(tmp_path / "a", LABELS)
  if kind == "folder":
    sources, num_classes = folders.load(tmp_path / "a")
  else:
    path = zipped(tmp_path / "a", tmp_path / "a.zip")
    sources, num_classes = folders.load_zip(path)
  assert num_classes == 3
  order = np.argsort(LABELS, kind="stable")
  pixels, labels = together(sources)
  np.testing.assert_array_equal(pixels, PIXELS[order])
  np.testing.assert_array_equal(labels, LABELS[order])


def test_a_zip_without_labels_is_resized_too(tmp_path):
  edm_layout(tmp_path / "a", None)
  path = zipped(tmp_path / "a", tmp_path / "a.zip")
  sources, num_classes = folders.load_zip(path, size=3)
  assert num_classes == 0 and whole(sources["train"])[1] is None
  expected = np.stack([pictures.square(x, 3) for x in PIXELS])
  order = np.random.RandomState(0).permutation(12)
  np.testing.assert_array_equal(whole(sources["test"])[0], expected[order[:1]])


def test_labels_of_a_file_are_those_of_any_layout(tmp_path):
  """Flat, and with parts, whose labels are numbers and not names."""
  for part, rows in (("train", range(8)), ("test", range(8, 12))):
    (tmp_path / part).mkdir()
    known = [[f"{row:02}.png", int(LABELS[row])] for row in rows]
    record = json.dumps({"labels": known})
    (tmp_path / part / "dataset.json").write_text(record)
    for row in rows:
      Image.fromarray(PIXELS[row]).save(tmp_path / part / f"{row:02}.png")
  sources, num_classes = folders.load(tmp_path)
  pixels, labels = whole(sources["test"])
  rows = 8 + np.argsort(LABELS[8:], kind="stable")
  assert num_classes == 3
  np.testing.assert_array_equal(pixels, PIXELS[rows])
  np.testing.assert_array_equal(labels, LABELS[rows])


def damaged(path):
  data = bytearray(path.read_bytes())
  data[data.index(b"IDAT") + 9] ^= 255
  path.write_bytes(data)


@pytest.mark.parametrize(
  "change, message",
  [
    (lambda path: path.write_text("no zip"), "expected a zip of images, got"),
    (lambda path: path.write_bytes(path.read_bytes()[:-40]), "expected a zip"),
    (damaged, r"img\d+.png: not readable \(Bad CRC-32 for file .*write the zi"),
  ],
)
def test_a_bad_zip_is_one_line(tmp_path, change, message):
  edm_layout(tmp_path / "a", LABELS)
  path = zipped(tmp_path / "a", tmp_path / "a.zip")
  change(path)
  said = expect.error(message, folders.load_zip, path)
  assert said.startswith(str(path))
  with pytest.raises(FileNotFoundError, match=r"no\.zip"):
    folders.load_zip(tmp_path / "no.zip")


def test_an_archive_of_points_is_recognised(tmp_path):
  path = tmp_path / "a.npz"
  np.savez(path, points=np.zeros((5, 3)))
  assert files.has_points(path)
  np.savez(path, images=PIXELS)
  assert not files.has_points(path)
  with path.open("wb") as file:
    np.save(file, PIXELS)
  assert not files.has_points(path)
  for bad in (tmp_path, tmp_path / "nothing.npz"):
    assert not files.has_points(bad)
