"""Data as levels: stored levels, bins of points or tokens; their features."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lib import datasets
from jaxgen import outputs

MAX_ONE_HOT = 64  # levels
MARGIN = 1.3  # the grid's half side relative to the largest training value


class Codec(NamedTuple):
  """Data as levels.

  Attributes:
    num_levels: L.
    to_levels: example [*D] -> levels [*D].
    to_data: (key, levels [*D]) -> example.
    log_density: (log P of the levels, example) -> what `evaluate` reports.
    of: its name, for tables.
    ordered: whether the levels are equally spaced numbers; tokens are not.
  """

  num_levels: int
  to_levels: Callable
  to_data: Callable
  log_density: Callable
  of: str
  ordered: bool = True

  def features(self, levels: Any) -> Any:
    """Levels [*D] as inputs of a network, [*D, F].

    Few levels and tokens are one-hot vectors; ordered ones are values, too.
    """
    one_hot = jax.nn.one_hot(levels, self.num_levels)
    if not self.ordered:
      return one_hot
    values = self.values(levels)[..., None]
    few = 2 < self.num_levels <= MAX_ONE_HOT
    return jnp.concatenate([one_hot, values], -1) if few else values

  def values(self, levels: Any) -> Any:
    """Levels as values in [-1, 1]; tokens stay as they are."""
    if not self.ordered:
      return levels
    return outputs.to_values(levels, self.num_levels)


def of_data(data: datasets.Data, num_bins: int) -> Codec:
  """The stored levels of images, tokens, or bins of points."""
  if data.num_codes is not None:
    return of_tokens(data.num_codes)
  if data.levels is not None:
    return of_images(data.levels)
  return of_points(data.split("train")[0], num_bins)


def of_images(num_levels: int) -> Codec:
  """The stored levels of images."""
  return Codec(
    num_levels,
    lambda x: outputs.to_levels(x, num_levels),
    lambda key, levels: outputs.to_values(levels, num_levels),
    lambda nats, x: nats,
    "levels",
  )


def of_tokens(num_codes: int) -> Codec:
  """Tokens 0, ..., num_codes - 1 as they are."""
  return Codec(
    num_codes,
    lambda x: x,
    lambda key, levels: levels,
    lambda nats, x: nats,
    "tokens",
    ordered=False,
  )


def of_points(points: np.ndarray, num_bins: int) -> Codec:
  """The bins of a grid, whose density is constant within a bin.

  The grid is a cube around the mean of the points, MARGIN times as large as
  theirs. Beyond it the density is 0.

  Raises:
    ValueError: all points are equal.
  """
  center = points.mean(0)
  side = 2 * MARGIN * float(np.abs(points - center).max())
  if not side:
    raise ValueError("data: expected points that differ, got equal ones")
  low, width = center - side / 2, side / num_bins
  dtype, log_width = points.dtype, math.log(width)

  def to_levels(x):
    found = jnp.floor((x - low.astype(dtype)) / width).astype("int32")
    return jnp.clip(found, 0, num_bins - 1)

  def to_data(key, levels):
    places = levels + jax.random.uniform(key, levels.shape, dtype)
    return low.astype(dtype) + width * places

  def log_density(nats, x):
    inside = jnp.all(jnp.abs(x - center.astype(dtype)) <= side / 2)
    return jnp.where(inside, nats - x.size * log_width, -jnp.inf)

  return Codec(num_bins, to_levels, to_data, log_density, "density")
