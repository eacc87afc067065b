"""Pictures of metrics: for one run, and by training step."""

import pathlib
from typing import Any

import numpy as np

from experiments.lib import quality
from experiments.pictures import figures
from experiments.pictures import pyplot as plt

NAMES = {
  "frechet": "Frechet distance",
  "kid": "kernel distance (KID)",
  "density": "density",
  "coverage": "coverage",
  "accuracy": "label accuracy",
  "nearest_10": "nearest, 10 %",
  "nearest_50": "nearest, median",
  "nearest_90": "nearest, 90 %",
  "copies": "copies",
}
COLORS = {"samples": "C0", "held out": "C2", "Gaussian": "C1"}
PANELS = ("frechet", "kid", "density", "coverage", "accuracy")


def results(path: pathlib.Path, found: quality.Result, title: str) -> None:
  """Draws each metric's values with floor and goal, and the closest samples."""
  rows = found.rows
  shown = [name for name in PANELS if rows[name]["samples"] is not None]
  images = found.pairs.ndim == 5
  figure = plt.figure(figsize=(11, 5.4), layout="constrained")
  figure.suptitle(title)
  top, bottom = figure.subfigures(2, 1, height_ratios=(1.1, 1))
  for axis, name in zip(top.subplots(1, len(shown)), shown, strict=True):
    _metric(axis, name, rows[name], found.draws)
  _legend(top, top.axes)
  if images:
    left, right = bottom.subplots(1, 2, width_ratios=(1, 1.2))
    _distances(left, found.nearest)
    _pairs(right, found.pairs)
  else:
    _distances(bottom.subplots(), found.nearest)
  figures.save(figure, path)


def _legend(figure, axes):
  """Draws one legend of all axes above them, each name once."""
  found = {}
  for axis in axes:
    handles, names = axis.get_legend_handles_labels()
    found = dict(zip(names, handles, strict=True)) | found
  how = dict(loc="outside upper center", ncols=len(found), frameon=False)
  figure.legend(found.values(), found, **how)


def _metric(axis, name, row, draws):
  """Draws the values of samples and Gaussian over the floor and the goal."""
  low, high = row["goal"]
  if low is not None or high is not None:
    bottom = -1e9 if low is None else low
    goal = dict(color="C2", alpha=0.12, label="goal")
    axis.axhspan(bottom, 1e9 if high is None else high, **goal)
  if not isinstance(row["floor"], list):
    axis.axhline(row["floor"], color="C2", linewidth=1, label="real, held out")
  values = []
  for place, kind in enumerate(("samples", "Gaussian")):
    points = [v for v in draws[kind][name] if v is not None]
    color = dict(color=COLORS[kind])
    axis.scatter([place] * len(points), points, s=16, alpha=0.6, **color)
    if points:
      axis.plot([place - 0.2, place + 0.2], [np.mean(points)] * 2, **color)
    values += points
  values += list(np.ravel(row["floor"]))
  width = max(values) - min(values)
  margin = 0.08 * width if width else 0.05 * (abs(max(values)) or 1)
  axis.set(
    xlabel="dots: sets, line: mean",
    ylabel=NAMES[name],
    xlim=(-0.6, 1.6),
    ylim=(min(values) - margin, max(values) + margin),
  )
  axis.set_xticks([0, 1], ["samples", "Gaussian"])


def _distances(axis, nearest):
  """Draws the share of each set within a distance of a training example."""
  for kind, values in nearest.items():
    part = np.arange(1, len(values) + 1) / len(values)
    axis.step(
      np.sort(values), part, where="post", color=COLORS[kind], label=kind
    )
  axis.set(
    xlabel="distance to the nearest training example",
    ylabel="share of the set",
    xlim=(0, None),
    ylim=(0, 1),
  )
  axis.legend(frameon=False)


def _pairs(axis, pairs):
  """Draws the samples closest to a training image above those images."""
  axis.imshow(figures.sheet(pairs.swapaxes(0, 1)), interpolation="nearest")
  height = pairs.shape[2]
  axis.set_yticks([height / 2, 1.5 * height + 1], ["sample", "training"])
  axis.set(xticks=[], xlabel="pairs, the closest of all sets")
  axis.tick_params(length=0)
  axis.spines[:].set_visible(False)


def over_training(
  path: pathlib.Path, steps: list[int], records: list[dict[str, Any]]
) -> None:
  """Draws a panel per metric: mean and spread by training step, and floor.

  Args:
    path: the file.
    steps: steps of the checkpoints.
    records: quality.Result.rows for each step.
  """
  shown = [name for name in NAMES if records[0][name]["samples"] is not None]
  figure, axes = plt.subplots(
    2, -(-len(shown) // 2), figsize=(12.5, 5.2), layout="constrained"
  )
  for axis in axes.flat:
    axis.set_axis_off()
  for axis, name in zip(axes.flat, shown, strict=False):
    axis.set_axis_on()
    _over_steps(axis, name, steps, [record[name] for record in records])
  _legend(figure, axes.flat)
  figures.save(figure, path)


def _over_steps(axis, name, steps, rows):
  """Draws one metric by step, with the floor, the Gaussian and the goal."""
  mean = np.array([row["samples"] for row in rows])
  spread = np.array([row["spread"] or 0.0 for row in rows])
  axis.plot(steps, mean, "o-", markersize=3, label="samples")
  band = dict(alpha=0.2, label="samples, std over sets")
  axis.fill_between(steps, mean - spread, mean + spread, **band)
  floor, goal = rows[-1]["floor"], rows[-1]["goal"]
  if isinstance(floor, list):
    between = dict(color="C2", alpha=0.2, label="real, interval of sets")
    axis.axhspan(*floor, **between)
  else:
    axis.axhline(floor, color="C2", label="real, held out")
    for bound in goal:
      if bound is not None:
        axis.axhline(bound, color="C2", linestyle="--", label="goal")
  if rows[-1]["gaussian"] is not None and name != "copies":
    axis.axhline(
      rows[-1]["gaussian"], color="C1", linestyle=":", label="Gaussian"
    )
  axis.set(ylabel=NAMES[name], xscale="log", xlabel="training step")
  if name == "copies":
    axis.set_ylim(-0.05, max(1, 1.1 * mean.max()))
  if name == "frechet" and mean.max() > 20 * mean.min():
    axis.set_yscale("log")
  few = steps[:: max(1, len(steps) // 3)]
  axis.set_xticks(few, [str(step) for step in few])
  axis.minorticks_off()
