"""Pictures of examples, of their latents and of what is decoded from these."""

import pathlib
from typing import Any

import numpy as np

from experiments.pictures import figures, planes
from experiments.pictures import pyplot as plt


def images(path: pathlib.Path, found: Any, labels: np.ndarray | None) -> None:
  """Draws examples above what is decoded from their latents, and a row for each
  interpolation.

  Args:
    path: the file.
    found: encode.Encoded, of images.
    labels: of the examples, [N], or None.
  """
  columns, height, width, _ = found.interpolations.shape[1:]
  pairs = (figures.in_rows(x, columns) for x in (found.examples, found.decoded))
  above = np.stack([*pairs], 1)  # rows of examples and of decoded, in turn
  above = above.reshape(-1, *above.shape[2:])
  sizes = len(above), len(found.interpolations)
  figure, (top, bottom) = plt.subplots(
    2,
    1,
    figsize=(0.6 * columns + 1.6, 0.6 * sum(sizes) + 3),
    height_ratios=sizes,
    layout="constrained",
  )
  step = height + 1
  names = ["held out", "decoded"] * (len(above) // 2)
  figures.show_rows(top, figures.sheet(above), step, names)
  top.set(title="held-out examples, and decoded from their latents")
  top.set(xlabel="examples", ylabel="")
  classes = None if labels is None else [str(label) for label in labels]
  rows = figures.sheet(found.interpolations)
  figures.show_rows(bottom, rows, step, classes)
  of = "the next example" + " of the same class" * (labels is not None)
  bottom.set(title=f"interpolations of latents, from each example to\n{of}")
  if labels is None:
    bottom.set_ylabel("one example per row")
  weights = figures.distinct(np.linspace(0, 1, columns))
  bottom.set_xticks((np.arange(columns) + 0.5) * (width + 1) - 1, weights)
  bottom.set_xlabel("weight of the next example")
  figures.save(figure, path)


def points(path: pathlib.Path, found: Any) -> None:
  """Draws latents, and the examples with what is decoded from latents.

  Args:
    path: the file.
    found: encode.Encoded, of points.
  """
  dim, found = found.latents.shape[-1], type(found)(*map(planes.flat, found))
  figure, (left, right) = plt.subplots(
    1, 2, figsize=(9.6, 5.4), layout="constrained"
  )
  # Points with the same colour belong together: it is the latent's angle.
  shown = dict(c=np.arctan2(*found.latents.T), cmap="twilight_shifted", s=24)
  shown |= dict(edgecolors="0.3", linewidths=0.4)
  left.scatter(*found.latents.T, **shown)
  left.set_title("latents; the colour is the angle")
  planes.window(left, planes.square(found.latents), found.latents, dim=dim)
  for n, line in enumerate(found.interpolations):
    name = "_" * (n > 0) + "interpolation to the next"
    right.plot(*line.T, color="0.75", linewidth=0.8, zorder=0, label=name)
  right.scatter(*found.examples.T, label="example", **shown)
  cross = dict(c="black", s=12, marker="x", linewidths=0.6, label="decoded")
  right.scatter(*found.decoded.T, **cross)
  last = dict(color="0.6", s=12, label="next of the last example")
  right.scatter(*found.partners[-1:].T, **last)
  right.set_title("examples in the colours of their latents")
  parts = found.examples, found.decoded, *found.interpolations
  everything = np.concatenate(parts)
  planes.window(right, planes.square(everything), everything, dim=dim)
  figure.legend(loc="outside lower center", ncols=4, frameon=False)
  figures.save(figure, path)
