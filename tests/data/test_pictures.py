"""Image files of every kind that Pillow opens; PNGs written by hand."""

import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxgen.data import pictures
from tests import expect

RNG = np.random.RandomState(0)
PIXELS = RNG.randint(0, 256, (5, 4, 3)).astype(np.uint8)


def png(depth, kind, rows, **chunks):
  """A PNG of these rows of bytes, 8 / depth pixels a byte."""

  def chunk(name, data):
    body = name.encode() + data
    return (
      struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
    )

  channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
  width = len(rows[0]) * 8 // depth // channels
  header = struct.pack(">IIBBBBB", width, len(rows), depth, kind, 0, 0, 0)
  parts = [chunk("IHDR", header)]
  parts += [chunk(name, bytes(data)) for name, data in chunks.items()]
  parts += [chunk("IDAT", zlib.compress(b"".join(b"\0" + r for r in rows)))]
  return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk("IEND", b"")])


def read_one(folder, data):
  (folder / "a.png").write_bytes(data)
  return pictures.read([folder / "a.png"])[0]


def save(path, image, **settings):
  image.save(path, **settings)
  return pictures.read([path])[0]


def kind_of(value):
  """A short name of a PNG among the parameters of a test."""
  if isinstance(value, bytes):
    return f"{value[24]} bits of kind {value[25]}"
  return value if isinstance(value, str) else ""


PALETTE = bytes([9, 9, 9, 0, 128, 255, 255, 0, 7])


@pytest.mark.parametrize(
  "data, expected",
  [
    (png(1, 0, [b"\xa1"]), [255, 0, 255, 0, 0, 0, 0, 255]),
    (png(2, 0, [b"\x1b"]), [0, 85, 170, 255]),
    (png(4, 0, [b"\x5f"]), [85, 255]),
    (png(8, 0, [b"\x05\xfe"]), [5, 254]),
    (png(2, 3, [b"\x18"], PLTE=PALETTE), [*PALETTE[:9], *PALETTE[:3]]),
    (png(8, 3, [b"\2\0"], PLTE=PALETTE), [*PALETTE[6:], *PALETTE[:3]]),
    # Transparency that no pixel has: the palette's last entry; a gray, a color
    # that does not occur; an alpha of 255 throughout.
    (
      png(8, 3, [b"\1\0"], PLTE=PALETTE, tRNS=b"\xff\xff\0"),
      [*PALETTE[3:6], *PALETTE[:3]],
    ),
    (png(1, 0, [b"\xff"], tRNS=b"\0\0"), [255] * 8),
    (png(2, 0, [b"\x1a"], tRNS=b"\0\3"), [0, 85, 170, 170]),
    (png(4, 0, [b"\x5f"], tRNS=b"\0\1"), [85, 255]),
    (png(8, 0, [b"\x05\x06"], tRNS=b"\0\7"), [5, 6]),
    (png(8, 2, [b"abc"], tRNS=b"\0a\0b\0d"), [*b"abc"]),
    (png(8, 4, [b"a\xffb\xff"]), [*b"ab"]),
    (png(8, 6, [b"abc\xff"]), [*b"abc"]),
  ],
  ids=kind_of,
)
def test_every_depth_and_palette_is_exact(tmp_path, data, expected):
  pixels = read_one(tmp_path, data)
  assert pixels.dtype == np.uint8 and pixels.ndim == 3
  np.testing.assert_array_equal(pixels.ravel(), expected)


@pytest.mark.parametrize(
  "data, message",
  [
    (png(8, 3, [b"\1\0"], PLTE=PALETTE, tRNS=b"\0"), "transparent"),
    (png(8, 3, [b"\1\0"], PLTE=PALETTE, tRNS=b"\xff\x80"), "transparent"),
    (png(1, 0, [b"\xf0"], tRNS=b"\0\0"), "transparent"),
    (png(2, 0, [b"\x1b"], tRNS=b"\0\1"), "transparent"),
    (png(4, 0, [b"\x5a"], tRNS=b"\0\5"), "transparent"),
    (png(8, 0, [b"\x05\x06"], tRNS=b"\0\5"), "transparent"),
    (png(8, 2, [b"abc"], tRNS=b"\0a\0b\0c"), "transparent"),
    (png(8, 4, [b"a\xffb\xfe"]), "transparent"),
    (png(8, 6, [b"abc\0"]), "transparent"),
    (png(16, 0, [b"abcd"]), "16 bits per channel; convert it to 8"),
    (png(16, 0, [b"abcd"], tRNS=b"ab"), "16 bits"),
    (png(16, 2, [b"abcdef"]), "16 bits"),
    (png(16, 4, [b"abcd"]), "16 bits"),
    (png(16, 6, [b"abcdefgh"]), "16 bits"),
  ],
  ids=kind_of,
)
def test_what_eight_bits_lose_is_rejected(tmp_path, data, message):
  said = f"8-bit gray or RGB, got {message}"
  expect.error(said, read_one, tmp_path, data)


