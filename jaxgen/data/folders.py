"""User data: folders of PNG and JPEG files.

  flat        *.png                                 no labels
  classes     daisy/*.png tulip/*.png               numbered by their names
  shards      00000/img00000000.png 00001/...       no labels
  parts       train/ validation/ test/              each with one of the above

Shards are the layout of EDM's and FFHQ's tools. Parts are found by the names
train or training; val, valid or validation; test or testing, in any case. Any
other layout raises a one-line error that names the folder.
"""

import json
import pathlib
import re

import numpy as np

from jaxgen.data import faults, images, loaders, pictures

READ = (".png", ".jpg", ".jpeg", ".jpe", ".jfif")
# Image formats that would otherwise be skipped silently.
NOT_READ = tuple(
  ".avif .bmp .gif .heic .jp2 .pgm .ppm .tif .tiff .webp".split()
)


def load(
  path: str | pathlib.Path,
) -> tuple[dict[str, loaders.Source], int]:
  """The three parts of a folder of images.

  Files that are not images, and names that begin with a dot, are ignored. All
  images must have one size; if any of them has color, all become RGB. Missing
  parts are split off train as in loaders.with_held_out.

  Args:
    path: the folder.

  Returns:
    {'train', 'validation', 'test': source of (images [B, H, W, C], labels [B]
    or None)} and the number of classes, 0 without labels.

  Raises:
    OSError: the folder does not exist, or a file in it cannot be opened.
    ValueError: there are no images, the layout is none of those above, or
      pictures.read raises.
    ImportError: Pillow is not installed.
  """
  folder = pathlib.Path(path)
  if not folder.exists():
    raise FileNotFoundError(f"{path}: no such folder")
  if not folder.is_dir():
    raise ValueError(f"{path}: expected a folder of images, got a file")
  trees = {part: _classes(entry) for part, entry in _parts(folder).items()}
  numbers = {name: number for number, name in enumerate(trees["train"])}
  for part, tree in trees.items():
    if odd := [name for name in tree if name not in numbers]:
      raise ValueError(
        f"{path}: {part}: expected the classes of train ({_named(numbers)}),"
        f" got {_named(odd)}"
      )
  pixels = pictures.read([x for tree in trees.values() for x in _files(tree)])
  ends = np.cumsum([len(_files(tree)) for tree in trees.values()])[:-1]
  parts = {
    part: (some, _labels(tree, numbers))
    for (part, tree), some in zip(
      trees.items(), np.split(pixels, ends), strict=True
    )
  }
  return images.checked_parts(parts, str(path))


def _parts(folder):
  """{part: its folder}, always with 'train'."""
  entries = _folders(folder)
  parts = [_part(entry.name.lower()) for entry in entries]
  if not any(parts):
    return {"train": folder}
  found = dict(zip(parts, entries, strict=True))
  if None in found or len(found) < len(parts) or "train" not in found:
    raise ValueError(
      f"{folder}: expected only the sub-folder train and perhaps validation"
      " and test, or none of these names, got"
      f" {faults.listed([entry.name for entry in entries])}"
    )
  if _pictures(folder):
    raise ValueError(f"{folder}: expected images, or sub-folders, got both")
  return found


def _part(name):
  """The part that a folder name stands for, or None."""
  match name:
    case "train" | "training":
      return "train"
    case "val" | "valid" | "validation":
      return "validation"
    case "test" | "testing":
      return "test"
  return None


def _classes(folder):
  """{class: its files}, or {None: all files} if there are no classes."""
  entries = _folders(folder)
  flat = _pictures(folder)
  if entries and flat:
    raise ValueError(f"{folder}: expected images, or sub-folders, got both")
  found = {entry.name: _pictures(entry) for entry in entries}
  for entry in entries:
    if deeper := _folders(entry):
      raise ValueError(f"{entry}: expected only images, got {deeper[0]}")
  found = found or {None: flat}
  for name, files in found.items():
    if not files:
      raise ValueError(
        f"{folder / (name or '')}: expected PNG or JPEG images, got none"
      )
  if any(re.fullmatch(r"\d{5}", entry.name) for entry in entries):
    return {None: _files(_checked_shards(found, folder))}
  return found


def _checked_shards(found, folder):
  """The files, after checking that their names are those of shards."""
  for name, files in found.items():
    for file in files:
      edm = re.fullmatch(r"img\d{8}", file.stem)
      ffhq = re.fullmatch(r"\d{5}", file.stem) and name == f"{file.stem[:2]}000"
      if not (re.fullmatch(r"\d{5}", name) and (edm or ffhq)):
        raise ValueError(
          f"{file}: expected a shard such as 00000/img00000000.png, as another"
          " folder is named by five digits; give classes other names"
        )
  _require_no_labels(folder / "dataset.json")
  return found


def _require_no_labels(path):
  """Raises ValueError if EDM's label file, which is not supported, has any."""
  if not path.exists():
    return
  try:
    labels = json.loads(path.read_text())["labels"]
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(
      f"{path}: expected a record with labels ({faults.cause(error)})"
    ) from None
  if labels is not None:
    raise ValueError(
      f"{path}: labels in a file are not read; move the images into one"
      " sub-folder per class, or remove this file to train without labels"
    )


def _labels(tree, numbers):
  if None in tree:
    return None
  chosen = [numbers[name] for name in tree]
  return np.repeat(chosen, [len(files) for files in tree.values()])


def _named(classes):
  return faults.listed([name or "no classes" for name in classes])


def _files(tree):
  return [file for files in tree.values() for file in files]


def _entries(folder):
  return sorted(p for p in folder.iterdir() if not p.name.startswith("."))


def _folders(folder):
  return [entry for entry in _entries(folder) if entry.is_dir()]


def _pictures(folder):
  """The image files of a folder, sorted by name."""
  files = [entry for entry in _entries(folder) if not entry.is_dir()]
  for file in files:
    if file.suffix.lower() in NOT_READ:
      raise ValueError(f"{file}: expected PNG or JPEG; convert or remove it")
  return [file for file in files if file.suffix.lower() in READ]
