"""Every solver on every path: fitted orders, and one table of the digits.

  python -m benchmarks orders          about 3 minutes on one CPU core
  python -m benchmarks unified         about 20 minutes on two CPU cores

orders: the fitted order of every solver, the figures that the test suite
asserts (tests/truth/orders.py says how).

unified: path x prediction x solver, no code of their own. Every cell is
experiments.edm with other flags: five paths, four predictions, each trained
with the same network, batches and number of steps, and sampled by four solvers
with the same number of network calls. Beside them are the losses of
experiments.flow_matching and experiments.score_matching in that budget. A
quarter of make demo's training: the figures compare methods, and are not the
best that each can do. An interrupted run goes on from its last cell. Draws
docs/images/unified.png.
"""

import dataclasses
import itertools
import json
import pathlib

import jax
import numpy as np

from benchmarks import figures, pages, runner, trained
from jaxgen.data import loaders
from jaxgen.training import state, step
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
  rows = {}
  for path in PATHS:
    for prediction in PREDICTIONS:
      # One weight for all: EDM's, on the squared error of data.
      flags = dict(path=path, prediction=prediction, weight="edm")
      config = trained.edm.Config(**short, **flags)
      rows[f"{path}, {prediction}"] = trained.edm, config, solvers
  preset = lambda script: dataclasses.replace(
    script.PRESETS["digits"][1], **short
  )
  flow = preset(trained.flow_matching)
  rows["flow matching"] = trained.flow_matching, flow, solvers
  falling = {k: v for k, v in solvers.items() if k != "ancestral"}
  for coupling in ("exact", "conditional"):
    coupled = dataclasses.replace(flow, coupling=coupling)
    rows[f"flow matching, {coupling} coupling"] = (
      trained.flow_matching,
      coupled,
      falling,
    )
  score = preset(trained.score_matching)
  langevin = {"annealed": dict(), **solvers}
  rows["score matching"] = trained.score_matching, score, langevin
  sliced = dataclasses.replace(score, loss="sliced_vr")
  rows["sliced score matching"] = trained.score_matching, sliced, langevin
  return rows


def train(script, config):
  """(experiment, averaged parameters) without a run directory."""
  ex = script.experiment(config)
  keys = ex.keys(jax.random.key(config.seed))
  now = state.init(keys.state, ex.players(keys.players), ex.turns)
  ask = loaders.prefetch(ex.batches(keys.batches))
  train_step = step.make_train_step(ex.turns)
  for n in range(config.num_steps):
    now, _ = train_step(now, ask(n))
  return ex, trained.averages.sampled(ex, now)


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
  found["spread"] = rows["frechet"]["spread"]
  found["floor"] = {name: rows[name]["floor"] for name in names}
  return found | dict(calls=ex.num_calls)


def run(args) -> dict:
  """Trains, measures, keeps every row, draws."""
  held_out: list = []  # made once, where it is needed
  found = {}
  for row, (script, config, sampling) in settings().items():

    def measured(_, script=script, config=config, sampling=sampling):
      ex, params = train(script, config)
      if not held_out:
        held_out.append(trained.quality.reference(ex.data, "test"))
      of = lambda chosen: measure(script, ex, params, held_out[0], chosen)
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
  first = next(iter(next(iter(found.values())).values()))
  return dict(
    floor=f"{first['floor']['frechet']:.2f}",
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
      deterministic=_deterministic(),
      stochastic=_stochastic(),
    )


def _deterministic():
  record = {}
  for claim in orders.deterministic():
    errors, rounding = orders.certify(claim)
    order = lambda e, claim=claim: orders.fitted_order(claim, e)
    record[claim.solver.name] = {
      name: {
        "orders": {g: order(e) for g, e in found.items()},
        "errors": {g: e.tolist() for g, e in found.items()},
        "rounding": rounding[name],
      }
      for name, found in errors.items()
    }
    print(f"{claim.solver.name}: measured", flush=True)
  return record


def _stochastic():
  record: dict = {}
  ends = orders.RATIO_MAX, orders.RATIO_MIN
  for claim, name in itertools.product(
    orders.stochastic(), orders.STOCHASTIC_PATHS
  ):
    found, end = recursion.moment_errors(
      name, claim.solver, ends, orders.NUM_STEPS
    )
    record.setdefault(claim.solver.name, {})[name] = {
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
    cells = [f"{min(values):.2f} - {max(values):.2f}" for values in found]
    worst = f"{max(row['rounding'] for row in rows):.0e}"
    lines.append((solver.name, calls, order, started, *cells, worst))
  for solver, order, *_ in orders.stochastic():
    cells = [
      f"{row['order']:.2f} ({row['relative variance error']:+.1e})"
      for row in record["stochastic"][solver.name].values()
    ]
    weak.append((solver.name, solver.num_calls(1), order, *cells))
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
