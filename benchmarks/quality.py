"""How good the samples are: every metric of docs/metrics.md, beside its floor.

  python -m benchmarks.quality digits      three trainings: 5 minutes
  python -m benchmarks.quality curve       one long training, metrics by step
  python -m benchmarks.quality dit photos  the other presets
  python -m benchmarks.quality methods     five methods: 8 minutes

Times on two CPU cores. Trains by the command lines that it prints, under
runs/quality; finished runs are not trained again. Writes quality.md and
quality.json in docs/results (parts that are not asked for keep their figures)
and docs/images/quality.png.
"""

import json
import pathlib
import shlex
import subprocess
import sys

import numpy as np

from benchmarks import results
from experiments import edm, evaluate
from experiments.lib import plots
from experiments.lib import run as runs
from jaxgen.training import checkpoint, logging

RUNS = pathlib.Path("runs/quality")
FIGURE = pathlib.Path("docs/images/quality.png")
CURVE_STEPS = (250, 500, 750, 1000, 1500, 2250, 3000, 4000, 5500, 7500, 12000)
# {part: {row: (run, flags of experiments.edm)}}; rows may share a run.
TRAININGS = {
  "digits": {
    f"seed {n}": (f"digits-{n}", f"digits --seed {n}") for n in range(3)
  },
  "curve": {
    "curve": ("curve", "digits --num-steps 12000 --save-every 250 --keep 48")
  },
  "dit": {"digits-dit": ("digits-dit", "digits-dit")},
  "photos": {"photos": ("photos", "photos")},
  "methods": {
    "EDM": ("digits-0", "digits --seed 0"),
    "DDPM": (
      "ddpm",
      "digits --path vp --prediction noise --draw uniform --grid uniform"
      " --solver ancestral --sample-steps 100",
    ),
    "v-prediction": (
      "v",
      "digits --path cosine --prediction v --draw uniform --solver ddim"
      " --sample-steps 50",
    ),
    "score matching": (
      "score",
      "digits --prediction score --weight noise --solver euler_maruyama"
      " --sample-steps 200",
    ),
    "flow matching": (
      "flow",
      "digits --path linear --prediction velocity --level-mean 0 --level-std 1"
      " --solver euler --sample-steps 50",
    ),
  },
}
# A row of methods from another row's training, sampled in another way.
RESAMPLED = {"DDIM": ("DDPM", {"solver": "ddim", "sample_steps": 50})}
COLUMNS = {
  "frechet": "Frechet",
  "kid": "KID",
  "density": "density",
  "coverage": "coverage",
  "accuracy": "accuracy",
  "nearest_10": "nearest 10 %",
  "nearest_50": "50 %",
  "nearest_90": "90 %",
  "copies": "copies",
}


def command(run: str, flags: str) -> list[str]:
  """The training of one run, after `python`."""
  run_dir = str(RUNS / run)
  return ["-m", edm.MODULE, *flags.split(), "--run-dir", run_dir]


def train(run: str, flags: str) -> pathlib.Path:
  """Trains, unless that is done; returns the run directory."""
  if not finished(RUNS / run):
    words = command(run, flags)
    print(f"python {shlex.join(words)}", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, *words], check=True)
  return RUNS / run


def finished(run_dir: pathlib.Path) -> bool:
  """Whether the run has all its steps."""
  if not run_dir.exists():
    return False
  wanted = runs.read_config(run_dir)["num_steps"]
  return checkpoint.steps(runs.checkpoints(run_dir))[-1:] == [wanted]


def measure(run: str, flags: str, **settings) -> dict:
  """One training, on validation and on test."""
  run_dir = train(run, flags)
  found = {
    split: evaluate.run(str(run_dir), evaluate.Config(split=split, **settings))
    for split in ("validation", "test")
  }
  if settings:  # of a training that has its own row
    asked = " ".join(
      f"--{name.replace('_', '-')} {value}" for name, value in settings.items()
    )
    return found | dict(
      command=f"python -m {evaluate.MODULE} {run_dir} {asked}"
    )
  records = logging.read(run_dir / "metrics.jsonl")
  return found | dict(
    command=f"python {shlex.join(command(run, flags))}",
    seconds=records[-1]["seconds"],
  )


