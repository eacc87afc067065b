"""The two sides of a distance: any data set of a command line, or points."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.lib import datasets
from jaxgen.data import files, loaders

# What load takes, for its error and for --help.
NAMES = f"PATH.npz with an array points [N, D], {datasets.DATA}, or NAME+STD"


class Cloud(NamedTuple):
  """A law that is known by its draws.

  Attributes:
    shape: of one example, *D.
    batches: (key, number) -> (step -> examples [number, *D]).
    held_out: examples that are not trained on, [M, *D].
  """

  shape: tuple[int, ...]
  batches: Callable
  held_out: np.ndarray


def load(name: str, config: Any, flag: str = "data") -> Cloud:
  """The law of this name.

  Args:
    name: a data set's, or a path of points; with +STD noise is added.
    config: with image_size and data_dir.
    flag: that gave the name, for the error.

  Raises:
    ValueError: no such data, or not usable.
    OSError: no such file.
  """
  noisy = re.fullmatch(r"(.+)\+([0-9.]+)", name)
  if noisy:
    return _noised(load(noisy[1], config, flag), noisy[2], flag)
  if name.endswith(".npz") and ":" not in name:
    parts = files.load_points(name)
    rows = np.arange(parts["test"].size)
    held_out = parts["test"].read(rows)
    batches = lambda key, number: loaders.batches_from(
      parts["train"], key, number
    )
    return Cloud(held_out.shape[1:], batches, held_out)
  try:
    data = datasets.load_data(
      name, image_size=config.image_size, data_dir=config.data_dir
    )
  except ValueError as error:
    if str(error).startswith("data: "):
      raise ValueError(f"{flag}: expected {NAMES}, got {name!r}") from None
    raise

  batches = datasets.unlabelled(data)
  return Cloud(data.shape, batches, np.asarray(data.split("test")[0]))


def _noised(cloud, std, flag):
  """x + std z, with fresh noise at every step."""
  try:
    std = float(std)
  except ValueError:
    raise ValueError(f"{flag}: expected NAME+STD, got +{std}") from None
  noise = jax.jit(lambda key, x: x + std * jax.random.normal(key, x.shape))

  def batches(key, number):
    data_key, noise_key = jax.random.split(key)
    batch_fn = cloud.batches(data_key, number)
    return lambda step: noise(
      jax.random.fold_in(noise_key, step), batch_fn(step)
    )

  held_out = np.asarray(noise(jax.random.key(0), cloud.held_out))
  return cloud._replace(batches=batches, held_out=held_out)
