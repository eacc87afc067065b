"""Samples in one, two and four calls: every method, and its training's cost.

  python -m benchmarks few_calls                     hours of one CPU core
  python -m benchmarks few_calls --only shortcut pairs
  python -m benchmarks few_calls --data photos

Trains under runs/quality; finished runs are not trained again, and rows that
are not asked for keep their figures. EDM's row of photos is that of the page of
quality, unless it is asked for. Cost is the CPU time of the whole command,
with its compilation, its teacher's samples and its pictures; the teacher's own
is not part of it.
"""

import json
import pathlib
import resource

import numpy as np

from benchmarks import pages, quality, runner

CALLS = (1, 2, 4)
SHOWN = ("frechet", "kid", "nearest_50", "copies")
# Row: (script and flags, number of seeds, calls; () for the run's own).
FROM_TEACHER = "--teacher {teacher}"


def _taught(method, data="digits"):
  return f"flow_map {data} {method} {FROM_TEACHER}"


ROWS = {
  "digits": {
    "EDM (teacher)": ("edm digits", 3, ()),
    "pairs": (_taught("--method pairs --num-pairs 10000"), 3, CALLS[:1]),
    "trajectories": (_taught("--method trajectories"), 3, CALLS),
    "Eulerian": (_taught("--method meanflow"), 1, CALLS),
    "Lagrangian": (_taught("--method lagrangian"), 1, CALLS),
    "progressive": (_taught("--method shortcut"), 1, CALLS),
    "consistency distillation": (_taught("--method consistency"), 1, CALLS),
    "distribution matching": (
      f"distribution_matching digits --num-steps 1000 {FROM_TEACHER}",
      1,
      (),
    ),
    "shortcut": ("flow_map digits --num-steps 7800", 3, CALLS),
    "meanflow": ("flow_map digits --method meanflow", 1, CALLS),
    "improved meanflow": ("flow_map digits --method improved", 1, CALLS),
    "scm": ("flow_map digits --method scm", 1, CALLS),
    "Lagrangian, self": ("flow_map digits --method lagrangian", 1, CALLS),
    "consistency training": ("flow_map digits --method consistency", 1, CALLS),
    "consistency training, grid": (
      "flow_map digits --method consistency --gap grid",
      1,
      CALLS,
    ),
  },
  "photos": {
    "EDM (teacher)": ("edm photos", 1, ()),
    "pairs": (
      _taught("--method pairs --num-pairs 1500 --num-steps 1200", "photos"),
      1,
      CALLS[:1],
    ),
    "shortcut": ("flow_map photos", 1, CALLS),
  },
}
TEACHER = "EDM (teacher)"
NOTHING = "Not measured."


def run_of(data: str, row: str, seed: int) -> str:
  """The name of a run."""
  if row == TEACHER and data == "digits":
    return f"digits-{seed}"
  plain = row.replace(",", "").replace(" ", "-").lower()
  return "photos" if row == TEACHER else f"few-{data}-{plain}-{seed}"


def train(data: str, row: str, seed: int) -> tuple[pathlib.Path, str, float]:
  """Trains, unless that is done: (run directory, command, CPU seconds or 0)."""
  flags = ROWS[data][row][0]
  if FROM_TEACHER in flags:
    flags = flags.format(teacher=train(data, TEACHER, seed)[0])
  before = _used()
  found = quality.train(run_of(data, row, seed), f"{flags} --seed {seed}")
  return *found, _used() - before


def _used():
  """CPU seconds of finished child processes."""
  used = resource.getrusage(resource.RUSAGE_CHILDREN)
  return used.ru_utime + used.ru_stime


def measure(data: str, row: str, seed: int, known: dict) -> dict:
  """One training, sampled with every number of calls on both splits."""
  run_dir, command, seconds = train(data, row, seed)
  found = {}
  for calls in ROWS[data][row][2] or (0,):
    how = dict(sample_steps=calls) if calls else {}
    records = {
      split: quality.evaluate(run_dir, split=split, **how)
      for split in quality.SPLITS
    }
    found[str(calls or records["test"]["calls"])] = records
  cost = seconds if seconds > 1 else known.get("seconds")
  return dict(command=command, seconds=cost, calls=found)


def from_quality(out: pathlib.Path) -> dict:
  """EDM's row of photos, as the page of quality has it."""
  row = pages.stored(out, "quality")["photos"]["rows"]["EDM"]
  records = {split: row[split] for split in quality.SPLITS}
  return dict(command=row["command"], seconds=None, calls={"35": records})


