"""Run directories: their contents, their locks, and reading them.

  config.json       every setting, and the name of the script
  metrics.jsonl     one record per line
  checkpoints/      everything needed to resume the run
  snapshots/        only averages, at many steps
  lock              locked by the process that trains
  *.png             pictures

A directory belongs to one configuration, which resumes the run. Only the length
of the run, its records, its sampling (settings.MAY_CHANGE) and the number of
devices may then be other ones; config.json lists such changes in its history.
Any other configuration is rejected. Only one process can use a directory at a
time. A run that fails before it has recorded anything removes its directory.
Only JSON and arrays are read from it.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from experiments import settings
from experiments.lib import checks, records, scripts
from experiments.lib.scripts import DIGEST, SCRIPT
from jaxgen.training import checkpoint, sharding

CONFIG = "config.json"
LOCK = "lock"
METRICS = "metrics.jsonl"
RESULT = "result.json"
UNRECORDED = {"run_dir", *settings.PROCESS}
# In config.json, beside the settings and the script.
READS, HISTORY, DEVICES = "reads", "history", "devices"


@contextlib.contextmanager
def open_directory(
  config: Any,
  script: str | pathlib.Path,
  reads: Mapping[str, Any] | None = None,
) -> Iterator[pathlib.Path]:
  """Creates or reopens the directory of a run, and locks it.

  The kernel releases the lock (flock) when the process ends, for whatever
  reason. If the context fails and nothing was recorded in a new directory, the
  directory is removed.

  Args:
    config: a dataclass of settings that JSON can store; run_dir, the path of
      the directory, is not part of the configuration.
    script: the file of the script.
    reads: the other runs that this one reads, from `now`, and checksums.

  Yields:
    The directory, which contains config.json.

  Raises:
    ValueError: it is a file, contains other files or another configuration, or
      is locked.
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
      _changes(path, config, wanted)
    path.mkdir(parents=True, exist_ok=True)
  with (path / LOCK).open("a") as file:  # closing it unlocks
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise ValueError(
        f"run_dir: {path}: another process is training in it; wait for it or"
        " choose another directory"
      ) from None
    if (path / CONFIG).exists():  # checked again, now that it is locked
      with checks.naming(config, "run_dir"):
        changes = _changes(path, config, wanted)
      if changes:
        _write_changed(path, wanted, changes)
      scripts.warn_if_changed(path, read_config(path), wanted[DIGEST])
    else:
      write_text(path / CONFIG, _text(wanted))
    try:
      yield path
    except BaseException:
      if new:
        _remove_unrecorded(path, absent)
      raise


def _unbegun(path):
  """Whether the path holds at most the files of a run that failed at once."""
  if not path.exists():
    return True
  left = {LOCK, f"{CONFIG}.part"}
  return path.is_dir() and {child.name for child in path.iterdir()} <= left


def _remove_unrecorded(path, absent):
  """Removes a run without records, and the folders created for it."""
  with contextlib.suppress(OSError):  # not empty: something was recorded
    for folder in (checkpoints(path), snapshots(path)):
      if folder.exists():
        folder.rmdir()
    if {child.name for child in path.iterdir()} <= {LOCK, CONFIG}:
      (path / CONFIG).unlink(missing_ok=True)
      (path / LOCK).unlink()
      for folder in absent:
        folder.rmdir()


def _changes(path, config, wanted):
  """{setting: [old, new]} of settings that a resumed run may change.

  Raises:
    ValueError: others differ, or fewer steps are asked for than are done.
  """
  found = {DEVICES: wanted[DEVICES]} | _with_later(read_config(path), wanted)
  free = {*settings.MAY_CHANGE, *getattr(config, "may_change", ()), DEVICES}
  differing = {
    name: [found.get(name), wanted.get(name)]
    for name in sorted(
      (wanted.keys() | found.keys()) - {DIGEST, HISTORY, READS}
    )
    if wanted.get(name) != found.get(name)
  }
  reads = [_lasting(record, free) for record in (found, wanted)]
  if READS in found and reads[0] != reads[1]:
    differing[READS] = reads
  if fixed := {k: pair for k, pair in differing.items() if k not in free}:
    said = ", ".join(
      f"{k} {old!r} -> {new!r}" for k, (old, new) in fixed.items()
    )
    raise ValueError(
      f"{path}: contains a run with another configuration ({said}); choose"
      " another directory"
    )
  done = checkpoint.steps(checkpoints(path))
  if "num_steps" in differing and done and wanted["num_steps"] < done[-1]:
    raise ValueError(
      f"num_steps: expected at least {done[-1]}, as {path} has trained as many,"
      f" got {wanted['num_steps']}"
    )
  return differing


