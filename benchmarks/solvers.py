"""Every solver on every path: fitted orders, and one table of the digits.

  python -m benchmarks orders          about 3 minutes on one CPU core
  python -m benchmarks unified         about 20 minutes on two CPU cores

orders: the fitted order of every solver, the figures that the test suite
asserts (tests/truth/orders.py says how).

unified: path x prediction x solver, with no code of their own. Every cell is
experiments.edm with other flags: five paths, four predictions, each trained
with the same network, batches and number of steps, and sampled by four solvers
with the same number of network calls. Beside them are the losses of
experiments.flow_matching and experiments.score_matching in that budget. A
quarter of make demo's training: the figures compare methods, and are not the
best that each can do. An interrupted run continues from its last cell. Draws
docs/images/unified.png.
"""

import dataclasses
import itertools
import json
import pathlib

import jax
import numpy as np

from benchmarks import figures, pages, runner, trained
from tests.truth import orders, recursion

PATHS = ("edm", "vp", "cosine", "linear", "trigonometric")
PREDICTIONS = ("edm", "noise", "velocity", "data")
# Each with its steps: 35 calls, the final denoise among them.
SOLVERS = {"ddim": 34, "heun": 17, "dpmpp_2m": 34, "ancestral": 34}
STEPS = 600
DRAWS = 2
KEPT = pathlib.Path("runs/tables/unified.json")


def settings() -> dict[str, tuple]:
  """{row: (script, configuration of its training, {column: sampling})}."""
  short = dict(run_dir="", num_steps=STEPS)
  solvers = {
    name: dict(solver=name, sample_steps=n) for name, n in SOLVERS.items()
  }
  falling = {k: v for k, v in solvers.items() if k != "ancestral"}
  langevin = {"annealed": dict(), **solvers}
  rows = {}
  for path, prediction in itertools.product(PATHS, PREDICTIONS):
    # One weight for all: EDM's, on the squared error of data.
    flags = dict(path=path, prediction=prediction, weight="edm")
    config = trained.edm.Config(**short, **flags)
    rows[f"{path}, {prediction}"] = trained.edm, config, solvers
  flow, score = trained.flow_matching, trained.score_matching
  for title, script, flags, sampling in (
    ("flow matching", flow, {}, solvers),
    ("flow matching, exact coupling", flow, dict(coupling="exact"), falling),
    (
      "flow matching, conditional coupling",
      *(flow, dict(coupling="conditional"), falling),
    ),
    ("score matching", score, {}, langevin),
    ("sliced score matching", score, dict(loss="sliced_vr"), langevin),
  ):
    preset = script.PRESETS["digits"][1]
    config = dataclasses.replace(preset, **short, **flags)
    rows[title] = script, config, sampling
  return rows


def measure(script, ex, params, ref, sampling) -> dict:
  """Frechet distance to train and its spread, KID, accuracy, calls."""
  ex = script.experiment(dataclasses.replace(ex.config, **sampling))
  compute = trained.samples.make_sampler(ex)
  draw = trained.samples.from_params(compute, params)
  key = jax.random.key(0)
  sample = lambda i, labels, n: draw(jax.random.fold_in(key, i), labels, n)[1]
  rows = trained.quality.evaluate(sample, ref, num_draws=DRAWS).rows
  names = ("frechet", "kid", "coverage", "accuracy", "nearest_50")
  found = {name: rows[name]["samples"] for name in names}
  floor = {name: rows[name]["floor"] for name in names}
  spread = rows["frechet"]["spread"]
  return found | dict(spread=spread, floor=floor, calls=ex.num_calls)


def run(args) -> dict:
  """Trains, measures, keeps every row, draws."""
  data = trained.datasets.load_data("digits")
  ref = trained.quality.reference(data, "test")
  found = {}
  for row, (script, config, sampling) in settings().items():

    def measured(_, script=script, config=config, sampling=sampling):
      ex = script.experiment(config)
      params = trained.averages.sampled(ex, trained.play(ex))
      of = lambda chosen: measure(script, ex, params, ref, chosen)
      return [{name: of(chosen) for name, chosen in sampling.items()}]

    record = dataclasses.asdict(config) | dict(draws=DRAWS, sampling=sampling)
    cell = [runner.Cell("unified", row, config.seed)]
    known = json.loads(json.dumps(record))
    found[row] = runner.complete(KEPT, cell, known, measured)[0]
  figures.unified(found, PATHS, PREDICTIONS, SOLVERS)
  return dict(machine=runner.machine(), rows=found)


