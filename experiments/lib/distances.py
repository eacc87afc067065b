"""The parts of experiments.wasserstein: data, figures and the value."""

import dataclasses
import json
import math
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.lib import clouds, critics, figures, settings, tables
from experiments.lib import run as runs
from jaxgen import couplings, fields, samplers

plt = figures.plt
MAX_HELD_OUT = 1000  # of each law, for the exact distance of the clouds
NUM_RAYS = 150
NUM_FRAMES = 8


class HeldOut(NamedTuple):
  """Examples that were not trained on.

  Attributes:
    data, other: all of them, [N, *D] and [M, *D].
    pairs: as many of each as the exact distance takes, other's in the order of
      the data's that they go to, [K, *D] both.
    lengths: |x - y| of the pairs, [K].
  """

  data: np.ndarray
  other: np.ndarray
  pairs: tuple[np.ndarray, np.ndarray]
  lengths: np.ndarray


def resolve(config: Any) -> tuple[Any, critics.Recipe]:
  """The configuration with its critic's own steps, batch and rate, and these.

  Raises:
    ValueError: settings that cannot be.
  """
  recipe = tables.lookup(critics.RECIPES, config.critic, "critic")
  names = ("num_steps", "batch_size", "learning_rate")
  asked = {name: getattr(config, name) for name in names}
  asked = {k: v for k, v in asked.items() if v is not None}
  recipe = recipe._replace(**asked)
  config = dataclasses.replace(
    config, **{name: getattr(recipe, name) for name in names}
  )
  least = dict.fromkeys(("num_steps", "batch_size", "num_cones", "keep"), 1)
  every = dict.fromkeys(("log_every", "save_every", "samples_every"), 1)
  runs.at_least(config, **least, **every)
  settings.known(config)
  settings.positive(config, "learning_rate")
  if not all(0 <= scale < math.inf for scale in config.cone_scales):
    raise ValueError(
      f"cone_scales: expected numbers of at least 0, got {config.cone_scales}"
    )
  return config, recipe


def load(config: Any) -> tuple[clouds.Cloud, clouds.Cloud]:
  """Both laws.

  Raises:
    ValueError: no such data, or examples of different shape.
    OSError: no such file.
  """
  with settings.naming(config, "data", size="image_size"):
    data = clouds.load(config.data, config)
  with settings.naming(config, "other", size="image_size"):
    other = clouds.load(config.other, config, "other")
  if data.shape != other.shape:
    raise ValueError(
      f"other, data: expected examples {list(data.shape)} as in {config.data},"
      " got"
      f" {list(other.shape)} in {config.other}"
    )
  return data, other


def starts(data, other, key, number):
  """Draws of both laws that a critic may start from, [number, *D] each."""
  keys = jax.random.split(jax.random.fold_in(key, 1))
  sides = zip((data, other), keys, strict=True)
  return tuple(
    np.asarray(side.batches(k, number)(0), np.float32) for side, k in sides
  )


def held_out(data: clouds.Cloud, other: clouds.Cloud) -> HeldOut:
  """What the value is measured on, and the exact pairing of a part of it."""
  rows = np.random.RandomState(0)
  x, y = (side.held_out for side in (data, other))
  number = min(len(x), len(y), MAX_HELD_OUT)
  x, y = (a[rows.permutation(len(a))[:number]] for a in (x, y))
  cost = np.sqrt(couplings.costs(x, y))
  order = couplings.assign(cost)
  lengths = cost[np.arange(number), order]
  return HeldOut(data.held_out, other.held_out, (x, y[order]), lengths)


def _critic_fn(critic, now):
  return critic.of({name: p.params for name, p in now.players.items()})


def measure(critic, now, found: HeldOut, bound: str) -> dict[str, Any]:
  """The dual's value, its standard error, and the clouds' own distance."""
  values = jax.jit(jax.vmap(_critic_fn(critic, now)))
  data, other = (np.asarray(values(x), np.float64) for x in found[:2])
  return dict(
    value=float(data.mean() - other.mean()),
    standard_error=standard_error(data, other),
    bounds_from=bound,
    clouds=float(found.lengths.mean()),
    clouds_size=len(found.lengths),
    held_out=[len(data), len(other)],
  )


