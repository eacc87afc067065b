"""What is drawn of a run, for images and for points on the plane alike.

A sample function here is (keys [N], labels [N] or None) -> (states [N, T, *D],
data [N, *D]): the states at every time of the grid and the final denoise.
"""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from experiments.lib import build, datasets, figures, vectors

NUM_CLASSES = 20  # the first ones, of more
NUM_COLUMNS = 12  # samples of each class
NUM_REAL = 6  # real images beside them
NUM_POINTS = 2048


def draws(data: datasets.Data, key: Array) -> tuple[Array, Array | None]:
  """The keys and labels of a report: some of each class, or many points.

  The keys are the same at every call, so that sheets show the same draws.
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


def sheet(
  path: pathlib.Path, sample: Callable, data: datasets.Data, key: Array
) -> None:
  """Small picture of the samples as they are now, for watching a run."""
  path.parent.mkdir(exist_ok=True)
  _, samples = sample(*draws(data, key))
  samples = np.asarray(samples)
  if len(data.shape) == 3:
    figures.save_sheet(path, samples.reshape(-1, NUM_COLUMNS, *data.shape))
  else:
    figures.point_samples(path, samples, data.real[0])


class Drawn(NamedTuple):
  """Samples of a trained model.

  Attributes:
    states: at method.times, [N, T, *D].
    samples: [N, *D].
    params: of the model.
    players: parameters of all players as they are, by name.
  """

  states: np.ndarray
  samples: np.ndarray
  params: Any
  players: dict[str, Any]


def draw(
  sampler: Callable,
  params: Any,
  data: datasets.Data,
  key: Array,
  players: dict[str, Any],
) -> Drawn:
  """Samples of these parameters, with the keys and labels of `draws`."""
  states, samples = sampler(params, *draws(data, key))
  return Drawn(np.asarray(states), np.asarray(samples), params, players)


def pictures(
  run_dir: pathlib.Path,
  draw: Callable[[], Drawn],
  method: build.Method,
  data: datasets.Data,
) -> list[str]:
  """samples.png beside real data, and trajectory.png from noise to data; of
  points on the plane also paths.png and fields.png.

  Args:
    run_dir: where.
    draw: draws samples.
    method: what the configuration says.
    data: the data set, for the real examples.

  Returns:
    The names of the files.
  """
  states, samples, params, _ = draw()
  if len(data.shape) == 3:
    _of_images(run_dir, states, samples, method, data)
    return ["samples.png", "trajectory.png"]
  _of_points(run_dir, states, samples, method, data)
  vectors.draw(run_dir / "fields.png", params, method, states)
  return ["samples.png", "trajectory.png", "paths.png", "fields.png"]


def _frames(states, samples, method, number):
  """Some of the states, scaled to be seen, and the samples last: [N, T, *D];
  and the marks of all but the last.
  """
  name, marks = method.marks
  at = np.unique(np.linspace(0, len(marks) - 1, number).round()).astype(int)
  scales = method.scales[at].reshape(-1, *(1,) * (states.ndim - 2))
  frames = np.concatenate([states[:, at] * scales, samples[:, None]], 1)
  return frames, name, list(marks[at])


def image_samples(
  run_dir: pathlib.Path, samples: np.ndarray, data: datasets.Data
) -> None:
  """samples.png: those of `draws`, [N, *D], beside real ones."""
  rows = samples.reshape(-1, NUM_COLUMNS, *data.shape)
  figures.image_samples(
    run_dir / "samples.png",
    rows,
    _real(data, len(rows)),
    _names(data, len(rows)),
  )


def _of_images(run_dir, states, samples, method, data):
  frames, *marks = _frames(states, samples, method, 11)
  image_samples(run_dir, samples, data)
  every = max(1, len(frames) // 10)
  figures.image_trajectory(
    run_dir / "trajectory.png", frames[::every][:10], *marks
  )


def _of_points(run_dir, states, samples, method, data):
  frames, *marks = _frames(states, samples, method, 6)
  figures.point_samples(run_dir / "samples.png", samples, data.real[0])
  figures.point_trajectory(
    run_dir / "trajectory.png", frames.swapaxes(0, 1), *marks
  )
  whole, *marks = _frames(states, samples, method, states.shape[1])
  figures.point_paths(run_dir / "paths.png", whole, *marks)


def _real(data, rows):
  """Held-out images [rows, NUM_REAL, *D], a row a class where there are any.

  What is missing is white.
  """
  images, labels = data.real
  whole = np.ones((rows, NUM_REAL, *data.shape), np.float32)
  for row in range(rows):
    mine = images[row * NUM_REAL :] if labels is None else images[labels == row]
    whole[row, : len(mine[:NUM_REAL])] = mine[:NUM_REAL]
  return whole


def _names(data, rows):
  return [str(row) for row in range(rows)] if data.num_classes else None
