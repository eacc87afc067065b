"""Pictures of a run: samples, trajectories from noise to data, and curves."""

import pathlib
from typing import Any

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np

from jaxgen.metrics import transport

_GAP = 1  # pixels between the images of a sheet


def sheet(images: np.ndarray) -> np.ndarray:
  """Images [R, C, H, W, K] in [-1, 1] as one image [., ., 3], white gaps."""
  rows, columns, height, width, channels = images.shape
  pixels = np.clip((np.asarray(images, np.float32) + 1) / 2, 0, 1)
  pixels = np.broadcast_to(pixels, (*pixels.shape[:-1], max(channels, 3)))
  padded = np.ones((rows, columns, height + _GAP, width + _GAP, 3))
  padded[:, :, :height, :width] = pixels[..., :3]
  whole = padded.transpose(0, 2, 1, 3, 4).reshape(
    rows * (height + _GAP), columns * (width + _GAP), 3
  )
  return whole[:-_GAP, :-_GAP]


def in_rows(images: np.ndarray, columns: int = 10) -> np.ndarray:
  """[N, H, W, K] as [R, columns, H, W, K]; missing images are white."""
  columns = min(columns, len(images))
  missing = np.ones((-len(images) % columns, *images.shape[1:]))
  whole = np.concatenate([images, missing])
  return whole.reshape(-1, columns, *images.shape[1:])


def save_sheet(path: pathlib.Path, images: np.ndarray) -> None:
  """Writes a sheet of images [R, C, H, W, K], enlarged to about 600 pixels."""
  pixels = sheet(images)
  scale = max(1, round(600 / pixels.shape[1]))
  plt.imsave(path, pixels.repeat(scale, 0).repeat(scale, 1))


def image_samples(
  path: pathlib.Path,
  samples: np.ndarray,
  real: np.ndarray,
  labels: list[str] | None,
) -> None:
  """Draws samples [R, C, H, W, K] beside real images, one row per class."""
  left, right = sheet(samples), sheet(real)
  aisle = samples.shape[3] // 2
  whole = np.concatenate([left, np.ones((len(left), aisle, 3)), right], axis=1)
  step = samples.shape[2] + _GAP
  size = np.array([whole.shape[1], whole.shape[0]]) / step * 0.6
  figure, axis = plt.subplots(
    figsize=(size[0] + 0.3, size[1] + 0.4), layout="constrained"
  )
  axis.imshow(whole, interpolation="nearest")
  for start, part, title in (
    (0, left, "samples"),
    (left.shape[1] + aisle, right, "real, held out"),
  ):
    axis.text(start + part.shape[1] / 2, -step / 8, title, ha="center")
  rows = (np.arange(len(samples)) + 0.5) * step - 1
  axis.set_yticks(rows if labels else [], labels)
  axis.set_xticks([])
  axis.tick_params(length=0)
  axis.spines[:].set_visible(False)
  save(figure, path)


def image_trajectory(
  path: pathlib.Path, frames: np.ndarray, name: str, marks: list[float]
) -> None:
  """Draws trajectories [R, T, H, W, K], one per row, with data at the right.

  Args:
    path: the file.
    frames: states, scaled to be visible; the last is the final denoising.
    name: name of the marks, such as "noise ratio".
    marks: value at each frame except the last.
  """
  rows, columns, _, width, _ = frames.shape
  figure, axis = plt.subplots(
    figsize=(0.62 * columns, 0.6 * rows + 0.6), layout="constrained"
  )
  axis.imshow(sheet(frames), interpolation="nearest")
  axis.set_yticks([])
  names = [f"{mark:.2g}" for mark in marks] + ["data"]
  axis.set_xticks((np.arange(columns) + 0.5) * (width + _GAP) - 1, names)
  axis.set_xlabel(name)
  axis.tick_params(length=0, labelsize=9)
  axis.spines[:].set_visible(False)
  save(figure, path)


def plane(points: np.ndarray) -> np.ndarray:
  """The first two coordinates of points [..., D], with a zero if D is 1."""
  if points.shape[-1] == 1:
    return np.concatenate([points, np.zeros_like(points)], -1)
  return points[..., :2]


def name_plane(axis: plt.Axes, dim: int) -> None:
  """Labels the axes of points that have another dimension than the plane."""
  if dim != 2:
    axis.set_xlabel(f"coordinate 1 of {dim}")
    axis.set_ylabel(f"coordinate 2 of {dim}" if dim > 2 else "")


def point_samples(
  path: pathlib.Path, samples: np.ndarray, real: np.ndarray
) -> None:
  """Draws points [N, D] and real points, side by side on the same axes."""
  figure, axes = plt.subplots(
    1, 2, figsize=(9, 4.9), sharex=True, sharey=True, layout="constrained"
  )
  dim, samples, real = samples.shape[-1], plane(samples), plane(real)
  limit, real = 1.15 * np.abs(real).max(), real[: len(samples)]
  for axis, points, title in zip(
    axes, (samples, real), ("samples", "real"), strict=True
  ):
    axis.scatter(*points.T, s=3, alpha=0.4, linewidths=0)
    axis.set(
      title=title, aspect="equal", xlim=(-limit, limit), ylim=(-limit, limit)
    )
    name_plane(axis, dim)
  save(figure, path)


