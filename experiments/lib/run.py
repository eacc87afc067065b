"""Run directories: what they hold, to whom they belong, reading them back.

  config.json       every setting, and which script it belongs to
  metrics.jsonl     one record a line
  checkpoints/      everything that a resumed run needs
  snapshots/        averages alone, at many steps
  lock              held by the process that trains
  *.png             pictures

A directory belongs to one configuration: the same one resumes it, another one
is rejected. It belongs to one process at a time. A run that fails before it has
recorded anything leaves no directory. What is read back is JSON and arrays.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from experiments.lib import checks, scripts
from experiments.lib.scripts import DIGEST, SCRIPT
from jaxgen.training import checkpoint

CONFIG = "config.json"
LOCK = "lock"
METRICS = "metrics.jsonl"
RESULT = "result.json"
READS = "reads"  # in config.json, beside the settings and the script


@contextlib.contextmanager
def open_directory(
  config: Any,
  script: str | pathlib.Path,
  reads: Mapping[str, Any] | None = None,
) -> Iterator[pathlib.Path]:
  """Makes the directory of a new run, or finds that of the same run, locked.

  The lock is the kernel's (flock): it goes when the process does, however
  that ends. Where the context fails and has recorded nothing in a new
  directory, the directory is removed.

  Args:
    config: a dataclass of settings that JSON can hold; run_dir, the place of
      the directory, is no part of the configuration.
    script: the file of the script.
    reads: of `now`, the other runs that this one reads.

  Yields:
    The directory, with config.json in it.

  Raises:
    ValueError: it is a file, holds something else, another configuration, or
      a run that is going on.
  """
  run_dir = config.run_dir
  path = pathlib.Path(run_dir)
  wanted = _record(config, pathlib.Path(script), reads or {})
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
      scripts.warn_if_changed(path, read_config(path), wanted[DIGEST])
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


def now(reads: Mapping[str, str]) -> dict[str, dict[str, Any]]:
  """{name: directory} of other runs, with the step and checksums they have now.

  Raises:
    FileNotFoundError: one of them has no checkpoint.
    ValueError: one of them cannot be read.
  """
  found = {}
  for name, run_dir in reads.items():
    directory = checkpoints(run_dir)
    try:
      digest = checkpoint.digest(directory)
    except (ValueError, OSError) as error:
      raise type(error)(f"{name}: {error}") from None
    step = checkpoint.steps(directory)[-1]
    found[name] = dict(run_dir=str(run_dir), step=step, digest=digest)
  return found


def require_unchanged(
  run_dir: Any, record: dict[str, Any], reads: Mapping[str, str]
) -> None:
  """Raises ValueError where a run that is read has changed since training."""
  known = record.get(READS, {})
  for name, found in now(reads).items():
    if known.get(name, found) != found:
      raise ValueError(
        f"{run_dir}: {name}: {found['run_dir']} has changed since this run was"
        f" trained (step {known[name]['step']}, now {found['step']})"
      )


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
  known = {SCRIPT: scripts.name(script), DIGEST: scripts.digest(script)}
  if reads:
    known[READS] = dict(reads)
  return json.loads(json.dumps(known | values))
