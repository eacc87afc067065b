"""Log-likelihoods of every family on the digits, beside classical densities.

  python -m benchmarks densities binary    black and white, in nats
  python -m benchmarks densities levels    17 levels, in bits per dimension

Trains each row of densities.toml with three seeds, under runs/quality (finished
runs are not trained again): minutes on two cores for each training, and a
quarter of an hour for the exact density of a masked one in fixed orders.
Settings were chosen on validation; the figures of test are those of the chosen
ones. The classical densities are those of the page of `python -m benchmarks
baselines`, the diffusion model is that of `python -m benchmarks likelihood`.
"""

import dataclasses
import json
import math
import pathlib
import tomllib
from typing import Any

import jax
import numpy as np

from benchmarks import pages, quality, runner, trained

TRAININGS = tomllib.loads(
  pathlib.Path(__file__).with_name("densities.toml").read_text()
)
SPLITS = ("validation", "test")
# Numbers of fixed orders of a masked model's exact mixture.
ORDERS = {"binary": 8, "levels": 4}
UNITS = {"binary": "nats", "levels": "bits_per_dim"}


def measure(part: str, name: str, flags: str, seeds: int) -> dict:
  """One model: its command and, for each seed, what evaluate finds."""
  found = []
  for seed in range(seeds):
    run_dir, command = quality.train(
      slug(part, name, seed), f"{flags} --seed {seed}"
    )
    records = {s: quality.evaluate(run_dir, split=s) for s in SPLITS}
    found.append(
      {
        split: dict(
          log_likelihood=record["log_likelihood"],
          frechet=record["metrics"]["frechet"],
          nearest_50=record["metrics"]["nearest_50"],
        )
        | (infilling(run_dir, split) if flags.startswith("masked") else {})
        for split, record in records.items()
      }
    )
  return dict(command=command, seeds=found)


def infilling(run_dir: Any, split: str) -> dict[str, float]:
  """Nats per hidden entry of a masked model's run, beside the marginals."""
  ex = trained.samples.read(run_dir)
  params, extras = trained.averages.load(ex)
  now = trained.Trained(params, {}, extras)
  record, _ = ex.measure(now, split=split)
  return {name: record[name] for name in ("infilling", "marginals")}


def with_fixed_orders(ex: Any, number: int) -> Any:
  """A masked model with the exact likelihood of a mixture of fixed orders."""
  config = dataclasses.replace(ex.config, num_orders=number)
  return trained.masked.experiment(config)


def nats(ex: Any, split: str) -> dict:
  """{condition: nats of the examples of a split, [N, draws]} of a run."""
  of = trained.likelihoods.values(ex, split)
  return of(*trained.averages.load(ex), jax.random.key(0))


def exact_rows(part: str, name: str, flags: str, row: dict) -> dict[str, dict]:
  """Rows of exact densities: the equal mixture p(x) = mean_s p_s(x) of runs.

  A masked model, whose own row is of a bound, has a row of each run in fixed
  orders, too.
  """
  any_order = flags.startswith("masked")
  kind = row["seeds"][0]["test"]["log_likelihood"][0]["kind"]
  seeds, runs = range(len(row["seeds"])), []
  if not any_order and (kind != "exact" or len(seeds) == 1):
    return {}
  for seed in seeds:
    ex = trained.samples.read(quality.RUNS / slug(part, name, seed))
    ex = with_fixed_orders(ex, ORDERS[part]) if any_order else ex
    runs.append({split: nats(ex, split) for split in SPLITS})

  def records(found):
    of = trained.likelihoods.row
    return {
      split: dict(log_likelihood=[of(ex, *item)._asdict() for item in items])
      for split, items in ((s, found[s].items()) for s in SPLITS)
    }

  def mixed(split, label):
    each = np.stack([run[split][label] for run in runs])
    return np.logaddexp.reduce(each) - math.log(len(runs))

  found: dict = {}
  runs_of = f"the {len(runs)} runs of {name}"
  if any_order:
    name = f"{name}, {ORDERS[part]} orders"
    runs_of = f"{runs_of}, each a mixture of {ORDERS[part]} orders"
    found[name] = dict(command=runs_of, seeds=[records(run) for run in runs])
  if len(runs) > 1:
    mixture = {
      split: {label: mixed(split, label) for label in runs[0][split]}
      for split in SPLITS
    }
    found[f"{name}, ensemble"] = dict(command=runs_of, seeds=[records(mixture)])
  return found


def slug(part: str, name: str, seed: int) -> str:
  """The name of a run directory."""
  words = name.lower().replace(",", "").split()
  return "-".join([part, *words, str(seed)])