def curve(run: str, flags: str) -> dict:
  """All metrics over one long training, on validation; draws the figure."""
  run_dir = train(run, flags)
  found = {
    step: evaluate.run(str(run_dir), evaluate.Config(step=step))
    for step in CURVE_STEPS
  }
  rows = [record["metrics"] for record in found.values()]
  plots.over_training(FIGURE, list(CURVE_STEPS), rows)
  return dict(
    command=f"python {shlex.join(command(run, flags))}", validation=found
  )


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


def page(found: dict) -> str:
  """docs/results/quality.md."""
  lines = [
    "# Quality of samples",
    "",
    "`python -m benchmarks.quality digits curve dit photos methods`",
    "",
    "Means of 5 draws, +- their standard deviation; a draw has as many samples",
    "as there are held-out images, with their labels. What is measured, and",
    "why floors and a Gaussian stand beside: [metrics](../metrics.md). Choices",
    "are made on validation.",
  ]
  titles = {
    "digits": "Three trainings of `make demo`'s recipe",
    "dit": "Diffusion transformer",
    "photos": "Photographs, 32 x 32",
    "methods": "Five methods on the digits",
  }
  for name, title in titles.items():
    if name in found:
      lines += ["", f"## {title}", ""]
      for split in ("validation", "test"):
        lines += block(found[name]["rows"], split)
      lines += machine_lines(found[name])
  if "curve" in found:
    lines += ["", "## Over training", ""]
    lines += curve_lines(found["curve"]["rows"]["curve"])
    lines += ["", f"On {found['curve']['machine']}."]
  return "\n".join(lines) + "\n"


def block(rows: dict, split: str) -> list[str]:
  """A table: the floor, the goal, the Gaussian, then a line a training."""
  records = [row[split] for row in rows.values()]
  first = records[0]["metrics"]
  shown = [name for name in COLUMNS if first[name]["samples"] is not None]
  number = records[0]["number"]
  lines = table_head(
    [f"{split}, {number} a draw", *(COLUMNS[n] for n in shown)]
  )
  for key, title in (
    ("floor", "real, held out"),
    ("goal", "goal"),
    ("gaussian", "Gaussian"),
  ):
    lines.append(line(title, [number_text(first[n][key]) for n in shown]))
  for name, record in zip(rows, records, strict=True):
    lines.append(line(name, [cell(record["metrics"][n]) for n in shown]))
  if len(rows) > 1 and all(name.startswith("seed ") for name in rows):
    means = [
      np.mean([r["metrics"][n]["samples"] for r in records]) for n in shown
    ]
    lines.append(line("mean", [f"{mean:.3f}" for mean in means]))
  return [*lines, ""]


def curve_lines(row: dict) -> list[str]:
  """The table of the curve: a line a checkpoint."""
  found = row["validation"]
  shown = list(COLUMNS)
  lines = [f"`{row['command']}`, validation.", ""]
  lines += ["![Every metric by training step](../images/quality.png)", ""]
  lines += table_head(["step", *COLUMNS.values()])
  last = list(found.values())[-1]["metrics"]
  lines.append(line("real", [number_text(last[n]["floor"]) for n in shown]))
  for step, record in found.items():
    lines.append(line(step, [cell(record["metrics"][n]) for n in shown]))
  return lines


def machine_lines(found: dict) -> list[str]:
  """The commands, the seconds of training and where it ran."""
  lines = [
    f"- {name}: `{row['command']}`"
    + (f", {row['seconds']:.0f} s" if "seconds" in row else "")
    for name, row in found["rows"].items()
  ]
  return [*lines, "", f"On {found['machine']}."]


def table_head(names: list[str]) -> list[str]:
  return [line(*names[:1], names[1:]), "|---" * len(names) + "|"]


def line(name, cells: list[str]) -> str:
  return f"| {name} | {' | '.join(cells)} |"


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


def main() -> None:
  """Trains, measures, merges and writes."""
  parser = results.parser(__doc__)
  parser.add_argument("parts", nargs="+", choices=list(TRAININGS))
  args = parser.parse_args()
  path = args.out / "quality.json"
  found = json.loads(path.read_text()) if path.exists() else {}
  for name in args.parts:  # what is measured is kept, whatever follows
    rows = json.loads(json.dumps(part(name)))
    found[name] = dict(machine=results.machine(), rows=rows)
    results.write(args.out, "quality", page(found), found)


if __name__ == "__main__":
  main()
