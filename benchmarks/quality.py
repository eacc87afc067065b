"""How good the samples are: every metric of docs/metrics.md, beside its floor.

  python -m benchmarks quality digits      three trainings: 5 minutes
  python -m benchmarks quality curve       one long training, metrics by step
  python -m benchmarks quality flow score corrected gan   the other scripts
  python -m benchmarks quality dit photos  the other presets
  python -m benchmarks quality nearest     seven without an adversary: 8 minutes
  python -m benchmarks quality methods     five methods: 8 minutes

Times are on two CPU cores. Trains by the command lines that it prints, under
runs/quality; finished runs are not trained again. Parts that are not asked for
keep their figures. Draws docs/images/quality.png.
"""

import json
import pathlib
import shlex
import subprocess
import sys
import tomllib

import numpy as np

from benchmarks import pages, runner, trained
from jaxgen.training import checkpoint, logging

RUNS = pathlib.Path("runs/quality")
FIGURE = pathlib.Path("docs/images/quality.png")
CURVE_STEPS = (250, 500, 750, 1000, 1500, 2250, 3000, 4000, 5500, 7500, 12000)
SPLITS = ("validation", "test")

_FOUND = tomllib.loads(
  pathlib.Path(__file__).with_name("quality.toml").read_text()
)
TRAININGS, COLUMNS = _FOUND["trainings"], _FOUND["columns"]
# A row of methods from another row's training, sampled in another way.
RESAMPLED = {"DDIM": ("DDPM", {"solver": "ddim", "sample_steps": 50})}
# Goals of the Frechet distance on test, from its floor.
GOALS = {
  "flow": ("the floor + .1", lambda floor: floor + 0.1),
  "score": ("1.3 x the floor", lambda floor: 1.3 * floor),
  "corrected": ("1.3 x the floor", lambda floor: 1.3 * floor),
  "gan": ("1.5 x the floor", lambda floor: 1.5 * floor),
  "nearest": ("1.6 x the floor", lambda floor: 1.6 * floor),
}


def train(run: str, flags: str) -> tuple[pathlib.Path, str]:
  """Trains, unless that is done: (the run directory, the command)."""
  script, *rest = flags.split()
  run_dir = RUNS / run
  words = ["-m", f"experiments.{script}", *rest, "--run-dir", str(run_dir)]
  command = f"python {shlex.join(words)}"
  if not finished(run_dir):
    print(command, file=sys.stderr, flush=True)
    subprocess.run([sys.executable, *words], check=True)
  return run_dir, command


def finished(run_dir: pathlib.Path) -> bool:
  """Whether the run has all its steps."""
  if not run_dir.exists():
    return False
  wanted = trained.run.read_config(run_dir)["num_steps"]
  return checkpoint.steps(trained.run.checkpoints(run_dir))[-1:] == [wanted]


def evaluate(run_dir: pathlib.Path, **settings) -> dict:
  """The record of experiments.evaluate with these settings."""
  return trained.evaluate.run(str(run_dir), trained.evaluate.Config(**settings))


def measure(run: str, flags: str, **settings) -> dict:
  """One training, on validation and on test."""
  run_dir, command = train(run, flags)
  found = {
    split: evaluate(run_dir, split=split, **settings) for split in SPLITS
  }
  if not settings:
    seconds = logging.read(run_dir / "metrics.jsonl")[-1]["seconds"]
    return found | dict(command=command, seconds=seconds)
  asked = (f"--{k.replace('_', '-')} {v}" for k, v in settings.items())
  command = f"python -m experiments.evaluate {run_dir} {' '.join(asked)}"
  return found | dict(command=command)


def curve(run: str, flags: str) -> dict:
  """All metrics over one long training, on validation; draws the figure."""
  run_dir, command = train(run, flags)
  found = {step: evaluate(run_dir, step=step) for step in CURVE_STEPS}
  rows = [record["metrics"] for record in found.values()]
  trained.metrics.over_training(FIGURE, list(CURVE_STEPS), rows)
  return dict(command=command, validation=found)


def part(name: str) -> dict:
  """The figures of one part, {row: record}."""
  trainings = TRAININGS[name]
  if name == "curve":
    return {"curve": curve(*trainings["curve"])}
  rows = {row: measure(*training) for row, training in trainings.items()}
  if name == "methods":
    for row, (source, settings) in RESAMPLED.items():
      rows[row] = measure(*trainings[source], **settings)
  return rows


def cell(row: dict) -> str:
  """Mean and spread; in bold where the goal is missed."""
  text = f"{row['samples']:.3f}"
  if row["spread"]:
    text += f" +- {row['spread']:.3f}"
  return f"**{text}**" if row["met"] is False else text


def number_text(value) -> str:
  """A figure, an interval or a bound."""
  match value:
    case None | [None, None]:
      return ""
    case [None, high]:
      return f"<= {high:.3f}"
    case [low, None]:
      return f">= {low:.3f}"
    case [low, high]:
      return f"[{low:.3f}, {high:.3f}]"
  return f"{value:.3f}"


