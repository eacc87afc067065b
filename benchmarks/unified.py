"""One table of the digits: path x prediction x solver, no code of their own.

  python -m benchmarks.unified

Every cell is experiments.edm with other flags: five paths, four predictions,
each trained with the same network, batches and number of steps, and sampled by
four solvers with the same number of network calls. Beside them are the losses
of experiments.flow_matching and experiments.score_matching in that budget. A
quarter of make demo's training: the figures compare methods, and are not the
best that each can do. About twenty minutes on two CPU cores; an interrupted run
goes on from its last cell.

Writes unified.md, unified.json in docs/results and docs/images/unified.png.
"""

import dataclasses
import json
import pathlib

import jax
import numpy as np

from benchmarks import cells, results
from experiments import edm, flow_matching, score_matching
from experiments.lib import (
  averages,
  build,
  drawing,
  figures,
  flows,
  quality,
  training,
)
from jaxgen.data import loaders
from jaxgen.training import state, step

PATHS = ("edm", "vp", "cosine", "linear", "trigonometric")
PREDICTIONS = ("edm", "noise", "velocity", "data")
# Each with its steps: 35 calls, the final denoise among them.
SOLVERS = {"ddim": 34, "heun": 17, "dpmpp_2m": 34, "ancestral": 34}
STEPS = 600
DRAWS = 2
KEPT = pathlib.Path("runs/tables/unified.json")
FIGURE = pathlib.Path("docs/images/unified.png")
plt = figures.plt


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
      config = edm.Config(**short, **flags)
      rows[f"{path}, {prediction}"] = edm, config, solvers
  preset = lambda script: dataclasses.replace(
    script.PRESETS["digits"][1], **short
  )
  flow = preset(flow_matching)
  rows["flow matching"] = flow_matching, flow, solvers
  falling = {k: v for k, v in solvers.items() if k != "ancestral"}
  for coupling in ("exact", "conditional"):
    coupled = dataclasses.replace(flow, coupling=coupling)
    rows[f"flow matching, {coupling} coupling"] = (
      flow_matching,
      coupled,
      falling,
    )
  score = preset(score_matching)
  langevin = {"annealed": dict(), **solvers}
  rows["score matching"] = score_matching, score, langevin
  sliced = dataclasses.replace(score, loss="sliced_vr")
  rows["sliced score matching"] = score_matching, sliced, langevin
  return rows


def train(script, config):
  """(run, averaged parameters) without a run directory."""
  data = build.load_data(config)
  config = build.resolve(config, data)
  method = script.make_method(config, data)
  turns = training.make_turns(config, script.make_loss(config, method, data))
  keys = jax.random.split(jax.random.key(config.seed), 4)
  now = state.init(keys[2], {"model": build.init(method, keys[0])}, turns)
  batch_fn = data.batches(keys[1], config.batch_size)
  if script is flow_matching:
    batch_fn = flows.batches(config, data, keys[1])
  ask, train_step = loaders.prefetch(batch_fn), step.make_train_step(turns)
  for n in range(config.num_steps):
    now, _ = train_step(now, {"model": ask(n)})
  return drawing.Run(config, data, method), averages.sampled(
    config, method, now
  )


def measure(script, run, params, ref, sampling) -> dict:
  """Frechet distance to train and its spread, KID, accuracy, calls."""
  config = dataclasses.replace(run.config, **sampling)
  method = script.make_method(config, run.data)
  draw = drawing.from_params(method, params)
  key = jax.random.key(0)
  sample = lambda i, labels, n: draw(jax.random.fold_in(key, i), labels, n)[1]
  rows = quality.evaluate(sample, ref, num_draws=DRAWS).rows
  names = ("frechet", "kid", "coverage", "accuracy", "nearest_50")
  found = {name: rows[name]["samples"] for name in names}
  found["spread"] = rows["frechet"]["spread"]
  found["floor"] = {name: rows[name]["floor"] for name in names}
  return found | dict(calls=method.num_calls)


