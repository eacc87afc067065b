"""Images: levels 0, ..., 255 on disk and in memory, [-1, 1] in training.

  x = level / 127.5 - 1,   level = 127.5 (x + 1)

This is the one place where uint8 becomes float32 and back. Data stay uint8, a
quarter of the memory, until a batch is made. Everything here runs on the host.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float32, Int32, Num, Shaped, UInt8

from jaxgen import keys
from jaxgen.data import loaders, pictures


def to_float(
  images: Num[np.ndarray, "*N H W C"],
) -> Float32[np.ndarray, "*N H W C"]:
  """Images in [-1, 1].

    x = level / 127.5 - 1

  Args:
    images: uint8 levels [*N, H, W, C], or float32 images in [-1, 1], which are
      returned unchanged.

  Returns:
    [*N, H, W, C], float32.

  Raises:
    ValueError: images have another dtype.
  """
  if images.dtype == np.float32:
    return images
  if images.dtype != np.uint8:
    raise ValueError(f"images: expected uint8 or float32, got {images.dtype}")
  scaled = images.astype(np.float32)
  scaled /= 127.5
  scaled -= 1
  return scaled


def to_uint8(
  images: Num[Any, "*N H W C"],
) -> UInt8[np.ndarray, "*N H W C"]:
  """The nearest levels; values beyond [-1, 1] become black or white.

    level = round(127.5 (x + 1)),   the inverse of to_float on its values

  Args:
    images: floats [*N, H, W, C], such as samples, on the device or the host.

  Returns:
    [*N, H, W, C], uint8, on the host.

  Raises:
    ValueError: an image is not finite.
  """
  scaled = (np.asarray(images, np.float32) + 1) * np.float32(127.5)
  if not np.all(np.isfinite(scaled)):
    raise ValueError("images: expected finite values, got NaN or infinity")
  return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


def flips(
  key: Array,
) -> Callable[[int, Num[np.ndarray, "B H W C"]], Num[np.ndarray, "B H W C"]]:
  """A function (step, images) -> images that mirrors half of the images.

  Whether row i of the batch at a step is mirrored depends on (key, step, i)
  alone, not on earlier calls or on the number of rows.

  Args:
    key: a typed key, [], used for nothing else.

  Returns:
    A function of a step (0, 1, ...) and a batch [B, H, W, C] to the batch.

  Raises:
    ValueError: key is a legacy key or an array of keys.
  """
  keys.require_typed(key)
  seed = np.asarray(jax.random.key_data(key)).tolist()

  def flip(step, images):
    entropy = np.random.SeedSequence([*seed, step])
    bits = np.random.Philox(entropy).random_raw(len(images)) >> np.uint64(63)
    mirror = bits.astype(bool)
    columns = np.arange(images.shape[2])[::-1]
    mixed = images.copy()
    mixed[mirror] = images[mirror].take(columns, axis=2)
    return mixed

  return flip


def std(source: loaders.Source) -> float:
  """The standard deviation over all coordinates of images in [-1, 1].

    sqrt(mean (x - x_0)^2 - (mean (x - x_0))^2), in float64

  x_0 is the very first coordinate, so that constant images give exactly 0.

  Args:
    source: of (images, labels); if it has more than 65536 examples, that many
      evenly spaced ones are read.

  Returns:
    A float.
  """
  number = min(source.size, 65536)
  rows = np.linspace(0, source.size - 1, number).astype(int)
  first, sums = 0.0, np.zeros(3)  # sums of 1, x - first and its square
  for chosen in np.array_split(rows, -(-number // 512)):
    x = to_float(source.read(chosen)[0]).astype(np.float64)
    first = first if sums[0] else x.flat[0]
    x -= first
    sums += x.size, x.sum(), np.square(x).sum()
  mean, square = sums[1:] / sums[0]
  return math.sqrt(square - mean**2)


def checked(
  images: Shaped[np.ndarray, "..."],
  labels: Shaped[np.ndarray, "..."] | None,
  where: str,
  num_classes: int | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
  """Validates images and labels and converts them for training.

  Args:
    images: [N, H, W, C] with C one or three, or [N, H, W]: uint8, or floats in
      [-1, 1].
    labels: integers [N], or None.
    where: the file or dataset, for error messages.
    num_classes: K, if known; otherwise every class of 0, ..., max must occur.

  Returns:
    Images [N, H, W, C], uint8 or float32, and labels [N], int32, or None.

  Raises:
    ValueError: the shape, dtype or range is invalid, or there are no images.
  """
  if images.ndim == 3:
    images = images[..., None]
  if images.ndim != 4 or images.shape[-1] not in (1, 3):
    raise ValueError(
      f"{where}: images: expected [N, H, W], [N, H, W, 1] or [N, H, W, 3],"
      f" got shape {list(images.shape)}"
    )
  if not images.size:
    raise ValueError(f"{where}: images: expected at least one, got none")
  if np.issubdtype(images.dtype, np.floating):
    images = _checked_floats(images, where)
  elif images.dtype != np.uint8:
    raise ValueError(
      f"{where}: images: expected uint8, or floats in [-1, 1], got"
      f" {images.dtype}"
    )
  if labels is None:
    return images, None
  return images, checked_labels(labels, len(images), where, num_classes)


def checked_parts(
  parts: dict[str, tuple[np.ndarray, np.ndarray | None]],
  where: str,
  size: int | None = None,
) -> tuple[dict[str, loaders.Source], int]:
  """Validates the parts of a dataset, one by one and together.

  Args:
    parts: (images, labels or None) as in `checked`, for 'train', and for
      'validation' and 'test' where the dataset has them.
    where: the file or dataset, for error messages.
    size: side to which pictures.square resizes all images; None keeps theirs.

  Returns:
    {'train', 'validation', 'test': source of (images [B, H, W, C], labels [B]
    or None)}, split as in loaders.with_held_out, and the number of classes, 0
    without labels.

  Raises:
    ValueError: as in `checked`, or the parts do not match each other.
  """
  train, labels = _fitted(checked(*parts["train"], where), size)
  classes = 0 if labels is None else int(labels.max()) + 1
  found = {"train": (train, labels)}
  for name in parts.keys() - {"train"}:
    part = checked(*parts[name], f"{where}: {name}", classes or None)
    part = found[name] = _fitted(part, size)
    if part[0].shape[1:] != train.shape[1:]:
      raise ValueError(
        f"{where}: {name}: expected images {list(train.shape[1:])} as in"
        f" train, got {list(part[0].shape[1:])}"
      )
    if (part[1] is None) != (labels is None):
      raise ValueError(f"{where}: {name}: expected labels in all parts or none")
  sources = {name: loaders.in_memory(part) for name, part in found.items()}
  return loaders.with_held_out(sources, where), classes


def checked_labels(
  labels: Shaped[np.ndarray, "..."],
  size: int,
  where: str,
  num_classes: int | None = None,
) -> Int32[np.ndarray, "N"]:
  """Validates labels as `checked` does, for a known number of images."""
  if labels.shape != (size,):
    raise ValueError(
      f"{where}: labels: expected [{size}], one per image, got shape"
      f" {list(labels.shape)}"
    )
  if not np.issubdtype(labels.dtype, np.integer):
    raise ValueError(
      f"{where}: labels: expected integers 0, 1, ..., got {labels.dtype}"
    )
  low, high = int(labels.min()), int(labels.max())
  last = high if num_classes is None else num_classes - 1
  if low < 0 or high > last:
    raise ValueError(
      f"{where}: labels: expected 0 to {max(last, 0)}, got {low} to {high}"
    )
  found = np.unique(labels)
  if num_classes is None and len(found) <= high:
    missing = np.argmax(found != np.arange(len(found)))
    raise ValueError(
      f"{where}: labels: expected every class of 0 to {high}, got no {missing};"
      " number the existing classes from 0"
    )
  return labels.astype(np.int32)


def _fitted(part, size):
  """The images and labels, with all images resized if a size is given."""
  if size is None:
    return part
  return np.stack([pictures.square(x, size) for x in part[0]]), part[1]


def _checked_floats(images, where):
  low, high = float(images.min()), float(images.max())
  if math.isnan(low):
    raise ValueError(f"{where}: images: expected finite values, got NaN")
  if not (-1 <= low and high <= 1):
    raise ValueError(
      f"{where}: images: expected floats in [-1, 1], got {low:.4g} to"
      f" {high:.4g}; give uint8 levels, or scale them"
    )
  if low >= 0 and high > 0:
    raise ValueError(
      f"{where}: images: expected floats in [-1, 1], got none below 0; scale"
      " [0, 1] by 2 x - 1"
    )
  return images.astype(np.float32, copy=False)
