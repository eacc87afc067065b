"""Log-likelihoods of the binary digits on ten folds, as paired differences.

  python -m benchmarks folds

Trains each row of [folds] of densities.toml once for each fold, under
runs/quality (finished runs are not trained again): about a minute for each of
the 50 trainings on one core. Settings are those chosen on validation for the
fixed split. A figure is the mean over the test images of a fold; the table has
means over the folds and, for each model, the mean and two standard errors of
its ten differences from the any-order network.
"""

import math

import numpy as np

from benchmarks import densities, pages, quality, runner, trained

BASE = "any-order MLP"
ORDERS = densities.ORDERS["binary"]
FOLDS = 10
NAMES = ("mixture over labels", "without labels")


def measure(name: str, flags: str, fold: int) -> dict[str, dict]:
  """{row: its kind, and nats of the fold's test images, [N]}."""
  data = f"--data binary_digits:fold-{fold}"
  run_dir, _ = quality.train(
    densities.slug("folds", name, fold), f"{flags} {data}"
  )
  ex = trained.samples.read(run_dir)
  found = {name: _nats(ex)}
  if flags.startswith("masked"):  # the bound; now an exact mixture of orders
    mixed = densities.with_fixed_orders(ex, ORDERS)
    found[f"{name}, {ORDERS} orders"] = _nats(mixed)
  return found


def _nats(ex):
  found = densities.nats(ex, "test")
  name = next(name for name in NAMES if name in found)
  nats = found[name]
  return dict(kind=ex.log_likelihood.kind, condition=name, nats=nats.mean(1))


def one_fold(fold: int) -> dict[str, dict]:
  """Every row on one fold, with the mean of its images' figures."""
  found: dict = {}
  for name, flags in densities.TRAININGS["folds"].items():
    found |= measure(name, flags, fold)
  exact = [
    name
    for name, row in found.items()
    if row["kind"] == "exact" and row["condition"] == NAMES[0]
  ]
  each = np.stack([found[name]["nats"] for name in exact])
  mixed = np.logaddexp.reduce(each) - math.log(len(exact))
  found[f"equal mixture of {' and '.join(exact)}"] = dict(
    kind="exact", condition=NAMES[0], nats=mixed
  )
  return {
    name: row | dict(nats=-float(row["nats"].mean()))
    for name, row in found.items()
  }


def tables(found: dict) -> dict:
  """The table and the commands of the page."""
  folds = found["folds"]
  values = {
    name: np.array([fold[name]["nats"] for fold in folds]) for name in folds[0]
  }
  lines = []
  for name, nats in sorted(values.items(), key=lambda item: item[1].mean()):
    row = folds[0][name]
    cells = [name, row["condition"], row["kind"], f"{nats.mean():.3f}"]
    for base in (BASE, f"{BASE}, {ORDERS} orders"):
      difference = nats - values[base]
      error = 2 * difference.std(ddof=1) / math.sqrt(len(folds))
      same = name == base
      cells.append("" if same else f"{difference.mean():+.3f} +- {error:.3f}")
    lines.append(cells)
  head = "model | label | kind | test nats"
  head += f" | from {BASE} | from {BASE}, {ORDERS} orders"
  flags = densities.TRAININGS["folds"]
  commands = [
    f"- {name}: `python -m experiments.{words} --data binary_digits:fold-K`"
    for name, words in flags.items()
  ]
  return {
    "folds": pages.table(head, lines),
    "runs": commands,
    "machine": f"On {found['machine']}; {len(folds)} folds.",
  }


def run(args) -> dict:
  """Trains and measures fold after fold; each is kept, whatever follows."""
  folds = []
  for fold in range(args.folds):
    folds.append(one_fold(fold))
    record = dict(machine=runner.machine(), folds=folds)
    if len(folds) > 1:
      pages.write(args.out, "folds", tables(record), record)
  return record


BENCHMARKS = {"folds": runner.Benchmark(run, tables, dict(folds=FOLDS))}
