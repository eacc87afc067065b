"""Command lines: settings from flags, and errors as one line."""

import contextlib
import dataclasses
import difflib
import errno
import itertools
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax

from experiments.lib import checks, machine, scripts
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
    near = _near(preset, presets)
    _fail(f"preset: expected one of {', '.join(presets)}, got {preset!r}{near}")
  _check_flags(type(next(iter(presets.values()))[1]))
  config = tyro.extras.overridable_config_cli(presets, prog=command)
  config = _with_warmup(config, presets[preset][1])
  machine.prepare(config, vars(config))
  with one_line(command, config.run_dir, type(config)):
    run(config)


def _given():
  """The flags of the command line, --like-this, and the word after each."""
  found, words = {}, [*sys.argv[1:], ""]
  for word, following in itertools.pairwise(words):
    if word.startswith("--"):
      flag, equals, value = word.partition("=")
      found[flag.replace("_", "-")] = value if equals else following
  return found


def _check_flags(kind):
  """Fails with one line for a flag or a choice that does not exist."""
  fields = {f.name.replace("_", "-"): f for f in dataclasses.fields(kind)}
  known = [f"--{name}" for name in fields] + [f"--no-{name}" for name in fields]
  for flag, value in _given().items():
    if flag.startswith(("--help", "--tyro")):
      continue
    if flag not in known:
      _fail(f"{flag}: no such flag{_near(flag, known)}; --help lists all")
    field = fields.get(flag.removeprefix("--"))
    names, others = ([], ()) if field is None else checks.literals(field)
    if names and value not in (*names, "None") and not {*others} - {type(None)}:
      said = f"expected one of {', '.join(names)}, got {value!r}"
      _fail(f"{flag}: {said}{_near(value, names)}")


def _near(word, known):
  """A hint at the most similar known word, or nothing."""
  found = difflib.get_close_matches(word, known, 1)
  return f" (did you mean {found[0]}?)" if found else ""


def _with_warmup(config, preset):
  """The settings with a warm-up that fits num_steps, if none is given.

  It is that of the run, if there is one, and otherwise at most a tenth of
  num_steps, if these are not the preset's.
  """
  if "--warmup-steps" in _given() or not hasattr(config, "warmup_steps"):
    return config
  warmup = config.warmup_steps
  if config.num_steps != preset.num_steps:
    warmup = min(warmup, config.num_steps // 10)
  with contextlib.suppress(ValueError, OSError):
    warmup = runs.read_config(config.run_dir).get("warmup_steps", warmup)
  return dataclasses.replace(config, warmup_steps=warmup)


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
    about = {}
    with contextlib.suppress(ValueError, OSError):  # `run` says what is wrong
      about = runs.read_config(run_dir)
    machine.prepare(config, about)
    with one_line(command, run_dir, kind):
      run(run_dir, config)

  call.__annotations__["config"] = kind
  _check_flags(kind)
  tyro.cli(
    call,
    prog=command,
    config=(tyro.conf.OmitArgPrefixes,),
    description=page,
  )