def point_trajectory(
  path: pathlib.Path, frames: np.ndarray, name: str, marks: list[float]
) -> None:
  """Draws a panel of points for each of [T, N, D], each on its own scale."""
  columns = len(frames)
  figure, axes = plt.subplots(
    1, columns, figsize=(2.1 * columns, 2.5), layout="constrained"
  )
  names = [f"{name} {mark:.2g}" for mark in marks] + ["data"]
  name_plane(axes[0], frames.shape[-1])
  for axis, points, name in zip(axes, plane(frames), names, strict=True):
    axis.scatter(*points.T, s=2, alpha=0.4, linewidths=0)
    limit = 1.15 * np.quantile(np.abs(points), 0.995)
    axis.set(aspect="equal", xlim=(-limit, limit), ylim=(-limit, limit))
    axis.set_title(name, fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])
  save(figure, path)


def point_paths(
  path: pathlib.Path, frames: np.ndarray, name: str, marks: list[float]
) -> None:
  """Draws trajectories [N, T, D], coloured by time.

  Args:
    path: the file.
    frames: states, scaled to be visible, and the data last.
    name: name of the marks.
    marks: value at each state except the last.
  """
  figure, axis = plt.subplots(figsize=(5.6, 4.9), layout="constrained")
  name_plane(axis, frames.shape[-1])
  shown = plane(frames[:200])
  colors = plt.get_cmap("viridis")(np.linspace(0, 0.95, shown.shape[1] - 1))
  for n in range(shown.shape[1] - 1):
    ends = shown[:, n : n + 2].transpose(2, 1, 0)
    axis.plot(*ends, color=colors[n], linewidth=0.7, alpha=0.7)
  axis.scatter(*shown[:, 0].T, s=5, color=colors[0], linewidths=0)
  axis.scatter(*shown[:, -1].T, s=7, color="C3", linewidths=0, zorder=3)
  limit = 1.1 * np.abs(shown).max()
  axis.set(aspect="equal", xlim=(-limit, limit), ylim=(-limit, limit))
  bar = plt.cm.ScalarMappable(cmap="viridis", norm=plt.Normalize(0, 1 / 0.95))
  bar = figure.colorbar(bar, ax=axis, boundaries=np.linspace(0, 1, 65))
  at = np.linspace(0, len(marks) - 1, 5).round().astype(int)
  bar.set_ticks(at / (len(marks) - 1), labels=[f"{marks[i]:.2g}" for i in at])
  bar.set_label(f"{name}, data in red")
  save(figure, path)


def straightness(
  path: pathlib.Path, states: np.ndarray, times: np.ndarray
) -> None:
  """Draws the deviation of the velocity from that of a straight line, over t.

  Args:
    path: the file.
    states: [N, T, *D].
    times: [T].
  """
  flat = states.reshape(*states.shape[:2], -1)
  whole = (flat[:, -1] - flat[:, 0]) / (times[-1] - times[0])
  speed = np.diff(flat, axis=1) / np.diff(times)[:, None]
  apart = ((speed - whole[:, None]) ** 2).sum(-1).mean(0)
  length = (whole**2).sum(-1).mean()
  figure, axis = plt.subplots(figsize=(5, 3.6), layout="constrained")
  axis.plot((times[1:] + times[:-1]) / 2, apart / length)
  axis.set(xlabel="t, data at 0", ylim=(0, None))
  axis.set_ylabel("|velocity - line's|^2 / |line's|^2")
  axis.set_title(
    f"energy {transport.energy(states, times):.4g}, excess over straight"
    f" {transport.straightness(states, times):.3g}",
    fontsize=10,
  )
  save(figure, path)


def curves(path: pathlib.Path, records: list[dict[str, Any]]) -> None:
  """Draws each player's loss, as logged and smoothed, and the speed, by step.

  Records contain "loss", or "PLAYER/loss" for every player of a game.
  """
  steps = np.array([record["step"] for record in records])
  seconds = np.array([record["seconds"] for record in records])
  names = [k for k in records[0] if k.rpartition("/")[2] == "loss"]
  figure, axes = plt.subplots(
    1,
    len(names) + 1,
    figsize=(4.5 * (len(names) + 1), 3.4),
    layout="constrained",
  )
  for axis, name in zip(axes, names, strict=False):
    _loss(axis, steps, np.array([record[name] for record in records]))
    axis.set(xlabel="step", ylabel=name.replace("/", ": "))
  right = axes[-1]
  if len(steps) > 1:
    right.plot(steps[1:], np.diff(steps) / np.maximum(np.diff(seconds), 1e-9))
  right.set(xlabel="step", ylabel="steps / s")
  right.set_ylim(bottom=0)
  save(figure, path)


def _loss(axis, steps, loss):
  window = max(1, len(loss) // 20)
  axis.plot(steps, loss, color="0.75", linewidth=1, label="one batch")
  if len(loss) > 2 * window:
    smooth = np.convolve(loss, np.ones(window) / window, "valid")
    axis.plot(
      steps[window - 1 :], smooth, color="C0", label=f"mean of {window}"
    )
  axis.set_yscale("log" if np.all(loss > 0) else "linear")
  axis.legend(frameon=False)


def save(figure: plt.Figure, path: pathlib.Path) -> None:
  """Writes the figure and closes it."""
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path, dpi=150)
  plt.close(figure)
