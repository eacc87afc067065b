"""Datasets by name: batches, splits and single examples."""

import functools
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lib import checks, choices
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
DIGITS = {"digits": (digits.load, 17), "binary_digits": (digits.load_binary, 2)}
FOLDS = {(): None} | {(f"fold-{k}",): k for k in range(digits.FOLDS)}
SPLITS = ("train", "validation", "test")
MAX_SIDE = 2**14  # pixels
NUM_POINTS = 4096  # samples that represent a split of a distribution
DATA = "digits, binary_digits, digits:fold-K, binary_digits:fold-K, "
DATA += f"digits:LABEL, photos, {', '.join(TOYS)}, gaussian:DIM:MEAN"
DATA += ", tfds:NAME, file:PATH.npz, file:PATH.zip, folder:PATH"


class Data(NamedTuple):
  """A dataset, for training, pictures and metrics.

  Attributes:
    shape: shape of one example, *D.
    num_classes: number of classes; 0 without labels.
    std: standard deviation over all coordinates of the training split.
    batches: (key, batch_size) -> (step -> (examples [B, *D], labels [B] or
      None)).
    draw: key -> one example [*D] not used in training: a new sample of a
      distribution, or one of `real` for a set.
    is_set: whether the number of examples is finite.
    real: held-out examples [N, *D] of validation, at most 4096, and their
      labels [N] or None. None for noise.
    split: 'train', 'validation' or 'test' -> all its examples [N, *D] and
      labels; samples, for a distribution. None for noise.
    levels: number of equally spaced stored values in [-1, 1]; None for points.
    distribution, mixture: the distribution, and as a Gaussian mixture, or None.
    classified: () -> data for the metrics' classifier; None: labelled train.
    num_codes: number of unordered values 0, 1, ... of a token; None for others.
    to_bytes: tokens [T] -> bytes, for windows of text (lib/texts); else None.
  """

  shape: tuple[int, ...]
  num_classes: int
  std: float
  batches: Callable
  draw: Callable
  is_set: bool = True
  real: Any = None
  split: Any = None
  levels: int | None = None
  distribution: toy.Toy | None = None
  mixture: Any = None
  classified: Callable | None = None
  num_codes: int | None = None
  to_bytes: Callable | None = None

  def unlabelled(self, key: Any, number: int) -> Callable:
    """step -> examples [number, *D] without labels, on the host."""
    batch_fn = self.batches(key, number)
    return lambda step: np.asarray(batch_fn(step)[0])


def load(config: Any, option: str = "data") -> Data:
  """The dataset of a setting.

  Args:
    config: settings that include the group settings.Data.
    option: the setting that names the dataset.

  Raises:
    ValueError, OSError: as in load_data; the error names the setting.
  """
  flip = config.flip if option == "data" else False
  names = dict(size="image_size", flip=f"flip, {option}")
  with checks.naming(config, option, **names):
    return load_data(
      getattr(config, option),
      image_size=config.image_size,
      convert=config.convert,
      flip=flip,
      data_dir=config.data_dir,
      option=option,
    )


def load_source(config: Any, data: Data) -> Data:
  """The source of a flow or a map: noise, or a dataset of the same shape.

  Raises:
    ValueError, OSError: as in load, or the shapes differ.
  """
  if config.source == "gaussian":
    return noise(data.shape)
  found = load(config, "source")
  checks.same_shape(config, "source", found, data)
  return found


