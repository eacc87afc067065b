"""Pictures of a run: images, trajectories of images, and curves."""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.pictures import pyplot as plt
from jaxgen.metrics import transport
from jaxgen.training import logging

HELD_OUT = {"held_out": "held out", "held_out_ema": "held out, average"}
_LIKELIHOOD = "log_likelihood/"
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
    figsize=(size[0] + 0.5, size[1] + 0.4), layout="constrained"
  )
  show_rows(axis, whole, step, labels)
  for start, part, title in (
    (0, left, "samples"),
    (left.shape[1] + aisle, right, "real, held out"),
  ):
    axis.text(start + part.shape[1] / 2, -step / 8, title, ha="center")
  save(figure, path)


def show_rows(
  axis: Any, pixels: np.ndarray, step: int, labels: list[str] | None
) -> None:
  """Shows a sheet whose rows, of `step` pixels, are of the classes `labels`."""
  axis.imshow(pixels, interpolation="nearest")
  axis.set_xticks([])
  rows = (np.arange(len(labels or [])) + 0.5) * step - 1
  axis.set_yticks(rows, labels)
  axis.set_ylabel("class" if labels else "")
  axis.tick_params(length=0, labelsize=9)
  axis.spines[:].set_visible(False)


def image_trajectory(
  path: pathlib.Path,
  frames: np.ndarray,
  name: str,
  columns: list[str],
  labels: list[str] | None = None,
  rows_are: str = "one trajectory per row",
) -> None:
  """Draws trajectories [R, T, H, W, K], one per row, with data at the right.

  Args:
    path: the file.
    frames: states, scaled to be visible; the last is the final denoising.
    name: name of the columns' values, such as "noise ratio".
    columns: value of each column, and the name of the last.
    labels: class of each row, or None.
    rows_are: what is said of the rows where labels is None.
  """
  rows, number, height, width, _ = frames.shape
  figure, axis = plt.subplots(
    figsize=(0.62 * number + 0.4, 0.6 * rows + 0.6), layout="constrained"
  )
  show_rows(axis, sheet(frames), height + _GAP, labels)
  axis.set_xticks((np.arange(number) + 0.5) * (width + _GAP) - 1, columns)
  axis.set_xlabel(name)
  if labels is None:
    axis.set_ylabel(rows_are)
  save(figure, path)


def distinct(marks: np.ndarray | list[float]) -> list[str]:
  """Numbers as text, with as many digits as different numbers need."""
  for digits in range(2, 10):
    texts = [f"{mark:.{digits}g}" for mark in marks]
    if len(set(texts)) == len(set(marks)):
      break
  return texts


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
  axis.set_ylabel("mean of $|v - u|^2$ over mean of $|u|^2$")
  axis.set_title(
    "velocity v of the samples, u of the straight line between the ends\n"
    f"energy {transport.energy(states, times):.4g}, excess over straight"
    f" {transport.straightness(states, times):.3g}",
    fontsize=9,
  )
  save(figure, path)


def curves(path: pathlib.Path, records: list[dict[str, Any]]) -> None:
  """Draws each player's loss, as logged and smoothed, and the speed, by step.

  Records contain "loss", or "PLAYER/loss" for every player of a game. Others
  contain held-out losses, which are drawn with the loss, log-likelihoods, or
  metrics, of which the Frechet distance is drawn. Stars mark the best values.
  """
  extra = [r for r in records if not any(map(_is_loss, r))]
  records = [r for r in records if any(map(_is_loss, r))]
  measured = _measured(extra)
  steps = np.array([record["step"] for record in records])
  seconds = np.array([record["seconds"] for record in records])
  names = [k for k in records[0] if _is_loss(k)]
  number = len(names) + len(measured) + 1
  figure, axes = plt.subplots(
    1, number, figsize=(4.5 * number, 3.4), layout="constrained"
  )
  for axis, name in zip(axes, names, strict=False):
    _loss(axis, steps, np.array([record[name] for record in records]))
    axis.set(xlabel="step", ylabel=name.replace("/", ": "))
    for color, (end, title) in enumerate(HELD_OUT.items(), 1):
      held = name.removesuffix("loss") + end
      if _series(extra, held)[0]:
        _held_out(axis, extra, held, title, f"C{color}")
        _legend(axis)
  for axis, title in zip(axes[len(names) : -1], measured, strict=True):
    for color, (label, series) in enumerate(measured[title].items()):
      if label:
        _held_out(axis, extra, _LIKELIHOOD + label, label, f"C{color}")
        _legend(axis)
      else:
        axis.plot(*series, "o-", markersize=3)
    axis.set(xlabel="step", ylabel=f"{title}, validation")
  right = axes[-1]
  if len(steps) > 1:
    right.plot(steps[1:], np.diff(steps) / np.maximum(np.diff(seconds), 1e-9))
  right.set(xlabel="step", ylabel="steps / s")
  right.set_ylim(bottom=0)
  save(figure, path)


def better(name: str) -> Callable | None:
  """min for the name of a held-out loss, max for that of a log-likelihood."""
  if name.startswith(_LIKELIHOOD):
    return max
  return min if name.rpartition("/")[2] in HELD_OUT else None


def _held_out(axis, records, name, title, color):
  """A curve of held-out data, with a star at its best value."""
  found = logging.best(records, name, better(name))
  if found:
    axis.plot(*found, "*", markersize=11, color=color)
    title = f"{title}, best at {found[0]}"
  axis.plot(
    *_series(records, name), "o-", markersize=3, label=title, color=color
  )


def _measured(records):
  """{title: {label: (steps, values)}} of what is drawn beside the losses."""
  start = _LIKELIHOOD
  names = dict.fromkeys(n for r in records for n in r if n.startswith(start))
  likelihoods = {n.removeprefix(start): _series(records, n) for n in names}
  distances = {"": _series(records, "metrics/frechet")}
  found = {}
  if likelihoods:
    found["log-likelihood in nats"] = likelihoods
  if distances[""][0]:
    found["Frechet distance"] = distances
  return found


def _is_loss(name):
  return name.rpartition("/")[2] == "loss"


def _series(records, name):
  """(steps, values) of the records that have the name."""
  found = [(r["step"], r[name]) for r in records if name in r]
  return tuple(zip(*found, strict=True)) or ((), ())


def _loss(axis, steps, loss):
  window = max(1, len(loss) // 20)
  axis.plot(steps, loss, color="0.75", linewidth=1, label="one batch")
  if window > 1:
    smooth = np.convolve(loss, np.ones(window) / window, "valid")
    axis.plot(
      steps[window - 1 :], smooth, color="C0", label=f"mean of {window}"
    )
  axis.set_yscale("log" if np.all(loss > 0) else "linear")
  _legend(axis)


def _legend(axis):
  """A legend that can be read where it covers curves."""
  axis.legend(edgecolor="none", framealpha=0.7, fontsize=9)


def save(figure: Any, path: pathlib.Path) -> None:
  """Writes the figure, with all that is drawn, and closes it."""
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path, dpi=150, bbox_inches="tight")
  plt.close(figure)
