"""Vector fields on the plane: a model's beside the exact ones."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lib import build, figures

plt = figures.plt

SPREADS = (
  2.0,
  0.5,
  0.1,
)  # noise ratios of the pictures, in units of the data's
NUM_ARROWS = 17  # a side


def draw(
  path: pathlib.Path, params: Any, method: build.Method, states: np.ndarray
) -> None:
  """The estimate that the method learns at three times, and the exact one.

  Titles give the relative error over the states, sqrt(E|f - f*|^2 / E|f*|^2).

  Args:
    path: the file.
    params: of the model.
    method: what the configuration says; its exact field may be None.
    states: of samples at method.times, [N, T, 2].
  """
  # At its ends a path's ratio may be 0 or infinite.
  ratios = np.asarray(method.sample_path.ratio(method.times)).clip(1e-9, 1e9)
  aims = np.array(SPREADS) * method.scale
  at = [int(np.abs(np.log(ratios / aim)).argmin()) for aim in aims]
  learned = build.make_field(method, params, None)
  rows = {f"learned {method.learned}": learned}
  if method.exact is not None:
    rows[f"exact {method.learned}"] = method.exact
  figure, axes = plt.subplots(
    len(rows), 3, figsize=(10.5, 3.7 * len(rows)), layout="constrained"
  )
  axes = np.reshape(axes, (len(rows), 3))
  for column, n in enumerate(at):
    t, points = method.times[n], jnp.asarray(states[:512, n])
    found = {}
    limit = 1.15 * float(np.quantile(np.abs(points), 0.99))
    side = jnp.linspace(-limit, limit, NUM_ARROWS)
    grid = jnp.stack(jnp.meshgrid(side, side), -1).reshape(-1, 2)
    for row, (name, field) in enumerate(rows.items()):
      estimate = jax.jit(
        jax.vmap(lambda x, t: getattr(field(x, t), method.learned), (0, None))
      )
      found[name] = np.asarray(estimate(points, t))
      axis = axes[row, column]
      axis.scatter(*points.T, s=2, color="0.8", linewidths=0)
      arrows = np.asarray(estimate(grid, t))
      length = np.linalg.norm(arrows, axis=1)
      axis.quiver(*grid.T, *arrows.T, length, cmap="viridis", pivot="mid")
      axis.set(aspect="equal", xlim=(-limit, limit), ylim=(-limit, limit))
      title = f"{name}, {method.marks[0]} {method.marks[1][n]:.2g}"
      axis.set_title(title, fontsize=10)
    if len(found) == 2:
      ours, truth = found.values()
      error = np.sqrt(((ours - truth) ** 2).sum() / (truth**2).sum())
      axes[0, column].set_xlabel(f"relative error {error:.3f}")
  figures.save(figure, path)
