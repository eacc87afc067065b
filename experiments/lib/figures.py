"""Pictures of a run: samples, a film strip from noise to data, curves."""

import pathlib
from typing import Any

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np

_GAP = 1  # pixels between the images of a sheet


def sheet(images: np.ndarray) -> np.ndarray:
  """Images [R, C, H, W, K] in [-1, 1] as one image [., ., 3], gaps white."""
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
  """[N, H, W, K] as [R, columns, H, W, K], what is missing white."""
  columns = min(columns, len(images))
  missing = np.ones((-len(images) % columns, *images.shape[1:]))
  whole = np.concatenate([images, missing])
  return whole.reshape(-1, columns, *images.shape[1:])


def save_sheet(path: pathlib.Path, images: np.ndarray) -> None:
  """A bare sheet of images [R, C, H, W, K], enlarged to 600 pixels or so."""
  pixels = sheet(images)
  scale = max(1, round(600 / pixels.shape[1]))
  plt.imsave(path, pixels.repeat(scale, 0).repeat(scale, 1))


def image_samples(
  path: pathlib.Path,
  samples: np.ndarray,
  real: np.ndarray,
  labels: list[str] | None,
) -> None:
  """Samples [R, C, H, W, K] and real images beside them, one row a class."""
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
  path: pathlib.Path, frames: np.ndarray, ratios: list[float]
) -> None:
  """A film strip: frames [R, T, H, W, K], noise at the left, data at the right.

  Args:
    path: the file.
    frames: states scaled to be seen, and the final denoise last.
    ratios: the noise ratio of each frame but the last.
  """
  rows, columns, _, width, _ = frames.shape
  figure, axis = plt.subplots(
    figsize=(0.62 * columns, 0.6 * rows + 0.6), layout="constrained"
  )
  axis.imshow(sheet(frames), interpolation="nearest")
  axis.set_yticks([])
  names = [f"{ratio:.2g}" for ratio in ratios] + ["data"]
  axis.set_xticks((np.arange(columns) + 0.5) * (width + _GAP) - 1, names)
  axis.set_xlabel("noise ratio sigma / alpha")
  axis.tick_params(length=0, labelsize=9)
  axis.spines[:].set_visible(False)
  save(figure, path)


def point_samples(
  path: pathlib.Path, samples: np.ndarray, real: np.ndarray
) -> None:
  """Points [N, 2] and real ones, side by side on the same axes."""
  figure, axes = plt.subplots(
    1, 2, figsize=(9, 4.6), sharex=True, sharey=True, layout="constrained"
  )
  limit, real = 1.15 * np.abs(real).max(), real[: len(samples)]
  for axis, points, title in zip(
    axes, (samples, real), ("samples", "real"), strict=True
  ):
    axis.scatter(*points.T, s=3, alpha=0.4, linewidths=0)
    axis.set(
      title=title, aspect="equal", xlim=(-limit, limit), ylim=(-limit, limit)
    )
  save(figure, path)


def point_trajectory(
  path: pathlib.Path, frames: np.ndarray, ratios: list[float]
) -> None:
  """Panels of points [T, N, 2] from noise to data, each on its own scale."""
  columns = len(frames)
  figure, axes = plt.subplots(
    1, columns, figsize=(2.1 * columns, 2.5), layout="constrained"
  )
  names = [f"ratio {ratio:.2g}" for ratio in ratios] + ["data"]
  for axis, points, name in zip(axes, frames, names, strict=True):
    axis.scatter(*points.T, s=2, alpha=0.4, linewidths=0)
    limit = 1.15 * np.quantile(np.abs(points), 0.995)
    axis.set(aspect="equal", xlim=(-limit, limit), ylim=(-limit, limit))
    axis.set_title(name, fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])
  save(figure, path)


def curves(path: pathlib.Path, records: list[dict[str, Any]]) -> None:
  """The loss, as logged and smoothed, and the speed, over the steps."""
  steps = np.array([record["step"] for record in records])
  loss = np.array([record["loss"] for record in records])
  seconds = np.array([record["seconds"] for record in records])
  figure, (left, right) = plt.subplots(
    1, 2, figsize=(9, 3.4), layout="constrained"
  )
  window = max(1, len(loss) // 20)
  left.plot(steps, loss, color="0.75", linewidth=1, label="one batch")
  if len(loss) > 2 * window:
    smooth = np.convolve(loss, np.ones(window) / window, "valid")
    left.plot(
      steps[window - 1 :], smooth, color="C0", label=f"mean of {window}"
    )
  positive = np.all(loss > 0)
  left.set(xlabel="step", ylabel="loss", yscale="log" if positive else "linear")
  left.legend(frameon=False)
  if len(steps) > 1:
    right.plot(steps[1:], np.diff(steps) / np.maximum(np.diff(seconds), 1e-9))
  right.set(xlabel="step", ylabel="steps / s")
  right.set_ylim(bottom=0)
  save(figure, path)


def save(figure: plt.Figure, path: pathlib.Path) -> None:
  """Writes the figure and closes it."""
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path, dpi=150)
  plt.close(figure)
