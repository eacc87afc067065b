"""The data sets of a command line: names, their batches and their splits."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.lib import tables
from jaxgen.data import (
  digits,
  files,
  folders,
  images,
  loaders,
  photos,
  tfds,
  toy,
)

TOYS = {
  "gaussian": toy.gaussian,
  "eight_gaussians": toy.eight_gaussians,
  "ring": lambda: toy.eight_gaussians(2.0, 0.1),
  "moons": toy.moons,
  "s_curve": toy.s_curve,
  "checkerboard": toy.checkerboard,
  "swiss_roll": toy.swiss_roll,
  "pinwheel": toy.pinwheel,
}

SPLITS = ("train", "validation", "test")
NUM_POINTS = 4096  # that stand for a split of a law
# What load_data takes, for its error and for --help.
DATA = ", ".join(
  (
    "digits",
    "digits:LABEL",
    "photos",
    *TOYS,
    "tfds:NAME",
    "file:PATH.npz",
    "folder:PATH",
  )
)


class Data(NamedTuple):
  """A data set as training, pictures and metrics need it.

  Attributes:
    shape: of one example, *D.
    num_classes: of its labels; 0 where it has none.
    std: over all coordinates of the training split.
    batches: (key, batch_size) -> (step -> (examples [B, *D], labels [B])),
      labels None where there are none.
    real: held-out examples [N, *D] and their labels [N] or None: 4096 at most,
      of validation.
    split: 'train', 'validation' or 'test' -> all of its examples [N, *D] and
      labels; of a law, draws that stand for them.
    levels: equally spaced values in [-1, 1] that images are stored at; None for
      points.
    law: the toy itself, where it is one.
    classified: examples and labels that the classifier of the metrics learns;
      None for the training split, where that has labels.
  """

  shape: tuple[int, ...]
  num_classes: int
  std: float
  batches: Callable
  real: tuple[Any, Any]
  split: Callable | None = None
  levels: int | None = None
  law: toy.Toy | None = None
  classified: tuple[Any, Any] | None = None


def load_data(
  name: str,
  *,
  image_size: int = 32,
  flip: bool = False,
  data_dir: str | None = None,
  option: str = "data",
) -> Data:
  """The data set of this name.

  Args:
    name: digits, digits:0 to digits:9, photos, a toy, tfds:NAME,
      file:PATH.npz or folder:PATH.
    image_size: of photos; the others have their own.
    flip: mirror half of the training images.
    data_dir: of tfds.
    option: that gave the name, for the error.

  Raises:
    ValueError: no such data set, or one that cannot be trained on.
    OSError: no such file or folder.
  """
  levels = 256
  match name.split(":", 1):
    case ["digits"]:
      found, levels = (_embedded(digits.load), 10), 17
    case ["digits", label] if label in tuple("0123456789"):
      load = functools.partial(_digits_of, int(label))
      of_class = image_data(_embedded(load), 0, levels=17, flip=flip)
      return of_class._replace(classified=digits.load("train"))
    case ["photos"]:
      found = _embedded(functools.partial(photos.load, size=image_size)), 2
    case ["tfds", place] if place:
      found = tfds.load(place, data_dir)
    case ["file", place] if place:
      found = files.load_npz(place)
    case ["folder", place] if place:
      found = folders.load(place)
    case [law] if law in TOYS:
      if flip:
        raise ValueError(f"flip: expected images, got {name}")
      return toy_data(TOYS[law])
    case _:
      raise ValueError(f"{option}: expected one of {DATA}, got {name!r}")
  return image_data(*found, levels=levels, flip=flip)


def unlabelled(data: Data) -> Callable:
  """(key, number) -> (step -> examples [number, *D]), on the host."""

  def batches(key, number):
    batch_fn = data.batches(key, number)
    return lambda step: np.asarray(batch_fn(step)[0])

  return batches


def _digits_of(label, split):
  """The images of one class, without labels."""
  pixels, labels = digits.load(split)
  return pixels[labels == label], None


def _embedded(load):
  return {split: loaders.in_memory(load(split)) for split in SPLITS}


def image_data(
  sources: dict[str, loaders.Source],
  num_classes: int,
  *,
  levels: int = 256,
  flip: bool = False,
) -> Data:
  """Data of images: a source of (images, labels) for each of SPLITS."""

  def read(split, rows):
    pixels, labels = sources[split].read(rows)
    return images.to_float(pixels), labels

  def batches(key, batch_size):
    if not flip:
      mirrored, order_key = lambda step, pixels: pixels, key
    else:
      order_key, flip_key = jax.random.split(key)
      mirrored = images.flips(flip_key)
    batch_fn = loaders.batches_from(sources["train"], order_key, batch_size)

    def prepared(step):
      pixels, labels = batch_fn(step)
      return images.to_float(mirrored(step, pixels)), labels

    return prepared

  def split(name):
    return read(name, np.arange(tables.lookup(sources, name, "split").size))

  held_out = np.arange(min(sources["validation"].size, 4096))
  return Data(
    shape=read("train", held_out[:1])[0].shape[1:],
    num_classes=num_classes,
    std=images.std(sources["train"]),
    batches=batches,
    real=read("validation", held_out),
    split=split,
    levels=levels,
  )


@functools.cache
def _law(make):
  """The law and (key, N) -> [N, 2], which is compiled once a process."""
  law = make()
  draw = lambda key, n: jax.vmap(law.sample)(jax.random.split(key, n))
  return law, jax.jit(draw, static_argnums=1)


def toy_data(make: Callable[[], toy.Toy]) -> Data:
  """Data of a law on the plane, drawn afresh at every step."""
  law, many = _law(make)

  def batches(key, batch_size):
    return lambda step: (many(jax.random.fold_in(key, step), batch_size), None)

  def split(name):
    tables.lookup(dict.fromkeys(SPLITS), name, "split")
    points = many(jax.random.key(SPLITS.index(name)), NUM_POINTS)
    return np.asarray(points), None

  std = float(split("train")[0].std())
  return Data((2,), 0, std, batches, split("validation"), split, law=law)