def _mean(rows, calls, split, name):
  """Mean over seeds of one metric, or None."""
  values = [
    r["calls"][calls][split]["metrics"][name]["samples"]
    for r in rows
    if calls in r["calls"]
  ]
  return None if not values or values[0] is None else float(np.mean(values))


def table(rows: dict, split: str) -> list[str]:
  """A line for every method and number of calls."""
  costs = [r["seconds"] for r in rows.get(TEACHER, []) if r["seconds"]]
  teacher = np.mean(costs) if costs else None
  first = next(iter(next(iter(rows.values()))[0]["calls"].values()))
  floor = first[split]["metrics"]
  lines = [("real, held out", "", "", "", *_floor(floor))]
  for row, seeds in rows.items():
    costs = [r["seconds"] for r in seeds if r["seconds"]]
    cost = "" if not costs else f"{np.mean(costs):.0f}"
    ratio = f"{np.mean(costs) / teacher:.2f}" if costs and teacher else ""
    for calls in seeds[0]["calls"]:
      values = [_mean(seeds, calls, split, name) for name in SHOWN]
      shown = ["" if v is None else f"{v:.3f}" for v in values]
      lines.append((row, calls, cost, ratio, *shown))
  head = f"{split} | calls | CPU s | of the teacher's | Frechet | KID"
  return pages.table(f"{head} | nearest 50 % | copies", lines)


def _floor(metrics):
  for name in SHOWN:
    yield quality.number_text(metrics[name]["floor"])


def goals(rows: dict) -> list[str]:
  """The issue's goals on test, with every seed's figure."""
  of = lambda row, calls: [
    r["calls"][calls]["test"]["metrics"]["frechet"] for r in rows.get(row, [])
  ]
  if TEACHER not in rows:
    return []
  own = of(TEACHER, next(iter(rows[TEACHER][0]["calls"])))
  floor, lines = own[0]["floor"], []
  for row in ("pairs", "trajectories"):
    for found, teacher in zip(of(row, "1"), own, strict=False):
      limit = teacher["samples"] + 0.05
      lines.append(_goal(f"{row}, one call", found, limit, "the teacher's"))
  for calls, more in (("1", 0.2), ("2", 0.1)):
    for found in of("shortcut", calls):
      lines.append(_goal(f"shortcut, {calls}", found, floor + more, "floor"))
  return lines


def _goal(name, found, limit, of):
  met = "met" if found["samples"] <= limit else "**missed**"
  return (
    f"- {name}: {found['samples']:.3f}, goal {limit:.3f} ({of} and a margin):"
    f" {met}."
  )


def tables(record: dict) -> dict:
  """The parts of the page."""
  parts: dict = {"machine": f"On {record['machine']}."}
  for data in ROWS:
    rows = record["rows"].get(data, {})
    for split in quality.SPLITS:
      parts[f"{data}, {split}"] = table(rows, split) if rows else NOTHING
    parts[f"{data}, runs"] = [
      f"- {row}: `{seeds[0]['command']}`" + _more(len(seeds))
      for row, seeds in rows.items()
    ] or NOTHING
  parts["goals"] = goals(record["rows"].get("digits", {}))
  return parts


def _more(number):
  return f" and seeds to {number - 1}" * (number > 1)


def run(args) -> dict:
  """Trains and measures what is asked for, and keeps the page's other rows."""
  record = pages.stored(args.out, "few_calls")
  everything = record.get("rows", {})
  for data in args.data:
    for row in ROWS[data]:
      if args.only is not None and row not in args.only:
        continue
      rows = everything.setdefault(data, {})
      if data == "photos":
        rows.setdefault(TEACHER, [from_quality(args.out)])
      found = rows.get(row, [])
      for seed in range(args.seeds or ROWS[data][row][1]):
        known = found[seed] if seed < len(found) else {}
        new = json.loads(json.dumps(measure(data, row, seed, known)))
        found[seed : seed + 1] = [new]
        rows[row] = found
        everything[data] = {
          name: rows[name] for name in ROWS[data] if name in rows
        }
        record = dict(machine=runner.machines(record), rows=everything)
        pages.write(args.out, "few_calls", tables(record), record)
  return record


def flags(parser) -> None:
  """Adds --data, --only and --seeds."""
  rows = {row for named in ROWS.values() for row in named}
  parser.add_argument("--data", nargs="+", choices=ROWS, default=list(ROWS))
  parser.add_argument("--only", nargs="+", choices=sorted(rows), help="rows")
  what = "number of seeds; by default each row's own"
  parser.add_argument("--seeds", type=runner.positive, help=what)


BENCHMARKS = {"few_calls": runner.Benchmark(run, tables, flags=flags)}
