"""Prepared datasets of tensorflow-datasets, read without TensorFlow.

A dataset is prepared once, on a machine with TensorFlow and a network, in a
random-access format; from then on its rows are read directly from its files:

  tfds build cifar10 --file_format=array_record --data_dir=DIR

Its feature `image` is the image, and `label`, if there is one, the class; other
features are ignored. PNG and JPEG are decoded by Pillow (or by OpenCV, where it
is installed).
"""

import contextlib
import functools
import logging
import pathlib
from typing import Any

import numpy as np

from jaxgen.data import digits, faults, images, loaders, pictures


def load(
  name: str,
  data_dir: str | pathlib.Path | None = None,
  memory_limit: int = 4 * 2**30,
  size: int | None = None,
) -> tuple[dict[str, loaders.Source], int]:
  """The three parts of a prepared dataset; nothing is ever downloaded.

  A part of at most memory_limit bytes is read into memory at its first use. A
  larger one is read row by row, with the same batches at a lower speed
  (docs/data.md has the rates). Validation and test are the dataset's own; a
  missing one is split off train as in loaders.with_held_out.

  Args:
    name: 'cifar10', or with configuration and version, 'name/config:1.0.0'.
    data_dir: folder of prepared datasets; by default TFDS_DATA_DIR, or
      ~/tensorflow_datasets.
    memory_limit: in bytes, for a part's images as they are stored (uint8).
    size: side to which pictures.square resizes the images; None keeps theirs,
      which must then have one size.

  Returns:
    {'train', 'validation', 'test': source of (images [B, H, W, C], labels [B]
    or None)} and the number of classes, 0 without labels.

  Raises:
    ValueError: the dataset does not exist, is not prepared or not in a
      random-access format, has no images of one size, or has labels out of
      range.
    ImportError: tensorflow-datasets is not installed.
  """
  builder = _builder(name, data_dir)
  where = f"tfds:{name}"
  features = builder.info.features
  if "image" not in features:
    raise ValueError(
      f"{where}: expected a feature named image, got"
      f" {faults.listed([*features])}"
    )
  classes = 0
  if "label" in features:
    classes = getattr(features["label"], "num_classes", None) or 0
  parts = {"train": _rows(builder, where, "train")}
  for part in ("validation", "test"):
    # Splits are empty if not prepared, unless tfds.testing.mock_data is on.
    if part in builder.info.splits or not builder.info.splits:
      parts[part] = _rows(builder, where, part)
  sources = {
    part: _source(rows, f"{where}: {part}", classes, memory_limit, size)
    for part, rows in parts.items()
  }
  return loaders.with_held_out(sources, where), classes


def prepare_digits(data_dir: str | pathlib.Path) -> None:
  """Writes the embedded digits as the dataset `digits`, split as digits.load.

  Shows how to prepare a dataset of your own without TensorFlow.

  Args:
    data_dir: folder of prepared datasets.
  """
  tfds: Any = _tfds()

  class Digits(  # type: ignore[call-arg]
    tfds.core.GeneratorBasedBuilder, skip_registration=True
  ):
    """Scikit-learn's digits, 8 x 8 x 1, floats in [-1, 1]."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
      image = tfds.features.Tensor(shape=(8, 8, 1), dtype=np.float32)
      label = tfds.features.ClassLabel(num_classes=10)
      return tfds.core.DatasetInfo(
        builder=self,
        features=tfds.features.FeaturesDict({"image": image, "label": label}),
        supervised_keys=("image", "label"),
        disable_shuffling=True,  # the rows keep digits.load's order
      )

    def _split_generators(self, dl_manager):
      names = ("train", "validation", "test")
      return {name: self._generate_examples(name) for name in names}

    def _generate_examples(self, split):
      pairs = zip(*digits.load(split), strict=True)
      for row, (image, label) in enumerate(pairs):
        yield row, {"image": image, "label": int(label)}

  builder = Digits(data_dir=str(data_dir), file_format="array_record")
  builder.download_and_prepare()


def _tfds():
  try:
    import tensorflow_datasets
  except ImportError:
    raise ImportError(
      "tfds:NAME needs tensorflow-datasets: pip install 'jaxgen[data]'"
    ) from None
  return tensorflow_datasets


def _builder(name, data_dir):
  """The dataset's reader, from its code or from its files alone."""
  tfds = _tfds()
  directory = None if data_dir is None else str(data_dir)
  with _quiet():
    try:
      return tfds.builder(name, data_dir=directory)
    except Exception as error:  # one of five types, with a page-long message
      raise ValueError(
        f"tfds:{name}: no such dataset, or damaged"
        f" ({faults.cause(error).rstrip('.')}); known names are"
        " those of tensorflow.org/datasets/catalog and of folders in data_dir"
      ) from None