def rows_of(part: str, name: str, row: dict) -> list[tuple]:
  """A line for each condition: (test mean, cells)."""
  unit, lines = UNITS[part], []
  for i, first in enumerate(row["seeds"][0]["test"]["log_likelihood"]):
    values = {
      split: np.array(
        [
          _value(seed[split]["log_likelihood"][i], unit)
          for seed in row["seeds"]
        ]
      )
      for split in SPLITS
    }
    test = values["test"]
    error = first["standard_error"] * abs(
      _value(first, unit) / first["nats"] if first["nats"] else 1
    )
    lines.append(
      (
        test.mean(),
        name,
        first["condition"],
        first["kind"],
        f"{values['validation'].mean():.3f}",
        f"**{test.mean():.3f}**",
        f"{test.min():.3f} to {test.max():.3f}" if len(test) > 1 else "",
        f"{error:.3f}",
        first["of"],
      )
    )
  return lines


def _value(row, unit):
  """A figure that is better if it is lower."""
  return -row["nats"] if unit == "nats" else row["bits_per_dim"]


def classical(part: str) -> list[tuple]:
  """The lines of the classical densities, as in rows_of."""
  record = json.loads((pages.PAGES / "baselines.json").read_text())
  return [
    (
      row["test"],
      row["name"],
      "without labels",
      row["kind"].split(" in ")[0],
      f"{row['validation']:.3f}",
      f"{row['test']:.3f}",
      "",
      f"{row['error']:.3f}",
      "levels" if row["kind"] == "exact" else "dequantised",
    )
    for row in record[part]
  ]


def diffusion() -> list[tuple]:
  """The lines of the EDM run of the page of log-likelihoods, for levels."""
  record = json.loads((pages.PAGES / "likelihood.json").read_text())
  rows = {row["kind"]: row for row in record["digits"]["rows"]}
  of = "levels by the path's noise"
  return [
    (
      rows[kind]["parts"]["total"],
      f"EDM, {kind}",
      "given labels",
      "lower bound",
      "",
      f"{rows[kind]['parts']['total']:.3f}",
      "",
      f"{rows[kind]['error']:.3f}",
      of,
    )
    for kind in ("flow", "bound, continuous time")
  ]


def sample_lines(rows: dict) -> list[tuple]:
  """Samples of each model, on test: Frechet distance and nearest images."""
  lines = []
  for name, row in rows.items():
    found = [seed["test"] for seed in row["seeds"]]
    if "frechet" not in found[0]:  # no row of samples
      continue
    mean = lambda key, found=found: np.mean([f[key]["samples"] for f in found])
    floor = lambda key, found=found: found[0][key]["floor"]
    lines.append(
      (
        name,
        f"{mean('frechet'):.3f}",
        f"{floor('frechet'):.3f}",
        f"{mean('nearest_50') / floor('nearest_50'):.2f}",
      )
    )
  return lines


def infilling_lines(rows: dict) -> list[tuple]:
  """Hidden halves of images by each masked model: nats per entry, on test."""
  lines = []
  for name, row in rows.items():
    found = [seed["test"] for seed in row["seeds"]]
    if "infilling" in found[0]:
      mean, other = (
        np.mean([each[key] for each in found])
        for key in ("infilling", "marginals")
      )
      lines.append(
        (name, f"{mean:.3f}", f"{other:.3f}", f"**{other - mean:.3f}**")
      )
  return lines


def tables(found: dict) -> dict:
  """The parts of the page, of every part that has been measured."""
  parts: dict = {}
  for name, record in found.items():
    rows = record["rows"]
    lines = [line for row in rows.items() for line in rows_of(name, *row)]
    lines += classical(name) + (diffusion() if name == "levels" else [])
    lines = sorted(lines, key=lambda line: line[0])
    head = "model | label | kind | validation | test | seeds | s.e. | of"
    parts[name] = pages.table(head, [line[1:] for line in lines])
    head = "model | Frechet | real | nearest, relative to real"
    parts[f"{name}, samples"] = pages.table(head, sample_lines(rows))
    head = "model | given the other half | frequencies | better by"
    parts[f"{name}, infilling"] = pages.table(head, infilling_lines(rows))
    commands = [f"- {n}: `{row['command']}`" for n, row in rows.items()]
    parts[f"{name}, runs"] = commands
    parts[f"{name}, machine"] = f"On {record['machine']}."
  return parts


def run(args) -> dict:
  """Trains, measures and merges with what is on the page."""
  found = pages.stored(args.out, "densities")
  for part in args.parts:
    measured: set = set()
    chosen = {
      name: flags
      for name, flags in TRAININGS[part].items()
      if not args.only or name in args.only
    }
    for name, flags in chosen.items():  # each is kept, whatever follows
      row = measure(part, name, flags, args.seeds)
      found = pages.stored(args.out, "densities")  # another part's may be new
      kept = found.get(part, {})
      rows = kept.get("rows", {})
      new = {name: row} | exact_rows(part, name, flags, row)
      measured |= new.keys()
      machines = runner.machines(kept, measured)
      found[part] = dict(
        machine=machines, rows=rows | json.loads(json.dumps(new))
      )
      pages.write(args.out, "densities", tables(found), found)
  return found


def flags(parser) -> None:
  """Adds the parts."""
  parser.add_argument("parts", nargs="+", choices=list(UNITS))
  parser.add_argument("--only", nargs="*", help="names of rows")


BENCHMARKS = {"densities": runner.Benchmark(run, tables, dict(seeds=3), flags)}