def block(rows: dict, split: str) -> list[str]:
  """A table: the floor, the goal, the Gaussian, then a line a training."""
  records = [row[split] for row in rows.values()]
  first = records[0]["metrics"]
  shown = [name for name in COLUMNS if first[name]["samples"] is not None]
  titles = dict(floor="real, held out", goal="goal", gaussian="Gaussian")
  lines = [
    (title, *(number_text(first[n][key]) for n in shown))
    for key, title in titles.items()
  ]
  for name, record in zip(rows, records, strict=True):
    lines.append((name, *(cell(record["metrics"][n]) for n in shown)))
  if len(rows) > 1 and all(name.startswith("seed ") for name in rows):
    values = [[r["metrics"][n]["samples"] for r in records] for n in shown]
    lines.append(("mean", *(f"{np.mean(value):.3f}" for value in values)))
  head = [f"{split}, {records[0]['number']} a draw"]
  return pages.table(" | ".join(head + [COLUMNS[n] for n in shown]), lines)


def missed_lines(rows: dict) -> list[str]:
  """The goals that are missed, and what is no better than the Gaussian."""
  lines = []
  for split in SPLITS:
    metrics = {row: found[split]["metrics"] for row, found in rows.items()}
    missed = _named(metrics, lambda name, row: row["met"] is False)
    lines.append(f"- Goals missed on {split}: {missed or 'none'}.")
    worse = _named(metrics, _loses)
    if worse:
      lines.append(f"- Worse than the fitted Gaussian on {split}: {worse}.")
  return lines


def _named(metrics, holds):
  """Of which metrics and rows holds(metric, row) is true, as text."""
  found = []
  for name, title in COLUMNS.items():
    title = f"nearest {title}" if title in ("50 %", "90 %") else title
    rows = [row for row, m in metrics.items() if holds(name, m[name])]
    if rows:
      found.append(f"{title} ({', '.join(rows)})")
  return "; ".join(found)


def _loses(name, row):
  """Whether a distance between distributions is above the Gaussian's."""
  if name in ("frechet", "kid"):
    return row["samples"] > row["gaussian"]
  return name == "coverage" and row["samples"] < row["gaussian"]


def goal_line(name: str, rows: dict) -> str:
  """The part's own goal, and what each training gets on test."""
  what, rule = GOALS[name]
  found = [row["test"]["metrics"]["frechet"] for row in rows.values()]
  goal = rule(found[0]["floor"])
  values = ", ".join(f"{row['samples']:.3f}" for row in found)
  met = sum(row["samples"] <= goal for row in found)
  return (
    f"Goal of the Frechet distance on test: {what}, {goal:.3f}; {values}: met"
    f" by {met} of {len(found)}."
  )


def curve_parts(row: dict) -> dict:
  """The parts of the curve: a line a checkpoint, and when it passes."""
  found = {step: r["metrics"] for step, r in row["validation"].items()}
  last = list(found.values())[-1]
  lines = [("real", *(number_text(last[n]["floor"]) for n in COLUMNS))]
  for step, metrics in found.items():
    lines.append((step, *(cell(metrics[n]) for n in COLUMNS)))
  return {
    "curve, made": f"`{row['command']}`, validation.",
    "curve": pages.table(" | ".join(("step", *COLUMNS.values())), lines),
    "curve, passing": [
      passing(
        f"{number} % quantile",
        {step: metrics[f"nearest_{number}"] for step, metrics in found.items()},
      )
      for number in (10, 50, 90)
    ],
  }


def passing(title: str, rows: dict) -> str:
  """When a distance to the training images falls below the real one's."""
  below = [step for step, row in rows.items() if row["samples"] < row["floor"]]
  if not below:
    return f"- The {title} stays above that of real images."
  steps = list(rows)
  before = steps[max(steps.index(below[0]) - 1, 0)]
  missed = [step for step, row in rows.items() if row["met"] is False]
  goal = f"misses its goal from step {missed[0]} on" if missed else "meets it"
  return (
    f"- The {title} of the distance to the nearest training image falls below"
    f" that of real images between steps {before} and {below[0]}; it {goal}."
  )


def run_lines(rows: dict) -> list[str]:
  """The commands, the seconds of training and the calls of a sample."""
  lines = []
  for name, row in rows.items():
    seconds = f", {row['seconds']:.0f} s" if "seconds" in row else ""
    calls = row["test"].get("calls")
    cost = "" if calls is None else f", {calls} network calls a sample"
    lines.append(f"- {name}: `{row['command']}`{seconds}{cost}")
  return lines


def tables(found: dict) -> dict:
  """The parts of the page, of every part that has been measured."""
  parts: dict = {}
  for name, record in found.items():
    rows = record["rows"]
    if name == "curve":
      parts |= curve_parts(rows["curve"])
    else:
      parts |= {f"{name}, {split}": block(rows, split) for split in SPLITS}
      parts[f"{name}, missed"] = missed_lines(rows)
      parts[f"{name}, runs"] = run_lines(rows)
    if name in GOALS:
      parts[f"{name}, goal"] = goal_line(name, rows)
    parts[f"{name}, machine"] = f"On {record['machine']}."
  return parts


def run(args) -> dict:
  """Trains, measures and merges with what is on the page."""
  found = pages.stored(args.out, "quality")
  for name in args.parts:  # what is measured is kept, whatever follows
    rows = json.loads(json.dumps(part(name)))
    found[name] = dict(machine=runner.machine(), rows=rows)
    pages.write(args.out, "quality", tables(found), found)
  return found


def flags(parser) -> None:
  """Adds the parts."""
  parser.add_argument(
    "parts", nargs="+", choices=list(TRAININGS), help="parts of the page"
  )


BENCHMARKS = {"quality": runner.Benchmark(run, tables, flags=flags)}
