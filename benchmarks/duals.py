"""Duals, maps and games where the truth is known.

  python -m benchmarks.duals w1      W1: cosine of gradients, value, ten critics
  python -m benchmarks.duals w2      W2: error of the map, five methods
  python -m benchmarks.duals ring    GANs: modes of eight Gaussians on a ring

Every cell (pair, method, seed) is stored in runs/tables as it is finished, and
a second call goes on from there. --pairs takes some of the columns, --seeds
fresh pairs, --budget scales every recipe's steps: 1 is what the pages show.
"""

import argparse
import math
import pathlib
import shlex

from benchmarks import cells, duals_page, results, ring, w1, w2

TABLES = {"w1": w1, "w2": w2, "ring": ring}
PAGES = {
  "w1": duals_page.of_w1,
  "w2": duals_page.of_w2,
  "ring": duals_page.of_ring,
}


def positive(text: str) -> float:
  """A share of the steps."""
  found = float(text)
  if not 0 < found < math.inf:
    raise argparse.ArgumentTypeError(f"expected above 0, got {text}")
  return found


def main() -> None:
  """Measures what is missing, prints and writes."""
  parser = results.parser(__doc__, seeds=3)
  parser.add_argument("table", choices=TABLES)
  parser.add_argument("--pairs", nargs="+", help="columns; all by default")
  parser.add_argument("--budget", type=positive, default=1.0)
  parser.add_argument("--store", type=pathlib.Path, default="runs/tables")
  parser.add_argument(
    "--stored", action="store_true", help="measure nothing: write what there is"
  )
  args = parser.parse_args()
  table = TABLES[args.table]
  columns = args.pairs or table.COLUMNS
  for column in columns:
    if column not in table.COLUMNS:
      known = ", ".join(table.COLUMNS)
      parser.error(f"--pairs: expected some of {known}, got {column}")
  path = args.store / f"{args.table}.json"
  try:
    cells.read(path)
  except ValueError as error:
    parser.error(str(error))
  found: dict = {}
  for column in columns:
    for method in table.rows(column):
      how = table.settings(column, method, args.budget)
      measure = lambda row, how=how: table.measure_all(row, how)
      row = [cells.Cell(column, method, seed) for seed in range(args.seeds)]
      values = cells.complete(path, row, how, None if args.stored else measure)
      if values:
        found.setdefault(column, {})[method] = values
  if not found:
    parser.error(f"--stored: expected finished cells in {path}, got none")
  flags = f" --seeds {args.seeds} --budget {args.budget:g}"
  if args.pairs:
    flags += " --pairs " + " ".join(map(shlex.quote, args.pairs))
  record = dict(
    command=f"python -m benchmarks.duals {args.table}{flags}",
    machine=results.machine(),
    cells=found,
  )
  page = PAGES[args.table](record)
  results.write(args.out, args.table, page, record)


if __name__ == "__main__":
  main()
