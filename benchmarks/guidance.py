"""Guidance on the digits: label accuracy against distance and coverage.

  python -m benchmarks guidance      about 40 minutes on two CPU cores

Trains the preset digits with and without --label-dropout .1, five seeds each,
under runs/quality (finished runs are not trained again), and evaluates every
run with guided weights on validation. Draws docs/images/guidance.png.
"""

import math

import numpy as np

from benchmarks import figures, pages, quality, runner
from benchmarks.published import cells

WEIGHTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
DROPOUT = 0.1
METRICS = ("frechet", "coverage", "accuracy", "nearest_10")
TITLES = ("Frechet", "coverage", "accuracy", "nearest 10 %")
MARGIN = 0.1  # what training the null label may cost


def values(run_dir, **settings) -> dict:
  """The metrics of one run, and the real data's."""
  found = quality.evaluate(run_dir, split="validation", **settings)
  rows = found["metrics"]
  return {
    "calls": found["calls"],
    **{name: rows[name]["samples"] for name in METRICS},
    **{f"{name}, real": rows[name]["floor"] for name in METRICS},
  }


def run(args) -> dict:
  """Trains and measures: {"plain": [of a seed], weight: [of a seed]}."""
  found: dict = {"plain": [], **{f"{w:g}": [] for w in WEIGHTS}}
  for seed in range(args.seeds):
    plain, _ = quality.train(f"digits-{seed}", f"edm digits --seed {seed}")
    found["plain"].append(values(plain))
    flags = f"edm digits --seed {seed} --label-dropout {DROPOUT:g}"
    guided, _ = quality.train(f"null-{seed}", flags)
    for weight in WEIGHTS:
      found[f"{weight:g}"].append(values(guided, guidance=weight))
  figures.guidance({w: means(found[f"{w:g}"]) for w in WEIGHTS})
  command = f"python -m benchmarks guidance --seeds {args.seeds}"
  return dict(command=command, machine=runner.machine(), rows=found)


def means(rows: list[dict]) -> dict:
  """Means over the seeds."""
  return {name: cells.mean(rows, name) for name in rows[0]}


def tables(record: dict) -> dict:
  """The parts of the page."""
  rows = record["rows"]
  real = means(rows["plain"])
  lines = [
    ("real, held out", "", *(f"{real[f'{n}, real']:.3f}" for n in METRICS))
  ]
  for name, of_seeds in rows.items():
    title = f"weight {name}"
    if name == "plain":
      title = "trained without the null label"
    spreads = [cells.spread([s[name] for s in of_seeds]) for name in METRICS]
    lines.append((title, of_seeds[0]["calls"], *spreads))
  pairs = zip(rows["1"], rows["plain"], strict=True)
  gaps = np.array([one["frechet"] - plain["frechet"] for one, plain in pairs])
  error = gaps.std(ddof=1) / math.sqrt(len(gaps))
  said = "met" if gaps.mean() <= MARGIN else "not met"
  return dict(
    made=f"`{record['command']}`, {record['machine']}.",
    weights=pages.table(" | ".join(("", "calls", *TITLES)), lines),
    cost=(
      f"Frechet distance at weight 1, less that of the run of the same seed"
      f" without label dropout: {gaps.mean():+.3f}, standard error {error:.3f},"
      f" {len(gaps)} seeds; goal at most {MARGIN:g}: {said}."
    ),
  )


BENCHMARKS = {"guidance": runner.Benchmark(run, tables, dict(seeds=5))}
