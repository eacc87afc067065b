"""Pictures of every run with samples: images, or points on the plane.

Samples of text are files of text.
"""

import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from experiments.experiment import Experiment, Times, Trained
from experiments.lib.datasets import Data
from experiments.pictures import figures, planes, texts, vectors

NUM_CLASSES = 20  # largest number of classes shown
NUM_COLUMNS = 12  # samples of each class
NUM_REAL = 6  # real images beside them
NUM_POINTS = 2048
NUM_TEXTS = 8


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
  elif data.to_bytes is not None:
    number = NUM_TEXTS
  keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(number))
  return keys, labels


def sheet(path: pathlib.Path, samples: np.ndarray, data: Data) -> None:
  """Draws a small picture of samples [N, *D], to monitor a run; text is written
  to a file .txt instead.
  """
  if data.to_bytes is not None:
    texts.write(path.with_suffix(".txt"), samples, data.to_bytes)
  elif len(data.shape) == 3:
    figures.save_sheet(path, samples.reshape(-1, NUM_COLUMNS, *data.shape))
  else:
    planes.samples(path, samples, data.real[0])


def common(run_dir: pathlib.Path, ex: Experiment, found: Trained) -> list[str]:
  """Draws samples.png beside real data. If samples have states, also draws
  trajectory.png from noise to data; for points also paths.png, and on the plane
  fields.png if the model is a field. Points of other dimensions are shown by
  their first two coordinates. Text is only written, to samples.txt.

  Returns:
    The names of the files.
  """
  data, samples, states = ex.data, found.samples, found.states
  if data.to_bytes is not None:
    texts.write(run_dir / "samples.txt", samples, data.to_bytes)
    return ["samples.txt"]
  names = ["samples.png"]
  if len(data.shape) == 3:
    image_samples(run_dir, samples, data)
  else:
    planes.samples(run_dir / "samples.png", samples, data.real[0])
  if states is None or ex.times is None:
    return names
  names.append("trajectory.png")
  path = run_dir / "trajectory.png"
  if len(data.shape) == 3:
    rows = _rows(data, states)
    few = states[rows], samples[rows], _viewer(ex, rows)
    frames, name, columns = chain(ex.times, *few)
    at = by_change(frames, 12)
    labels = _names(data, len(rows))
    columns = [columns[i] for i in at]
    figures.image_trajectory(path, frames[:, at], name, columns, labels)
    return names
  frames, name, columns = chain(ex.times, states, samples)
  at = by_change(frames, 7)
  few = frames[:, at].swapaxes(0, 1), name, [columns[i] for i in at]
  planes.trajectory(path, *few)
  planes.paths(run_dir / "paths.png", frames, name, columns)
  names.append("paths.png")
  if ex.vectors is not None:
    field = ex.field(found.params, found.extras, None)
    vectors.plot(run_dir / "fields.png", field, ex.vectors, ex.times, states)
    names.append("fields.png")
  return names


def _viewer(ex, rows):
  """States [R, T, *E] of the samples of these rows -> their pictures."""
  if ex.view is None:
    return lambda states: states
  _, labels = keys_and_labels(ex.data, jax.random.key(0))
  labels = None if labels is None else labels[rows]
  view = jax.jit(jax.vmap(jax.vmap(ex.view, (0, None))))
  return lambda states: np.asarray(view(states, labels))


def chain(
  times: Times,
  states: np.ndarray,
  samples: np.ndarray,
  view: Callable = lambda states: states,
) -> tuple[np.ndarray, str, list[str]]:
  """(frames [N, T, *D], name of the times, name of each frame).

  Frames are the states, scaled to be visible and then viewed, and at last the
  samples. A last state that is the sample itself appears once.
  """
  marks = figures.distinct(times.marks)
  scales = times.scales.reshape(-1, *(1,) * (states.ndim - 2))
  frames = view(states * scales.astype(states.dtype))
  if np.array_equal(states[:, -1], samples):
    frames, marks = frames[:, :-1], marks[:-1]
  frames = np.concatenate([frames, samples[:, None]], 1)
  scaled = not np.all(times.scales == 1)
  name = times.name + " (states scaled to the data's spread)" * scaled
  return frames, name, [*marks, "sample"]


def by_change(frames: np.ndarray, number: int) -> list[int]:
  """Positions of frames [N, T, *D] between which the change is as equal as
  possible.

  From the first to the last frame, they minimise sum_k (c[i_{k+1}] - c[i_k])^2,
  where c is the cumulative root mean square change of the frames.

  Args:
    frames: the frames.
    number: number of positions, at least 2; at most T are returned.
  """
  flat = np.asarray(frames, np.float64).reshape(*frames.shape[:2], -1)
  with np.errstate(invalid="ignore", over="ignore"):
    moved = np.sqrt((np.diff(flat, axis=1) ** 2).mean((0, 2)))
  moved = np.where(np.isfinite(moved), moved, 0)
  # Frames that are equal are spread evenly; a change of 0 would be arbitrary.
  moved += 1e-6 * moved.sum() or 1
  c = np.concatenate([[0], np.cumsum(moved)])
  cost = np.where(c > c[:, None], (c - c[:, None]) ** 2, np.inf)
  best, previous = cost[0], []
  for _ in range(min(number, len(c)) - 2):
    total = best[:, None] + cost
    previous.append(total.argmin(0))
    best = total.min(0)
  found = [len(c) - 1]
  for came_from in reversed(previous):
    found.append(int(came_from[found[-1]]))
  return [0, *reversed(found)]


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


def _rows(data, frames):
  """Rows of a picture of trajectories, at most 10: the first of each class, or
  the first with different ends, as held-out examples may be drawn repeatedly.
  """
  if data.num_classes:
    return np.arange(0, len(frames), NUM_COLUMNS)[:10]
  starts = frames[:, [0, -1]].reshape(len(frames), -1)
  return np.sort(np.unique(starts, axis=0, return_index=True)[1])[:10]


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
