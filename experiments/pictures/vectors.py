"""Pictures of vector fields on the plane: learned and exact."""

import pathlib

import jax
import numpy as np

from experiments.experiment import Times, Vectors
from experiments.pictures import figures, planes
from experiments.pictures import pyplot as plt
from jaxgen import fields

SPREADS = (
  2.0,
  0.5,
  0.1,
)  # noise ratios of the pictures, in units of the data's standard deviation
NUM_ARROWS = 17  # per side
NUM_POINTS = 512
UNITS = {
  "velocity": "|velocity|, in units of the data per unit of t",
  "score": "|score|, per unit of the data",
}


def plot(
  path: pathlib.Path,
  field: fields.Field,
  how: Vectors,
  shown: Times,
  states: np.ndarray,
) -> None:
  """Draws the learned estimate at up to three times, and the exact one if
  known.

  Arrows of one length point where samples go: along the score, or along the
  velocity in the direction in which the times run. Their colours are the norms,
  on one scale. Titles give the relative error over the states,
  sqrt(E|f - f*|^2 / E|f*|^2).

  Args:
    path: the file.
    field: the trained model.
    how: the estimate to plot and, if known, the exact field.
    shown: name and marks of the times.
    states: states of samples at how.times, [N, T, 2].
  """
  aims = np.array(SPREADS) * how.scale
  at = sorted({int(np.abs(np.log(how.ratios / aim)).argmin()) for aim in aims})
  points = [states[:NUM_POINTS, n] for n in at]
  limits = [planes.square(seen, outer=0.005) for seen in points]
  grids = [_grid(limit) for limit in limits]
  places = [np.concatenate(pair) for pair in zip(points, grids, strict=True)]
  models = {"learned": field}
  if how.exact is not None:
    models["exact"] = how.exact
  found = [_estimates(f, how, at, places) for f in models.values()]
  figure, axes = plt.subplots(
    len(found),
    len(at),
    figsize=(3.5 * len(at) + 1, 3.4 * len(found) + 0.5),
    squeeze=False,
    layout="constrained",
  )
  colors = _scale(np.stack(found)[:, :, len(points[0]) :])
  forward = how.name == "score" or how.times[-1] > how.times[0]
  times = figures.distinct(shown.marks)
  for kind, values, of_row in zip(models, found, axes, strict=True):
    for n, axis in enumerate(of_row):
      axis.scatter(*points[n].T, s=2, color="0.75", linewidths=0)
      arrows = values[n][len(points[n]) :]
      drawn = _arrows(axis, grids[n], arrows if forward else -arrows, colors)
      planes.window(axis, limits[n], points[n])
      title = f"{kind} {how.name}, {shown.name} {times[at[n]]}"
      if kind == "learned" and how.exact is not None:
        parts = (f[n][: len(points[n])] for f in found)
        title += f"\nrelative error {_error(*parts):.3f}"
      axis.set_title(title, fontsize=10)
  figure.suptitle("Arrows point where samples go. Grey: samples at that time.")
  bar = dict(label=UNITS[how.name], extend="both", aspect=30)
  figure.colorbar(drawn, ax=axes, **bar)
  figures.save(figure, path)


def _estimates(field, how, at, places):
  """The estimate at the places [M, 2] of each time, [T, M, 2] in float64."""
  one = lambda x, t: getattr(field(x, t), how.name)
  many = jax.jit(jax.vmap(one, (0, None)))
  values = [many(x, how.times[n]) for x, n in zip(places, at, strict=True)]
  return np.asarray(values, np.float64)


def _error(ours, truth):
  return np.sqrt(((ours - truth) ** 2).sum() / (truth**2).sum())


def _grid(limits):
  sides = np.linspace(*limits.T, NUM_ARROWS, dtype=np.float32)
  return np.stack(np.meshgrid(*sides.T), -1).reshape(-1, 2)


def _scale(arrows):
  """The scale of colours: logarithmic, as norms of scores differ by much."""
  from matplotlib import colors

  norms = np.linalg.norm(arrows, axis=-1)
  low, high = np.quantile(norms[np.isfinite(norms)], (0.01, 0.99))
  high = high or 1.0  # of a field of zeros
  return colors.LogNorm(max(low, high / 1000) * 0.99, high)


def _arrows(axis, grid, arrows, colors):
  """Draws the directions of arrows [N, 2] at the points of a grid."""
  norms = np.linalg.norm(arrows, axis=1)
  units = arrows / np.maximum(norms, 1e-30)[:, None]
  how = dict(norm=colors, cmap="viridis", pivot="mid", scale=NUM_ARROWS * 1.15)
  return axis.quiver(
    *grid.T, *units.T, norms, width=0.005, scale_units="width", **how
  )
