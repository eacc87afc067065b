"""Samples of a run, for commands, pictures and metrics."""

import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import settings
from experiments.experiment import Experiment
from experiments.lib import averages, checks, choices, datasets, scripts
from experiments.lib import run as runs
from jaxgen.training import sharding

# Settings that encode and decode runs that are sampled by a solver.
CODING = dict(solver="rk4", grid="karras", sample_steps=32)


def read(
  run_dir: str | os.PathLike,
  asked: Any = None,
  script: str | None = None,
  **defaults: Any,
) -> Experiment:
  """The experiment of a run, with optional other sampling settings.

  Args:
    run_dir: the run directory.
    asked: has some attributes of settings.SAMPLING; None keeps the run's.
    script: the file of a script outside experiments/.
    defaults: settings that replace the run's own, if it has them and `asked`
      has no value; a solver of fields does not replace one of flow maps.

  Raises:
    FileNotFoundError: there is no such directory.
    ValueError: it is not a run of a known script and this version; invalid
      settings; or a run that it needs has changed.
  """
  record = runs.read_config(run_dir)
  module = scripts.of_run(record, run_dir, script)
  config = runs.config_from(record, module.Config, run_dir)
  wanted = {name: getattr(asked, name, None) for name in settings.SAMPLING}
  if getattr(config, "solver", "") in (None, *choices.MAP_SOLVERS):
    defaults.pop("solver", None)  # of fields
  for name, value in wanted.items():
    if value is not None and not hasattr(config, name):
      raise ValueError(
        f"{name}: expected a run that is sampled by a solver, but {run_dir}"
        " is sampled by one call"
      )
    if value is None and hasattr(config, name):
      wanted[name] = defaults.get(name)
  ex = module.experiment(checks.replace(config, **wanted))
  runs.require_unchanged(run_dir, record, ex.reads)
  _require_equal(run_dir, record, ex.checksums)
  return ex


def _require_equal(run_dir, record, checksums):
  """Raises ValueError if a checksum is another one than in training."""
  for name, found in checksums.items():
    known = record.get(runs.READS, {}).get(name, found)
    if known != found:
      raise ValueError(
        f"{run_dir}: {name}: has changed since this run was trained (checksum"
        f" {known[:16]}, now {found[:16]})"
      )


def unlabelled(ex: Experiment) -> Experiment:
  """The experiment, sampled with the null label and without its labels.

  Raises:
    ValueError: the model has not learned the null label.
  """
  if not getattr(ex.config, "label_dropout", 0):
    raise ValueError(
      "label: expected a class, as only a run on labelled data with"
      " --label-dropout above 0 learns the null label, got none"
    )
  return ex._replace(data=without_labels(ex.data))


def without_labels(data: datasets.Data) -> datasets.Data:
  """The data of a model that ignores labels; the classifier keeps them."""
  if not data.num_classes:
    return data
  read, real = data.split, (data.real[0], None)

  def batches(key, number):
    batch_fn = data.unlabelled(key, number)
    return lambda step: (batch_fn(step), None)

  return data._replace(
    num_classes=0,
    batches=batches,
    real=real,
    split=lambda name: (read(name)[0], None),
    classified=data.classified or functools.partial(read, "train"),
  )


def make_sampler(ex: Experiment) -> Callable:
  """(params, extras, keys [N], labels [N]) -> (states [N, T, *D] or None, data
  [N, *D]).

  A sample depends only on its own key (for JAX's default kind of keys, see
  jaxgen.keys). Each device computes an equal share.

  Raises:
    ValueError: the experiment has no samples.
  """
  if ex.sample is None:
    raise ValueError(
      f"{ex.config.run_dir}: a run of this script has no samples"
    )
  one = lambda trained, key, label: ex.sample(*trained, key, label)
  many = sharding.spread(jax.vmap(one, (None, 0, 0)), sharding.mesh())
  return lambda params, extras, *examples: many((params, extras), *examples)


