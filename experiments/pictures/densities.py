"""Pictures of densities on the plane."""

import pathlib
from collections.abc import Callable

import jax
import numpy as np

from experiments.pictures import figures, planes
from experiments.pictures import pyplot as plt

SIDE = 161  # grid points per axis


def plot(
  path: pathlib.Path,
  log_prob: Callable,
  real: np.ndarray,
  truth: Callable | None = None,
) -> None:
  """Draws a model's density beside the true one, or beside real points.

  Args:
    path: the file.
    log_prob: the model's log-density, [2] -> [].
    real: held-out points [N, 2], which set the axes.
    truth: the true log-density, or None if it is not known.
  """
  limits = planes.square(real)
  sides = np.linspace(*limits.T, SIDE, dtype=np.float32).T
  grid = np.stack(np.meshgrid(*sides), -1).reshape(-1, 2)
  maps = {"model": log_prob} | ({} if truth is None else {"truth": truth})
  found = {
    name: np.exp(np.asarray(jax.jit(jax.vmap(fn))(grid))).reshape(SIDE, SIDE)
    for name, fn in maps.items()
  }
  # A few peaks of the model do not darken everything else.
  top = max(np.quantile(found[name], 0.998) for name in found)
  figure, axes = plt.subplots(
    1, 2, figsize=(10, 4.9), sharex=True, sharey=True, layout="constrained"
  )
  for axis, name in zip(axes, ("model", "truth"), strict=True):
    if name in found:
      image = axis.pcolormesh(*sides, found[name], vmin=0, vmax=top)
      axis.set_title(f"density, {name}")
    else:
      axis.scatter(*real.T, s=3, alpha=0.4, linewidths=0)
      axis.set_title("real, held out")
    planes.window(axis, limits, real)
  figure.colorbar(image, ax=axes, label="density")
  figures.save(figure, path)