# What a viewer shows of stored pixels at each EXIF orientation.
SHOWN = {
  1: lambda x: x,
  2: lambda x: x[:, ::-1],
  3: lambda x: x[::-1, ::-1],
  4: lambda x: x[::-1],
  5: lambda x: x.swapaxes(0, 1),
  6: lambda x: np.rot90(x, -1),
  7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
  8: lambda x: np.rot90(x),
}


@pytest.mark.parametrize("orientation", [*SHOWN, 0, 9])
@pytest.mark.parametrize(
  "mode, ending", [("RGB", "png"), ("P", "png"), ("L", "jpg")]
)
def test_images_are_upright(tmp_path, mode, ending, orientation):
  exif = Image.Exif()
  exif[274] = orientation
  image = Image.fromarray(PIXELS).convert(mode)
  plain = save(tmp_path / f"a.{ending}", image)
  found = save(tmp_path / f"b.{ending}", image, exif=exif)
  np.testing.assert_array_equal(found, SHOWN.get(orientation, SHOWN[1])(plain))


def test_gray_beside_color_becomes_color(tmp_path):
  gray = PIXELS[..., 0]
  palette = Image.fromarray(PIXELS).quantize(16)
  Image.fromarray(gray).save(tmp_path / "0.png")
  Image.fromarray(PIXELS).save(tmp_path / "1.jpg")
  palette.save(tmp_path / "2.png")
  files = sorted(tmp_path.iterdir())
  pixels = pictures.read(files)
  assert pixels.shape == (3, 5, 4, 3) and pixels.dtype == np.uint8
  np.testing.assert_array_equal(pixels[0], gray[..., None].repeat(3, -1))
  np.testing.assert_array_equal(pixels[2], np.asarray(palette.convert("RGB")))
  np.testing.assert_array_equal(pictures.read(files[:1]), gray[None, ..., None])


def test_a_preview_behind_a_photograph_is_left_alone(tmp_path):
  """A multi-picture JPEG, as telephones write it."""
  photo, preview = Image.fromarray(PIXELS), Image.new("RGB", (2, 2))
  settings = dict(save_all=True, append_images=[preview])
  found = save(tmp_path / "a.jpg", photo, format="MPO", **settings)
  plain = save(tmp_path / "b.jpg", photo)
  np.testing.assert_array_equal(found, plain)


def animated(path):
  frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
  frames[0].save(path, save_all=True, append_images=frames[1:])


def as_format(name, mode="RGB"):
  image = Image.fromarray(PIXELS).convert(mode)
  return lambda path: image.save(path, format=name)


def cut_short(path):
  as_format("PNG")(path)
  path.write_bytes(path.read_bytes()[:-30])


def cut_jpeg(path):
  as_format("JPEG")(path)
  path.write_bytes(path.read_bytes()[:-10])


def flipped(path):
  data = bytearray(png(8, 0, [bytes(range(99))]))
  data[60] ^= 255
  path.write_bytes(data)


NO_IMAGE = r"not a readable image \(neither PNG nor JPEG, or cut off in its"


@pytest.mark.parametrize(
  "make, message",
  [
    (lambda path: path.write_text("<html>"), NO_IMAGE),
    (lambda path: path.write_bytes(b""), NO_IMAGE),
    (lambda path: path.write_bytes(png(8, 0, [b"a"])[:8]), NO_IMAGE),
    (
      lambda path: path.write_bytes(png(8, 0, [b"a"])[:20]),
      r"not a readable image \(Truncated File Read\); replace or delete it",
    ),
    (as_format("GIF"), NO_IMAGE),
    (as_format("TIFF"), NO_IMAGE),
    (as_format("WEBP"), NO_IMAGE),
    (cut_short, r"not a readable image \(image file is truncated\); replace"),
    (cut_jpeg, r"not a readable image \(image file is truncated \(\d+ bytes"),
    (flipped, r"not a readable image \(broken"),
    (animated, "8-bit gray or RGB, got an animation of 2 frames; keep one"),
    (as_format("JPEG", "CMYK"), "8-bit gray or RGB, got Pillow's mode CMYK"),
    (as_format("PNG", "I;16"), "8-bit gray or RGB, got 16 bits per channel"),
    (
      lambda path: Image.new("L", (5, 4)).save(path),
      r"expected 4 x 5 pixels as .*0.png, got 5 x 4; all images must",
    ),
  ],
)
def test_a_bad_file_is_one_line(tmp_path, make, message):
  as_format("PNG")(tmp_path / "0.png")
  make(tmp_path / "1.png")
  both = [tmp_path / "0.png", tmp_path / "1.png"]
  said = expect.error(message, pictures.read, both)
  assert said.startswith(f"{both[1]}: ") and "0x" not in said


def test_a_missing_file_is_not_called_damaged(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"nothing\.png"):
    pictures.read([tmp_path / "nothing.png"])


def test_without_pillow_one_line_says_what_to_do(tmp_path, monkeypatch):
  as_format("PNG")(tmp_path / "0.png")
  monkeypatch.setitem(sys.modules, "PIL", None)
  with pytest.raises(ImportError, match=r"need Pillow: pip install"):
    pictures.read([tmp_path / "0.png"])
