"""How many batches a second the loader draws, and the train step takes.

  python -m benchmarks.loading          about 3 minutes on two CPU cores

A batch is drawn, mirrored where it says so and made float32 in [-1, 1], in one
thread, nothing ahead; the step is that of the demo's network (preset digits) on
such batches, so the 8 x 8 rows are the demo's own and those at 32 x 32 a
network that is small for them. Loader and step are timed in turn, in one run.
Writes docs/results/loading.md and loading.json.
"""

import argparse
import dataclasses
import itertools
import json
import os
import pathlib
import platform
import tempfile

import jax
import numpy as np

from benchmarks import overhead
from experiments import edm
from experiments.lib import build, tables
from jaxgen.data import tfds
from jaxgen.training import state, step

GOAL = 5


def train_call(config, data):
  """() -> the loss of one more step, on one batch that stays where it is."""
  config = build.resolve(config, data)
  method = build.method(config, data)
  turns = edm.make_turns(config, method, data.num_classes)
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
  found = [measure("digits", demo, tables.load_data("digits"), repeats)]
  with tempfile.TemporaryDirectory() as data_dir:
    tfds.prepare_digits(data_dir)
    sources = tfds.load("digits", data_dir, memory_limit=0)
    data = tables.image_data(*sources)
    name = "digits, tfds row by row"
    found.append(measure(name, demo, data, repeats, inner=5))
  photos = tables.load_data("photos", flip=True)
  for batch_size in (64, 128):
    config = dataclasses.replace(
      demo, multipliers=(1, 2, 2), attention=(8,), batch_size=batch_size
    )
    name = "photos 32 x 32 x 3, mirrored"
    found.append(measure(name, config, photos, repeats))
  return found


def markdown(found, machine):
  """The results page."""
  lines = [
    "# Loading",
    "",
    f"`python -m benchmarks.loading` on {machine}.",
    "The loader beside the train step of the demo's network, timed in turn;",
    f"median (quartiles). Goal: {GOAL} x what the step takes.",
    "",
    "| data | batch | batches/s | steps/s | ratio |",
    "|---|---|---|---|---|",
  ]
  for r in found:
    lines.append(
      f"| {r['name']} | {r['batch_size']} | {r['batches_per_second']:,.0f} |"
      f" {r['steps_per_second']:.3g} | {r['ratio']:,.0f}"
      f" ({r['low']:,.0f}-{r['high']:,.0f}) |"
    )
  return "\n".join(lines) + "\n"


def main():
  """Measures, prints and writes."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--repeats", type=int, default=20)
  parser.add_argument("--out", default="docs/results")
  args = parser.parse_args()
  if args.repeats < 1:
    parser.error(f"--repeats: expected at least 1, got {args.repeats}")
  found = rows(args.repeats)
  machine = (
    f"{jax.devices()[0].device_kind} ({os.cpu_count()} cores),"
    f" jax {jax.__version__}, Python {platform.python_version()}"
  )
  page = markdown(found, machine)
  out = pathlib.Path(args.out)
  out.mkdir(parents=True, exist_ok=True)
  (out / "loading.md").write_text(page)
  record = dict(machine=machine, goal=GOAL, rows=found)
  (out / "loading.json").write_text(json.dumps(record, indent=2) + "\n")
  print(page)


if __name__ == "__main__":
  main()
