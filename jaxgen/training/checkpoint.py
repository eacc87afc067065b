"""Checkpoints of a whole State, one directory per step.

Leaves are stored flat, by their path in the state, and compared one by one with
what the run expects before any is read, since the storage layer would silently
cast a wrong dtype. It does not detect damaged values either, so each leaf has a
checksum (CRC-32). Averages and extras are separate items, which a sampler reads
without the optimizer state. A step's directory is created by one atomic rename,
so it is complete or absent, however a run ends.
"""

import contextlib
import functools
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from jaxtyping import PyTree

from jaxgen.training import leaves, storage
from jaxgen.training.state import State

_ITEMS = ("state", "ema", "extras")
_GO_BACK = "delete it to go back to the checkpoint before it"


@contextlib.contextmanager
def saver(
  directory: str | pathlib.Path,
  *,
  keep: int | None,
  items: Sequence[str] = _ITEMS,
  wait: bool = False,
) -> Iterator[Callable[[State], None]]:
  """Opens a directory for checkpoints, written while training goes on.

  Incomplete files of a killed run are deleted first. Leaving the context waits
  for the last checkpoint to be complete.

  Args:
    directory: created if needed; used by one run at a time.
    keep: number of latest checkpoints to keep, at least 1; None keeps all. An
      old one is deleted after the new one is complete.
    items: "ema" for the averages, "extras", and "state" for all else. All three
      make a checkpoint to resume from, "ema" alone a snapshot.
    wait: whether save returns only when the files are complete.

  Yields:
    save(state), which has copied the state when it returns. A step that was
    already saved is left unchanged, since the state is a function of the step.

  Raises:
    ValueError: keep is below 1, items are unknown, or nothing is to be saved.
    OSError: a checkpoint could not be written (full disk): raised by the next
      save, or on leaving. Earlier checkpoints remain complete.
  """
  if keep is not None and keep < 1:
    raise ValueError(f"keep: expected at least 1, got {keep}")
  if not items or set(items) - set(_ITEMS):
    raise ValueError(f"items: expected some of {_ITEMS}, got {tuple(items)}")
  path, there = _absolute(directory), set(steps(directory))
  written = lambda call: storage.attempt(
    call, functools.partial(_unwritten, directory)
  )

  def save(state: State) -> None:
    step = int(state.step)
    if step in there:
      return
    parts = _items(state)
    flat = {k: leaves.flatten(parts[k]) for k in items if k in parts}
    if not flat:
      raise ValueError(f"state: expected {tuple(items)} to store, found none")
    sums = {name: leaves.checksums(item) for name, item in flat.items()}
    write = lambda: checkpointer.save_checkpointables_async(
      step, flat, force=True, custom_metadata={"crc32": sums}
    )
    written(lambda: write().result() if wait else write())
    there.add(step)

  checkpointer = written(lambda: storage.open_to_write(path, keep))
  try:
    with storage.quiet_log():  # for the thread that writes
      yield save
  finally:
    written(checkpointer.close)


def steps(directory: str | pathlib.Path) -> list[int]:
  """The steps saved in the directory, in order; [] if it does not exist."""
  path = _absolute(directory)
  if not path.is_dir():
    return []
  names = [child.name for child in path.iterdir() if child.is_dir()]
  return sorted(int(name) for name in names if name.isdecimal())


def restore(
  directory: str | pathlib.Path, like: State, step: int | None = None
) -> State:
  """Reads a saved state.

  Args:
    directory: as given to saver.
    like: a State as the run would start with (state.init): the structure,
      shapes, dtypes and shardings to expect. Its values are not used, and it
      is not consumed.
    step: the step to read; None for the latest.

  Returns:
    The state, bit for bit equal to the saved one.

  Raises:
    FileNotFoundError: there is no such checkpoint.
    ValueError: the stored state differs from `like`, is damaged or is not a
      State.
  """
  items = _items(like)
  loaded = _load(directory, items, step)
  read = {name: leaves.unflatten(loaded[name], items[name]) for name in items}
  means, extras = read.get("ema", {}), read.get("extras", {})
  players = {
    name: player._replace(ema=means.get(name, {}))
    for name, player in read["state"].players.items()
  }
  return read["state"]._replace(players=players, extras=extras)


def restore_ema(
  directory: str | pathlib.Path,
  like: Mapping[str, PyTree],
  step: int | None = None,
) -> dict[str, PyTree]:
  """Reads the averages alone, for sampling.

  Args:
    directory: as given to saver.
    like: {player: {average: parameters}} of every stored average: arrays or
      shapes (jax.eval_shape), in the averages' dtypes.
    step: the step to read; None for the latest.

  Returns:
    {player: {average: parameters}}.

  Raises:
    FileNotFoundError: there is no such checkpoint.
    ValueError: the stored averages differ from `like`, or are damaged.
  """
  return _restore_item("ema", directory, like, step)


