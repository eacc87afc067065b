"""PNG and JPEG files as levels 0, ..., 255.

Pillow opens images that 8-bit gray or RGB cannot represent, and converts some
of them silently. Here a file is read as it looks, or rejected:

  EXIF orientation    is applied
  1, 2 or 4 bits      become the same grays and colors in 8 bits
  a palette           becomes RGB
  transparency        is rejected, unless every pixel is opaque; with `convert`
                      the image is composited on white
  16 bits a channel   are rejected, as 8 would be lost; with `convert` the lower
                      8 are dropped
  several frames      are rejected; of a JPEG's previews, the first is the image
  CMYK                is rejected

Color profiles and gamma are ignored. Images of different sizes are rejected
unless a size is given, to which `square` resizes all of them.
"""

import io
import pathlib
import zipfile
from collections.abc import Sequence

import numpy as np
from jaxtyping import Num, UInt8

from jaxgen.data import faults


def read(
  files: Sequence[pathlib.Path | zipfile.Path],
  size: int | None = None,
  convert: bool = False,
) -> UInt8[np.ndarray, "N H W C"]:
  """The images of the files, all RGB if any of them has color.

  Args:
    files: at least one file with PNG or JPEG content, in a folder or a zip.
    size: side of the images returned; None if all files have one size.
    convert: whether to convert transparency and 16 bits per channel.

  Returns:
    Levels [N, H, W, C], C one or three.

  Raises:
    OSError: a file cannot be opened.
    ValueError: a file is damaged, has an unsupported format or mode, or differs
      in size from the first.
    ImportError: Pillow is not installed.
  """
  pixels: list[np.ndarray] = []
  for file in files:
    levels = _levels(file, convert)
    if size is not None:
      levels = square(np.atleast_3d(levels), size).reshape(
        size, size, *levels.shape[2:]
      )
    if pixels and levels.shape[:2] != pixels[0].shape[:2]:
      (h, w), (height, width) = levels.shape[:2], pixels[0].shape[:2]
      raise ValueError(
        f"{file}: expected {width} x {height} pixels as {files[0]}, got"
        f" {w} x {h}; all images must have one size, or be resized by"
        " --image-size"
      )
    pixels.append(levels)
  if any(levels.ndim == 3 for levels in pixels):
    widen = lambda x: np.broadcast_to(x[..., None], (*x.shape, 3))
    return np.stack([x if x.ndim == 3 else widen(x) for x in pixels])
  return np.stack(pixels)[..., None]


def square(
  image: Num[np.ndarray, "H W C"], size: int
) -> Num[np.ndarray, "S S C"]:
  """The largest square at the image's center, resized to size x size.

  Pillow's Lanczos filter, which does not alias, as in EDM's dataset_tool with
  the transform center-crop. A square of that size is returned unchanged.

  Args:
    image: uint8 levels, or float32 in [-1, 1]; floats beyond are clipped, as
      the filter overshoots at edges.
    size: S, at least 1.
  """
  height, width, _ = image.shape
  side = min(height, width)
  top, left = (height - side) // 2, (width - side) // 2
  crop = image[top : top + side, left : left + side]
  if side == size:
    return crop
  pillow = _pillow()
  channels = [
    pillow.fromarray(channel).resize((size, size), pillow.Resampling.LANCZOS)
    for channel in np.moveaxis(crop, -1, 0)
  ]
  resized = np.stack([np.asarray(channel) for channel in channels], -1)
  return resized if image.dtype == np.uint8 else resized.clip(-1, 1)


def _levels(file, convert):
  """One image, [H, W] or [H, W, 3]."""
  data = _content(file)
  image = _opened(data, file)
  deep = image.format == "PNG" and _depth(data) == 16
  fault = None
  if image.format == "PNG" and image.n_frames > 1:
    fault = f"an animation of {image.n_frames} frames; keep one"
  elif deep and "transparency" in image.info:
    fault = "16 bits per channel with a transparent color; convert it to 8"
  elif deep and not convert:
    fault = "16 bits per channel; convert it to 8, or give --convert"
  elif image.has_transparency_data:
    image = _opaque(image, _depth(data), _is_gray(data), convert)
    if image is None:
      fault = (
        "transparent pixels; replace them by a background, or give --convert"
      )
  elif image.mode == "I;16":
    image = _pillow().fromarray((np.asarray(image) >> 8).astype(np.uint8))
  elif image.mode not in ("1", "L", "P", "RGB"):
    fault = f"Pillow's mode {image.mode}; convert it"
  if fault:
    raise ValueError(f"{file}: expected 8-bit gray or RGB, got {fault}")
  modes = {"1": "L", "P": "RGB"}
  return np.asarray(image.convert(modes.get(image.mode, image.mode)))


def _content(file):
  try:
    return file.read_bytes()
  except OSError:
    raise
  except Exception as error:  # zipfile raises many types
    raise ValueError(
      f"{file}: not readable ({faults.cause(error)}); write the zip again"
    ) from None


def _pillow():
  try:
    from PIL import Image
  except ModuleNotFoundError:
    raise ImportError(
      "image files need Pillow: pip install 'jaxgen[data]'"
    ) from None
  return Image


def _opened(data, file):
  """The decoded image, after its EXIF orientation is applied."""
  pillow = _pillow()
  from PIL import ImageOps

  try:
    image = pillow.open(io.BytesIO(data), formats=("PNG", "JPEG"))
    ImageOps.exif_transpose(image, in_place=True)
  except pillow.UnidentifiedImageError:
    cause = "neither PNG nor JPEG, or cut off in its header"
  except Exception as error:  # Pillow raises a dozen types
    cause = faults.cause(error)
  else:
    return image
  raise ValueError(
    f"{file}: not a readable image ({cause}); replace or delete it"
  )


def _depth(data):
  """Bits per channel, or per palette index, from a PNG's header."""
  return data[24]


def _is_gray(data):
  """Whether a PNG's color type is gray, with or without alpha."""
  return data[25] in (0, 4)


def _opaque(image, depth, gray, convert):
  """The image without its alpha channel, on white if convert is set; None if a
  pixel is transparent and it is not.
  """
  if image.mode == "L" and depth < 8:
    # Pillow scales the levels to 8 bits, but not the transparent level.
    image.info["transparency"] *= 255 // (2**depth - 1)
  image = image.convert("RGBA")
  if image.getextrema()[3][0] < 255:
    if not convert:
      return None
    pillow = _pillow()
    white = pillow.new("RGBA", image.size, "white")
    image = pillow.alpha_composite(white, image)
  return image.getchannel("R") if gray else image.convert("RGB")
