"""Samples of a run, for whoever draws, shows or measures them."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lib import averages, build, tables
from experiments.lib import run as runs

# Settings of a run that may be others when it is sampled.
SETTINGS = ("solver", "churn", "grid", "sample_steps", "sample_path")


def configuration(run_dir: str | os.PathLike, asked: Any) -> Any:
  """The run's configuration, with the SETTINGS that are asked for.

  Args:
    run_dir: the run.
    asked: a dataclass with SETTINGS; None keeps the run's own.

  Raises:
    FileNotFoundError: there is no such directory.
    ValueError: it is not one of our runs, or of another version.
  """
  record = runs.read_config(run_dir)
  script = runs.script(record, run_dir)
  config = runs.config_from(record, script.Config, run_dir)
  wanted = {name: getattr(asked, name) for name in SETTINGS}
  return dataclasses.replace(
    config, **{k: v for k, v in wanted.items() if v is not None}
  )


def sampler(
  config: Any,
  data: tables.Data,
  method: build.Method,
  *,
  step: int | None = None,
  average: str | None = None,
  chunk: int = 500,
) -> Callable:
  """(key, labels [N] or None, N) -> samples [N, *D], on the host.

  Sample i depends on the key and i alone (and on label i).

  Args:
    config: the run's configuration.
    data: its data set.
    method: what the configuration says.
    step: of the checkpoint; None for the latest.
    average: which of the run's averages; None for the first.
    chunk: samples drawn at once, which bounds the memory.

  Raises:
    FileNotFoundError: no such checkpoint.
    ValueError: files that do not fit the configuration.
  """
  params = averages.load(config, method, data.shape, step, average)
  draw = build.make_sampler(config, method, data.shape)

  def many(key, labels, number):
    size, chunks = min(chunk, number), []
    for start in range(0, number, size):
      # One size, one compilation: what is drawn beyond the last is dropped.
      index = jnp.arange(start, start + size)
      keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(index)
      part = None if labels is None else jnp.asarray(labels)[index % number]
      chunks.append(np.asarray(draw(params, keys, part)[1]))
    return np.concatenate(chunks)[:number]

  return many
