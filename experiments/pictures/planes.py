"""Pictures of samples and trajectories on the plane.

Points of other dimensions are shown by their first two coordinates. Points
outside the axes are counted in a note.
"""

import pathlib
from typing import Any

import numpy as np

from experiments.pictures import figures
from experiments.pictures import pyplot as plt


def flat(points: np.ndarray) -> np.ndarray:
  """The first two coordinates of points [..., D]; the second is 0 if D is 1."""
  if points.shape[-1] == 1:
    return np.concatenate([points, np.zeros_like(points)], -1)
  return points[..., :2]


def square(points: np.ndarray, outer: float = 0.0) -> np.ndarray:
  """Limits [2, 2] (of x_1, of x_2) of a square with a margin around points.

  Args:
    points: [..., 2]; those that are not finite are left out.
    outer: fraction of the points that may lie beyond each side.
  """
  flat = np.asarray(points, np.float64).reshape(-1, 2)
  flat = flat[np.isfinite(flat).all(1)]
  if not len(flat):
    flat = np.zeros((1, 2))
  low, high = np.quantile(flat, (outer, 1 - outer), axis=0)
  middle, half = (low + high) / 2, 0.55 * (high - low).max() or 1.0
  return np.stack([middle - half, middle + half], 1)


def window(
  axis: Any,
  limits: np.ndarray,
  shown: np.ndarray,
  what: str = "points",
  dim: int = 2,
) -> None:
  """Sets the limits and names of axes; a note counts what leaves them.

  Args:
    axis: axes of a plane.
    limits: from `square`.
    shown: what is drawn, points [N, 2] or lines [N, T, 2].
    what: its name in the note.
    dim: dimension of the points that are shown by two coordinates.
  """
  axis.set(aspect="equal", xlim=limits[0], ylim=limits[1])
  of = "" if dim == 2 else f" of {dim}"
  axis.set(xlabel=f"$x_1${of}", ylabel=f"$x_2${of}" if dim > 1 else "")
  inside = (limits[:, 0] <= shown) & (shown <= limits[:, 1])
  outside = len(shown) - int(inside.reshape(len(shown), -1).all(1).sum())
  if outside:
    where = dict(transform=axis.transAxes, fontsize=8, zorder=5)
    box = dict(facecolor="white", edgecolor="none", alpha=0.8, pad=1.5)
    verb = ("lie" if shown.ndim == 2 else "lead") + "s" * (outside == 1)
    note = f"{outside} of {len(shown)} {what} {verb} outside"
    axis.text(0.02, 0.02, note, bbox=box, **where)


def samples(path: pathlib.Path, made: np.ndarray, real: np.ndarray) -> None:
  """Draws samples [N, D] and real points, both on the axes of the latter."""
  dim, made, real = made.shape[-1], flat(made), flat(real)
  figure, axes = plt.subplots(
    1, 2, figsize=(9, 4.9), sharex=True, sharey=True, layout="constrained"
  )
  limits, real = square(real), real[: len(made)]
  for axis, points, title in zip(
    axes, (made, real), ("samples", "real, held out"), strict=True
  ):
    axis.scatter(*points.T, s=3, alpha=0.4, linewidths=0)
    window(axis, limits, points, dim=dim)
    axis.set_title(title)
    axis.label_outer()
  figures.save(figure, path)


def trajectory(
  path: pathlib.Path, frames: np.ndarray, name: str, columns: list[str]
) -> None:
  """Draws a panel of points for each of [T, N, D], all on the same axes."""
  number, dim, frames = len(frames), frames.shape[-1], flat(frames)
  figure, axes = plt.subplots(
    1,
    number,
    figsize=(2.1 * number + 0.6, 2.9),
    sharex=True,
    sharey=True,
    layout="constrained",
  )
  limits = square(frames, outer=0.002)
  for axis, points, title in zip(axes, frames, columns, strict=True):
    axis.scatter(*points.T, s=2, alpha=0.4, linewidths=0)
    window(axis, limits, points, dim=dim)
    axis.set_title(title, fontsize=9)
    axis.label_outer()
  figure.suptitle(f"by {name}", fontsize=10)
  figures.save(figure, path)


def paths(
  path: pathlib.Path, frames: np.ndarray, name: str, columns: list[str]
) -> None:
  """Draws trajectories [N, T, D], coloured by time.

  Args:
    path: the file.
    frames: states, scaled to be visible, and the sample last.
    name: name of the values.
    columns: value at each state, and the name of the last.
  """
  figure, axis = plt.subplots(figsize=(6, 4.9), layout="constrained")
  shown, dim = flat(frames[:200]), frames.shape[-1]
  colors = plt.get_cmap("viridis")(np.linspace(0, 0.95, shown.shape[1] - 1))
  for n in range(shown.shape[1] - 1):
    ends = shown[:, n : n + 2].transpose(2, 1, 0)
    axis.plot(*ends, color=colors[n], linewidth=0.7, alpha=0.7)
  start = dict(s=5, color=colors[0], label="start")
  axis.scatter(*shown[:, 0].T, linewidths=0, **start)
  end = dict(s=7, color="C3", label=columns[-1], zorder=3)
  axis.scatter(*shown[:, -1].T, linewidths=0, **end)
  window(axis, square(shown), shown, "paths", dim)
  axis.set_title(f"{len(shown)} of {len(frames)} samples", fontsize=10)
  axis.legend(loc="upper right", fontsize=8, markerscale=2)
  bar = plt.cm.ScalarMappable(cmap="viridis", norm=plt.Normalize(0, 1 / 0.95))
  bar = figure.colorbar(bar, ax=axis, boundaries=np.linspace(0, 1, 65))
  last = len(columns) - 1
  at = np.unique(np.linspace(0, last, 5).round().astype(int))
  bar.set_ticks(at / last, labels=[columns[i] for i in at])
  bar.set_label(name)
  figures.save(figure, path)
