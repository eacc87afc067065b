"""How good the samples are: every metric of docs/metrics.md, beside its floor.

  python -m benchmarks quality digits      three trainings: 5 minutes
  python -m benchmarks quality curve       one long training, metrics by step
  python -m benchmarks quality flow score corrected gan   the other scripts
  python -m benchmarks quality dit photos  the other presets
  python -m benchmarks quality methods     five methods: 8 minutes

Times on two CPU cores. Trains by the command lines that it prints, under
runs/quality; finished runs are not trained again. Parts that are not asked for
keep their figures. Draws docs/images/quality.png.
"""

import dataclasses
import json
import pathlib
import shlex
import subprocess
import sys

from benchmarks import pages, quality_tables, runner, trained
from jaxgen.training import checkpoint, logging

RUNS = pathlib.Path("runs/quality")
FIGURE = pathlib.Path("docs/images/trained.quality.png")
CURVE_STEPS = (250, 500, 750, 1000, 1500, 2250, 3000, 4000, 5500, 7500, 12000)


def _seeds(run, flags):
  return {f"seed {n}": (f"{run}-{n}", f"{flags} --seed {n}") for n in range(3)}


# {part: {row: (run, script and its flags)}}; rows may share a run.
TRAININGS = {
  "digits": _seeds("digits", "edm digits"),
  "curve": {
    "curve": (
      "curve",
      "edm digits --num-steps 12000 --save-every 250 --keep 48",
    )
  },
  "dit": {"digits-dit": ("digits-dit", "edm digits-dit")},
  "photos": {
    "EDM": ("photos", "edm photos"),
    "flow matching": ("flow-photos", "flow_matching photos"),
    "score matching": ("score-photos", "score_matching photos"),
  },
  "flow": _seeds("flow", "flow_matching digits"),
  "score": _seeds("score", "score_matching digits"),
  "corrected": {
    "predictor, corrector": ("score-pc", "score_matching digits-pc")
  },
  "gan": _seeds("r3gan", "gan r3gan"),
  "methods": {
    "EDM": ("digits-0", "edm digits --seed 0"),
    "DDPM": (
      "ddpm",
      "edm digits --path vp --prediction noise --draw uniform --grid uniform"
      " --solver ancestral --sample-steps 100",
    ),
    "v-prediction": (
      "v",
      "edm digits --path cosine --prediction v --draw uniform --solver ddim"
      " --sample-steps 50",
    ),
    "score matching": (
      "score",
      "edm digits --prediction score --weight noise --solver euler_maruyama"
      " --sample-steps 200",
    ),
    "flow matching": (
      "flow",
      "edm digits --path linear --prediction velocity --level-mean 0"
      " --level-std 1 --solver euler --sample-steps 50",
    ),
  },
}
# A row of methods from another row's training, sampled in another way.
RESAMPLED = {"DDIM": ("DDPM", {"solver": "ddim", "sample_steps": 50})}


def command(run: str, flags: str) -> list[str]:
  """The training of one run, after `python`."""
  script, *rest = flags.split()
  return ["-m", f"experiments.{script}", *rest, "--run-dir", str(RUNS / run)]


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
  wanted = trained.run.read_config(run_dir)["num_steps"]
  return checkpoint.steps(trained.run.checkpoints(run_dir))[-1:] == [wanted]


def measure(run: str, flags: str, **settings) -> dict:
  """One training, on validation and on test."""
  run_dir = train(run, flags)
  found = {
    split: evaluated(run_dir, trained.evaluate.Config(split=split, **settings))
    for split in ("validation", "test")
  }
  if settings:  # of a training that has its own row
    asked = " ".join(
      f"--{name.replace('_', '-')} {value}" for name, value in settings.items()
    )
    return found | dict(
      command=f"python -m {trained.evaluate.MODULE} {run_dir} {asked}"
    )
  records = logging.read(run_dir / "metrics.jsonl")
  return found | dict(
    command=f"python {shlex.join(command(run, flags))}",
    seconds=records[-1]["seconds"],
  )


def evaluated(run_dir: pathlib.Path, config: trained.evaluate.Config) -> dict:
  """The run's record of these settings, measured if it has none."""
  path = run_dir / trained.evaluate.RESULTS
  known = json.loads(path.read_text()) if path.exists() else {}
  record = known.get(config.split, {})
  asked = {k: v for k, v in dataclasses.asdict(config).items() if v is not None}
  last = checkpoint.steps(trained.run.checkpoints(run_dir))[-1]
  if record.get("step") == last and asked.items() <= record.items():
    own = {"solver", "sample_steps", "grid"} - asked.keys()
    config_of = trained.run.read_config(run_dir)
    if all(record[name] == config_of.get(name) for name in own):
      return record
  return trained.evaluate.run(str(run_dir), config)


def curve(run: str, flags: str) -> dict:
  """All metrics over one long training, on validation; draws the figure."""
  run_dir = train(run, flags)
  found = {
    step: trained.evaluate.run(str(run_dir), trained.evaluate.Config(step=step))
    for step in CURVE_STEPS
  }
  rows = [record["metrics"] for record in found.values()]
  trained.plots.over_training(FIGURE, list(CURVE_STEPS), rows)
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


def run(args) -> dict:
  """Trains, measures and merges."""
  found = pages.stored(args.out, "quality")
  for name in args.parts:  # what is measured is kept, whatever follows
    rows = json.loads(json.dumps(part(name)))
    found[name] = dict(machine=runner.machine(), rows=rows)
    pages.write(args.out, "quality", quality_tables.tables(found), found)
  return found


BENCHMARKS = {
  "quality": runner.Benchmark(
    run,
    quality_tables.tables,
    flags=lambda parser: parser.add_argument(
      "parts", nargs="+", choices=list(TRAININGS)
    ),
  )
}
