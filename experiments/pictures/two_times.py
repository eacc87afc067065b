"""Pictures of flow maps: samples by number of calls, errors over two times."""

import pathlib

import numpy as np

from experiments.lib.datasets import Data
from experiments.pictures import figures, planes, sheets
from experiments.pictures import pyplot as plt


def calls(path: pathlib.Path, rows: dict[str, np.ndarray], data: Data) -> None:
  """Draws samples {name: [N, *D]} of the same noise side by side."""
  frames, names = np.stack(list(rows.values()), 1), list(rows)
  if len(data.shape) == 3:
    every = sheets.NUM_COLUMNS if data.num_classes else 1
    frames = frames[::every][:10]
    labels = None
    if data.num_classes:
      labels = [str(row) for row in range(len(frames))]
    about = "each row from the same noise"
    figures.image_trajectory(path, frames, about, names, labels, "samples")
  else:
    planes.trajectory(path, frames.swapaxes(0, 1), "number of calls", names)


def errors(path: pathlib.Path, times: np.ndarray, values: np.ndarray) -> None:
  """Draws the map's error [T, T] by t and s; NaN is left white."""
  figure, axis = plt.subplots(figsize=(5.2, 4.2), layout="constrained")
  shown = axis.pcolormesh(times, times, values.T, shading="nearest")
  figure.colorbar(shown, ax=axis, label="root mean square error")
  axis.set(xlabel="t, from", ylabel="s, to", aspect="equal")
  figures.save(figure, path)
