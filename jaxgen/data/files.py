"""Data of one's own: archives of images or points, folders of PNG and JPEG.

All is checked when it is read, and each fault is one line that names the file.
No pickle is read.
"""

import pathlib
import zipfile

import numpy as np

from jaxgen.data import images, loaders


def load_npz(
  path: str | pathlib.Path,
) -> tuple[dict[str, loaders.Source], int]:
  """The three parts of an archive, as numpy.savez writes it.

    images  [N, H, W, C] or [N, H, W], uint8, or floats in [-1, 1]
    labels  [N], integers 0, 1, ..., all of which occur; may be missing

  An archive with a split of its own has train_images, train_labels, and so
  for validation and test; what it lacks is cut as in loaders.with_held_out.

  Args:
    path: the file.

  Returns:
    {'train', 'validation', 'test': source of (images [B, H, W, C], labels [B]
    or None)} and the number of classes, 0 without labels.

  Raises:
    OSError: the file cannot be opened.
    ValueError: not an archive, no images in it, parts that do not fit, or
      what images.checked refuses.
  """
  arrays = _arrays(path)
  parts = {
    name: (arrays[f"{name}_images"], arrays.get(f"{name}_labels"))
    for name in ("train", "validation", "test")
    if f"{name}_images" in arrays
  }
  if "images" in arrays:
    if parts:
      raise ValueError(
        f"{path}: expected images, or train_images and so on, got both"
      )
    parts = {"train": (arrays["images"], arrays.get("labels"))}
  if "train" not in parts:
    raise ValueError(
      f"{path}: expected an array images, or train_images, got"
      f" {', '.join(arrays) or 'nothing'}"
    )
  return _sources(parts, path)


def load_points(path: str | pathlib.Path) -> dict[str, loaders.Source]:
  """The three parts of an archive of points, as numpy.savez writes it.

    points  [N, D], finite numbers

  Args:
    path: the file.

  Returns:
    {'train', 'validation', 'test': source of points [B, D], float32}, cut as
    in loaders.with_held_out.

  Raises:
    OSError: the file cannot be opened.
    ValueError: not an archive, or no such points in it.
  """
  points = _arrays(path).get("points")
  if points is None or points.ndim != 2 or not points.size:
    got = "none" if points is None else f"shape {list(points.shape)}"
    raise ValueError(f"{path}: expected an array points [N, D], got {got}")
  largest = float(np.finfo(np.float32).max)
  # What is not a number is not below either.
  if points.dtype.kind not in "fiu" or not (np.abs(points) <= largest).all():
    raise ValueError(f"{path}: expected finite numbers of float32 in points")
  train = {"train": loaders.in_memory(points.astype(np.float32))}
  return loaders.with_held_out(train, str(path))


def load_folder(
  path: str | pathlib.Path,
) -> tuple[dict[str, loaders.Source], int]:
  """The three parts of a folder of images, one subfolder a class, or flat.

  Classes are numbered in the order of their names. Files other than .png, .jpg
  and .jpeg, and names that begin with a dot, are left alone. All images have
  one size; where one of them has colors, all become RGB. Validation and test
  are cut as in loaders.with_held_out.

  Args:
    path: the folder.

  Returns:
    As load_npz; no labels where the folder is flat.

  Raises:
    FileNotFoundError: no such folder.
    ValueError: no images, images both in the folder and in subfolders, a
      subfolder without any, several sizes, or an image that cannot be read.
    ImportError: Pillow is not installed.
  """
  folder = pathlib.Path(path)
  if not folder.exists():
    raise FileNotFoundError(f"{path}: no such folder")
  if not folder.is_dir():
    raise ValueError(f"{path}: expected a folder of images, got a file")
  classes = [entry for entry in _entries(folder) if entry.is_dir()]
  groups = {entry: _pictures(entry) for entry in classes}
  groups = groups or {folder: _pictures(folder)}
  if classes and _pictures(folder):
    raise ValueError(
      f"{path}: expected images, or a subfolder a class, got both"
    )
  for entry, files in groups.items():
    if not files:
      raise ValueError(f"{entry}: expected PNG or JPEG images, got none")
  pixels = _read([file for files in groups.values() for file in files])
  labels = None
  if classes:
    labels = np.repeat(np.arange(len(groups)), [*map(len, groups.values())])
  return _sources({"train": (pixels, labels)}, path)


def _arrays(path):
  """What an archive holds, {name: array}."""
  with pathlib.Path(path).open("rb") as file:
    try:
      with np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile):
      pass  # also a bare array, or one that needs pickle
  raise ValueError(
    f"{path}: expected an .npz archive of plain arrays (numpy.savez), got"
    " something else or a damaged file"
  )


def _sources(parts, path):
  """Checks the parts, one by one and together."""
  first, labels = parts["train"]
  train = images.checked(first, labels, str(path))
  classes = 0 if labels is None else int(train[1].max()) + 1
  found = {"train": train}
  for name in parts.keys() - {"train"}:
    part = images.checked(*parts[name], f"{path}: {name}", classes or None)
    found[name] = part
    if part[0].shape[1:] != train[0].shape[1:]:
      raise ValueError(
        f"{path}: {name}: expected images {list(train[0].shape[1:])} as in"
        f" train, got {list(part[0].shape[1:])}"
      )
    if (part[1] is None) != (labels is None):
      raise ValueError(f"{path}: {name}: expected labels in all parts or none")
  sources = {name: loaders.in_memory(part) for name, part in found.items()}
  return loaders.with_held_out(sources, str(path)), classes


def _entries(folder):
  return sorted(p for p in folder.iterdir() if not p.name.startswith("."))


def _pictures(folder):
  """The image files of a folder, in the order of their names."""
  endings = (".png", ".jpg", ".jpeg")
  return [p for p in _entries(folder) if p.suffix.lower() in endings]


def _read(files):
  """The images of the files, [N, H, W, C], uint8."""
  try:
    from PIL import Image
  except ModuleNotFoundError:
    raise ImportError(
      "image folders need Pillow: pip install 'jaxgen[data]'"
    ) from None
  pixels = []
  for file in files:
    try:
      with Image.open(file) as image:
        color = image.convert("RGB") if image.mode == "P" else image
        mode, array = color.mode, np.asarray(color)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
      raise ValueError(f"{file}: not a readable image; delete it") from None
    if mode not in ("L", "RGB"):
      raise ValueError(
        f"{file}: expected 8-bit gray or RGB, got Pillow's mode {mode};"
        " convert it"
      )
    if pixels and array.shape[:2] != pixels[0].shape[:2]:
      (h, w), (height, width) = array.shape[:2], pixels[0].shape[:2]
      raise ValueError(
        f"{file}: expected {width} x {height} pixels as {files[0]}, got"
        f" {w} x {h}; images of one size only"
      )
    pixels.append(array)
  if any(array.ndim == 3 for array in pixels):
    widen = lambda array: np.broadcast_to(array[..., None], (*array.shape, 3))
    pixels = [x if x.ndim == 3 else widen(x) for x in pixels]
  return np.stack(pixels)
