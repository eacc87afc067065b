"""Run directories and command lines.

  config.json       every setting, and which script it belongs to
  metrics.jsonl     one record a line
  checkpoints/      everything that a resumed run needs
  snapshots/        averages alone, at many steps
  lock              held by the process that trains
  *.png             pictures

A directory belongs to one configuration: the same one resumes it, another one
is refused. It belongs to one process at a time. A run that fails before it has
recorded anything leaves no directory. Nothing in it is executed: what is read
back is JSON and arrays.
"""

import contextlib
import dataclasses
import errno
import fcntl
import importlib
import json
import os
import pathlib
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax

from experiments.lib import settings
from jaxgen.training import checkpoint, loop

CONFIG = "config.json"
LOCK = "lock"
MAX_COUNT = 2**31 - 1  # steps, examples and samples are counted in int32


@contextlib.contextmanager
def open_directory(
  run_dir: str | pathlib.Path, config: Any, experiment: str
) -> Iterator[pathlib.Path]:
  """Makes the directory of a new run, or finds that of the same run, locked.

  The lock is the kernel's (flock): it goes when the process does, however
  that ends. Where the context fails and has recorded nothing in a new
  directory, the directory is removed.

  Args:
    run_dir: where; its own place is no part of the configuration.
    config: a dataclass of settings that JSON can hold.
    experiment: the script's module, "experiments.edm".

  Yields:
    The directory, with config.json in it.

  Raises:
    ValueError: it is a file, holds something else, another configuration, or
      a run that is going on.
  """
  path = pathlib.Path(run_dir)
  wanted = _record(config, experiment)
  new = _unbegun(path)
  absent = [p for p in (path, *path.parents) if not p.exists()]
  with settings.naming(config, "run_dir"):
    if not str(run_dir):
      raise ValueError("expected a path, got ''")
    if not new:
      _require_same(path, wanted)
    path.mkdir(parents=True, exist_ok=True)
  with (path / LOCK).open("a") as file:  # closing it unlocks
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise ValueError(
        f"run_dir: {path}: another process is training here;"
        " wait for it or give another"
      ) from None
    if (path / CONFIG).exists():  # as it is now that nobody else writes
      with settings.naming(config, "run_dir"):
        _require_same(path, wanted)
    else:
      write_text(path / CONFIG, json.dumps(wanted, indent=2) + "\n")
    try:
      yield path
    except BaseException:
      if new:
        _remove_unrecorded(path, absent)
      raise


def _unbegun(path):
  """Whether nothing is there but what a run leaves that died at once."""
  if not path.exists():
    return True
  left = {LOCK, f"{CONFIG}.part"}
  return path.is_dir() and {child.name for child in path.iterdir()} <= left


def _remove_unrecorded(path, absent):
  """Removes a run that has recorded nothing, and the folders made for it."""
  with contextlib.suppress(OSError):  # not empty: something was recorded
    for folder in (checkpoints(path), snapshots(path)):
      if folder.exists():
        folder.rmdir()
    if {child.name for child in path.iterdir()} <= {LOCK, CONFIG}:
      (path / CONFIG).unlink(missing_ok=True)
      (path / LOCK).unlink()
      for folder in absent:
        folder.rmdir()


def _require_same(path, wanted):
  found = read_config(path)
  differing = sorted(
    name
    for name in wanted.keys() | found.keys()
    if wanted.get(name) != found.get(name)
  )
  if differing:
    changes = ", ".join(
      f"{name} {found.get(name)!r} -> {wanted.get(name)!r}"
      for name in differing
    )
    raise ValueError(
      f"{path}: holds a run with another configuration ({changes});"
      " give another"
    )


def read_config(run_dir: str | pathlib.Path) -> dict[str, Any]:
  """config.json of a run, as written.

  Raises:
    FileNotFoundError: there is no such directory.
    ValueError: it is not a run directory, or the file is damaged.
  """
  path = pathlib.Path(run_dir)
  if not path.exists():
    raise FileNotFoundError(f"{path}: no such run directory")
  if not (path / CONFIG).is_file():
    raise ValueError(f"{path}: not a run directory (it has no {CONFIG})")
  try:
    record = json.loads((path / CONFIG).read_text())
  except (json.JSONDecodeError, UnicodeDecodeError):
    record = None
  if not isinstance(record, dict):
    raise ValueError(f"{path / CONFIG}: damaged; give another run directory")
  return record


def checkpoints(run_dir: str | pathlib.Path) -> pathlib.Path:
  """Where a run keeps them."""
  return pathlib.Path(run_dir) / "checkpoints"


