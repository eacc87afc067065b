"""Command lines: settings from flags, and errors as one line."""

import contextlib
import errno
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax

from experiments.lib import checks, scripts
from experiments.lib import run as runs
from jaxgen.training import checkpoint, loop


@contextlib.contextmanager
def one_line(command: str, run_dir: str, kind: type) -> Iterator[None]:
  """Prints expected failures as one line instead of a traceback.

  Invalid input, a full disk, too little memory and a diverged run exit with
  code 2; an interrupted run exits with 128 + the signal's number and says how
  to resume it. Settings, the fields of `kind`, are shown as flags.
  """
  try:
    yield
  except (loop.Interrupted, KeyboardInterrupt) as stop:
    again = f"{command} {shlex.join(sys.argv[1:])}"
    said = str(stop) or "SIGINT: stopped outside of training"
    print(f"{said}; resume with: {again}", file=sys.stderr)
    sys.exit(128 + getattr(stop, "signal_number", signal.SIGINT))
  except loop.Diverged as error:
    kept = checkpoint.steps(runs.checkpoints(run_dir))
    last = "no checkpoint was saved before it"
    if kept:
      last = f"the checkpoint of step {kept[-1]} is kept"
    _fail(
      f"{error}; {last}: lower --learning-rate or change the loss, in a new"
      " --run-dir"
    )
  except (ValueError, ImportError, OSError) as error:
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    advice = "; free space and run the same command again" if full else ""
    _fail(f"{checks.as_flags(error, kind)}{advice}")
  except (MemoryError, jax.errors.JaxRuntimeError) as error:
    said = str(error).partition("\n")[0]
    if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in said:
      raise
    _fail(f"out of memory ({said}); lower the sizes that the flags set")


def _fail(said):
  print(f"error: {said}", file=sys.stderr)
  sys.exit(2)


def main(file: str, presets: dict[str, tuple[str, Any]], run: Callable) -> None:
  """Runs COMMAND PRESET --flag value ..., with the flags of the presets' class.

  Args:
    file: the script's __file__.
    presets: {name: (sentence for --help, settings)}.
    run: settings -> anything.
  """
  import tyro

  command = _command(file)
  preset = next(iter(sys.argv[1:]), "-")
  if not preset.startswith("-") and preset not in presets:
    # The error of tyro would list every flag that follows.
    _fail(f"preset: expected one of {', '.join(presets)}, got {preset!r}")
  config = tyro.extras.overridable_config_cli(presets, prog=command)
  with one_line(command, config.run_dir, type(config)):
    run(config)


def _command(file):
  """The command that starts a script: by its module, or by its path."""
  name = scripts.name(file)
  inside = name.startswith("experiments.")
  return f"python -m {name}" if inside else f"python {file}"


def main_of_run(file: str, page: str | None, kind: type, run: Callable) -> None:
  """Runs COMMAND RUN_DIR --flag value ..., with the flags of a class.

  Args:
    file: the command's __file__.
    page: first text of --help.
    kind: the class of its settings.
    run: (run directory, settings) -> anything.
  """
  import tyro

  command = _command(file)

  def call(run_dir: tyro.conf.Positional[str], config: Any) -> None:
    with one_line(command, run_dir, kind):
      run(run_dir, config)

  call.__annotations__["config"] = kind
  tyro.cli(
    call,
    prog=command,
    config=(tyro.conf.OmitArgPrefixes,),
    description=page,
  )
