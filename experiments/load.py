"""A trained run in Python: its field, its samples, its weights.

  from experiments import load
  run = load.run("runs/demo")
  field = run.field(3)  # fields.Field, for any solver or likelihood

The run directory may have been moved. Everything is a pure function of arrays.
"""

import os
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from experiments import settings
from experiments.experiment import Experiment
from experiments.lib import averages, checks, samples, weights


class Run(NamedTuple):
  """A trained run.

  Attributes:
    experiment: its functions and settings.
    params: {player: averaged parameters}.
    extras: arrays that the losses carry, by name.
    field: label (None: the null label) -> fields.Field of one example; None if
      the model is not a field.
    sample: (key, labels [N] or None, N) -> samples [N, *D], on the host; None
      if the run has no samples. Sample i depends only on the key, i and label
      i.
  """

  experiment: Experiment
  params: dict[str, Any]
  extras: dict[str, Any]
  field: Callable | None
  sample: Callable | None


def run(
  run_dir: str | os.PathLike,
  *,
  script: str | None = None,
  average: str | None = None,
  step: int | None = None,
  file: str | None = None,
  chunk: int = 500,
  **sampling: Any,
) -> Run:
  """Reads a run.

  Args:
    run_dir: the run directory.
    script: the file of its script, for scripts outside experiments/.
    average: name of one of its averages; None for the first.
    step: step of the checkpoint; None for the latest.
    file: a .safetensors file of `experiments.export`, in place of the
      checkpoint's parameters.
    chunk: number of samples computed together, which limits the memory.
    sampling: settings.SAMPLING in place of the run's, such as solver="ddim",
      sample_steps=50 or guidance=2.0.

  Raises:
    FileNotFoundError: no such directory, checkpoint or file.
    ValueError: it is not a run of a known script and this version, or invalid
      settings.
  """
  if odd := sorted(sampling.keys() - set(settings.SAMPLING)):
    known = ", ".join(settings.SAMPLING)
    raise ValueError(f"{odd[0]}: expected one of {known}, got {odd[0]!r}")
  asked = types.SimpleNamespace(**sampling)
  ex = samples.read(run_dir, asked, script)
  params, extras = averages.load(ex, step, average)
  if file is not None:
    with checks.naming(ex.config):
      params = weights.fill(file, params)
  sample = field = None
  if ex.sample is not None:
    draw = samples.from_params(samples.make_sampler(ex), params, extras, chunk)
    sample = lambda key, labels, number: draw(key, labels, number)[1]
  if ex.field is not None:
    field = lambda label=None: ex.field(params, extras, _index(label))
  return Run(ex, params, extras, field, sample)


def _index(label):
  return None if label is None else jax.numpy.asarray(label)
