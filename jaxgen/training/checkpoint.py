"""Checkpoints of a whole State, in a directory a step.

Leaves are stored flat, by their path in the state, so that what a file holds
is compared with what a run expects leaf by leaf before any of it is read:
the storage layer would cast a wrong dtype without a word. Averages are an
item of their own, which a sampler reads without the optimizer. A step's
directory appears by one rename, whole or not at all.
"""

import contextlib
import logging
import pathlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree
from orbax.checkpoint import v1 as ocp

from jaxgen.training.state import State

_ITEMS = ("state", "ema")
_GO_BACK = "delete it to go back to the checkpoint before it"


def save(directory: str | pathlib.Path, state: State, *, keep: int = 2) -> None:
  """Writes the state and deletes all but the latest checkpoints.

  Returns when the files are complete. A step that is already there is left
  as it is: the state is a function of the step.

  Args:
    directory: the run's checkpoints; made if needed.
    state: any State; not consumed.
    keep: how many checkpoints to keep, at least 1.

  Raises:
    ValueError: keep below 1.
  """
  if keep < 1:
    raise ValueError(f"keep: expected at least 1, got {keep}")
  step = int(state.step)
  items = {name: _flatten(tree) for name, tree in _items(state).items()}
  policy = ocp.training.preservation_policies.LatestN(keep)
  with (
    _quiet(),
    ocp.training.Checkpointer(
      _absolute(directory),
      preservation_policy=policy,
      cleanup_tmp_directories=True,  # what a killed process left
    ) as checkpointer,
  ):
    if step not in {c.step for c in checkpointer.checkpoints}:
      checkpointer.save_checkpointables(step, items, force=True)


def latest_step(directory: str | pathlib.Path) -> int | None:
  """The last step saved under the directory, or None if there is none."""
  path = _absolute(directory)
  if not path.is_dir():  # opening it would make it
    return None
  with _quiet(), ocp.training.Checkpointer(path) as checkpointer:
    latest = checkpointer.latest
  return None if latest is None else latest.step


def restore(
  directory: str | pathlib.Path, like: State, step: int | None = None
) -> State:
  """Reads a state back.

  Args:
    directory: as given to save.
    like: a State as the run would start with (state.init): the structure,
      shapes, dtypes and shardings to expect. Its values are not used, and it
      is not consumed.
    step: which one; None for the latest.

  Returns:
    The state, equal bit for bit to the one saved.

  Raises:
    FileNotFoundError: no such checkpoint.
    ValueError: what is stored differs from `like`, or cannot be read.
  """
  items = _items(like)
  loaded = _load(directory, items, step)
  read = {name: _unflatten(loaded[name], items[name]) for name in items}
  rest = read["state"]
  means = read.get("ema", {})
  players = {
    name: player._replace(ema=means.get(name))
    for name, player in rest.players.items()
  }
  return rest._replace(players=players)


def restore_ema(
  directory: str | pathlib.Path,
  like: Mapping[str, PyTree],
  step: int | None = None,
) -> dict[str, PyTree]:
  """Reads the averages alone, for sampling.

  Args:
    directory: as given to save.
    like: {player: parameters} of every player with an average: arrays or
      shapes (jax.eval_shape), in the average's dtypes.
    step: which one; None for the latest.

  Returns:
    {player: average}.

  Raises:
    FileNotFoundError: no such checkpoint.
    ValueError: what is stored differs from `like`, or cannot be read.
  """
  like = dict(like)
  return _unflatten(_load(directory, {"ema": like}, step)["ema"], like)


def _items(state: State) -> dict[str, Any]:
  """What is stored apart; together they hold every leaf once."""
  players = {
    name: player._replace(ema=None) for name, player in state.players.items()
  }
  means = {
    name: player.ema
    for name, player in state.players.items()
    if player.ema is not None
  }
  items: dict[str, Any] = {"state": state._replace(players=players)}
  return items | ({"ema": means} if means else {})


def _load(directory, items, step):
  """Flat leaves of each item, after comparing them with what is expected."""
  latest = latest_step(directory)
  if latest is None:
    raise FileNotFoundError(f"{directory}: no checkpoint here")
  step = latest if step is None else step
  path = _absolute(directory) / str(step)
  if not path.is_dir():
    raise FileNotFoundError(
      f"{path}: no such checkpoint; the latest is {latest}"
    )
  expected = {name: _abstract(tree) for name, tree in items.items()}
  with _quiet(), _readable(path):
    with ocp.training.Checkpointer(_absolute(directory)) as checkpointer:
      stored = checkpointer.checkpointables_metadata(step).metadata
  if not stored.keys() >= {"state"} or stored.keys() - set(_ITEMS):
    raise ValueError(
      f"{path}: expected the items of a State, found {sorted(stored)}; "
      "give the directory that save wrote to"
    )
  for name in _ITEMS if "state" in items else items:
    _check(path, expected.get(name, {}), stored.get(name, {}))
  with _quiet(), _readable(path):
    with ocp.training.Checkpointer(_absolute(directory)) as checkpointer:
      return checkpointer.load_checkpointables(step, expected)


def _check(path, expected, stored):
  """Refuses stored leaves of another name, shape or dtype than expected."""
  if not isinstance(stored, Mapping):  # its own record of them is damaged
    raise ValueError(f"{path}: cannot be read; {_GO_BACK}")
  advice = "start with the configuration it was saved with, or in a new place"
  for name in sorted(expected.keys() | stored.keys()):
    want = _describe(expected.get(name))
    have = _describe(stored.get(name))
    if want != have:
      raise ValueError(
        f"{path}: {name}: expected {want}, found {have}; {advice}"
      )


def _describe(leaf):
  if leaf is None:
    return "nothing"
  if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
    return type(leaf).__name__
  return f"{jnp.dtype(leaf.dtype).name}{tuple(leaf.shape)}"


def _is_key(leaf):
  return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _name(path, leaf):
  """A leaf's name: its path, and for a key its kind, which the data lacks."""
  name = jax.tree_util.keystr(path, simple=True, separator="/")
  return f"{name} {leaf.dtype}" if _is_key(leaf) else name


def _flatten(tree):
  """{name: array}; typed keys become their data."""
  flat = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    name = _name(path, leaf)
    if name in flat:
      raise ValueError(f"state: two leaves are both named {name}")
    flat[name] = jax.random.key_data(leaf) if _is_key(leaf) else leaf
  return flat


def _abstract(tree):
  """{name: shape, dtype and sharding} of the flat leaves."""
  default = jax.sharding.SingleDeviceSharding(jax.devices()[0])

  def one(leaf):
    sharding = getattr(leaf, "sharding", None) or default
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

  return {name: one(leaf) for name, leaf in _flatten(tree).items()}


def _unflatten(flat, like):
  def one(path, leaf):
    value = flat[_name(path, leaf)]
    if _is_key(leaf):
      return jax.random.wrap_key_data(value, impl=jax.random.key_impl(leaf))
    return value

  return jax.tree_util.tree_map_with_path(one, like)


def _absolute(directory):
  return pathlib.Path(directory).absolute()


@contextlib.contextmanager
def _readable(path) -> Iterator[None]:
  """Turns whatever a damaged file raises into one line."""
  try:
    yield
  except Exception as error:
    reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    raise ValueError(
      f"{path}: cannot be read ({reason}); {_GO_BACK}"
    ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Keeps the storage layer's notes off the screen; its errors still raise."""
  logger = logging.getLogger("absl")
  level = logger.level
  logger.setLevel(logging.CRITICAL)
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      yield
  finally:
    logger.setLevel(level)
