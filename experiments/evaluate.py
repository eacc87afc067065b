"""Measures a run's samples, compared with real data and a fitted Gaussian.

  python -m experiments.evaluate runs/mine
  python -m experiments.evaluate runs/mine --split test --sample-steps 40

Writes results.json (one record per split) and results.png in the run directory;
for text, only the log-likelihood is measured and results.json written.
Choose settings on validation, report test once. docs/metrics.md describes the
metrics.
"""

import dataclasses
import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np

from experiments import settings
from experiments.lib import (
  averages,
  checks,
  command_line,
  functions,
  likelihoods,
  quality,
  samples,
)
from experiments.lib import run as runs
from experiments.pictures import metrics
from jaxgen.training import checkpoint

RESULTS = "results.json"


@dataclasses.dataclass(frozen=True)
class Config(settings.Sampled):
  """Settings of evaluate; None keeps the run's own setting."""

  split: Literal["validation", "test"] = "validation"
  """Held-out split of the real data that samples are compared with."""
  label: Literal["none"] | None = None
  """Label of all samples: none is the null label; the default is the labels of
  the held-out data."""
  draws: int = 5
  """Number of sets of samples; a figure is the mean over the sets."""
  number: int | None = None
  """Number of samples per set, at least 6; None is the held-out number."""
  seed: int = 0
  """Seed of the samples, the Gaussian and the random splits."""
  features: str | None = None
  """Features as module:function, images [N, *D] to [N, K]; None is those of
  the classifier."""
  step: int | None = None
  """Step of the checkpoint; None is the latest."""


def run(run_dir: str, config: Config) -> dict[str, Any]:
  """Measures one split, writes the record and returns it."""
  config = checks.plain(config)
  _check(config)
  features = load_features(config.features)
  ex = samples.read(run_dir, config, config.script)
  if config.label is not None:
    ex = samples.unlabelled(ex)
  seed_key, number, found = jax.random.key(config.seed), 0, None
  if ex.data.to_bytes is None:
    number, found = _measure_samples(ex, config, features, seed_key)
  rows = []
  if ex.log_likelihood is not None:
    trained = averages.load(ex, config.step, config.average)
    likelihood_key = jax.random.fold_in(seed_key, config.draws)
    measure = likelihoods.measurer(ex, config.split, config.chunk)
    rows = measure(*trained, likelihood_key)
  last = checkpoint.steps(runs.checkpoints(run_dir))[-1]
  record = dataclasses.asdict(config) | dict(
    run=str(run_dir),
    step=last if config.step is None else config.step,
    number=number,
    calls=ex.num_calls,
    **{name: getattr(ex.config, name, None) for name in settings.SAMPLING},
    metrics={} if found is None else found.rows,
    log_likelihood=[row._asdict() for row in rows],
  )
  write(pathlib.Path(run_dir), config.split, record, found)
  return record


def _measure_samples(ex, config, features, seed_key):
  """(number of samples in a set, all their metrics)."""
  sample = samples.sampler(
    ex, step=config.step, average=config.average, chunk=config.chunk
  )
  ref = quality.reference(ex.data, config.split, features)
  with checks.naming(config, real="number"):
    found = quality.evaluate(
      lambda i, labels, n: sample(jax.random.fold_in(seed_key, i), labels, n),
      ref,
      number=config.number,
      num_draws=config.draws,
      seed=config.seed,
    )
  return config.number or len(ref.held_out[0]), found


def load_features(place: str | None) -> Callable | None:
  """Imports module:function; None returns None.

  Returns:
    images [N, *D] -> [N, K], float64; raises ValueError if the function fails
    or returns values that are not finite.

  Raises:
    ValueError: it cannot be imported, or is not a function.
  """
  if place is None:
    return None
  fn = functions.load(place, "features")

  def features(images):
    shape = list(np.shape(images))
    try:
      found = np.asarray(fn(images), np.float64)
    except Exception as error:  # the user's code may raise anything
      raise ValueError(
        f"features: {place} fails on images {shape} ({functions.line(error)})"
      ) from error
    if not np.isfinite(found).all():
      raise ValueError(
        f"features: expected finite numbers from {place} of images {shape}"
      )
    return found

  return features


def table(record: dict[str, Any]) -> str:
  """The record as a table of text."""
  lines = [
    f"{'':<14}{'samples':>18}{'real':>18}{'Gaussian':>10}  goal",
  ]
  for name, row in record["metrics"].items():
    if row["samples"] is None:
      continue
    spread = "" if row["spread"] is None else f" +- {row['spread']:.3f}"
    floor = row["floor"]
    real = _interval(floor) if isinstance(floor, list) else f"{floor:.3f}"
    gaussian = "" if row["gaussian"] is None else f"{row['gaussian']:.3f}"
    met = {True: ": met", False: ": not met", None: ""}[row["met"]]
    lines.append(
      f"{name:<14}{row['samples']:>9.3f}{spread:<9}{real:>18}{gaussian:>10}"
      f"  {_goal(row['goal'])}{met}"
    )
  return "\n".join(lines)


def _goal(goal):
  match goal:
    case None, None:
      return ""
    case None, high:
      return f"at most {high:.3f}"
    case low, None:
      return f"at least {low:.3f}"
  return f"in {_interval(goal)}"


def _interval(pair):
  return f"[{pair[0]:.3f}, {pair[1]:.3f}]"


def write(
  run_dir: pathlib.Path,
  split: str,
  record: dict[str, Any],
  found: quality.Result | None,
) -> None:
  """Writes results.json and results.png and prints the tables.

  results.json keeps the record of the other split. Without metrics of samples
  there is neither their picture nor their table.
  """
  path = run_dir / RESULTS
  try:
    records = json.loads(path.read_text())
  except (FileNotFoundError, ValueError):
    records = None
  records = records if isinstance(records, dict) else {}
  records[split] = record
  runs.write_text(path, json.dumps(records, indent=2) + "\n")
  title = f"{split} data, {record['calls']} network calls per sample"
  if found is not None:
    sets = "1 set" if record["draws"] == 1 else f"{record['draws']} sets"
    title = f"{sets} of {record['number']} samples, {title}"
    metrics.results(run_dir / "results.png", found, title)
  lines = [f"{run_dir}: {title}"]
  if found is not None:
    lines.append(table(record))
  if rows := record.get("log_likelihood"):
    lines.append(likelihoods.table([likelihoods.Row(**row) for row in rows]))
  print("\n".join(lines))
  pictures = () if found is None else (run_dir / "results.png",)
  print(path, *pictures, file=sys.stderr)


def _check(config):
  checks.at_least(config, draws=1, chunk=1)
  if config.number is not None:
    checks.at_least(config, number=6)  # density and coverage use 5 neighbours
  checks.known(config)


def main() -> None:
  """The command line."""
  command_line.main_of_run(__file__, __doc__, Config, run)


if __name__ == "__main__":
  main()
