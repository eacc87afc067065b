"""Pictures of transport maps on the plane: displacements and the potential."""

import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from experiments.pictures import figures, planes
from experiments.pictures import pyplot as plt

NUM_ARROWS = 300


def plot(
  path: pathlib.Path,
  starts: np.ndarray,
  ends: np.ndarray,
  real: np.ndarray,
  potential: Callable | None,
) -> None:
  """Draws displacements of source points and, on the right, the mapped points
  over the real points. If the map is the gradient of a potential phi, the
  displacements are shown over the potential that they ascend:

    T(x) - x = grad (phi(x) - |x|^2 / 2)

  Args:
    path: the file.
    starts: points of the source, [N, D].
    ends: T(starts), [N, D].
    real: points of the data, [M, D].
    potential: phi, [2] -> [], for points on the plane; or None.
  """
  dim = starts.shape[-1]
  starts, ends, real = map(planes.flat, (starts, ends, real[: len(ends)]))
  limits = planes.square(np.concatenate([starts, ends, real]))
  figure, (left, right) = plt.subplots(
    1, 2, figsize=(11.6, 5.4), sharex=True, sharey=True, layout="constrained"
  )
  if potential is not None:
    drawn = _contours(left, potential, starts, limits)
    name = r"$\phi(x) - |x|^2 / 2$, which T(x) - x ascends"
    figure.colorbar(drawn, ax=left, label=name, format="%.3g")
  few = slice(NUM_ARROWS)
  moved = ends[few] - starts[few]
  left.quiver(
    *starts[few].T,
    *moved.T,
    color="C1",
    angles="xy",
    scale_units="xy",
    scale=1,
    width=0.0025,
    alpha=0.6,
    label="displacement to T(x)",
  )
  source = dict(color="0.15", linewidths=0, label="source x")
  left.scatter(*starts[few].T, s=5, zorder=3, **source)
  right.scatter(*real.T, s=6, color="0.72", lw=0, label="real, held out")
  right.scatter(*ends.T, s=4, color="C3", lw=0, alpha=0.7, label="T(x)")
  title = f"{len(moved)} of {len(starts)} displacements"
  shown = np.concatenate([ends, real])
  for axis, name, points in (
    (left, title, np.stack([starts[few], ends[few]], 1)),
    (right, "mapped points on real data", shown),
  ):
    planes.window(axis, limits, points, dim=dim)
    axis.legend(markerscale=3, fontsize=9, loc="upper right")
    axis.set_title(name, fontsize=11)
    axis.label_outer()
  figures.save(figure, path)


def _contours(axis, potential, starts, limits):
  """Draws phi(x) - |x|^2 / 2, in equal steps over its values on the source."""
  level = jax.jit(jax.vmap(lambda x: potential(x) - jnp.vdot(x, x) / 2))
  sides = np.linspace(*limits.T, 161, dtype=np.float32).T
  grid = np.stack(np.meshgrid(*sides), -1)
  values = np.asarray(level(grid.reshape(-1, 2))).reshape(grid.shape[:2])
  own = np.asarray(level(starts))
  levels = np.linspace(own.min(), own.max(), 14)
  kind = dict(levels=levels, cmap="Blues", zorder=0)
  axis.contour(*sides, values, linewidths=0.6, alpha=0.7, **kind)
  return axis.contourf(*sides, values, alpha=0.35, **kind)
