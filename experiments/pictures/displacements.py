"""Pictures of transport maps on the plane: displacements and the potential."""

import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from experiments.pictures import figures

plt = figures.plt
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
  starts, ends, real = map(figures.plane, (starts, ends, real))
  limit = 1.05 * np.abs(np.concatenate([starts, ends, real])).max()
  figure, (left, right) = plt.subplots(
    1, 2, figsize=(10.4, 5.7), sharex=True, sharey=True, layout="constrained"
  )
  title = "x to T(x)"
  if potential is not None:
    _contours(left, potential, starts, limit)
    title += r", uphill of $\phi(x) - |x|^2 / 2$"
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
  )
  left.scatter(*starts[few].T, s=5, color="0.15", linewidths=0, zorder=3)
  right.scatter(*real[: len(ends)].T, s=6, color="0.72", lw=0, label="real")
  right.scatter(*ends.T, s=4, color="C3", lw=0, alpha=0.7, label="T(x)")
  right.legend(markerscale=3, frameon=False, loc="upper right")
  for axis, name in ((left, title), (right, "T(x) on real data")):
    axis.set(aspect="equal", xlim=(-limit, limit), ylim=(-limit, limit))
    axis.set_title(name, fontsize=11)
    figures.name_plane(axis, dim)
  figures.save(figure, path)


def _contours(axis, potential, starts, limit):
  """Contours of phi(x) - |x|^2 / 2, equally spaced over its source values."""
  level = jax.jit(jax.vmap(lambda x: potential(x) - jnp.vdot(x, x) / 2))
  side = np.linspace(-limit, limit, 161, dtype=np.float32)
  grid = np.stack(np.meshgrid(side, side), -1)
  values = np.asarray(level(grid.reshape(-1, 2))).reshape(grid.shape[:2])
  own = np.asarray(level(starts))
  levels = np.linspace(own.min(), own.max(), 14)
  kind = dict(levels=levels, cmap="Blues", zorder=0)
  axis.contourf(side, side, values, alpha=0.35, **kind)
  axis.contour(side, side, values, linewidths=0.6, alpha=0.7, **kind)
