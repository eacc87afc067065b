"""Experiment: what a script hands over, and all that anything else asks of it.

Training, `sample`, `evaluate`, `encode` and the pictures take an Experiment
and nothing else. A script has a function `experiment(config) -> Experiment`.
Keys, examples and labels are of one example unless an axis is written; the
caller applies vmap.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.lib import datasets
from jaxgen import fields
from jaxgen.training import step


class Keys(NamedTuple):
  """What the seed's keys are for.

  Attributes:
    players: the first parameters.
    batches: batches and what belongs to them.
    state: dropout, noise and times in the losses.
    samples: the samples that are shown.
  """

  players: Any
  batches: Any
  state: Any
  samples: Any


def split_keys(key: Any) -> Keys:
  """Four independent keys from that of the seed."""
  return Keys(*jax.random.split(key, 4))


class Times(NamedTuple):
  """The times at which a sample's trajectory has states.

  Attributes:
    name: what they are called in pictures, "noise ratio".
    marks: their values, [T].
    scales: factors that make the states comparable to look at, [T].
  """

  name: str
  marks: np.ndarray
  scales: np.ndarray


class Vectors(NamedTuple):
  """How the field of a model on the plane is drawn.

  Attributes:
    name: the estimate that is learned, "velocity" or "score".
    times: of the states, [T].
    ratios: their noise ratios, [T].
    scale: standard deviation of the data.
    exact: the exact field, where it is known.
  """

  name: str
  times: Any
  ratios: Any
  scale: float
  exact: fields.Field | None = None


class Trained(NamedTuple):
  """A run at some step, for pictures and measurements.

  Attributes:
    params: {player: averaged parameters} of the players that are sampled.
    players: {player: parameters} of all players as they are.
    extras: what the losses carry along.
    states: on the way of the samples, [N, T, *D], or None.
    samples: [N, *D], or None.
  """

  params: dict[str, Any]
  players: dict[str, Any]
  extras: dict[str, Any]
  states: np.ndarray | None = None
  samples: np.ndarray | None = None


class Experiment(NamedTuple):
  """One method on one dataset, as functions.

  Attributes:
    config: the settings, None resolved where it means "measure".
    data: the dataset.
    players: key -> {player: parameters} that training starts from.
    turns: the game.
    batches: key -> (step -> {player: batch}), on the host.
    sampled: players whose averages sampling and encoding read; the first one's
      are stored as snapshots.
    sample: (params, extras, key, label) -> (states [T, *D] or None, example
      [*D]); params is {player: averages}. None: the runs have no samples.
    num_calls: network calls of one sample.
    times: of the states, where there are any.
    extras: key -> {name: arrays} that the losses carry from the first step.
    keys: seed's key -> Keys.
    encode: (params, extras, example, label) -> latent, or None.
    decode: (params, extras, latent, label) -> example, or None.
    between: (latent, latent, weight []) -> latent on the way.
    field: (params, extras, label) -> fields.Field, where the model is one.
    vectors: how the field is drawn, of points on the plane.
    pictures: ((file name, (path, Trained) -> None), ...) beyond the common
      ones.
    sheet: (path, Trained) -> None, drawn during training; None: the samples.
    measure: Trained -> (record for result.json, text), or None.
    reads: {name: directory} of the runs that its samples need, such as the
      first of two stages.
    learns_from: the same of runs that training alone needs, such as a teacher.
      Their steps and checksums are recorded, and a run that has changed since
      is rejected.
  """

  config: Any
  data: datasets.Data
  players: Callable
  turns: tuple[step.Turn, ...]
  batches: Callable
  sampled: tuple[str, ...]
  sample: Callable | None = None
  num_calls: int = 1
  times: Times | None = None
  extras: Callable = lambda key: {}
  keys: Callable = split_keys
  encode: Callable | None = None
  decode: Callable | None = None
  between: Callable | None = None
  field: Callable | None = None
  vectors: Vectors | None = None
  pictures: tuple[tuple[str, Callable], ...] = ()
  sheet: Callable | None = None
  measure: Callable | None = None
  reads: Mapping[str, str] = MappingProxyType({})
  learns_from: Mapping[str, str] = MappingProxyType({})
