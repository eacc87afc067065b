"""The cost of a flow map: its train step beside flow matching's, one call.

  taskset -c 0 python -m benchmarks map_speed        # minutes of one CPU core

The step of each method of experiments.flow_map beside that of
experiments.flow_matching with the same batch and optimizer; and a sample in one
call beside one forward of the network.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from benchmarks import runner, trained
from benchmarks.speed import timing
from jaxgen.training import state, step

METHODS = {
  "meanflow": 1.2,
  "improved": None,
  "scm": 1.5,
  "lagrangian": None,
  "shortcut": None,
  "consistency": None,
}
BATCHES = (64, 128)
SAMPLES = 360


def stepping(ex):
  """() -> the loss of one more step of an experiment, on one batch."""
  keys = ex.keys(jax.random.key(0))
  start = state.init(keys.state, ex.players(keys.players), ex.turns, {})
  batch = jax.device_put(ex.batches(keys.batches)(0))
  return timing.stepping(step.make_train_step(ex.turns), start, batch)


def digits(script, **changes):
  """The experiment of a script's preset of digits."""
  config = script.PRESETS["digits"][1]
  return script.experiment(dataclasses.replace(config, run_dir="", **changes))


def step_row(method, size, repeats):
  """The step of a method beside flow matching's."""
  ours = digits(trained.flow_map, method=method, batch_size=size)
  plain = digits(trained.flow_matching, batch_size=size)
  calls = stepping(ours), stepping(plain)
  name = f"{method}, batch {size}"
  return timing.beside(name, *calls, repeats, limit=METHODS[method])


def call_row(repeats):
  """A sample in one call beside one forward, for a batch."""
  ex = digits(trained.flow_map)
  data = trained.datasets.load(ex.config)
  model = trained.flow_maps.make(ex.config, data)
  params = ex.players(jax.random.key(0))
  keys = jax.random.split(jax.random.key(1), SAMPLES)
  labels = jnp.arange(SAMPLES) % data.num_classes
  noise = jax.random.normal(jax.random.key(2), (SAMPLES, *data.shape))
  times = jnp.ones((SAMPLES, 2))
  many = jax.jit(
    jax.vmap(lambda key, label: ex.sample(params, {}, key, label)[1], (0, 0))
  )
  apply = functools.partial(model.net.apply, params["model"])
  forward = jax.jit(jax.vmap(apply))
  return timing.beside(
    f"one call, batch {SAMPLES}",
    lambda: many(keys, labels),
    lambda: forward(noise, times, labels),
    repeats,
    limit=1.02,
  )


def run(args) -> dict:
  """Measures every row."""
  rows = [
    step_row(method, size, args.repeats)
    for size in BATCHES
    for method in METHODS
  ]
  return dict(
    command=f"python -m benchmarks map_speed --repeats {args.repeats}",
    machine=runner.machine(),
    steps=rows,
    call=[call_row(10 * args.repeats)],
  )


def tables(record: dict) -> dict:
  """The parts of the page."""
  head = "step | ratio | limit | ours, ms | flow matching, ms"
  call = "sampling | ratio | limit | sample, ms | forward, ms"
  return dict(
    made=f"`{record['command']}`, {record['machine']}.",
    steps=timing.ratios(record["steps"], head),
    call=timing.ratios(record["call"], call),
  )


BENCHMARKS = {"map_speed": runner.Benchmark(run, tables, dict(repeats=15))}
