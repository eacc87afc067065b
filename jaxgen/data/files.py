"""User data: archives of images or points.

All arrays are checked when they are read, and each error is one line that names
the file. Pickled objects are never loaded.
"""

import pathlib

import numpy as np

from jaxgen.data import faults, images, loaders

PARTS = ("train", "validation", "test")
WHOLE = ("images", "labels")
SPLIT = (
  *("train_images", "train_labels"),
  *("validation_images", "validation_labels"),
  *("test_images", "test_labels"),
)


def load_npz(
  path: str | pathlib.Path, size: int | None = None
) -> tuple[dict[str, loaders.Source], int]:
  """The three parts of an archive of images written by numpy.savez.

    images  [N, H, W, C] or [N, H, W], uint8, or floats in [-1, 1]
    labels  [N], integers 0, 1, ..., all of which occur; may be missing

  An archive with its own split has train_images, train_labels, and the same
  for validation and test; missing parts are split off train as in
  loaders.with_held_out.

  Args:
    path: the file.
    size: side to which pictures.square resizes the images; None keeps theirs.

  Returns:
    {'train', 'validation', 'test': source of (images [B, H, W, C], labels [B]
    or None)} and the number of classes, 0 without labels.

  Raises:
    OSError: the file cannot be opened.
    ValueError: the file is not an archive or is damaged, has no images or an
      array of an unknown name, its parts do not match, or images.checked
      raises.
  """
  arrays = _arrays(path, (*WHOLE, *SPLIT, "points"))
  whole = arrays.keys() & set(WHOLE)
  if whole and len(whole) < len(arrays):
    raise ValueError(
      f"{path}: expected images, or train_images and so on, got both:"
      f" {', '.join(arrays)}"
    )
  for name in arrays:
    beside = name.replace("labels", "images")
    if beside not in arrays:
      raise ValueError(f"{path}: expected an array {beside} as well as {name}")
  if whole:
    parts = {"train": (arrays["images"], arrays.get("labels"))}
  else:
    parts = {
      part: (arrays[f"{part}_images"], arrays.get(f"{part}_labels"))
      for part in PARTS
      if f"{part}_images" in arrays
    }
  if "train" not in parts:
    raise ValueError(
      f"{path}: expected an array images, or train_images, got"
      f" {', '.join(arrays) or 'nothing'}"
    )
  return images.checked_parts(parts, str(path), size)


def has_points(path: str | pathlib.Path) -> bool:
  """Whether a file is an archive with an array points, which load_points reads.

  Other files, missing ones and damaged ones have none.
  """
  try:
    with np.load(path, allow_pickle=False) as archive:
      return "points" in archive.files
  except Exception:  # NumPy raises many types; load_npz says what is wrong
    return False


def load_points(path: str | pathlib.Path) -> dict[str, loaders.Source]:
  """The three parts of an archive of points written by numpy.savez.

    points  [N, D], finite numbers

  Args:
    path: the file.

  Returns:
    {'train', 'validation', 'test': source of points [B, D], float32}, split as
    in loaders.with_held_out.

  Raises:
    OSError: the file cannot be opened.
    ValueError: the file is not an archive or is damaged, has no such points, or
      has other arrays.
  """
  points = _arrays(path, ("points",)).get("points")
  if points is None or points.ndim != 2 or not points.size:
    got = "none" if points is None else f"shape {list(points.shape)}"
    raise ValueError(f"{path}: expected an array points [N, D], got {got}")
  largest = float(np.finfo(np.float32).max)
  # Written so that NaN fails the comparison.
  if points.dtype.kind not in "fiu" or not (np.abs(points) <= largest).all():
    raise ValueError(f"{path}: expected finite numbers of float32 in points")
  train = {"train": loaders.in_memory(points.astype(np.float32))}
  return loaders.with_held_out(train, str(path))


def _arrays(path, known):
  """The arrays of an archive, {name: array}; raises for names not in known."""
  if pathlib.Path(path).is_dir():
    raise ValueError(
      f"{path}: expected a file, got a folder; folder:PATH reads images of one"
    )
  with pathlib.Path(path).open("rb") as file:
    try:
      archive = np.load(file, allow_pickle=False)
    except Exception:  # NumPy raises many types, none of which names the format
      archive = None
    if not isinstance(archive, np.lib.npyio.NpzFile):
      raise ValueError(
        f"{path}: expected an .npz archive of plain arrays (numpy.savez), got"
        f" {_kind(path)}"
      )
    with archive:
      unknown = [name for name in archive.files if name not in known]
      if unknown:
        like = faults.nearest(unknown[0], known)
        raise ValueError(
          f"{path}: expected arrays named {', '.join(known)}, got"
          f" {faults.listed(unknown)}{f' (is it {like}?)' if like else ''}"
        )
      return {name: _array(archive, name, path) for name in archive.files}


def _array(archive, name, path):
  try:
    array = archive[name]
  except Exception as error:  # zipfile, NumPy ... raise many
    cause = faults.cause(error)
    raise ValueError(f"{path}: array {name} is not readable: {cause}") from None
  if not isinstance(array, np.ndarray):
    raise ValueError(f"{path}: expected an array {name}, got a file {name}")
  return array


def _kind(path):
  """Describes a file that is not a readable archive, from its first bytes."""
  with pathlib.Path(path).open("rb") as file:
    start = file.read(6)
  if start == b"\x93NUMPY":
    return "a single array (numpy.save)"
  if start.startswith(b"PK"):
    return "an archive that is cut off or damaged"
  return "something else" if start else "an empty file"
