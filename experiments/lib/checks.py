"""Checks of settings, and errors that name the setting.

An error about settings reads "name: expected X, got Y", or "name, other: ..."
for an invalid combination. In Python a name is a field of the configuration; on
the command line it is the flag.
"""

import contextlib
import dataclasses
import math
import pathlib
import typing
from collections.abc import Iterator
from typing import Any, Literal

import jax
import numpy as np

MAX_SEED = 2**32 - 1  # JAX drops higher bits, NumPy rejects them
MAX_COUNT = 2**31 - 1  # largest int32: steps, examples and samples
# Above these a run would not begin in hours, or not fit into any memory.
LARGEST = dict(width=2**16, latent=2**20, num_blocks=1000, num_heads=2**10)
LARGEST |= dict(batch_size=2**20, sample_steps=10**5, num_cones=2**20)
LARGEST |= dict(corrections=1000, coupled_batches=10**4, inner_steps=10**4)
LARGEST |= dict(critic_steps=10**4, penalty_every=10**6, pair_steps=10**4)
LARGEST |= dict(depth=1000, noise_blocks=1000, num_stages=1000)
LARGEST |= dict(num_orders=10**5, patch_width=2**16)
LARGEST |= dict(pool=10**5, teacher_steps=10**4, num_pairs=10**7, stages=100)


@contextlib.contextmanager
def naming(
  config: Any, owner: str | None = None, **names: str
) -> Iterator[None]:
  """Renames the arguments in errors of inner functions to settings.

    "decay: expected ..." -> "ema_decay: expected ..."   with decay="ema_decay"
    "a.npz: no such file" -> "data: a.npz: no such file" with the owner "data"

  Args:
    config: the configuration; names of its own settings are kept.
    owner: the setting that is named if the error names none.
    names: for each argument the setting that determines it, or several of them,
      "path, ratio_min".

  Raises:
    ValueError, OSError: the errors of the block, renamed.
  """
  try:
    yield
  except (ValueError, OSError) as error:
    kinds = FileNotFoundError, OSError, ValueError
    kind = next(kind for kind in kinds if isinstance(error, kind))
    own = {field.name: field.name for field in dataclasses.fields(config)}
    heads, rest = _split(error)
    if (own | names).keys() >= set(heads):
      found = [n for head in heads for n in (own | names)[head].split(", ")]
      raise kind(f"{', '.join(dict.fromkeys(found))}: {rest}") from None
    if owner is None:
      raise
    raise kind(f"{owner}: {error}") from None


def as_flags(error: Exception, kind: type) -> str:
  """The error's text, with settings of the dataclass `kind` as flags."""
  known = {field.name for field in dataclasses.fields(kind)}
  heads, rest = _split(error)
  if known.isdisjoint(heads):
    return str(error)
  flag = lambda name: f"--{name.replace('_', '-')}" if name in known else name
  return f"{', '.join(map(flag, heads))}: {rest}"


def _split(error):
  """The names before the colon, and the text after it."""
  head, colon, rest = str(error).partition(": ")
  return head.split(", ") if colon else [""], rest


def known(config: Any) -> None:
  """Raises ValueError if a setting's value is not in its type's Literal."""
  for field in dataclasses.fields(config):
    names, others = literals(field)
    value = getattr(config, field.name)
    values = value if isinstance(value, tuple) else (value,)
    if not names or {*values} <= {*names} or isinstance(value, others):
      continue
    raise ValueError(
      f"{field.name}: expected one of {', '.join(names)}, got {value!r}"
    )


def literals(field: dataclasses.Field) -> tuple[list[str], tuple[type, ...]]:
  """(values of the Literals in a setting's type, the other types in it)."""
  parts = (field.type, *typing.get_args(field.type))
  found = [part for part in parts if typing.get_origin(part) is Literal]
  names = [name for part in found for name in typing.get_args(part)]
  return names, tuple(part for part in parts if isinstance(part, type))


def positive(config: Any, *names: str) -> None:
  """Raises ValueError if a setting is not a positive finite number or None."""
  for name in names:
    value = getattr(config, name)
    if value is not None and not 0 < value < math.inf:
      raise ValueError(f"{name}: expected a positive number, got {value}")


def nonnegative(config: Any, *names: str) -> None:
  """Raises ValueError if a setting is not a finite number of at least 0."""
  for name in names:
    value = getattr(config, name)
    if not 0 <= value < math.inf:
      raise ValueError(f"{name}: expected a number of at least 0, got {value}")


def same_shape(config: Any, option: str, found: Any, data: Any) -> None:
  """Raises ValueError if the examples of a second dataset differ in shape."""
  if found.shape != data.shape:
    raise ValueError(
      f"{option}, data: expected examples {list(data.shape)} as in"
      f" {config.data}, got {list(found.shape)} in {getattr(config, option)}"
    )


def fraction(config: Any, *names: str) -> None:
  """Raises ValueError if a setting is not in [0, 1)."""
  for name in names:
    value = getattr(config, name)
    if not 0 <= value < 1:
      raise ValueError(f"{name}: expected 0 to below 1, got {value}")


def at_least(config: Any, **least: int) -> None:
  """Raises ValueError if one of the settings, which are counts, is below its
  minimum or above LARGEST or MAX_COUNT.
  """
  for name, low in least.items():
    value = getattr(config, name)
    if value < low:
      raise ValueError(f"{name}: expected at least {low}, got {value}")
    if value > (most := LARGEST.get(name, MAX_COUNT)):
      raise ValueError(f"{name}: expected at most {most}, got {value}")


def varied(
  config: Any, std: float, instead: str = "", least: float = 0.0
) -> None:
  """Raises unless the data's standard deviation is above a number.

  Raises:
    ValueError: it is not; the setting `instead` may be given, if there is one.
  """
  if not std > least:
    raise ValueError(
      f"data: expected examples that differ, got {config.data} with standard"
      f" deviation {std:.3g}" + (f"; give {instead}" if instead else "")
    )


def bare_name(name: str) -> None:
  """Raises ValueError if a file name is empty or contains a folder."""
  if not name or pathlib.Path(name).name != name:
    raise ValueError(f"name: expected a bare file name, got {name!r}")


def replace(config: Any, **values: Any) -> Any:
  """The settings with other values; values of None are ignored."""
  asked = {name: value for name, value in values.items() if value is not None}
  return dataclasses.replace(config, **asked)


def plain(config: Any) -> Any:
  """The configuration with NumPy's and JAX's scalars as Python numbers.

  Raises:
    ValueError: the seed is negative or has more than 32 bits.
  """
  fields = dataclasses.fields(config)
  values = {field.name: _plain(getattr(config, field.name)) for field in fields}
  if not 0 <= values.get("seed", 0) <= MAX_SEED:
    raise ValueError(
      f"seed: expected 0 to {MAX_SEED} (32 bits), got {values['seed']}"
    )
  return dataclasses.replace(config, **values)


def _plain(value):
  if isinstance(value, tuple):
    return tuple(map(_plain, value))
  scalar = isinstance(value, np.generic | np.ndarray | jax.Array)
  return value.item() if scalar and value.ndim == 0 else value
