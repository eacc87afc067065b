"""Functions of the user, as module:function."""

import importlib
from collections.abc import Callable


def load(place: str, option: str) -> Callable:
  """Imports module:function.

  Args:
    place: module:function.
    option: the setting that has it, for errors.

  Raises:
    ValueError: it cannot be imported, or is not a function.
  """
  module, _, name = place.partition(":")
  try:
    fn = getattr(importlib.import_module(module), name)
  except Exception as error:  # imported code may raise anything
    raise ValueError(
      f"{option}: expected module:function, got {place!r} ({line(error)})"
    ) from error
  if not callable(fn):
    raise ValueError(f"{option}: expected a function, got {place} = {fn!r}")
  return fn


def line(error: Exception) -> str:
  """An error of a user's code in one line."""
  said = (str(error).splitlines() or [""])[0]
  return f"{type(error).__name__}: {said[:200]}"
