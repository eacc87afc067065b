"""How well the discriminator of an O-GAN encodes.

  python -m benchmarks encoders             all: 15 minutes on one CPU core
  python -m benchmarks encoders --only o-gan-0 o-gan-photos

Trains under runs/quality; finished runs are not trained again, and rows that
are not asked for keep their figures. The figures are those of a run's
result.json (experiments/recipes/encoders.py), and the Frechet distance of
samples, on validation and on test.
"""

import math

import numpy as np

from benchmarks import pages, quality, runner, trained
from jaxgen.training import logging

SEEDS = range(3)
THREE = "--num-blocks 3 --penalty-weight 5"  # hidden layers, in place of one


def _digits(name, flags):
  return {f"{name}-{s}": f"gan o-gan {flags} --seed {s}" for s in SEEDS}


GROUPS = {  # {title: {run: script and its flags}}
  "digits, latent 28": _digits("o-gan", ""),
  "digits, latent 12, three layers": _digits(
    "o-gan-12", f"--latent 12 --width 384 {THREE}"
  ),
  "digits, latent 32, three layers": _digits(
    "o-gan-32", f"--latent 32 --width 384 {THREE}"
  ),
  "photos, latent 64": {"o-gan-photos": "gan o-gan-photos"},
}
TRAININGS = {
  run: flags for group in GROUPS.values() for run, flags in group.items()
}
PROBES = "encodings", "pixels", "pca", "untrained"
ERROR, COSINE, BELOW = 1.5, 0.9, 0.02  # goals


def measure(name: str) -> dict:
  """The row of one training."""
  run_dir, command = quality.train(name, TRAININGS[name])
  ex = trained.samples.read(run_dir)
  params, extras = trained.averages.load(ex)
  now = trained.Trained(params, {}, extras)
  seconds = logging.read(run_dir / "metrics.jsonl")[-1]["seconds"]
  found: dict = dict(command=command, seconds=seconds)
  for split in quality.SPLITS:
    found[split], text = ex.measure(now, split=split)
    metrics = quality.evaluate(run_dir, split=split)["metrics"]
    found[split] |= {k: metrics["frechet"][k] for k in ("samples", "floor")}
    print(name, split, text, sep="\n", flush=True)
  return found


def columns(row: dict) -> dict[str, float]:
  """The figures of a table from those of one training."""
  found = dict(
    error=row["rms_error"],
    pca=row["pca_rms_error"],
    ratio=row["rms_error"] / row["pca_rms_error"],
    cosine=row["cosine"],
  )
  found |= {f"probe {name}": row["probe"][name] for name in PROBES}
  return found | dict(frechet=row["samples"], real=row["floor"])


def over_seeds(values) -> str:
  """The mean, and its standard error if there are several."""
  mean = f"{np.mean(values):.3f}"
  if len(values) == 1:
    return mean
  return f"{mean} +- {np.std(values, ddof=1) / math.sqrt(len(values)):.3f}"


def table(rows: dict, split: str) -> list[str]:
  """A line for each group of trainings."""
  lines = []
  for title, names in GROUPS.items():
    found = [columns(rows[name][split]) for name in names if name in rows]
    if found:
      cells = [over_seeds([each[key] for each in found]) for key in found[0]]
      lines.append((title, len(found), *cells))
  head = "data | seeds | RMS error | PCA's | ratio | cos(z, E(G(z))) | probe"
  head += " | pixels | PCA | untrained | samples' Frechet | real"
  return pages.table(head, lines)


def goals(rows: dict) -> list[str]:
  """Which goals the trainings meet on test."""
  lines = []
  for title, names in GROUPS.items():
    found = [columns(rows[name]["test"]) for name in names if name in rows]
    if not found:
      continue
    probe = lambda each, other: each["probe encodings"] - each[f"probe {other}"]
    met = {
      "the error": sum(each["ratio"] <= ERROR for each in found),
      "the cosine": sum(each["cosine"] >= COSINE for each in found),
      "the probe near pixels": sum(
        probe(each, "pixels") >= -BELOW for each in found
      ),
      "above PCA": sum(probe(each, "pca") > 0 for each in found),
      "above an untrained encoder": sum(
        probe(each, "untrained") > 0 for each in found
      ),
    }
    said = ", ".join(f"{name} in {n}" for name, n in met.items())
    lines.append(f"- {title}: of {len(found)} trainings, goals met by {said}.")
  return lines


def tables(record: dict) -> dict:
  """The parts of the page."""
  rows = record["rows"]
  parts: dict = {split: table(rows, split) for split in quality.SPLITS}
  parts["goals"] = goals(rows)
  parts["runs"] = [
    f"- {name}: `{row['command']}`, {row['seconds']:.0f} s"
    for name, row in rows.items()
  ]
  made = f"`python -m benchmarks encoders` on {record['machine']}."
  return parts | dict(made=made)


BENCHMARKS = {
  "encoders": runner.of_rows("encoders", tuple(TRAININGS), measure, tables)
}
