"""Samples of a run, for whoever draws, shows or measures them."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lib import averages, build, datasets
from experiments.lib import run as runs

# Settings of a run that may be others when it is sampled.
SETTINGS = ("solver", "churn", "grid", "sample_steps", "sample_path")


class Run(NamedTuple):
  """A run that was read: its configuration, its data and what it says."""

  config: Any
  data: datasets.Data
  method: Any


def read(run_dir: str | os.PathLike, asked: Any = None) -> Run:
  """A run, with the SETTINGS that are asked for.

  Args:
    run_dir: the run.
    asked: has SETTINGS; None keeps the run's own.

  Raises:
    FileNotFoundError: there is no such directory.
    ValueError: it is not one of our runs, or of another version, or what is
      asked for cannot be.
  """
  record = runs.read_config(run_dir)
  script = runs.script(record, run_dir)
  if not hasattr(script, "make_method"):
    raise ValueError(f"{run_dir}: a run of {script.MODULE} has no samples")
  config = runs.config_from(record, script.Config, run_dir)
  wanted = {name: getattr(asked, name, None) for name in SETTINGS}
  wanted = {name: value for name, value in wanted.items() if value is not None}
  for name in wanted:
    if not hasattr(config, name):
      raise ValueError(
        f"{name}: expected a run that a solver samples, {run_dir} samples by"
        " one call"
      )
  config = dataclasses.replace(config, **wanted)
  data = build.load_data(config)
  return Run(config, data, script.make_method(config, data))


def sampler(
  run: Run,
  *,
  step: int | None = None,
  average: str | None = None,
  chunk: int = 500,
) -> Callable:
  """(key, labels [N] or None, N) -> samples [N, *D], on the host.

  Sample i depends on the key and i alone (and on label i).

  Args:
    run: of `read`.
    step: of the checkpoint; None for the latest.
    average: which of the run's averages; None for the first.
    chunk: samples drawn at once, which bounds the memory.

  Raises:
    FileNotFoundError: no such checkpoint.
    ValueError: files that do not fit the configuration.
  """
  draw = pairs(run, step=step, average=average, chunk=chunk)
  return lambda key, labels, number: draw(key, labels, number)[1]


def pairs(
  run: Run,
  *,
  step: int | None = None,
  average: str | None = None,
  chunk: int = 500,
) -> Callable:
  """As `sampler`, and where each starts: (starts, samples), both [N, *D]."""
  params = averages.load(run.config, run.method, step, average)
  return from_params(run.method, params, chunk)


def from_params(method: Any, params: Any, chunk: int = 500) -> Callable:
  """`pairs` of parameters that are at hand."""
  draw = build.make_sampler(method)

  def many(key, labels, number):
    size, chunks = min(chunk, number), []
    for first in range(0, number, size):
      # One size, one compilation: what is drawn beyond the last is dropped.
      index = jnp.arange(first, first + size)
      keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(index)
      part = None if labels is None else jnp.asarray(labels)[index % number]
      states, samples = draw(params, keys, part)
      chunks.append((np.asarray(states[:, 0]), np.asarray(samples)))
    starts, samples = zip(*chunks, strict=True)
    return np.concatenate(starts)[:number], np.concatenate(samples)[:number]

  return many
