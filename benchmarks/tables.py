"""Two published tables measured again, with their code or figures beside ours.

  python -m benchmarks.tables tong --seeds 5    about 40 minutes of one core
  python -m benchmarks.tables c2ot --seeds 3    about 65 minutes of one core

tong  Tong et al. 2023, arXiv:2302.00482, table 2: flows between 2-D laws
c2ot  Cheng and Schwing 2025, arXiv:2503.10636, figure 1: their conditions

Every cell (column, method, seed) is stored in runs/tables as it is finished,
and a second call goes on from there. torchcfm and POT
(benchmarks/requirements.txt) are needed for torchcfm's rows, which are left
out without them. Writes docs/results/tong.md, c2ot.md and their records.
"""

import importlib.metadata
import importlib.util
import pathlib
import sys

from benchmarks import c2ot, c2ot_page, cells, results, tong, tong_page


def versions() -> str:
  """Of the peers, as a line."""
  found = []
  for name in ("torch", "torchcfm", "POT"):
    try:
      found.append(f"{name} {importlib.metadata.version(name)}")
    except importlib.metadata.PackageNotFoundError:
      found.append(f"no {name}")
  return ", ".join(found)


def measure_tong(path: pathlib.Path, num_seeds: int, stored: bool) -> dict:
  """{method: {column: [values of each seed]}}; what has none is left out."""
  found = {}
  peers = all(importlib.util.find_spec(name) for name in ("torchcfm", "ot"))
  if not peers:
    print("torchcfm or POT is not installed: left out", file=sys.stderr)
  for method in tong.METHODS:
    if method.startswith("torchcfm") and not peers:
      continue
    settings = tong.recipe(method)
    measure = lambda row, settings=settings: tong.measure(row, settings)
    row = {
      column: cells.complete(
        path,
        [cells.Cell(column, method, seed) for seed in range(num_seeds)],
        settings,
        None if stored else measure,
      )
      for column in tong.COLUMNS
    }
    if all(row.values()):
      found[method] = row
  return found


def measure_c2ot(path: pathlib.Path, num_seeds: int, stored: bool) -> dict:
  """{condition: {method: [values of each seed]}}; fewer seeds but for C2OT."""
  found: dict = {}
  settings = dict(c2ot.SETTINGS)
  for column, method in c2ot.ROWS:
    number = num_seeds if method in ("C2OT", "floor") else min(num_seeds, 2)
    values = cells.complete(
      path,
      [cells.Cell(column, method, seed) for seed in range(number)],
      settings,
      None if stored else lambda row: (c2ot.run(c, settings) for c in row),
    )
    if values:
      found.setdefault(column, {})[method] = values
  return found


def main() -> None:
  """Measures what is missing, prints and writes."""
  tables = dict(
    tong=(measure_tong, tong_page.page), c2ot=(measure_c2ot, c2ot_page.page)
  )
  parser = results.parser(__doc__, seeds=5)
  parser.add_argument("table", choices=tables)
  parser.add_argument("--store", type=pathlib.Path, default="runs/tables")
  parser.add_argument(
    "--stored", action="store_true", help="measure nothing: write what there is"
  )
  args = parser.parse_args()
  measure, page = tables[args.table]
  path = args.store / f"{args.table}.json"
  try:
    cells.read(path)
  except ValueError as error:
    parser.error(str(error))
  record = dict(
    command=f"python -m benchmarks.tables {args.table} --seeds {args.seeds}",
    machine=f"{results.machine()}; {versions()}",
    cells=measure(path, args.seeds, args.stored),
  )
  results.write(args.out, args.table, page(record), record)


if __name__ == "__main__":
  main()
