"""Pictures of the modes of a mixture that generated points cover."""

from typing import Any

import jax
import numpy as np

from experiments.pictures import figures, planes
from experiments.pictures import pyplot as plt


def shares(points: np.ndarray, mixture: Any) -> np.ndarray:
  """The share of the points within 3 std of each mode, [K].

  Args:
    points: [N, 2].
    mixture: a mixture of isotropic Gaussians, means [K, 2] and stds [K].
  """
  apart = np.linalg.norm(points[:, None] - mixture.means, axis=-1)
  nearest = apart.argmin(1)
  good = apart.min(1) < 3 * np.asarray(mixture.stds)[nearest]
  counts = np.bincount(nearest[good], minlength=len(mixture.means))
  return counts / len(points)


def plot(path: Any, critic_fn: Any, points: np.ndarray, mixture: Any) -> None:
  """Draws the share of each mode, and the discriminator with its gradient.

  Args:
    path: the file.
    critic_fn: the discriminator, [2] -> [].
    points: generated points, [N, 2].
    mixture: as in `shares`.
  """
  found = shares(points, mixture)
  figure, (left, right) = plt.subplots(
    1, 2, figsize=(11, 4.8), layout="constrained", width_ratios=(1.25, 1)
  )
  # Positive for one Gaussian at 0 too.
  limit = max(1.35 * np.abs(mixture.means).max(), 4 * np.max(mixture.stds))
  side = np.linspace(-limit, limit, 121, dtype=np.float32)
  grid = np.stack(np.meshgrid(side, side), -1)
  values = jax.jit(jax.vmap(jax.vmap(critic_fn)))(grid)
  filled = left.contourf(side, side, values, 24, cmap="Blues")
  figure.colorbar(filled, ax=left, label="discriminator")
  arrows = jax.jit(jax.vmap(jax.vmap(jax.grad(critic_fn))))(grid[6::12, 6::12])
  at = side[6::12]
  slope = dict(color="0.35", width=0.003, label="discriminator's gradient")
  left.quiver(at, at, arrows[..., 0], arrows[..., 1], **slope)
  left.scatter(*points.T, s=3, color="C1", linewidths=0, label="generated")
  planes.window(left, np.array([[-limit, limit]] * 2), points)
  left.legend(loc="upper right", fontsize=8, markerscale=3)
  modes = np.arange(len(found))
  right.bar(modes, found, color="C1", label="generated")
  weights, wide = np.asarray(mixture.weights), (modes - 0.4, modes + 0.4)
  right.hlines(weights, *wide, color="0.2", label="weight of the mode")
  right.set_ylim(0, 1.2 * max(found.max(), weights.max()))
  right.legend(loc="upper right", ncols=2, fontsize=8)
  right.set(xlabel="mode", ylabel="share of the points within 3 std")
  right.set_title(f"{found.sum():.3f} of {len(points)} within 3 std of a mode")
  figures.save(figure, path)
