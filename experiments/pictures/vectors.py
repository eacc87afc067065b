"""Pictures of vector fields on the plane: learned and exact."""

import pathlib

import jax
import numpy as np

from experiments.experiment import Times, Vectors
from experiments.pictures import figures
from jaxgen import fields

plt = figures.plt

SPREADS = (
  2.0,
  0.5,
  0.1,
)  # noise ratios of the pictures, in units of the data's standard deviation
NUM_ARROWS = 17  # per side


def plot(
  path: pathlib.Path,
  field: fields.Field,
  how: Vectors,
  shown: Times,
  states: np.ndarray,
) -> None:
  """Draws the learned estimate at three times, and the exact one if known.

  The captions give the relative error over the states,
  sqrt(E|f - f*|^2 / E|f*|^2).

  Args:
    path: the file.
    field: the trained model.
    how: the estimate to plot and, if known, the exact field.
    shown: name and marks of the times.
    states: states of samples at how.times, [N, T, 2].
  """
  aims = np.array(SPREADS) * how.scale
  at = [int(np.abs(np.log(how.ratios / aim)).argmin()) for aim in aims]
  rows = {f"learned {how.name}": field}
  if how.exact is not None:
    rows[f"exact {how.name}"] = how.exact
  figure, axes = plt.subplots(
    len(rows), 3, figsize=(10.5, 3.7 * len(rows)), layout="constrained"
  )
  axes = np.reshape(axes, (len(rows), 3))
  points = [states[:512, n] for n in at]
  limits = [1.15 * float(np.quantile(np.abs(p), 0.99)) for p in points]
  found = []
  for field, name, of_row in zip(rows.values(), rows, axes, strict=True):
    estimate = jax.jit(
      jax.vmap(lambda x, t: getattr(field(x, t), how.name), (0, None))
    )
    found.append([])
    for n, seen, limit, axis in zip(at, points, limits, of_row, strict=True):
      grid = limit * _unit_grid()
      arrows = estimate(np.concatenate([seen, grid]), how.times[n])
      found[-1].append(np.asarray(arrows[: len(seen)], np.float64))
      _arrows(axis, seen, grid, np.asarray(arrows[len(seen) :]), limit)
      title = f"{name}, {shown.name} {shown.marks[n]:.2g}"
      axis.set_title(title, fontsize=10)
  if len(found) == 2:
    for ours, truth, axis in zip(*found, axes[0], strict=True):
      error = np.sqrt(((ours - truth) ** 2).sum() / (truth**2).sum())
      axis.set_xlabel(f"relative error {error:.3f}")
  figures.save(figure, path)


def _unit_grid():
  side = np.linspace(-1, 1, NUM_ARROWS, dtype=np.float32)
  return np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)


def _arrows(axis, points, grid, arrows, limit):
  axis.scatter(*points.T, s=2, color="0.8", linewidths=0)
  length = np.linalg.norm(arrows, axis=1)
  axis.quiver(*grid.T, *arrows.T, length, cmap="viridis", pivot="mid")
  axis.set(aspect="equal", xlim=(-limit, limit), ylim=(-limit, limit))
