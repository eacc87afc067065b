"""Small runs of every script, for the checks that all of them owe."""

import dataclasses
import functools
import signal
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from experiments.lib import command_line, training
from experiments.pictures import figures
from jaxgen.data import loaders
from jaxgen.training import loop
from tests.experiments import script_table

# The shortest run of edm's toy, but for its directory.
FLAGS = (
  "toy --width 8 --num-blocks 1 --batch-size 8 --num-steps 4 --warmup-steps 1"
  " --sample-steps 2 --samples-every 100"
).split()
SCRIPTS = script_table.SCRIPTS


@functools.cache
def first_stage(name: str) -> tuple[str, tempfile.TemporaryDirectory]:
  """A small run of another script, trained once a process, and its owner."""
  owner = tempfile.TemporaryDirectory(prefix="jaxgen")
  run_dir = f"{owner.name}/run"
  trained(name, run_dir)
  return run_dir, owner


def ready(config: Any) -> Any:
  """The settings with the runs of a codec or teacher that name table rows."""
  for name in ("codec", "teacher"):
    row = getattr(config, name, None)
    if row in SCRIPTS:
      config = dataclasses.replace(config, **{name: first_stage(row)[0]})
  return config


def small(name: str, run_dir: Any, **changes: Any) -> Any:
  """The settings of a script's small run in a directory."""
  config = ready(SCRIPTS[name].config)
  return dataclasses.replace(config, run_dir=str(run_dir), **changes)


def without_pictures(patch: pytest.MonkeyPatch) -> None:
  """Runs measure at their end and draw nothing but their sheets."""
  real = training.finish
  bare = lambda ex: ex._replace(pictures=(), sample=None)
  finish = lambda run_dir, ex, found: real(run_dir, bare(ex), found)
  patch.setattr(training, "finish", finish)
  patch.setattr(figures, "curves", lambda *args: None)


def trained(name: str, directory: Any, **changes: Any) -> tuple[Any, Any]:
  """A small run without pictures: (its directory, the last state)."""
  with pytest.MonkeyPatch.context() as patch:
    without_pictures(patch)
    config = small(name, directory, **dict(samples_every=100) | changes)
    return directory, SCRIPTS[name].module.run(config)


def stored(path: Any) -> dict[str, Any]:
  """The arrays of a .npz file, which is closed again."""
  with np.load(path) as arrays:
    return dict(arrays)


def main_of(module: Any) -> Callable[[], None]:
  """What `python -m` runs of a script."""
  return lambda: command_line.main(module.__file__, module.PRESETS, module.run)


def at_step(patch: pytest.MonkeyPatch, number: int, act: Any) -> None:
  """Calls act() while the batch of a step is made, in the main thread."""

  def prefetch(batch_fn, place):
    def made(step):
      if step == number:
        act()
      return place(batch_fn(step))

    return made

  patch.setattr(loaders, "prefetch", prefetch)


def spoil(patch: pytest.MonkeyPatch, spoilt: Any) -> None:
  """Batches are spoilt(number, batch) instead."""
  changed = lambda batch_fn, place: (
    lambda number: spoilt(number, place(batch_fn(number)))
  )
  patch.setattr(loaders, "prefetch", changed)


def interrupt(script: Any, config: Any, number: int, kind: int) -> None:
  """A run that receives a signal at a step, which it saves and stops after."""
  with pytest.MonkeyPatch.context() as patch:
    at_step(patch, number, lambda: signal.raise_signal(kind))
    with pytest.raises(loop.Interrupted) as caught:
      script.run(config)
  assert (caught.value.step, caught.value.signal_number) == (number + 1, kind)


def kill(script: Any, config: Any, number: int) -> None:
  """A run that ends at a step without a handler, as a killed one does."""
  with pytest.MonkeyPatch.context() as patch:
    at_step(patch, number, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
      script.run(config)