def _lasting(record, free):
  """The runs that are read throughout a run, not for samples or its start."""
  reads = record.get(READS, {})
  return {k: v for k, v in reads.items() if k not in {*free, "start"}}


def _write_changed(path, wanted, changes):
  """Records the changes in config.json, and prints them."""
  done = checkpoint.steps(checkpoints(path))
  step = done[-1] if done else 0
  found = read_config(path)
  history = [*found.get(HISTORY, []), dict(step=step, changes=changes)]
  reads = found.get(READS, {}) | wanted.get(READS, {})
  record = found | {name: wanted[name] for name in changes}
  record |= {READS: reads} if reads else {}
  write_text(path / CONFIG, _text(record | {HISTORY: history}))
  said = ", ".join(f"{k} {old} -> {new}" for k, (old, new) in changes.items())
  print(f"{path}: from step {step} on: {said}", file=sys.stderr)
  if DEVICES in changes:
    print(f"{path}: from there, values differ by rounding", file=sys.stderr)
  if "num_steps" in changes and wanted.get("schedule") != "constant":
    print(
      f"{path}: what depends on num_steps, such as the learning rate, is from"
      f" step {step} on that of a run of {wanted['num_steps']} steps",
      file=sys.stderr,
    )


def _with_later(found, names):
  """A record with the settings that earlier versions did not have."""
  later = {k: v for k, v in records.LATER.items() if k in names}
  return later | records.current(found)


def read_config(run_dir: str | pathlib.Path) -> dict[str, Any]:
  """The contents of a run's config.json.

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
    raise ValueError(f"{path / CONFIG}: damaged; choose another directory")
  return record


def checkpoints(run_dir: str | pathlib.Path) -> pathlib.Path:
  """The directory of a run's checkpoints."""
  return pathlib.Path(run_dir) / "checkpoints"


def snapshots(run_dir: str | pathlib.Path) -> pathlib.Path:
  """The directory of a run's snapshots of averages."""
  return pathlib.Path(run_dir) / "snapshots"


def now(reads: Mapping[str, str]) -> dict[str, dict[str, Any]]:
  """{name: directory} of other runs, with their current steps and checksums.

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
  """Raises ValueError if a run that is read has changed since training."""
  known = record.get(READS, {})
  for name, found in now(reads).items():
    same = known.get(name, {}).get("run_dir") == found["run_dir"]
    if same and known[name] != found:
      raise ValueError(
        f"{run_dir}: {name}: {found['run_dir']} has changed since this run was"
        f" trained (step {known[name]['step']}, now {found['step']})"
      )


def config_from(record: dict[str, Any], kind: type, run_dir: Any) -> Any:
  """The dataclass `kind`, from the record of config.json.

  Raises:
    ValueError: the record's settings are not those of this version.
  """
  own = {SCRIPT, DIGEST, READS, HISTORY, DEVICES}
  names = {field.name for field in dataclasses.fields(kind)} - UNRECORDED
  found = {k: v for k, v in record.items() if k not in own}
  found = _with_later(found, names)
  if found.keys() != names:
    odd = ", ".join(sorted(found.keys() ^ names))
    raise ValueError(
      f"{run_dir}: its settings differ from this version's: {odd}"
    )
  as_tuple = lambda v: tuple(v) if isinstance(v, list) else v
  values = {name: as_tuple(value) for name, value in found.items()}
  return kind(**values, run_dir=str(run_dir))


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a file atomically."""
  part = path.with_name(path.name + ".part")
  part.write_text(text)
  os.replace(part, path)


def _text(record):
  return json.dumps(record, indent=2) + "\n"


def _record(config, script, reads):
  """The contents of config.json."""
  values = dataclasses.asdict(config)
  for name in UNRECORDED & values.keys():
    del values[name]
  known = {SCRIPT: scripts.name(script), DIGEST: scripts.digest(script)}
  known |= {DEVICES: sharding.mesh().size}
  if reads:
    known[READS] = dict(reads)
  return json.loads(json.dumps(known | values))
