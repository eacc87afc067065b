"""PNG and JPEG files as levels 0, ..., 255.

Pillow opens images that 8-bit gray or RGB cannot represent, and converts some
of them silently. Here a file is read as it looks, or rejected:

  EXIF orientation    is applied
  1, 2 or 4 bits      become the same grays and colors in 8 bits
  a palette           becomes RGB
  transparency        is rejected, unless every pixel is opaque
  16 bits a channel   are rejected: 8 would be lost
  several frames      are rejected; of a JPEG's previews, the first is the image
  CMYK                is rejected

Color profiles and gamma are ignored.
"""

import io
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from jaxgen.data import faults


def read(files: Sequence[pathlib.Path]) -> UInt8[np.ndarray, "N H W C"]:
  """The images of the files, all RGB if any of them has color.

  Args:
    files: at least one file with PNG or JPEG content, all of one image size.

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
    levels = _levels(file)
    if pixels and levels.shape[:2] != pixels[0].shape[:2]:
      (h, w), (height, width) = levels.shape[:2], pixels[0].shape[:2]
      raise ValueError(
        f"{file}: expected {width} x {height} pixels as {files[0]}, got"
        f" {w} x {h}; all images must have one size"
      )
    pixels.append(levels)
  if any(levels.ndim == 3 for levels in pixels):
    widen = lambda x: np.broadcast_to(x[..., None], (*x.shape, 3))
    return np.stack([x if x.ndim == 3 else widen(x) for x in pixels])
  return np.stack(pixels)[..., None]


def _levels(file):
  """One image, [H, W] or [H, W, 3]."""
  data = file.read_bytes()
  image = _opened(data, file)
  fault = None
  if image.format == "PNG" and image.n_frames > 1:
    fault = f"an animation of {image.n_frames} frames; keep one"
  elif image.format == "PNG" and _depth(data) == 16:
    fault = "16 bits per channel; convert it to 8"
  elif image.has_transparency_data:
    image = _opaque(image, _depth(data))
    if image is None:
      fault = "transparent pixels; replace them by a background"
  elif image.mode not in ("1", "L", "P", "RGB"):
    fault = f"Pillow's mode {image.mode}; convert it"
  if fault:
    raise ValueError(f"{file}: expected 8-bit gray or RGB, got {fault}")
  modes = {"1": "L", "P": "RGB"}
  return np.asarray(image.convert(modes.get(image.mode, image.mode)))


def _opened(data, file):
  """The decoded image, after its EXIF orientation is applied."""
  try:
    from PIL import Image, ImageOps
  except ModuleNotFoundError:
    raise ImportError(
      "image folders need Pillow: pip install 'jaxgen[data]'"
    ) from None
  try:
    image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))
    ImageOps.exif_transpose(image, in_place=True)
  except Image.UnidentifiedImageError:
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


def _opaque(image, depth):
  """The image without its alpha channel, or None if a pixel is transparent."""
  if image.mode == "L" and depth < 8:
    # Pillow scales the levels to 8 bits, but not the transparent level.
    image.info["transparency"] *= 255 // (2**depth - 1)
  gray = image.mode in ("1", "L", "LA")
  image = image.convert("RGBA")
  if image.getextrema()[3][0] < 255:
    return None
  return image.getchannel("R") if gray else image.convert("RGB")
