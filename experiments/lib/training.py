"""Trains an Experiment: places its state and batches on the devices, resumes
from the last checkpoint, runs the loop with its records, sheets and snapshots,
and draws the pictures and measures at the end.
"""

import functools
import json
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import optax

from experiments.experiment import Experiment, Trained
from experiments.lib import (
  averages,
  checks,
  choices,
  machine,
  monitors,
  samples,
  weights,
)
from experiments.lib import run as runs
from experiments.pictures import figures, sheets
from jaxgen.data import loaders
from jaxgen.training import checkpoint, logging, loop, sharding, state, step


def adam(
  config: Any, b1: float = 0.9, multiple: float = 1.0
) -> optax.GradientTransformation:
  """The rule of settings.Optimizer: Adam or AdamW, clipped, with a warm-up.

  Args:
    config: the settings.
    b1: decay of the first moment.
    multiple: of the learning rate.
  """
  rate, warmup = multiple * config.learning_rate, config.warmup_steps
  # For zero warm-up steps, optax would keep the first rate for ever.
  first = 0.0 if warmup else rate
  if config.schedule == "cosine":
    schedule = optax.warmup_cosine_decay_schedule(
      first, rate, warmup, config.num_steps
    )
  else:
    schedule = optax.warmup_constant_schedule(first, rate, warmup)
  clip = optax.clip_by_global_norm(config.clip_norm)
  if config.weight_decay:
    decay = config.weight_decay
    rule = optax.adamw(schedule, b1, config.adam_b2, weight_decay=decay)
  else:
    rule = optax.adam(schedule, b1, config.adam_b2)
  return optax.chain(clip, rule)


def one_player(config: Any, loss_fn: Callable) -> tuple[step.Turn, ...]:
  """The game with one loss (params, key, batch) -> (loss, metrics)."""
  rules, parts = averages.rules(config), config.accumulate
  return step.single(loss_fn, adam(config), rules, parts)


def run(script: str, ex: Experiment) -> state.State:
  """Trains, samples and draws pictures; resumes an existing run directory.

  Args:
    script: the script's __file__.
    ex: the experiment.

  Returns:
    The state at the last step.
  """
  config = ex.config
  keys = ex.keys(jax.random.key(config.seed))
  batch_fn = ex.batches(keys.batches)
  extras_key = jax.random.fold_in(keys.players, 1)
  start = lambda: state.init(
    keys.state, ex.players(keys.players), ex.turns, ex.extras(extras_key)
  )
  check(config, start, ex.turns)
  measures = monitors.measures(ex)
  warm, began = _warm_start(config, start)
  if ex.sample is not None:  # fails early if the solver does not fit the field
    now = jax.eval_shape(start)
    sampler = samples.make_sampler(ex)
    shown = sheets.keys_and_labels(ex.data, keys.samples)
    jax.eval_shape(sampler, averages.sampled(ex, now), now.extras, *shown)

  def trained(now):
    players = {name: player.params for name, player in now.players.items()}
    params = averages.sampled(ex, now) if ex.sampled else {}
    found = Trained(params, players, now.extras)
    if ex.sample is None:
      return found
    states, made = sampler(params, now.extras, *shown)
    states = None if states is None else np.asarray(states)
    return found._replace(states=states, samples=np.asarray(made))

  def save_sheet(run_dir, now):
    path = run_dir / "sheets" / f"{int(now.step):06}.png"
    path.parent.mkdir(exist_ok=True)
    if ex.sheet is not None:
      ex.sheet(path, trained(now))
    else:
      sheets.sheet(path, trained(now).samples, ex.data)

  reads = runs.now({**ex.reads, **ex.learns_from}) | began
  reads |= ex.checksums
  with runs.open_directory(config, script, reads) as run_dir:
    now = train(run_dir, ex, start, batch_fn, save_sheet, measures, warm)
    names = finish(run_dir, ex, trained(now))
  print(f"{run_dir}: curves.png {' '.join(names)}", file=sys.stderr)
  return now


def _warm_start(config, start):
  """The state with the weights of another run, and what config.json records of
  it; (None, {}) for a run that starts anew or has a checkpoint.
  """
  there = checkpoint.steps(runs.checkpoints(config.run_dir))
  if there or config.start is None:
    return None, {}
  with checks.naming(config, "start"):
    warm = weights.start(config.start, jax.jit(start)())
    return warm, {"start": weights.identity(config.start)}


def finish(run_dir: pathlib.Path, ex: Experiment, found: Trained) -> list[str]:
  """Draws the pictures and measures; returns the file names."""
  names = []
  if ex.sample is not None:
    names += sheets.common(run_dir, ex, found)
  for name, plot in ex.pictures:
    plot(run_dir / name, found)
    names.append(name)
  if ex.measure is not None:
    record, text = ex.measure(found)
    runs.write_text(run_dir / runs.RESULT, json.dumps(record, indent=2) + "\n")
    print(text)
    names.append(runs.RESULT)
  return names


