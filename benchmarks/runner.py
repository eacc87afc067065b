"""What a benchmark is, its command line, and the store of finished cells.

A benchmark is a function from the command line's settings to a record, and one
from the record to the parts of its page (benchmarks/pages.py). Those that take
long store each finished cell, with the settings that it was measured with, in
one JSON file; a cell whose settings are not those asked for is measured again.
The file is written whole or not at all, by one process at a time, so a run that
is stopped anywhere goes on from there.
"""

import argparse
import fcntl
import json
import math
import os
import pathlib
import platform
import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax

ROOT = pathlib.Path(__file__).parents[1]


class Benchmark(NamedTuple):
  """What the command line runs."""

  # settings -> record; a record of None has no page
  run: Callable[[argparse.Namespace], Any]
  # record -> {part of the page: its lines}; None: no page
  tables: Callable[[Any], dict] | None = None
  # flags that are integers of at least 1, and their defaults
  counts: Mapping[str, int] = {}
  # adds other flags to the parser
  flags: Callable[[argparse.ArgumentParser], Any] = lambda parser: None
  # whether there is --resume, without which the command starts anew
  resumes: bool = False
  # (parser, settings) -> None, called before anything is measured
  check: Callable | None = None
  # record -> whether the command exits with 1
  fails: Callable[[Any], bool] = lambda record: False

  def parse(self, name: str, doc: str | None, words: list[str]):
    """The settings of a command line; SystemExit if they are invalid."""
    parser = argparse.ArgumentParser(
      prog=f"python -m benchmarks {name}",
      description=doc,
      formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for flag, default in self.counts.items():
      parser.add_argument(f"--{flag}", type=positive, default=default)
    parser.add_argument("--out", type=pathlib.Path, default="docs/results")
    if self.resumes:
      parser.add_argument(
        "--resume", action="store_true", help="keep the results stored before"
      )
    self.flags(parser)
    args = parser.parse_args(words)
    if "run" in args:
      check_run(parser, args)
    if self.check is not None:
      self.check(parser, args)
    return args


def positive(text: str) -> int:
  """Parses an integer of at least 1."""
  if not (text.isdecimal() and int(text) >= 1):
    raise argparse.ArgumentTypeError(f"expected at least 1, got {text}")
  return int(text)


def run_flag(parser: argparse.ArgumentParser) -> None:
  """Adds --run."""
  what = "directory of a trained model; none leaves its part out"
  parser.add_argument("--run", default="runs/demo", help=what)


def seed_flag(parser: argparse.ArgumentParser) -> None:
  """Adds --seed."""
  parser.add_argument("--seed", type=int, default=0)


def check_run(parser: argparse.ArgumentParser, args) -> None:
  """Rejects a --run that cannot be read."""
  from benchmarks import trained  # heavy, and few benchmarks need it

  if args.run != "none":
    try:
      trained.samples.read(args.run)
    except (OSError, ValueError) as error:
      parser.error(f"{error} (make demo trains one; --run none leaves it out)")


def machine() -> str:
  """The machine: device, cores, versions of jax and Python."""
  cores = len(os.sched_getaffinity(0))
  return (
    f"{jax.devices()[0].device_kind} ({cores} cores), jax {jax.__version__},"
    f" Python {platform.python_version()}"
  )


def machines(kept: Mapping[str, Any], measured: Iterable[str] = ()) -> str:
  """This machine, after those of a record if other rows of it stay: "A; B"."""
  stays = kept.get("rows", {}).keys() - set(measured)
  before = kept["machine"].split("; ") if stays else []
  return "; ".join(dict.fromkeys([*before, machine()]))


class Cell(NamedTuple):
  """One measurement: a column and a row of a table, and a seed."""

  column: str
  method: str
  seed: int  # of data, weights and samples

  def name(self) -> str:
    """column/method/seed."""
    return f"{self.column}/{self.method}/{self.seed}"


def read(path: pathlib.Path) -> dict:
  """{name: {"settings", "values"}} of the file, {} if there is none.

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


def known(path: pathlib.Path, name: str, settings: dict) -> dict | None:
  """A cell's values, or None if it was not measured with these settings."""
  found = read(path).get(name)
  if found is None or found["settings"] != settings:
    return None
  return found["values"]


def store(path: pathlib.Path, name: str, settings: dict, values: dict) -> None:
  """Adds a cell, by a new file in the place of the old one."""
  path.parent.mkdir(parents=True, exist_ok=True)
  folder = os.open(path.parent, os.O_RDONLY)
  try:
    fcntl.flock(folder, fcntl.LOCK_EX)  # one process at a time
    record = read(path) | {name: dict(settings=settings, values=values)}
    new = path.with_suffix(f".{os.getpid()}.new")
    new.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(new, path)
  finally:
    os.close(folder)


def complete(
  path: pathlib.Path,
  cells: list[Cell],
  settings: dict,
  measure: Callable[[list[Cell]], Iterable[dict]] | None,
) -> list[dict]:
  """Measures and stores the missing cells: values of all cells, with the seed.

  Args:
    path: the store.
    cells: cells of one column and method.
    settings: what they are measured with: strings, numbers and lists.
    measure: cells -> their values in turn. None leaves missing cells out.
  """
  missing = [c for c in cells if known(path, c.name(), settings) is None]
  if missing and measure is not None:
    for cell, values in zip(missing, measure(missing), strict=True):
      store(path, cell.name(), settings, values)
      print(cell.name(), values, flush=True)
  found = [(cell.seed, known(path, cell.name(), settings)) for cell in cells]
  return [dict(values, seed=seed) for seed, values in found if values]


def share(text: str) -> float:
  """Parses a share of the steps."""
  found = float(text)
  if not 0 < found < math.inf:
    raise argparse.ArgumentTypeError(f"expected above 0, got {text}")
  return found


class Table(NamedTuple):
  """A table whose cells are measured one by one."""

  columns: tuple[str, ...]
  # column -> its methods
  rows: Callable[[str], tuple[str, ...]]
  # (column, method, budget) -> what a cell is measured with
  settings: Callable[[str, str, float], dict]
  # (cells of a column and method, settings) -> their values in turn
  measure: Callable[[list[Cell], dict], Iterable[dict]]
  # (method, seeds asked for) -> the number of seeds of its row
  seeds: Callable[[str, int], int] = lambda method, number: number


def each(measure: Callable[[Cell, dict], dict]) -> Callable:
  """Measures the cells of a row in turn."""
  return lambda row, how: (measure(cell, how) for cell in row)


def of_cells(name: str, table: Table, tables, num_seeds: int) -> Benchmark:
  """The benchmark of a table: what is stored is not measured again."""

  def flags(parser):
    add = parser.add_argument
    add("--store", type=pathlib.Path, default="runs/tables")
    add("--stored", action="store_true", help="write the page, measure nothing")
    add("--pairs", nargs="+", help="columns of the table; all by default")
    what = "fraction of the training steps, above 0"
    add("--budget", type=share, default=1.0, help=what)

  def check(parser, args):
    columns = ", ".join(table.columns)
    for column in args.pairs or ():
      if column not in table.columns:
        parser.error(f"--pairs: expected some of {columns}, got {column}")
    try:
      read(args.store / f"{name}.json")
    except ValueError as error:
      parser.error(str(error))

  def run(args):
    path, found = args.store / f"{name}.json", {}
    for column in args.pairs or table.columns:
      for method in table.rows(column):
        how = table.settings(column, method, args.budget)
        measure = lambda row, how=how: table.measure(row, how)
        number = table.seeds(method, args.seeds)
        row = [Cell(column, method, seed) for seed in range(number)]
        values = complete(path, row, how, None if args.stored else measure)
        if values:
          found.setdefault(column, {})[method] = values
    if not found:
      raise SystemExit(f"--stored: expected finished cells in {path}, got none")
    words = f" --seeds {args.seeds} --budget {args.budget:g}"
    if args.pairs:
      words += " --pairs " + " ".join(map(shlex.quote, args.pairs))
    command = f"python -m benchmarks {name}{words}"
    return dict(command=command, machine=machine(), cells=found)

  return Benchmark(run, tables, dict(seeds=num_seeds), flags, check=check)


def of_rows(name: str, rows: Iterable[str], measure, tables) -> Benchmark:
  """The benchmark of a page whose rows are measured one by one.

  Args:
    name: of the page.
    rows: names of its rows, in their order.
    measure: name of a row -> its record.
    tables: as of Benchmark; the record is {machine, rows: {name: record}}, and
      names all machines of its rows.
  """

  def flags(parser):
    what = "rows to measure, all by default; others keep their figures"
    parser.add_argument("--only", nargs="*", choices=list(rows), help=what)

  def run(args):
    path = args.out / f"{name}.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    names = rows if args.only is None else args.only
    place, found = machines(kept, names), kept.get("rows", {})
    found |= {row: measure(row) for row in names}
    ordered = {row: found[row] for row in rows if row in found}
    return json.loads(json.dumps(dict(machine=place, rows=ordered)))

  return Benchmark(run, tables, flags=flags)
