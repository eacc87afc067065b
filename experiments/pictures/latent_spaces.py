"""Pictures of a latent space: reconstructions, traversals, a map, a curve."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.pictures import figures, planes
from experiments.pictures import pyplot as plt

MAX_CLASSES = 10  # classes with a colour of their own


def reconstructions(
  path: pathlib.Path,
  examples: np.ndarray,
  decoded: np.ndarray,
  name: str = "mean of p(x | z)",
  title: str = "z is the mean of the posterior",
) -> None:
  """Draws examples [N, *D] and what is decoded from their latents.

  Args:
    path: the file.
    examples: [N, *D].
    decoded: [N, *D].
    name: of what is decoded.
    title: of the picture.
  """
  draw = _image_pairs if examples.ndim == 4 else _point_pairs
  draw(path, examples, decoded, name, title)


def _image_pairs(path, examples, decoded, name, title):
  pairs = (figures.in_rows(x, 12) for x in (examples, decoded))
  rows = np.stack([*pairs], 1)
  rows = rows.reshape(-1, *rows.shape[2:])
  figure, axis = plt.subplots(
    figsize=(0.6 * rows.shape[1] + 1.4, 0.6 * len(rows) + 0.6),
    layout="constrained",
  )
  names = ["held out", name] * (len(rows) // 2)
  figures.show_rows(axis, figures.sheet(rows), rows.shape[2] + 1, names)
  axis.set(ylabel="", title=title)
  figures.save(figure, path)


def _point_pairs(path, examples, decoded, name, title):
  dim, examples, decoded = (
    examples.shape[-1],
    planes.flat(examples),
    planes.flat(decoded),
  )
  figure, axis = plt.subplots(figsize=(6, 5.4), layout="constrained")
  ends = np.stack([examples, decoded]).transpose(2, 0, 1)
  axis.plot(*ends, color="0.75", linewidth=0.7, zorder=0)
  axis.scatter(*examples.T, s=8, color="C0", linewidths=0, label="held out")
  cross = dict(s=14, color="C3", marker="x", linewidths=0.8)
  axis.scatter(*decoded.T, label=name, **cross)
  axis.set_title(title, fontsize=10)
  axis.legend(loc="upper right", fontsize=8)
  planes.window(axis, planes.square(examples), examples, dim=dim)
  figures.save(figure, path)


def traversals(
  path: pathlib.Path,
  rows: np.ndarray,
  values: np.ndarray,
  names: Sequence[str],
) -> None:
  """Draws decoded images, one latent coordinate per row.

  Args:
    path: the file.
    rows: images [R, C, H, W, K].
    values: the coordinate's values, [C].
    names: of the rows.
  """
  number, columns, height, width, _ = rows.shape
  figure, axis = plt.subplots(
    figsize=(0.62 * columns + 2.2, 0.6 * number + 1.0), layout="constrained"
  )
  figures.show_rows(axis, figures.sheet(rows), height + 1, list(names))
  marks = figures.distinct(list(values))
  axis.set_xticks((np.arange(columns) + 0.5) * (width + 1) - 1, marks)
  axis.set_xlabel("value of the coordinate, the others at those of an example")
  axis.set(ylabel="coordinate and its KL", title="mean of p(x | z)")
  figures.save(figure, path)


def plane(
  path: pathlib.Path,
  means: np.ndarray,
  labels: np.ndarray | None,
  names: Sequence[str],
) -> None:
  """Draws posterior means [N, 2] by class, and the prior's quantiles.

  Args:
    path: the file.
    means: two coordinates of the posterior means, [N, 2].
    labels: [N], or None.
    names: of the two coordinates.
  """
  figure, axis = plt.subplots(figsize=(6.4, 5.4), layout="constrained")
  # Circles with half and .95 of N(0, I) in the plane.
  for share in (0.5, 0.95):
    radius = np.sqrt(-2 * np.log(1 - share))
    ring = plt.Circle((0, 0), radius, fill=False, color="0.7", linewidth=0.8)
    axis.add_patch(ring)
    at = dict(ha="center", va="bottom", fontsize=7, color="0.4")
    axis.text(0, radius, f"{share:.0%} of N(0, I)", **at)
  if labels is None or len(np.unique(labels)) > MAX_CLASSES:
    axis.scatter(*means.T, s=6, color="C0", linewidths=0)
  else:
    colors = plt.get_cmap("tab10")
    for n, label in enumerate(np.unique(labels)):
      mine = means[labels == label]
      how = dict(s=14, color=colors(n), linewidths=0, label=str(label))
      axis.scatter(*mine.T, **how)
    axis.legend(title="class", fontsize=8, loc="center left", frameon=False)
    axis.get_legend().set_bbox_to_anchor((1.0, 0.5))
  planes.window(axis, _around(means), means)
  axis.set(xlabel=names[0], ylabel=names[1])
  axis.set_title("means of the posteriors of held-out examples", fontsize=10)
  figures.save(figure, path)


def _around(means):
  """Limits of a square around the means and the unit circles."""
  ends = np.array([[-2.6, -2.6], [2.6, 2.6]])
  return planes.square(np.concatenate([means, ends]))


def rate_distortion(
  path: pathlib.Path,
  curves: dict[str, Any],
  betas: np.ndarray,
  entropy: float,
) -> None:
  """Draws the cross entropy of a bottleneck over its rate, and the errors.

  Args:
    path: the file.
    curves: {split: (rates [B], distortions [B], errors [B])}, in nats and as
      shares.
    betas: [B].
    entropy: of the labels, in nats.
  """
  figure, (left, right) = plt.subplots(
    1, 2, figsize=(9.6, 4.2), layout="constrained"
  )
  for name, (rates, distortions, errors) in curves.items():
    left.plot(rates, distortions, "o-", markersize=4, label=name)
    right.plot(betas, errors, "o-", markersize=4, label=name)
  held = curves[next(reversed(curves))]
  for beta, rate, distortion in zip(betas, *held[:2], strict=True):
    at = dict(textcoords="offset points", xytext=(4, 4), fontsize=7)
    left.annotate(f"{beta:g}", (rate, distortion), **at)
  ends = np.array([0, entropy])
  left.plot(ends, entropy - ends, "--", color="0.6", linewidth=0.8)
  left.set(xlabel="rate, nats", ylabel="distortion (cross entropy), nats")
  left.set_title(
    f"numbers are beta; dashed: labels of {entropy:.2f} nats less the rate",
    fontsize=9,
  )
  # Linear up to the entropy of the labels, then logarithmic.
  left.set_xscale("symlog", linthresh=entropy)
  left.set_xlim(0, 2.5 * max(held[0].max(), entropy))
  left.set_ylim(bottom=0)
  right.set(xscale="log", xlabel="beta", ylabel="share of wrong classes")
  right.set_yscale("symlog", linthresh=0.01)
  right.set_ylim(bottom=0)
  right.set_yticks([0, 0.01, 0.1, 1], ["0", "0.01", "0.1", "1"])
  for axis in (left, right):
    axis.legend(frameon=False, fontsize=8)
  figures.save(figure, path)
