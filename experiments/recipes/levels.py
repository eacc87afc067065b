"""The path, the distribution of t and the weight that the settings name."""

import functools
import math
from collections.abc import Callable
from typing import Any

from experiments.lib import checks, choices
from jaxgen import paths, predictions


def make_path(config: Any, name: str, flag: str) -> paths.Path:
  """The path with a name, for the noise ratios of the settings."""
  constructor = choices.lookup(choices.PATHS, name, flag)
  return constructor(config.ratio_min, config.ratio_max)


def ends(config: Any) -> dict[str, float]:
  """The smallest and largest noise ratio of training and sampling."""
  return dict(ratio_min=config.ratio_min, ratio_max=config.ratio_max)


def draw_and_weight(
  config: Any, path: paths.Path, prediction: Callable
) -> tuple[Callable, Callable]:
  """The sampler of t, (key, shape) -> t, and the weight.

  Raises:
    ValueError: no such name, or invalid settings.
  """
  if not math.isfinite(config.level_mean):
    raise ValueError(f"level_mean: expected finite, got {config.level_mean}")
  draw = choices.lookup(choices.DRAWS, config.draw, "draw")
  values = ends(config)
  flags = {name: f"path, {name}" for name in values}
  if draw.settings:
    values |= dict(mean=config.level_mean, std=config.level_std)
  make_weight, owner = choices.lookup(choices.WEIGHTS, config.weight, "weight")
  with checks.naming(config, mean="level_mean", std="level_std", **flags):
    density = draw.density(path, **values)
  weight = make_weight(path, config.sigma_data, density)
  if owner is not None:
    weight = predictions.reweight(weight, path, owner, prediction)
  sample_t = functools.partial(draw.sample, path=path, **values)
  return lambda key, shape: sample_t(key, shape=shape), weight