def sampler(
  ex: Experiment,
  *,
  step: int | None = None,
  average: str | None = None,
  chunk: int = 500,
) -> Callable:
  """(key, labels [N] or None, N) -> samples [N, *D], on the host.

  Sample i depends only on the key, i and label i.

  Args:
    ex: the experiment, from `read`.
    step: step of the checkpoint; None for the latest.
    average: name of one of the run's averages; None for the first.
    chunk: number of samples computed together, which limits the memory.

  Raises:
    FileNotFoundError: no such checkpoint.
    ValueError: files that do not match the configuration, or no samples.
  """
  draw = pairs(ex, step=step, average=average, chunk=chunk)
  return lambda key, labels, number: draw(key, labels, number)[1]


def pairs(
  ex: Experiment,
  *,
  step: int | None = None,
  average: str | None = None,
  chunk: int = 500,
) -> Callable:
  """As `sampler`, but returns (starts, samples), both [N, *D]."""
  compute = make_sampler(ex)
  params, extras = averages.load(ex, step, average)
  return from_params(compute, params, extras, chunk)


def from_params(
  compute: Callable, params: Any, extras: Any = None, chunk: int = 500
) -> Callable:
  """As `pairs`, from given parameters.

  Args:
    compute: the result of make_sampler.
    params: {player: parameters}.
    extras: extras of the losses; None for none.
    chunk: number of samples computed together.
  """
  extras = {} if extras is None else extras

  def many(key, labels, number):
    size, chunks = min(chunk, number), []
    for first in range(0, number, size):
      # All chunks have the same size, so one compilation; the surplus is cut.
      index = jnp.arange(first, first + size)
      keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(index)
      part = None if labels is None else jnp.asarray(labels)[index % number]
      states, made = compute(params, extras, keys, part)
      made = np.asarray(made)
      chunks.append(
        (made if states is None else np.asarray(states[:, 0]), made)
      )
    starts, made = zip(*chunks, strict=True)
    return np.concatenate(starts)[:number], np.concatenate(made)[:number]

  return many


def make_coders(ex: Experiment) -> tuple[Callable, Callable]:
  """(encode, decode), each for a batch: ((params, extras), [N, *D], labels [N]
  or None) -> [N, *D].

  Raises:
    ValueError: runs of this script have no encoder.
  """
  if ex.encode is None or ex.decode is None:
    raise ValueError(
      f"{ex.config.run_dir}: a run of this script has no encoder"
    )

  def many(fn):
    one = lambda trained, x, label: fn(*trained, x, label)
    return sharding.spread(jax.vmap(one, (None, 0, 0)), sharding.mesh())

  return many(ex.encode), many(ex.decode)


def check_coding(config: Any) -> None:
  """Raises ValueError unless the solver, if given, works in both directions."""
  if config.solver not in (None, *choices.FLOW_SOLVERS):
    raise ValueError(
      "solver: expected a deterministic solver"
      f" ({', '.join(choices.FLOW_SOLVERS)}), got {config.solver!r}"
    )


def between(
  ex: Experiment, ends: tuple[int, int], number: int, average: str | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
  """Decoded points on the line between the latents of two held-out examples,
  ends included: (samples [N, *D], labels [N] or None).

  Args:
    ex: the experiment, from `read` with CODING.
    ends: positions of the two examples in validation.
    number: N, at least 2.
    average: name of one of the run's averages; None for the first.

  Raises:
    ValueError: no encoder, no such examples, or two classes, as all points are
      decoded with one label.
  """
  encode, decode = make_coders(ex)
  examples, labels = ex.data.real
  if not 0 <= min(ends) <= max(ends) < len(examples):
    raise ValueError(
      f"interpolate: expected two positions from 0 to {len(examples) - 1}, got"
      f" {ends[0]} {ends[1]}"
    )
  rows, own = np.asarray(ends), None
  if ex.data.num_classes:
    own = np.asarray(labels)[rows]
    if own[0] != own[1]:
      raise ValueError(
        "interpolate: expected two examples of one class, got classes"
        f" {own[0]} and {own[1]}"
      )
  trained = averages.load(ex, average=average)
  latents = encode(trained, np.asarray(examples)[rows], own)
  line = jax.jit(jax.vmap(ex.between, (None, None, 0)))
  points = line(*latents, jnp.linspace(0, 1, number))
  every = None if own is None else np.repeat(own[:1], number)
  return np.asarray(decode(trained, points, every)), every