def tables(record: dict) -> dict:
  """The parts of the page."""
  found, columns = record["rows"], [*SOLVERS, "annealed"]

  def text(cell):
    if cell is None:
      return ""
    calls = "" if cell["calls"] == 35 else f" ({cell['calls']} calls)"
    return f"{cell['frechet']:.2f} +- {cell['spread']:.2f}{calls}"

  def mean(prediction, over=PATHS):
    rows = [found[f"{path}, {prediction}"] for path in over]
    falling = [solver for solver in SOLVERS if solver != "ancestral"]
    values = [row[s]["frechet"] for row in rows for s in falling]
    return f"{np.mean(values):.2f}"

  lines = [
    (row, *(text(of.get(c)) for c in columns)) for row, of in found.items()
  ]
  return dict(
    floor=f"{found['edm, edm']['heun']['floor']['frechet']:.2f}",
    rows=pages.table(f" | {' | '.join(columns)}", lines),
    edm=mean("edm"),
    data=mean("data"),
    noise=mean("noise"),
    velocity=mean("velocity", PATHS[1:]),
    machine=f"On {record['machine']}.",
  )


def measure_orders(args) -> dict:
  """The orders of all solvers, in float64."""
  with jax.enable_x64(True):
    return dict(
      machine=runner.machine(),
      deterministic={c.solver.name: fit(c) for c in orders.deterministic()},
      stochastic={c.solver.name: fit_weak(c) for c in orders.stochastic()},
    )


def fit(claim) -> dict:
  """Orders and errors of a deterministic solver on every path and grid."""
  errors, rounding = orders.certify(claim)
  order = lambda e: orders.fitted_order(claim, e)
  return {
    name: {
      "orders": {grid: order(e) for grid, e in found.items()},
      "errors": {grid: e.tolist() for grid, e in found.items()},
      "rounding": rounding[name],
    }
    for name, found in errors.items()
  }


def fit_weak(claim) -> dict:
  """Weak order and final error of a stochastic solver on every path."""
  record, ends = {}, (orders.RATIO_MAX, orders.RATIO_MIN)
  for name in orders.STOCHASTIC_PATHS:
    found, end = recursion.moment_errors(
      name, claim.solver, ends, orders.NUM_STEPS
    )
    record[name] = {
      "order": orders.fitted_order(claim, found[0, :, 1]),
      "relative variance error": found[0, -1, 1] / end[1],
    }
  return record


def tables_orders(record: dict) -> dict:
  """The parts of the page of orders."""
  lines, weak = [], []
  for solver, order, started, _ in orders.deterministic():
    rows = list(record["deterministic"][solver.name].values())
    calls = solver.num_calls(2) - solver.num_calls(1)
    found = [[row["orders"][grid] for row in rows] for grid in orders.GRIDS]
    shown = [f"{min(values):.2f} - {max(values):.2f}" for values in found]
    worst = f"{max(row['rounding'] for row in rows):.0e}"
    lines.append((solver.name, calls, order, started, *shown, worst))
  for solver, order, *_ in orders.stochastic():
    shown = [
      f"{row['order']:.2f} ({row['relative variance error']:+.1e})"
      for row in record["stochastic"][solver.name].values()
    ]
    weak.append((solver.name, solver.num_calls(1), order, *shown))
  grids, names = " | ".join(orders.GRIDS), " | ".join(orders.STOCHASTIC_PATHS)
  head = f"solver | calls a step | order | started | {grids} | rounding"
  weak_head = f"solver | calls a step | weak order | {names}"
  return dict(
    made=f"`python -m benchmarks orders` on {record['machine']}.",
    deterministic=pages.table(head, lines),
    stochastic=pages.table(weak_head, weak),
  )


BENCHMARKS = {
  "orders": runner.Benchmark(measure_orders, tables_orders),
  "unified": runner.Benchmark(run, tables),
}
