"""How many batches a second the loader draws, and the train step takes.

  python -m benchmarks.loading          about 3 minutes on two CPU cores

A batch is drawn, mirrored where it says so and made float32 in [-1, 1], in one
thread, nothing ahead; the step is that of the preset (digits, photos) on such
batches. Loader and step are timed in turn, in one run.
Writes docs/results/loading.md and loading.json.
"""

import dataclasses
import itertools
import tempfile

import jax
import numpy as np

from benchmarks import overhead, results
from experiments import edm
from experiments.lib import build, datasets, training
from jaxgen.data import tfds
from jaxgen.training import state, step

GOAL = 5


def train_call(config, data):
  """() -> the loss of one more step, on one batch that stays where it is."""
  config = build.resolve(config, data)
  method = build.method(config, data)
  turns = training.make_turns(config, edm.make_loss(config, method, data))
  params = overhead.init(method.model, data.shape)
  batch = data.batches(jax.random.key(0), config.batch_size)(0)
  batches = {"model": jax.device_put(batch)}
  train_step = step.make_train_step(turns)
  carry = [state.init(jax.random.key(1), {"model": params}, turns)]

  def run():
    carry[0], metrics = train_step(carry[0], batches)
    return metrics["loss"]

  return run


def measure(name, config, data, repeats, inner=50):
  """One line of the table: batches/s of the loader, steps/s, their ratio."""
  batch_fn = data.batches(jax.random.key(2), config.batch_size)
  steps = itertools.count()

  def load():
    for _ in range(inner):
      batch_fn(next(steps))

  seconds = overhead.paired(load, train_call(config, data), repeats)
  seconds /= inner, 1
  low, ratio, high = np.quantile(
    seconds[:, 1] / seconds[:, 0], [0.25, 0.5, 0.75]
  )
  loader, trained = 1 / np.median(seconds, 0)
  return dict(
    name=name,
    batch_size=config.batch_size,
    batches_per_second=loader,
    steps_per_second=trained,
    ratio=ratio,
    low=low,
    high=high,
  )


def rows(repeats):
  """Digits from memory and row by row from tfds, photos mirrored."""
  demo = edm.PRESETS["digits"][1]
  found = [measure("digits", demo, datasets.load_data("digits"), repeats)]
  with tempfile.TemporaryDirectory() as data_dir:
    tfds.prepare_digits(data_dir)
    sources = tfds.load("digits", data_dir, memory_limit=0)
    data = datasets.image_data(*sources)
    name = "digits, tfds row by row"
    found.append(measure(name, demo, data, repeats, inner=5))
  photos = datasets.load_data("photos", flip=True)
  for batch_size in (64, 128):
    config = dataclasses.replace(
      edm.PRESETS["photos"][1], batch_size=batch_size
    )
    name = "photos 32 x 32 x 3, mirrored"
    found.append(measure(name, config, photos, repeats))
  return found


def page(record):
  """The results page."""
  lines = [
    "# Loading",
    "",
    f"`python -m benchmarks.loading` on {record['machine']}.",
    "The loader beside the train step of the preset, timed in turn;",
    f"median (quartiles). Goal: {record['goal']} x what the step takes.",
    "",
    "| data | batch | batches/s | steps/s | ratio |",
    "|---|---|---|---|---|",
  ]
  for r in record["rows"]:
    lines.append(
      f"| {r['name']} | {r['batch_size']} | {r['batches_per_second']:,.0f} |"
      f" {r['steps_per_second']:.3g} | {r['ratio']:,.0f}"
      f" ({r['low']:,.0f}-{r['high']:,.0f}) |"
    )
  return "\n".join(lines) + "\n"


def main():
  """Measures, prints and writes."""
  args = results.parser(__doc__, repeats=20).parse_args()
  found = rows(args.repeats)
  record = dict(machine=results.machine(), goal=GOAL, rows=found)
  results.write(args.out, "loading", page(record), record)


if __name__ == "__main__":
  main()