def snapshots(run_dir: str | pathlib.Path) -> pathlib.Path:
  """Where a run keeps averages to be recombined."""
  return pathlib.Path(run_dir) / "snapshots"


def script(record: dict[str, Any], run_dir: Any) -> Any:
  """The script that a run belongs to, imported.

  Raises:
    ValueError: config.json names none of ours.
  """
  name = str(record.get("experiment"))
  here = pathlib.Path(__file__).parent.parent
  known = {f"experiments.{path.stem}" for path in here.glob("[a-z]*.py")}
  if name not in known:
    raise ValueError(f"{run_dir}: its experiment {name!r} is not known here")
  return importlib.import_module(name)


def config_from(record: dict[str, Any], kind: type, run_dir: Any) -> Any:
  """The dataclass `kind` from the record of config.json.

  Raises:
    ValueError: the record has other settings than this version's.
  """
  found = {k: v for k, v in record.items() if k != "experiment"}
  names = {field.name for field in dataclasses.fields(kind)} - {"run_dir"}
  if found.keys() != names:
    odd = ", ".join(sorted(found.keys() ^ names))
    raise ValueError(
      f"{run_dir}: its settings differ from this version's: {odd}"
    )
  as_tuple = lambda v: tuple(v) if isinstance(v, list) else v
  values = {name: as_tuple(value) for name, value in found.items()}
  return kind(**values, run_dir=str(run_dir))


def at_least(config: Any, **least: int) -> None:
  """Raises ValueError where one of the settings, which are counts, lies below
  its least value or above MAX_COUNT.
  """
  for name, low in least.items():
    value = getattr(config, name)
    if value < low:
      raise ValueError(f"{name}: expected at least {low}, got {value}")
    if value > MAX_COUNT:
      raise ValueError(f"{name}: expected at most {MAX_COUNT}, got {value}")


def bare_name(name: str) -> None:
  """Raises ValueError where a name of files says a folder too, or nothing."""
  if not name or pathlib.Path(name).name != name:
    raise ValueError(f"name: expected a bare file name, got {name!r}")


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a file whole or not at all."""
  part = path.with_name(path.name + ".part")
  part.write_text(text)
  os.replace(part, path)


@contextlib.contextmanager
def command_line(module: str, run_dir: str, kind: type) -> Iterator[None]:
  """Turns bad input, a full disk, too little memory and a diverged run into one
  line and exit code 2, an interrupted run into how to resume it (128 + the
  signal's number). Settings, the fields of `kind`, are named by their flags.
  """
  try:
    yield
  except (loop.Interrupted, KeyboardInterrupt) as stop:
    command = f"python -m {module} {shlex.join(sys.argv[1:])}"
    said = str(stop) or "SIGINT: stopped outside of training"
    print(f"{said}; resume with: {command}", file=sys.stderr)
    sys.exit(128 + getattr(stop, "signal_number", signal.SIGINT))
  except loop.Diverged as error:
    kept = checkpoint.steps(checkpoints(run_dir))
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
    _fail(f"{settings.as_flags(error, kind)}{advice}")
  except (MemoryError, jax.errors.JaxRuntimeError) as error:
    said = str(error).partition("\n")[0]
    if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in said:
      raise
    _fail(f"out of memory ({said}); lower the sizes among the flags")


def _fail(said):
  print(f"error: {said}", file=sys.stderr)
  sys.exit(2)


def main(module: str, presets: dict[str, tuple[str, Any]], run: Callable):
  """python -m module PRESET --flag value ..., typed by the presets' class."""
  import tyro

  name = next(iter(sys.argv[1:]), "-")
  if not name.startswith("-") and name not in presets:
    # Of tyro it would be a page about every flag that follows.
    print(
      f"error: expected one of {', '.join(presets)}, got {name!r}",
      file=sys.stderr,
    )
    sys.exit(2)
  config = tyro.extras.overridable_config_cli(
    presets, prog=f"python -m {module}"
  )
  with command_line(module, config.run_dir, type(config)):
    run(config)


def main_of_run(module: str, page: str | None, kind: type, run: Callable):
  """python -m module RUN_DIR --flag value ..., typed by the class."""
  import tyro

  def command(run_dir: tyro.conf.Positional[str], config: Any) -> None:
    with command_line(module, run_dir, kind):
      run(run_dir, config)

  command.__annotations__["config"] = kind
  tyro.cli(
    command,
    prog=f"python -m {module}",
    config=(tyro.conf.OmitArgPrefixes,),
    description=page,
  )


def _record(config, experiment):
  values = dataclasses.asdict(config)
  del values["run_dir"]
  return json.loads(json.dumps({"experiment": experiment} | values))
