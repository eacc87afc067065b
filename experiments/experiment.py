"""Experiment: the interface between a script and everything that uses it.

Training, `sample`, `evaluate`, `encode` and the pictures only use an
Experiment. A script has a function `experiment(config) -> Experiment`. Unless
an axis is written, keys, examples and labels belong to one example; the caller
applies vmap.
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
  """Keys derived from the seed, by purpose.

  Attributes:
    players: initial parameters.
    batches: the order of the batches, their noise and pairing.
    state: dropout, noise and times in the losses.
    samples: the samples shown in pictures.
  """

  players: Any
  batches: Any
  state: Any
  samples: Any


def split_keys(key: Any) -> Keys:
  """Four independent keys from the seed's key."""
  return Keys(*jax.random.split(key, 4))


class Times(NamedTuple):
  """The times at which a sample's trajectory has states.

  Attributes:
    name: their name in pictures, such as "noise ratio".
    marks: their values, [T].
    scales: factors that make the states comparable in pictures, [T].
  """

  name: str
  marks: np.ndarray
  scales: np.ndarray


class Vectors(NamedTuple):
  """What is needed to draw the field of a model on the plane.

  Attributes:
    name: the estimate that is learned, "velocity" or "score".
    times: times of the states, [T].
    ratios: their noise ratios, [T].
    scale: standard deviation of the data.
    exact: the exact field, or None if it is not known.
  """

  name: str
  times: Any
  ratios: Any
  scale: float
  exact: fields.Field | None = None


class LogLikelihood(NamedTuple):
  """The log-likelihood of an example, as `evaluate` reports it.

  Attributes:
    kind: "exact"; "lower bound", of the expected value over random draws; or
      "estimate", which has an error in both directions.
    of: what has this probability, for the table: "levels", "levels by uniform
      dequantisation", "density" or "bytes".
    log_prob: (params, extras, key, example [*D], label) -> nats, [].
    num_draws: number of keys over whose values `evaluate` takes the mean.
    num_scored: examples [N, *D] -> the number of their entries whose
      log-likelihood log_prob is; None for all of them.
  """

  kind: str
  of: str
  log_prob: Callable
  num_draws: int = 1
  num_scored: Callable | None = None


class Trained(NamedTuple):
  """A run at one step, for pictures and measurements.

  Attributes:
    params: {player: averaged parameters} of the sampled players.
    players: {player: parameters} of all players, not averaged.
    extras: arrays that the losses return and receive again, by name.
    states: states of the solver on the way to the samples, [N, T, *D], or None.
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
    config: the settings; None is replaced where it means "measure".
    data: the dataset.
    players: key -> {player: parameters} that training starts from.
    turns: the game.
    batches: key -> (step -> {player: batch}), on the host.
    sampled: players whose averages are used for sampling and encoding; those of
      the first player are stored as snapshots.
    validation: key -> (step -> {player: batch}) of held-out data, for losses;
      None if there are none.
    sample: (params, extras, key, label) -> (states [T, *D] or None, example
      [*D]); params is {player: averages}. None if the runs have no samples.
    num_calls: number of network calls per sample.
    times: times of the states, or None if there are no states.
    view: (state, label) -> its picture; None if states are like examples.
    extras: key -> {name: arrays}, the extras of the losses at the first step.
    keys: the seed's key -> Keys.
    encode: (params, extras, example, label) -> latent, or None.
    decode: (params, extras, latent, label) -> example, or None.
    num_codes: number of values of an entry of a latent of tokens, 0 to
      num_codes - 1; None for other latents.
    between: (latent, latent, weight []) -> interpolated latent.
    field: (params, extras, label) -> fields.Field, or None.
    vectors: what is needed to plot the field, for points on the plane.
    pictures: ((file name, (path, Trained) -> None), ...), in addition to the
      common ones.
    sheet: (path, Trained) -> None, the picture during training; None draws the
      samples.
    log_likelihood: the log-likelihood of examples, or None.
    measure: Trained -> (record for result.json, text), or None.
    reads: {name: directory} of other runs that sampling needs, such as the
      first of two stages.
    checksums: {name: checksum} of what a run computes from its data, such as a
      vocabulary; recorded, and a run for which they have changed is rejected.
    learns_from: the same for runs that only training needs, such as a teacher.
      The steps and checksums of both are recorded, and a run that reads a
      changed run is rejected.
  """

  config: Any
  data: datasets.Data
  players: Callable
  turns: tuple[step.Turn, ...]
  batches: Callable
  sampled: tuple[str, ...]
  validation: Callable | None = None
  sample: Callable | None = None
  num_calls: int = 1
  times: Times | None = None
  view: Callable | None = None
  extras: Callable = lambda key: {}
  keys: Callable = split_keys
  encode: Callable | None = None
  decode: Callable | None = None
  num_codes: int | None = None
  between: Callable | None = None
  field: Callable | None = None
  vectors: Vectors | None = None
  pictures: tuple[tuple[str, Callable], ...] = ()
  sheet: Callable | None = None
  log_likelihood: LogLikelihood | None = None
  measure: Callable | None = None
  reads: Mapping[str, str] = MappingProxyType({})
  checksums: Mapping[str, str] = MappingProxyType({})
  learns_from: Mapping[str, str] = MappingProxyType({})
