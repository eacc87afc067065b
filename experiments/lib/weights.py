"""Weights outside of their run: as a start for another run, and as a file.

A weight is known by its place in the parameters, such as
model/params/conv_in/kernel: the player, then the path in its parameters. In
another run the weights of equal places and shapes are used.
"""

import hashlib
import json
import pathlib
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lib import run as runs
from jaxgen.training import checkpoint, leaves, state

ENDING = ".safetensors"


class Weights(NamedTuple):
  """The weights of a run.

  Attributes:
    params: {place: array}.
    averages: {average: {place: array}}.
  """

  params: dict[str, Any]
  averages: dict[str, dict[str, Any]]


def read(place: str) -> Weights:
  """The last weights and averages of a run directory, or those of a file.

  Raises:
    FileNotFoundError: there is no such directory, checkpoint or file.
    ValueError: it cannot be read.
  """
  if place.endswith(ENDING):
    return Weights(read_file(place)[0], {})
  runs.read_config(place)
  found = checkpoint.stored(runs.checkpoints(place))
  params, averages = {}, {}
  for name, array in found["state"].items():
    top, _, rest = name.partition("/")
    player, *kind = rest.split("/", 2)
    if top == "players" and kind[0] == "params":
      leaf = kind[1:]
      params["/".join([player, *leaf])] = array
  for name, array in found.get("ema", {}).items():
    player, average, *leaf = name.split("/", 2)
    averages.setdefault(average, {})["/".join([player, *leaf])] = array
  return Weights(params, averages)


def identity(place: str) -> dict[str, Any]:
  """What config.json records of a start: its place, step and checksum."""
  if not place.endswith(ENDING):
    return runs.now({"start": place})["start"]
  content = pathlib.Path(place).read_bytes()
  return dict(run_dir=place, digest=hashlib.sha256(content).hexdigest()[:16])


def start(place: str, now: state.State) -> state.State:
  """The state with the weights of another run, wherever places and shapes fit.

  An average that the other run lacks starts from its weights. The optimizers
  start anew. What does not fit is printed.

  Args:
    place: a run directory or a .safetensors file.
    now: the state at step 0, or its shapes.

  Raises:
    FileNotFoundError, ValueError: as in `read`, or no weight fits.
  """
  found, players = read(place), {}
  wanted = {name: player.params for name, player in now.players.items()}
  params = _filled(wanted, found.params)
  if not _fitting(wanted, found.params):
    raise ValueError(f"start: no weight of {place} fits this run's networks")
  _print_left(place, wanted, found.params)
  for name, player in now.players.items():
    means = {
      average: _filled({name: mean}, found.averages.get(average, found.params))[
        name
      ]
      for average, mean in player.ema.items()
    }
    players[name] = player._replace(params=params[name], ema=means)
  return now._replace(players=players)


def _fitting(tree, found):
  """Places with a stored array of the same shape."""
  flat = leaves.flatten(tree)
  shape = lambda place: getattr(found.get(place), "shape", None)
  return {place for place, leaf in flat.items() if shape(place) == leaf.shape}


def _filled(tree, found):
  """The tree with stored arrays where they fit."""
  flat, fit = leaves.flatten(tree), _fitting(tree, found)
  cast = lambda place: jnp.array(found[place], flat[place].dtype)
  return leaves.unflatten(
    {p: cast(p) if p in fit else flat[p] for p in flat}, tree
  )


def _print_left(place, wanted, found):
  flat, fit = leaves.flatten(wanted), _fitting(wanted, found)
  print(f"start: {len(fit)} of {len(flat)} weights of {place}", file=sys.stderr)
  for name in sorted((flat.keys() | found.keys()) - fit):
    here, there = (leaves.describe(x.get(name)) for x in (flat, found))
    print(
      f"start: {name} does not fit: {here} here, {there} there", file=sys.stderr
    )


def write_file(
  path: str | pathlib.Path, params: Mapping[str, Any], about: Mapping[str, Any]
) -> None:
  """Writes {player: parameters} to a .safetensors file, atomically.

  Args:
    path: the file.
    params: {player: parameters}.
    about: a record that JSON can store, in the file's metadata.
  """
  from safetensors import numpy as safetensors

  flat = {
    name: np.asarray(x) for name, x in leaves.flatten(dict(params)).items()
  }
  texts = {name: json.dumps(value) for name, value in about.items()}
  part = pathlib.Path(f"{path}.part")
  safetensors.save_file(flat, part, texts)
  part.replace(path)


def read_file(
  path: str | pathlib.Path,
) -> tuple[dict[str, Any], dict[str, Any]]:
  """({place: array}, record) of a .safetensors file.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is not a safetensors file.
  """
  import safetensors

  if not pathlib.Path(path).is_file():
    raise FileNotFoundError(f"{path}: no such file")
  try:
    with safetensors.safe_open(path, "numpy") as file:
      arrays = {name: file.get_tensor(name) for name in file.keys()}
      texts = file.metadata() or {}
  except safetensors.SafetensorError as error:
    raise ValueError(f"{path}: not a safetensors file ({error})") from None
  return arrays, {name: json.loads(text) for name, text in texts.items()}


def fill(path: str | pathlib.Path, like: Any) -> Any:
  """{player: parameters} like the given ones, from a .safetensors file.

  Raises:
    FileNotFoundError, ValueError: as in read_file, or the places or shapes
      differ.
  """
  found, _ = read_file(path)
  leaves.require_same(path, leaves.flatten(like), found)
  return jax.tree.map(jnp.asarray, leaves.unflatten(found, like))