def load_data(
  name: str,
  *,
  image_size: int | None = None,
  convert: bool = False,
  flip: bool = False,
  data_dir: str | None = None,
  option: str = "data",
) -> Data:
  """The dataset with a name.

  Args:
    name: one of DATA; file:PATH.npz may contain images or points.
    image_size, convert, flip, data_dir: as in settings.Data.
    option: the setting that contains the name, for the error.

  Raises:
    ValueError: no such dataset, or it cannot be used for training.
  """
  if image_size is not None and not 1 <= image_size <= MAX_SIDE:
    raise ValueError(f"image_size: expected 1 to {MAX_SIDE}, got {image_size}")
  points_of, levels, classified = None, 256, None
  match name.split(":", 1):
    case [base, *fold] if base in DIGITS and tuple(fold) in FOLDS:
      load, levels = DIGITS[base]
      found = _embedded(functools.partial(load, fold=FOLDS[tuple(fold)])), 10
    case ["digits", label] if label in tuple("0123456789"):
      load = functools.partial(_digits_of, int(label))
      found, levels = (_embedded(load), 0), 17
      classified = functools.partial(digits.load, "train")
    case ["photos"]:
      crops = functools.partial(photos.load, size=image_size or 32)
      found = _embedded(crops), 2
    case ["tfds", place] if place:
      found = tfds.load(place, data_dir, size=image_size)
    case ["file", place] if place.endswith(".zip"):
      found = folders.load_zip(place, image_size, convert)
    case ["file", place] if files.has_points(place):
      points_of = points(place)
    case ["file", place] if place:
      found = files.load_npz(place, image_size)
    case ["folder", place] if place:
      found = folders.load(place, image_size, convert)
    case [toy_name] if toy_name in TOYS:
      points_of = toy_data(TOYS[toy_name])
    case ["gaussian", law] if re.fullmatch(r"[1-9]\d{0,3}:-?\d*\.?\d+", law):
      dim, mean = law.split(":")
      points_of = toy_data(toy.gaussian, int(dim), float(mean))
    case _:
      raise ValueError(f"{option}: expected one of {DATA}, got {name!r}")
  if points_of is not None and flip:
    raise ValueError(f"flip: expected images, got {name}")
  data = points_of or image_data(*found, levels=levels, flip=flip)
  if image_size is not None and data.shape[:2] != (image_size, image_size):
    raise ValueError(
      f"image_size: expected None for points and digits, got {image_size} for"
      f" {name}"
    )
  return data if classified is None else data._replace(classified=classified)


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
  """Data of images, from a source of (images, labels) for each of SPLITS."""

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
    return read(name, np.arange(choices.lookup(sources, name, "split").size))

  held_out = np.arange(min(sources["validation"].size, 4096))
  real = read("validation", held_out)
  shape = read("train", held_out[:1])[0].shape[1:]
  own = batches, _one_of(real[0]), True, real, split, levels
  return Data(shape, num_classes, images.std(sources["train"]), *own)


def _one_of(examples):
  """key -> one of the examples."""

  def draw(key):
    row = jax.random.randint(key, (), 0, len(examples))
    return jnp.asarray(examples)[row]

  return draw


@functools.cache
def _sampler(make, *given):
  """The distribution and (key, N) -> [N, D], compiled once per process."""
  known = make(*given)
  many = lambda key, n: jax.vmap(known.sample)(jax.random.split(key, n))
  return known, jax.jit(many, static_argnums=1)


def toy_data(make: Callable[..., toy.Toy], *given: Any) -> Data:
  """Data of a distribution of points, with new samples in every step."""
  known, many = _sampler(make, *given)

  def batches(key, batch_size):
    return lambda step: (many(jax.random.fold_in(key, step), batch_size), None)

  def split(name):
    choices.lookup(dict.fromkeys(SPLITS), name, "split")
    points = many(jax.random.key(SPLITS.index(name)), NUM_POINTS)
    return np.asarray(points), None

  std, real = float(split("train")[0].std()), split("validation")
  own = batches, known.sample, False, real, split
  return Data(real[0].shape[1:], 0, std, *own, None, known, known.mixture)


def noise(shape: tuple[int, ...]) -> Data:
  """Standard normal noise of a shape, new in every step."""

  @functools.partial(jax.jit, static_argnums=2)
  def many(key, step, number):
    return jax.random.normal(jax.random.fold_in(key, step), (number, *shape))

  batches = lambda key, number: lambda step: (many(key, step, number), None)
  draw = lambda key: jax.random.normal(key, shape)
  return Data(shape, 0, 1.0, batches, draw, False)


def points(path: str) -> Data:
  """Points [N, D] of a .npz file, without labels."""
  parts = files.load_points(path)
  read = lambda name: parts[name].read(np.arange(parts[name].size))

  def batches(key, number):
    batch_fn = loaders.batches_from(parts["train"], key, number)
    return lambda step: (batch_fn(step), None)

  def split(name):
    return read(choices.lookup(dict.fromkeys(parts, name), name, "split")), None

  return without_labels(float(read("train").std()), batches, split)


def without_labels(std: float, batches: Callable, split: Callable) -> Data:
  """Data of a finite set, from their std, batches and splits (see Data)."""
  real = split("validation")
  own = batches, _one_of(real[0]), True, real, split
  return Data(real[0].shape[1:], 0, std, *own)
