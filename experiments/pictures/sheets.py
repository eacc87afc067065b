"""Pictures of every run with samples: images, or points on the plane."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from experiments.experiment import Experiment, Trained
from experiments.lib.datasets import Data
from experiments.pictures import figures, vectors

NUM_CLASSES = 20  # largest number of classes shown
NUM_COLUMNS = 12  # samples of each class
NUM_REAL = 6  # real images beside them
NUM_POINTS = 2048


def keys_and_labels(data: Data, key: Array) -> tuple[Array, Array | None]:
  """Keys and labels of the samples shown: some of each class, or many points.

  They are the same in every call, so that all sheets show the same samples.
  """
  number, labels = NUM_POINTS, None
  if data.num_classes:
    shown = jnp.arange(min(data.num_classes, NUM_CLASSES))
    labels = jnp.repeat(shown, NUM_COLUMNS)
    number = len(labels)
  elif len(data.shape) == 3:
    number = NUM_COLUMNS**2
  keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(number))
  return keys, labels


def sheet(path: pathlib.Path, samples: np.ndarray, data: Data) -> None:
  """Draws a small picture of samples [N, *D], to monitor a run."""
  if len(data.shape) == 3:
    figures.save_sheet(path, samples.reshape(-1, NUM_COLUMNS, *data.shape))
  else:
    figures.point_samples(path, samples, data.real[0])


def common(run_dir: pathlib.Path, ex: Experiment, found: Trained) -> list[str]:
  """Draws samples.png beside real data. If samples have states, also draws
  trajectory.png from noise to data; for points also paths.png, and on the plane
  fields.png if the model is a field. Points of other dimensions are shown by
  their first two coordinates.

  Returns:
    The names of the files.
  """
  data, samples, states = ex.data, found.samples, found.states
  names = ["samples.png"]
  if len(data.shape) == 3:
    image_samples(run_dir, samples, data)
  else:
    figures.point_samples(run_dir / "samples.png", samples, data.real[0])
  if states is None or ex.times is None:
    return names
  names.append("trajectory.png")
  if len(data.shape) == 3:
    _image_trajectory(run_dir, ex, found)
    return names
  frames, *marks = _frames(ex.times, states, samples, 6)
  path = run_dir / "trajectory.png"
  figures.point_trajectory(path, frames.swapaxes(0, 1), *marks)
  whole, *marks = _frames(ex.times, states, samples, states.shape[1])
  figures.point_paths(run_dir / "paths.png", whole, *marks)
  names.append("paths.png")
  if ex.vectors is not None:
    field = ex.field(found.params, found.extras, None)
    vectors.plot(run_dir / "fields.png", field, ex.vectors, ex.times, states)
    names.append("fields.png")
  return names


def _frames(times, states, samples, number):
  """(frames, name of the times, marks of all frames but the last).

  Frames [N, T, *D] are some of the states, scaled to be visible, and at last
  the samples.
  """
  marks = np.asarray(times.marks)
  at = np.unique(np.linspace(0, len(marks) - 1, number).round()).astype(int)
  scales = times.scales[at].reshape(-1, *(1,) * (states.ndim - 2))
  frames = np.concatenate([states[:, at] * scales, samples[:, None]], 1)
  return frames, times.name, list(marks[at])


def image_samples(
  run_dir: pathlib.Path, samples: np.ndarray, data: Data
) -> None:
  """Draws samples.png: samples [N, *D] beside real images."""
  rows = samples.reshape(-1, NUM_COLUMNS, *data.shape)
  figures.image_samples(
    run_dir / "samples.png",
    rows,
    _real(data, len(rows)),
    _names(data, len(rows)),
  )


def _image_trajectory(run_dir, ex, found):
  frames, *marks = _frames(ex.times, found.states, found.samples, 11)
  every = max(1, len(frames) // 10)
  path = run_dir / "trajectory.png"
  figures.image_trajectory(path, frames[::every][:10], *marks)


def _real(data, rows):
  """Held-out images [rows, NUM_REAL, *D], one row per class if there are any.

  Missing images are white.
  """
  images, labels = data.real
  whole = np.ones((rows, NUM_REAL, *data.shape), np.float32)
  for row in range(rows):
    mine = images[row * NUM_REAL :] if labels is None else images[labels == row]
    whole[row, : len(mine[:NUM_REAL])] = mine[:NUM_REAL]
  return whole


def _names(data, rows):
  return [str(row) for row in range(rows)] if data.num_classes else None
