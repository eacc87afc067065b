"""One table of the digits: path x prediction x solver, no code of their own.

  python -m benchmarks unified

Every cell is experiments.edm with other flags: five paths, four predictions,
each trained with the same network, batches and number of steps, and sampled by
four solvers with the same number of network calls. Beside them are the losses
of experiments.flow_matching and experiments.score_matching in that budget. A
quarter of make demo's training: the figures compare methods, and are not the
best that each can do. About twenty minutes on two CPU cores; an interrupted run
goes on from its last cell. Draws docs/images/unified.png.
"""

import dataclasses
import json
import pathlib

import jax
import numpy as np

from benchmarks import figures, pages, runner, trained
from jaxgen.data import loaders
from jaxgen.training import state, step

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
  """(run, averaged parameters) without a run directory."""
  data = trained.build.load_data(config)
  config, method, turns = trained.prepare(config, data, script)
  keys = jax.random.split(jax.random.key(config.seed), 4)
  now = state.init(
    keys[2], {"model": trained.build.init(method, keys[0])}, turns
  )
  batch_fn = data.batches(keys[1], config.batch_size)
  if script is trained.flow_matching:
    batch_fn = trained.flows.batches(config, data, keys[1])
  ask, train_step = loaders.prefetch(batch_fn), step.make_train_step(turns)
  for n in range(config.num_steps):
    now, _ = train_step(now, {"model": ask(n)})
  return trained.drawing.Run(config, data, method), trained.averages.sampled(
    config, method, now
  )


def measure(script, run, params, ref, sampling) -> dict:
  """Frechet distance to train and its spread, KID, accuracy, calls."""
  config = dataclasses.replace(run.config, **sampling)
  method = script.make_method(config, run.data)
  draw = trained.drawing.from_params(method, params)
  key = jax.random.key(0)
  sample = lambda i, labels, n: draw(jax.random.fold_in(key, i), labels, n)[1]
  rows = trained.quality.evaluate(sample, ref, num_draws=DRAWS).rows
  names = ("frechet", "kid", "coverage", "accuracy", "nearest_50")
  found = {name: rows[name]["samples"] for name in names}
  found["spread"] = rows["frechet"]["spread"]
  found["floor"] = {name: rows[name]["floor"] for name in names}
  return found | dict(calls=method.num_calls)


def run(args) -> dict:
  """Trains, measures, keeps every row, draws."""
  held_out: list = []  # made once, where it is needed
  found = {}
  for row, (script, config, sampling) in settings().items():

    def measured(_, script=script, config=config, sampling=sampling):
      run, params = train(script, config)
      if not held_out:
        held_out.append(trained.quality.reference(run.data, "test"))
      of = lambda chosen: measure(script, run, params, held_out[0], chosen)
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


BENCHMARKS = {"unified": runner.Benchmark(run, tables)}