def page(record: dict) -> str:
  """docs/results/unified.md."""
  found = record["rows"]
  floor = next(iter(next(iter(found.values())).values()))["floor"]["frechet"]

  def mean(prediction, over=PATHS):
    rows = [found[f"{path}, {prediction}"] for path in over]
    falling = [solver for solver in SOLVERS if solver != "ancestral"]
    return np.mean([row[s]["frechet"] for row in rows for s in falling])

  lines = [
    "# One table: path x prediction x solver",
    "",
    "`python -m benchmarks.unified`",
    "",
    "Frechet distance of 360 samples to the training digits on the test",
    f"split, mean of {DRAWS} draws +- their standard deviation; 360 real test",
    f"images get {floor:.2f}. Every model is the demo's network after {STEPS}",
    "training steps, a quarter of the demo's; every sample takes 35 network",
    "calls unless said. All cells are flags of three scripts; none has code of",
    "its own.",
    "",
    "The rows of path x prediction share one weight, EDM's on the squared",
    "error of the data, whatever the network predicts: a weight made for",
    "another prediction may serve it better. The other rows have the weights",
    "of their scripts. Every row is one training, scored on the test split:",
    "nothing is to be chosen by this table, and differences within the spread",
    "of two draws say little.",
    "",
    "![Frechet distance of every combination](../images/unified.png)",
    "",
  ]
  columns = [*SOLVERS, "annealed"]
  lines += ["| | " + " | ".join(columns) + " |", "|---" * 6 + "|"]
  for row, of_row in found.items():
    texts = [_text(of_row.get(name)) for name in columns]
    lines.append(f"| {row} | " + " | ".join(texts) + " |")
  lines += [
    "",
    "On the edm path noise is the velocity, and the two columns are one run.",
    "Averaged over the paths and the three deterministic solvers, edm (EDM's",
    f"preconditioning) gets {mean('edm'):.2f}, data {mean('data'):.2f} and"
    f" noise {mean('noise'):.2f}; velocity, averaged",
    f"over the four bounded paths, gets {mean('velocity', PATHS[1:]):.2f}. The"
    " ancestral solver, which draws",
    "noise, is behind the others in most rows. Exact pairing without",
    "regard to the labels harms a model of labels, as Cheng and Schwing say;",
    "pairing within them does not. Raw scores are far behind after so few",
    "steps; after the demo's 2600 they are less so: [quality](quality.md).",
    "",
    f"On {record['machine']}.",
    "",
  ]
  return "\n".join(lines)


def _text(cell):
  if cell is None:
    return ""
  calls = "" if cell["calls"] == 35 else f" ({cell['calls']} calls)"
  return f"{cell['frechet']:.2f} +- {cell['spread']:.2f}{calls}"


def picture(found: dict) -> None:
  """A heat map a solver, and the other rows below."""
  table = lambda solver: np.array(
    [
      [found[f"{p}, {q}"][solver]["frechet"] for q in PREDICTIONS]
      for p in PATHS
    ]
  )
  floor = found["edm, edm"]["heun"]["floor"]["frechet"]
  figure, axes = plt.subplots(
    1, len(SOLVERS), figsize=(12, 3.6), sharey=True, layout="constrained"
  )
  values = {solver: table(solver) for solver in SOLVERS}
  high = np.nanquantile([*values.values()], 0.9)
  for axis, (solver, value) in zip(axes, values.items(), strict=True):
    shown = axis.imshow(
      value, cmap="viridis_r", vmin=floor, vmax=high, aspect="auto"
    )
    for (i, j), number in np.ndenumerate(value):
      color = "white" if number > (floor + high) / 2 else "black"
      axis.text(j, i, f"{number:.2f}", ha="center", va="center", color=color)
    axis.set_xticks(range(len(PREDICTIONS)), PREDICTIONS)
    axis.set_yticks(range(len(PATHS)), PATHS)
    axis.set_title(f"{solver}, {SOLVERS[solver]} steps")
    axis.tick_params(length=0)
  bar = figure.colorbar(shown, ax=axes, extend="max")
  bar.set_label(f"Frechet distance (real: {floor:.2f})")
  figures.save(figure, FIGURE)


def main() -> None:
  """Trains, measures, keeps every row, writes."""
  args = results.parser(__doc__).parse_args()
  held_out: list[quality.Reference] = []  # made once, where it is needed
  found = {}
  for row, (script, config, sampling) in settings().items():

    def measured(_, script=script, config=config, sampling=sampling):
      run, params = train(script, config)
      if not held_out:
        held_out.append(quality.reference(run.data, "test"))
      return [
        {
          name: measure(script, run, params, held_out[0], chosen)
          for name, chosen in sampling.items()
        }
      ]

    record = dataclasses.asdict(config) | dict(draws=DRAWS, sampling=sampling)
    cell = [cells.Cell("unified", row, config.seed)]
    known = json.loads(json.dumps(record))
    found[row] = cells.complete(KEPT, cell, known, measured)[0]
  picture(found)
  record = dict(machine=results.machine(), rows=found)
  results.write(args.out, "unified", page(record), record)


if __name__ == "__main__":
  main()
