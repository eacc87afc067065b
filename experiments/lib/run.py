"""Run directories, and the scripts that runs belong to.

  config.json       every setting, and which script it belongs to
  metrics.jsonl     one record a line
  checkpoints/      everything that a resumed run needs
  snapshots/        averages alone, at many steps
  lock              held by the process that trains
  *.png             pictures

A directory belongs to one configuration: the same one resumes it, another one
is rejected. It belongs to one process at a time. A run that fails before it has
recorded anything leaves no directory. What is read back is JSON and arrays; a
script is imported only from experiments/, or where its path is given.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import importlib
import importlib.util
import json
import os
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from experiments.experiment import Read
from experiments.lib import checks
from jaxgen.training import checkpoint

CONFIG = "config.json"
LOCK = "lock"
METRICS = "metrics.jsonl"
RESULT = "result.json"
# What config.json holds beside the settings.
SCRIPT, DIGEST, READS = "experiment", "script_digest", "reads"
HERE = pathlib.Path(__file__).parent.parent


@contextlib.contextmanager
def open_directory(
  config: Any, script: str | pathlib.Path, reads: Sequence[Read] = ()
) -> Iterator[pathlib.Path]:
  """Makes the directory of a new run, or finds that of the same run, locked.

  The lock is the kernel's (flock): it goes when the process does, however
  that ends. Where the context fails and has recorded nothing in a new
  directory, the directory is removed.

  Args:
    config: a dataclass of settings that JSON can hold; run_dir, the place of
      the directory, is no part of the configuration.
    script: the file of the script.
    reads: the runs that this one reads, rejected where they have changed.

  Yields:
    The directory, with config.json in it.

  Raises:
    ValueError: it is a file, holds something else, another configuration, or
      a run that is going on.
  """
  run_dir = config.run_dir
  path = pathlib.Path(run_dir)
  wanted = _record(config, pathlib.Path(script), reads)
  new = _unbegun(path)
  absent = [p for p in (path, *path.parents) if not p.exists()]
  with checks.naming(config, "run_dir"):
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
      with checks.naming(config, "run_dir"):
        _require_same(path, wanted)
      warn_if_changed(path, read_config(path), wanted[DIGEST])
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
  if READS not in found:
    wanted = {k: v for k, v in wanted.items() if k != READS}
  found, wanted = (
    {k: v for k, v in record.items() if k != DIGEST}
    for record in (found, wanted)
  )
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


def warn_if_changed(path: Any, record: dict[str, Any], digest: str) -> None:
  """Prints a line where the script is not the one that the run began with."""
  if record.get(DIGEST, digest) != digest:
    print(
      f"{path}: {record[SCRIPT]} has changed since this run began",
      file=sys.stderr,
    )


def script_of(
  record: dict[str, Any], run_dir: Any, path: str | None = None
) -> Any:
  """The script that a run belongs to, imported.

  Args:
    record: config.json.
    run_dir: for the error.
    path: the script's file, which a run of a script outside experiments/ needs.

  Raises:
    ValueError: config.json names no script of experiments/, and no path is
      given; or another script than the path's.
    OSError: the path does not exist.
  """
  name = str(record.get(SCRIPT))
  known = {f"experiments.{file.stem}" for file in HERE.glob("[a-z]*.py")}
  if path is None and name not in known:
    raise ValueError(
      f"{run_dir}: its script {name!r} is not in experiments/; give its file,"
      " --script PATH"
    )
  file = pathlib.Path(path or HERE / f"{name.removeprefix('experiments.')}.py")
  if path is not None and script_name(file) != name:
    raise ValueError(f"script: expected the file of {name}, got {path}")
  warn_if_changed(run_dir, record, digest_of(file))
  if path is None:
    return importlib.import_module(name)
  return load_script(file)


def load_script(file: pathlib.Path) -> Any:
  """The module of a file, imported once a process under a name of its own."""
  name = f"jaxgen_script_{digest_of(file)}"
  if name not in sys.modules:
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
      raise ValueError(f"script: expected a Python file, got {file}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
      spec.loader.exec_module(module)
    except BaseException:
      del sys.modules[name]
      raise
  return sys.modules[name]


def script_name(file: str | pathlib.Path) -> str:
  """What config.json calls a script: experiments.NAME, or its file name."""
  file = pathlib.Path(file).resolve()
  inside = file.parent == HERE.resolve()
  return f"experiments.{file.stem}" if inside else file.name


def digest_of(file: str | pathlib.Path) -> str:
  """A hash of a script's text."""
  content = pathlib.Path(file).read_bytes()
  return hashlib.sha256(content).hexdigest()[:16]


def read_of(name: str, run_dir: str | pathlib.Path) -> Read:
  """Another run, as it is now, for Experiment.reads.

  Raises:
    FileNotFoundError: it has no checkpoint.
  """
  directory = checkpoints(run_dir)
  digest = checkpoint.digest(directory)
  return Read(name, str(run_dir), checkpoint.steps(directory)[-1], digest)


def config_from(record: dict[str, Any], kind: type, run_dir: Any) -> Any:
  """The dataclass `kind` from the record of config.json.

  Raises:
    ValueError: the record has other settings than this version's.
  """
  own = {SCRIPT, DIGEST, READS}
  found = {k: v for k, v in record.items() if k not in own}
  names = {field.name for field in dataclasses.fields(kind)} - {"run_dir"}
  if found.keys() != names:
    odd = ", ".join(sorted(found.keys() ^ names))
    raise ValueError(
      f"{run_dir}: its settings differ from this version's: {odd}"
    )
  as_tuple = lambda v: tuple(v) if isinstance(v, list) else v
  values = {name: as_tuple(value) for name, value in found.items()}
  return kind(**values, run_dir=str(run_dir))


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a file whole or not at all."""
  part = path.with_name(path.name + ".part")
  part.write_text(text)
  os.replace(part, path)


def _record(config, script, reads):
  """config.json: the settings and what they belong to."""
  values = dataclasses.asdict(config)
  del values["run_dir"]
  known = {SCRIPT: script_name(script), DIGEST: digest_of(script)}
  if reads:
    known[READS] = [read._asdict() for read in reads]
  return json.loads(json.dumps(known | values))