def standard_error(data: np.ndarray, other: np.ndarray) -> float:
  """Of mean(data) - mean(other), [N] and [M]; NaN of a single draw.

  As many of each are taken for draws of pairs, dependent or not: one set may be
  the other with noise.
  """
  if min(len(data), len(other)) < 2:
    return math.nan
  if len(data) == len(other):
    return float(np.std(data - other, ddof=1) / math.sqrt(len(data)))
  parts = (x.var(ddof=1) / len(x) for x in (data, other))
  return math.sqrt(sum(parts))


def write(run_dir: pathlib.Path, result: dict[str, Any]) -> None:
  """result.json."""
  runs.write_text(run_dir / "result.json", json.dumps(result, indent=2) + "\n")


def line(config: Any, result: dict[str, Any]) -> str:
  """What was found, as a line."""
  pair, bound = f"({config.data}, {config.other})", result["bounds_from"]
  head = {
    "below": f"W1{pair} >=",
    "neither side": f"W1{pair} about",
    "nothing": f"{config.critic}{pair}, another measure than W1:",
  }[bound]
  return (
    f"{head} {result['value']:.4g} +- {result['standard_error']:.2g} (dual on"
    f" held-out draws, {config.critic}: bounds from {bound});"
    f" {result['clouds']:.4g} between {result['clouds_size']} of each, which"
    " lies above W1 on average"
  )


def rays(critic_fn: Any, found: HeldOut, number: int) -> np.ndarray:
  """From other along the critic's rays, its partner's distance: [N, T, *D]."""
  field, solver = fields.from_critic(critic_fn), samplers.euler()
  unit = np.linspace(0, 1, NUM_FRAMES, dtype=np.float32)

  def one(x, length):
    key = jax.random.key(0)  # no noise is drawn
    return samplers.trajectory(solver, field, x, length * unit, key)

  start = np.float32(found.pairs[1][:number])
  lengths = np.float32(found.lengths[:number])
  return np.asarray(jax.jit(jax.vmap(one))(start, lengths))


def picture(critic: Any, found: HeldOut, path: pathlib.Path, now: Any) -> None:
  """The critic and its rays on the plane, or a film strip of images."""
  path.parent.mkdir(exist_ok=True)
  critic_fn = _critic_fn(critic, now)
  shape = found.data.shape[1:]
  if len(shape) == 3:
    states = rays(critic_fn, found, 10)
    frames = np.concatenate([states, found.pairs[0][:10, None]], 1)
    marks = list(np.linspace(0, 1, NUM_FRAMES))
    figures.image_trajectory(path, frames, "share of the way; partner", marks)
  elif shape == (2,):
    _contours(path, critic_fn, found)
  else:
    _along(path, critic_fn, found)


def _contours(path, critic_fn, found):
  states = rays(critic_fn, found, NUM_RAYS)
  points = np.concatenate(found.pairs)
  limit = 1.15 * np.abs(points).max()
  side = np.linspace(-limit, limit, 121, dtype=np.float32)
  grid = np.stack(np.meshgrid(side, side), -1)
  values = jax.jit(jax.vmap(jax.vmap(critic_fn)))(grid)
  figure, axis = plt.subplots(figsize=(6.6, 5.6), layout="constrained")
  filled = axis.contourf(side, side, values, 24, cmap="Blues")
  figure.colorbar(filled, ax=axis, label="critic f, high on data")
  for way in states:
    axis.plot(*way.T, color="C1", linewidth=0.8, alpha=0.8)
  axis.scatter(*states[:, 0].T, s=6, color="C1", label="other, and its rays")
  data = found.pairs[0][:600]
  axis.scatter(*data.T, s=5, color="C3", linewidths=0, label="data")
  axis.set(aspect="equal", xlim=(-limit, limit), ylim=(-limit, limit))
  axis.legend(loc="upper right", fontsize=8)
  figures.save(figure, path)


def _along(path, critic_fn, found):
  """In other dimensions: values of both laws, as two histograms."""
  values = jax.jit(jax.vmap(critic_fn))
  figure, axis = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
  for name, points in (("data", found.data), ("other", found.other)):
    axis.hist(np.asarray(values(points)), 40, alpha=0.6, label=name)
  axis.set(xlabel="critic f", ylabel="held-out draws")
  axis.legend(frameon=False)
  figures.save(figure, path)
