"""Finished cells of a table, in one ordinary JSON file.

A cell is stored as soon as it is measured, with the settings that it was
measured with; one whose settings are not those asked for is measured again.
The file is written whole or not at all, so that a run may be cut off anywhere
and goes on from there.
"""

import json
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import NamedTuple


class Cell(NamedTuple):
  """What is measured once: a column, a method, a seed.

  Attributes:
    column: of the table.
    method: the row.
    seed: of data, weights and draws.
  """

  column: str
  method: str
  seed: int

  def name(self) -> str:
    """column/method/seed."""
    return f"{self.column}/{self.method}/{self.seed}"


def read(path: pathlib.Path) -> dict:
  """{name: {"settings", "values"}} of the file; nothing if there is none.

  Raises:
    ValueError: the file is not such a record.
  """
  if not path.exists():
    return {}
  try:
    found = json.loads(path.read_text())
    if all({"settings", "values"} <= set(cell) for cell in found.values()):
      return found
  except (ValueError, AttributeError, TypeError):
    pass
  raise ValueError(f"{path}: expected a table's cells, delete it to start anew")


def known(path: pathlib.Path, cell: Cell, settings: dict) -> dict | None:
  """The cell's values, or None if it was not measured with these settings."""
  found = read(path).get(cell.name())
  if found is None or found["settings"] != settings:
    return None
  return found["values"]


def store(path: pathlib.Path, cell: Cell, settings: dict, values: dict) -> None:
  """Adds a cell, by a new file in the place of the old one."""
  record = read(path)
  record[cell.name()] = dict(settings=settings, values=values)
  path.parent.mkdir(parents=True, exist_ok=True)
  new = path.with_suffix(f".{os.getpid()}.new")
  new.write_text(json.dumps(record, indent=1) + "\n")
  os.replace(new, path)


def complete(
  path: pathlib.Path,
  cells: list[Cell],
  settings: dict,
  measure: Callable[[list[Cell]], Iterable[dict]] | None,
) -> list[dict]:
  """Values of all cells, with their seed; those missing are measured first.

  Args:
    path: of the file.
    cells: of one column and method.
    settings: what they are measured with, of strings, numbers and lists.
    measure: cells -> their values in turn; each is stored as it comes. None:
      cells that are missing are left out.
  """
  missing = [cell for cell in cells if known(path, cell, settings) is None]
  if missing and measure is not None:
    for cell, values in zip(missing, measure(missing), strict=True):
      store(path, cell, settings, values)
      print(cell.name(), values, flush=True)
  found = [(cell.seed, known(path, cell, settings)) for cell in cells]
  return [dict(values, seed=seed) for seed, values in found if values]
