"""User data: folders of PNG and JPEG files, or zips of such folders.

  flat        *.png                                 no labels
  classes     daisy/*.png tulip/*.png               numbered by their names
  shards      00000/img00000000.png 00001/...       no labels
  parts       train/ validation/ test/              each with one of the above

Shards are the layout of EDM's and FFHQ's tools. A file dataset.json beside the
images gives labels, whatever the layout, as EDM's dataset_tool writes it:

  {"labels": [["00000/img00000000.png", 6], ...]}   or {"labels": null}

Parts are found by the names train or training; val, valid or validation; test
or testing, in any case. Any other layout raises a one-line error that names the
folder.
"""

import json
import pathlib
import re
import zipfile

import numpy as np

from jaxgen.data import faults, images, loaders, pictures

READ = (".png", ".jpg", ".jpeg", ".jpe", ".jfif")
# Image formats that would otherwise be skipped silently.
NOT_READ = tuple(
  ".avif .bmp .gif .heic .jp2 .pgm .ppm .tif .tiff .webp".split()
)
LABELS = "dataset.json"
IGNORED = (".", "__MACOSX")  # first characters of names


def load(
  path: str | pathlib.Path, size: int | None = None, convert: bool = False
) -> tuple[dict[str, loaders.Source], int]:
  """The three parts of a folder of images.

  Files that are not images, and names that begin with a dot, are ignored. All
  images must have one size unless `size` is given; if any of them has color,
  all become RGB. Missing parts are split off train as in loaders.with_held_out.

  Args:
    path: the folder.
    size, convert: as in pictures.read.

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
    raise ValueError(
      f"{path}: expected a folder of images, got a file;"
      " file:PATH.zip reads a zip"
    )
  return _load(folder, lambda place: [*place.iterdir()], size, convert)


def load_zip(
  path: str | pathlib.Path, size: int | None = None, convert: bool = False
) -> tuple[dict[str, loaders.Source], int]:
  """The same of a zip of such a folder, whose files are at its top level."""
  with pathlib.Path(path).open("rb") as file:
    try:
      archive = zipfile.ZipFile(file)
    except zipfile.BadZipFile as error:
      raise ValueError(
        f"{path}: expected a zip of images, got another or a damaged file"
        f" ({faults.cause(error)})"
      ) from None
    root = zipfile.Path(archive)
    # zipfile.Path.iterdir would read all names again for every folder.
    children: dict[str, list] = {}
    for name in root.root.namelist():
      child = root.joinpath(name)
      children.setdefault(str(child.parent), []).append(child)
    return _load(
      root, lambda place: children.get(str(place), []), size, convert
    )


def _load(folder, children, size, convert):
  """The parts, given a function from a folder to what it contains."""
  entries = lambda place: sorted(
    (p for p in children(place) if not p.name.startswith(IGNORED)),
    key=lambda entry: entry.name,
  )
  places = _parts(folder, entries(folder))
  trees = {part: _classes(place, entries) for part, place in places.items()}
  numbers = {name: number for number, name in enumerate(trees["train"])}
  for part, tree in trees.items():
    if odd := [name for name in tree if name not in numbers]:
      raise ValueError(
        f"{folder}: {part}: expected the classes of train ({_named(numbers)}),"
        f" got {_named(odd)}"
      )
  every = [x for tree in trees.values() for x in _files(tree)]
  pixels = pictures.read(every, size, convert)
  ends = np.cumsum([len(_files(tree)) for tree in trees.values()])[:-1]
  parts = {
    part: (some, _labels(tree, numbers))
    for (part, tree), some in zip(
      trees.items(), np.split(pixels, ends), strict=True
    )
  }
  return images.checked_parts(parts, str(folder))


def _parts(folder, entries):
  """{part: its folder}, always with 'train'."""
  inner = _folders(entries)
  parts = [_part(entry.name.lower()) for entry in inner]
  if not any(parts):
    return {"train": folder}
  found = dict(zip(parts, inner, strict=True))
  if None in found or len(found) < len(parts) or "train" not in found:
    raise ValueError(
      f"{folder}: expected only the sub-folder train and perhaps validation"
      " and test, or none of these names, got"
      f" {faults.listed([entry.name for entry in inner])}"
    )
  if _pictures(entries):
    raise ValueError(f"{folder}: expected images, or sub-folders, got both")
  if _numbers(folder / LABELS) is not None:
    raise ValueError(
      f"{folder / LABELS}: expected the labels of each part in its own folder"
    )
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


def _classes(folder, entries):
  """{class: its files}, or {None: all files} if there are no classes.

  A class is the name of its folder, or its number in dataset.json.
  """
  own = entries(folder)
  inner, flat = _folders(own), _pictures(own)
  if inner and flat:
    raise ValueError(f"{folder}: expected images, or sub-folders, got both")
  found = {None: flat} if not inner else {}
  for place in inner:
    below = entries(place)
    found[place.name] = _pictures(below)
    if deeper := _folders(below):
      raise ValueError(f"{place}: expected only images, got {deeper[0]}")
  for name, files in found.items():
    if not files:
      place = folder if name is None else folder / name
      raise ValueError(f"{place}: expected PNG or JPEG images, got none")
  shards = any(re.fullmatch(r"\d{5}", entry.name) for entry in inner)
  if shards:
    _check_shards(found)
  labels = _numbers(folder / LABELS)
  if labels is None:
    return {None: _files(found)} if shards else found
  return _by_label(found, labels, folder)


def _check_shards(found):
  """Raises ValueError if a name is not that of a shard or of its file."""
  for name, files in found.items():
    for file in files:
      stem = pathlib.PurePath(file.name).stem
      edm = re.fullmatch(r"img\d{8}", stem)
      ffhq = re.fullmatch(r"\d{5}", stem) and name == f"{stem[:2]}000"
      if not (re.fullmatch(r"\d{5}", name) and (edm or ffhq)):
        raise ValueError(
          f"{file}: expected a shard such as 00000/img00000000.png, as another"
          " folder is named by five digits; give classes other names"
        )


def _numbers(path):
  """{file: label} of EDM's label file, or None if it has no labels."""
  if not path.exists():
    return None
  try:
    labels = json.loads(path.read_text(encoding="utf-8"))["labels"]
    found = None if labels is None else dict(labels)
  except (ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
    raise ValueError(
      f"{path}: expected a record with labels ({faults.cause(error)})"
    ) from None
  for name, label in (found or {}).items():
    # A bool is an int too.
    if type(label) is not int:
      raise ValueError(
        f"{path}: {name}: expected an integer label, got {label!r}"[:400]
      )
  return found


def _by_label(found, labels, folder):
  """{label: its files}, in the order of the labels."""
  tree = {}
  for name, files in found.items():
    for file in files:
      place = file.name if name is None else f"{name}/{file.name}"
      if place not in labels:
        raise ValueError(
          f"{folder / LABELS}: expected a label of every image, got none of"
          f" {place}"
        )
      tree.setdefault(labels[place], []).append(file)
  return dict(sorted(tree.items()))


def _labels(tree, numbers):
  """A label per file: the number in dataset.json, or that of the folder."""
  if None in tree:
    return None
  chosen = [name if isinstance(name, int) else numbers[name] for name in tree]
  return np.repeat(chosen, [len(files) for files in tree.values()])


def _named(classes):
  return faults.listed(
    ["no classes" if name is None else str(name) for name in classes]
  )


def _files(tree):
  return [file for files in tree.values() for file in files]


def _folders(entries):
  return [entry for entry in entries if entry.is_dir()]


def _pictures(entries):
  """The image files among the entries of a folder."""
  found = []
  for entry in entries:
    ending = pathlib.PurePath(entry.name).suffix.lower()
    if ending in NOT_READ and not entry.is_dir():
      raise ValueError(f"{entry}: expected PNG or JPEG; convert or remove it")
    if ending in READ and not entry.is_dir():
      found.append(entry)
  return found