def _rows(builder, where, part):
  """The rows of one part, a sequence of {'image': ..., 'label': ...}."""
  try:
    with _quiet():
      return builder.as_data_source(part)
  except (NotImplementedError, ValueError, OSError) as error:
    fault = f"not prepared (no {builder.data_path})"
    with _quiet():
      prepared = builder.is_prepared()
    if prepared:
      if not isinstance(error, NotImplementedError):
        raise ValueError(f"{where}: {faults.cause(error)}") from None
      fault = f"{builder.data_path} has no format with random access"
  name = where.removeprefix("tfds:")
  raise ValueError(
    f"{where}: {fault}; once, on a machine with TensorFlow and a network, run"
    f" tfds build {name} --file_format=array_record --data_dir=DIR, then set"
    " --data-dir DIR"
  )


def _source(rows, where, classes, memory_limit, size):
  """A source of (images, labels) from the rows, opened at first use."""

  def read(chosen):
    first = _example(rows, chosen[0], where, size)["image"]
    pixels = np.empty((len(chosen), *np.shape(first)), np.asarray(first).dtype)
    labels = np.empty(len(chosen), np.int64) if classes else None
    for i, row in enumerate(chosen):
      example = _example(rows, row, where, size)
      if np.shape(example["image"]) != pixels.shape[1:]:
        raise ValueError(
          f"{where}: expected images of one size, got"
          f" {list(pixels.shape[1:])} and {list(np.shape(example['image']))};"
          " resize them by --image-size"
        )
      pixels[i] = example["image"]
      if classes:
        labels[i] = example["label"]
    return pixels, labels

  @functools.cache
  def opened():
    check = functools.partial(
      images.checked, where=where, num_classes=classes or None
    )
    with _quiet():
      # Faults are found in the first rows, before the whole set is read.
      few, _ = check(*read(np.arange(min(len(rows), 64))))
      if len(rows) * few[0].nbytes <= memory_limit:
        return loaders.in_memory(check(*read(np.arange(len(rows))))).read

    def by_row(chosen):
      pixels, labels = read(chosen)
      if classes:
        labels = images.checked_labels(labels, len(labels), where, classes)
      pixels = pixels.reshape(-1, *few.shape[1:])
      return pixels.astype(few.dtype, copy=False), labels

    return by_row

  return loaders.Source(len(rows), lambda chosen: opened()(chosen))


def _example(rows, row, where, size):
  try:
    found = rows[int(row)]
  except Exception as error:  # array_record, Pillow ... raise many
    cause = faults.cause(error).partition(" <")[0]  # drops the repr of bytes
    raise ValueError(
      f"{where}: example {row} is not readable ({cause}); prepare it again"
    ) from None
  if size is None:
    return found
  return found | {"image": _resized(np.asarray(found["image"]), where, size)}


def _resized(image, where, size):
  if image.dtype not in (np.uint8, np.float32) or image.ndim not in (2, 3):
    raise ValueError(
      f"{where}: expected images [H, W, C] of uint8 or float32 to resize, got"
      f" {list(image.shape)} of {image.dtype}"
    )
  return pictures.square(np.atleast_3d(image), size)


@contextlib.contextmanager
def _quiet():
  """Silences absl's warnings, which are harmless or repeated in the error."""
  logger = logging.getLogger("absl")
  level = logger.level
  logger.setLevel(logging.ERROR)
  try:
    yield
  finally:
    logger.setLevel(level)