def restore_extras(
  directory: str | pathlib.Path,
  like: Mapping[str, PyTree],
  step: int | None = None,
) -> dict[str, PyTree]:
  """Reads the extras alone, {name: arrays}, as `restore_ema` the averages."""
  return _restore_item("extras", directory, like, step)


def stored(
  directory: str | pathlib.Path, step: int | None = None
) -> dict[str, dict[str, Any]]:
  """All arrays of a checkpoint by their names, without knowing its structure.

  Args:
    directory: as given to saver.
    step: the step to read; None for the latest.

  Returns:
    {"state", "ema" or "extras": {path in the item: array}}, such as
    {"state": {"players/model/params/...": array, ...}, ...}.

  Raises:
    FileNotFoundError: there is no such checkpoint.
    ValueError: it is damaged.
  """
  path, step = _find(directory, step)
  items, _ = storage.attempt(lambda: _look(path, step), _damaged(path))
  like = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
  return _load(directory, jax.tree.map(like, dict(items)), step)


def digest(directory: str | pathlib.Path, step: int | None = None) -> str:
  """A hash of every leaf's checksum: equal for equal states alone.

  Args:
    directory: as given to saver.
    step: which one; None for the latest.

  Raises:
    FileNotFoundError: no such checkpoint.
    ValueError: it cannot be read.
  """
  path, step = _find(directory, step)
  _, record = storage.attempt(lambda: _look(path, step), _damaged(path))
  content = json.dumps((record or {}).get("crc32"), sort_keys=True)
  return hashlib.sha256(content.encode()).hexdigest()[:16]


def _restore_item(name, directory, like, step):
  like = dict(like)
  return leaves.unflatten(_load(directory, {name: like}, step)[name], like)


def _items(state: State) -> dict[str, Any]:
  """The separately stored items, which together hold every leaf once."""
  players = {
    name: player._replace(ema={}) for name, player in state.players.items()
  }
  means = {
    name: player.ema for name, player in state.players.items() if player.ema
  }
  items: dict[str, Any] = {
    "state": state._replace(players=players, extras={}),
    "ema": means,
    "extras": state.extras,
  }
  return {name: tree for name, tree in items.items() if tree}


def _unwritten(directory, reason):
  before = steps(directory)
  kept = "there is no earlier one"
  if before:
    kept = f"that of step {before[-1]} is whole"
  return OSError(
    f"{directory}: a checkpoint could not be written ({reason}); {kept}: free"
    " space and run the same command again"
  )


def _find(directory, step):
  """The directory of a checkpoint, and its step."""
  there = steps(directory)
  if not there:
    raise FileNotFoundError(f"{directory}: has no checkpoint")
  step = there[-1] if step is None else step
  path = _absolute(directory) / str(step)
  if step not in there:
    raise FileNotFoundError(
      f"{path}: no such checkpoint; the latest is {there[-1]}"
    )
  return path, step


def _damaged(path):
  return lambda reason: ValueError(
    f"{path}: cannot be read ({reason}); {_GO_BACK}"
  )


def _look(path, step):
  """What is stored, {item: {leaf: shape and dtype}}, and its own record."""
  with storage.open_to_read(path.parent) as checkpointer:
    found = checkpointer.checkpointables_metadata(step)
    return found.metadata, found.custom_metadata


def _load(directory, items, step):
  """Flat leaves of each item, after comparing them with what is expected."""
  path, step = _find(directory, step)
  damaged = _damaged(path)

  def load():
    with storage.open_to_read(path.parent) as checkpointer:
      return checkpointer.load_checkpointables(step, expected)

  expected = {name: leaves.abstract(tree) for name, tree in items.items()}
  stored, record = storage.attempt(lambda: _look(path, step), damaged)
  if ("state" in items and "state" not in stored) or set(stored) - set(_ITEMS):
    raise ValueError(
      f"{path}: expected the items of a State, found {sorted(stored)}; "
      "give the directory of a run's checkpoints"
    )
  for name in _ITEMS if "state" in items else items:
    if not isinstance(stored.get(name, {}), Mapping):
      raise damaged("its own record is damaged")
    leaves.require_same(path, expected.get(name, {}), stored.get(name, {}))
  loaded = storage.attempt(load, damaged)
  for name in items:
    sums = ((record or {}).get("crc32") or {}).get(name) or {}
    for leaf, crc in leaves.checksums(loaded[name]).items():
      if crc != sums.get(leaf):
        raise damaged(f"{leaf} differs from its checksum")
  return loaded


def _absolute(directory):
  return pathlib.Path(directory).absolute()
