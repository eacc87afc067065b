"""What is drawn of a run, for images and for points on the plane alike.

A sample function here is (keys [N], labels [N] or None) -> (states [N, T, *D],
data [N, *D]): the states at every time of the grid and the final denoise.
"""

import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from experiments.lib import figures, tables

NUM_CLASSES = 20  # the first ones, of more
NUM_COLUMNS = 12  # samples of each class
NUM_REAL = 6  # real images beside them
NUM_POINTS = 2048


def draws(data: tables.Data, key: Array) -> tuple[Array, Array | None]:
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
  path: pathlib.Path, sample: Callable, data: tables.Data, key: Array
) -> None:
  """Small picture of the samples as they are now, for watching a run."""
  path.parent.mkdir(exist_ok=True)
  _, samples = sample(*draws(data, key))
  samples = np.asarray(samples)
  if len(data.shape) == 3:
    figures.save_sheet(path, samples.reshape(-1, NUM_COLUMNS, *data.shape))
  else:
    figures.point_samples(path, samples, data.real[0])


def pictures(
  run_dir: pathlib.Path,
  sample: Callable,
  data: tables.Data,
  key: Array,
  *,
  scales: np.ndarray,
  ratios: np.ndarray,
) -> None:
  """samples.png beside real data, and trajectory.png from noise to data.

  Args:
    run_dir: where.
    sample: the sample function.
    data: the data set, for the real examples.
    key: the samples'.
    scales: what each time's state is multiplied with to be seen, [T].
    ratios: the noise ratio at each time, [T].
  """
  keys, labels = draws(data, key)
  states, samples = (np.asarray(x) for x in sample(keys, labels))
  images = len(data.shape) == 3
  at = np.unique(np.linspace(0, len(ratios) - 1, 11 if images else 6).round())
  at = at.astype(int)
  scaled = states[:, at] * scales[at].reshape(-1, *(1,) * len(data.shape))
  frames = np.concatenate([scaled, samples[:, None]], 1)
  shown = list(ratios[at])
  if not images:
    figures.point_samples(run_dir / "samples.png", samples, data.real[0])
    figures.point_trajectory(
      run_dir / "trajectory.png", frames.swapaxes(0, 1), shown
    )
    return
  rows = samples.reshape(-1, NUM_COLUMNS, *data.shape)
  figures.image_samples(
    run_dir / "samples.png",
    rows,
    _real(data, len(rows)),
    _names(data, len(rows)),
  )
  every = max(1, len(frames) // 10)
  figures.image_trajectory(
    run_dir / "trajectory.png", frames[::every][:10], shown
  )


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