def check(
  config: Any, start: Callable[[], state.State], turns: Sequence[step.Turn]
) -> None:
  """Validates devices, model and players before any file is written.

  Raises:
    ValueError: an invalid batch size or name, or more steps than int32 counts.
  """
  most = checks.MAX_COUNT // max(turn.num_steps for turn in turns)
  if config.num_steps > most:
    raise ValueError(
      f"num_steps: expected at most {most}, as a player's updates are counted"
      f" in int32, got {config.num_steps}"
    )
  jax.eval_shape(start)
  sharding.check_batch_size(config.batch_size, sharding.mesh())
  choices.lookup(choices.SHARDS, config.shard, "shard")


def train(
  run_dir: pathlib.Path,
  ex: Experiment,
  start: Callable[[], state.State],
  batch_fn: Callable[[int], Any],
  save_sheet: Callable[[pathlib.Path, state.State], object],
  measures: Sequence[tuple[int, Callable]] = (),
  warm: state.State | None = None,
) -> state.State:
  """Trains in a run directory, from its last checkpoint if it has one.

  Args:
    run_dir: the directory, from runs.open_directory.
    ex: the experiment; its settings include num_steps, shard, keep and *_every.
    start: () -> the state at step 0; it is traced.
    batch_fn: step -> {player: batch}, on the host.
    save_sheet: (run_dir, state) -> None, draws small pictures.
    measures: (period, state -> {name: value}), recorded too.
    warm: the state at step 0 in place of start's; None is start's.

  Returns:
    The state at the last step. metrics.jsonl and curves.png are written.
  """
  config, mesh = ex.config, sharding.mesh()
  rule = choices.lookup(choices.SHARDS, config.shard, "shard")
  places = sharding.shardings(jax.eval_shape(start), mesh, rule)
  quick = functools.partial(machine.compiler_options, config)
  train_step = step.make_train_step(tuple(ex.turns), places, quick())
  checkpoints = runs.checkpoints(run_dir)
  new = jax.jit(start, out_shardings=places, compiler_options=quick(0))()
  now = _first_state(checkpoints, new, warm)
  _print_start(run_dir, now)
  done = int(now.step)
  write = logging.jsonl(run_dir / runs.METRICS, done)
  with (
    averages.snapshots(ex) as save_snapshot,
    logging.progress(config.num_steps, done) as progress,
    monitors.places(config, run_dir, done) as send,
  ):
    record = lambda *values: (write(*values), send(*values))
    now = loop.run(
      train_step,
      now,
      loaders.prefetch(batch_fn, functools.partial(_place, ex.turns, mesh)),
      num_steps=config.num_steps,
      log_every=config.log_every,
      save_every=config.save_every,
      saver=checkpoint.saver(checkpoints, keep=config.keep),
      log=lambda *values: (record(*values), progress.log(*values)),
      begin=progress.begin,
      hooks=[
        (getattr(config, "snapshot_every", config.save_every), save_snapshot),
        (config.samples_every, functools.partial(save_sheet, run_dir)),
        *monitors.hooks(measures, record),
      ],
    )
    save_snapshot(now)
  _report(run_dir)
  return now


def _report(run_dir):
  """Draws the curves, and prints where those of held-out data were best."""
  records = logging.read(run_dir / runs.METRICS)
  for line in monitors.report(records):
    print(f"{run_dir}: {line}", file=sys.stderr)
  figures.curves(run_dir / "curves.png", records)


def _first_state(checkpoints, new, warm):
  """The new state, that of the last checkpoint, or one with other weights."""
  if checkpoint.steps(checkpoints):
    return checkpoint.restore(checkpoints, new)
  if warm is None:
    return new
  put = lambda leaf, like: jax.device_put(leaf, like.sharding)
  return jax.tree.map(put, warm, new)


def _print_start(run_dir, now):
  """Prints the devices, the size of every player and the first step."""
  print(f"{run_dir}: {machine.describe()}", file=sys.stderr)
  for name, player in now.players.items():
    size = sum(leaf.size for leaf in jax.tree.leaves(player.params))
    print(f"{run_dir}: {name}, {size:,} parameters", file=sys.stderr)
  print(f"{run_dir}: training from step {int(now.step)}", file=sys.stderr)


def _place(turns, mesh, batches):
  """Places batches on the mesh: shards arrays along the batch axis and
  replicates arrays without one.

  They are float32, as parameters are, also with JAX_ENABLE_X64. The batch axis
  of a turn with several inner steps is the second axis.
  """
  placed = {}
  for turn in turns:
    axis = int(turn.num_steps > 1)
    where = lambda x, axis=axis: (
      sharding.split(mesh, axis) if np.ndim(x) > axis else sharding.whole(mesh)
    )
    batch = jax.tree.map(_single, batches[turn.player])
    placed[turn.player] = jax.device_put(batch, jax.tree.map(where, batch))
  return placed


def _single(x):
  return x.astype(np.float32) if x.dtype == np.float64 else x
