"""Pictures of a critic between two datasets, and of its transport rays."""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from experiments.pictures import figures, planes
from experiments.pictures import pyplot as plt
from jaxgen import fields, samplers

NUM_RAYS = 150
NUM_FRAMES = 8


class HeldOut(NamedTuple):
  """Held-out examples of two datasets.

  Attributes:
    data, other: all held-out examples, [N, *D] and [M, *D].
    pairs: examples of data and of other, paired by the exact optimal transport,
      [K, *D] each.
    lengths: |x - y| of the pairs, [K].
  """

  data: np.ndarray
  other: np.ndarray
  pairs: tuple[np.ndarray, np.ndarray]
  lengths: np.ndarray


def rays(critic_fn: Callable, found: HeldOut, number: int) -> np.ndarray:
  """Rays from `other` along the critic's gradient, with the pairs' lengths:
  [N, T, *D].
  """
  field, solver = fields.from_critic(critic_fn), samplers.euler()
  unit = np.linspace(0, 1, NUM_FRAMES, dtype=np.float32)

  def one(x, length):
    key = jax.random.key(0)  # not used, as the solver is deterministic
    return samplers.trajectory(solver, field, x, length * unit, key)

  start = np.float32(found.pairs[1][:number])
  lengths = np.float32(found.lengths[:number])
  return np.asarray(jax.jit(jax.vmap(one))(start, lengths))


def plot(path: pathlib.Path, critic_fn: Callable, found: HeldOut) -> None:
  """Draws the critic and its rays on the plane, or trajectories of images."""
  shape = found.data.shape[1:]
  if len(shape) == 3:
    states = rays(critic_fn, found, 10)
    frames = np.concatenate([states, found.pairs[0][:10, None]], 1)
    columns = figures.distinct(np.linspace(0, 1, NUM_FRAMES))
    name = "share of the way along the ray; at the right, the paired example"
    figures.image_trajectory(path, frames, name, [*columns, "data"])
  elif shape == (2,):
    _contours(path, critic_fn, found)
  else:
    _along(path, critic_fn, found)


def _contours(path, critic_fn, found):
  states = rays(critic_fn, found, NUM_RAYS)
  limits = planes.square(np.concatenate(found.pairs))
  sides = np.linspace(*limits.T, 121, dtype=np.float32).T
  grid = np.stack(np.meshgrid(*sides), -1)
  values = jax.jit(jax.vmap(jax.vmap(critic_fn)))(grid)
  figure, axis = plt.subplots(figsize=(6.6, 5.6), layout="constrained")
  filled = axis.contourf(*sides, values, 24, cmap="Blues")
  figure.colorbar(filled, ax=axis, label="critic f, high on data")
  for way in states:
    axis.plot(*way.T, color="C1", linewidth=0.8, alpha=0.8)
  axis.scatter(*states[:, 0].T, s=6, color="C1", label="other, with its rays")
  data = found.pairs[0][:600]
  axis.scatter(*data.T, s=5, color="C3", linewidths=0, label="data")
  planes.window(axis, limits, states, "rays")
  axis.legend(loc="upper right", fontsize=8)
  figures.save(figure, path)


def _along(path, critic_fn, found):
  """Draws histograms of the critic's values, for other dimensions."""
  values = jax.jit(jax.vmap(critic_fn))
  figure, axis = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
  for name, points in (("data", found.data), ("other", found.other)):
    axis.hist(np.asarray(values(points)), 40, alpha=0.6, label=name)
  axis.set(xlabel="critic f", ylabel="held-out examples")
  axis.legend(frameon=False)
  figures.save(figure, path)
