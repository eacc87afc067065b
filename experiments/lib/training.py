"""What every training script does with its game: state and batches on the
mesh, the last checkpoint, the loop with its records, sheets and snapshots.
"""

import functools
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax

from experiments.lib import averages, figures, tables
from experiments.lib import run as runs
from jaxgen.data import loaders
from jaxgen.training import checkpoint, logging, loop, sharding, state, step

METRICS = "metrics.jsonl"


def make_optimizer(config: Any) -> optax.GradientTransformation:
  """Adam with warm-up, gradients clipped."""
  rate, warmup = config.learning_rate, config.warmup_steps
  if config.schedule == "cosine":
    schedule = optax.warmup_cosine_decay_schedule(
      0.0, rate, warmup, config.num_steps
    )
  else:
    schedule = optax.warmup_constant_schedule(0.0, rate, warmup)
  clip = optax.clip_by_global_norm(config.clip_norm)
  return optax.chain(clip, optax.adam(schedule, b2=config.adam_b2))


def check(config: Any, start: Callable[[], state.State]) -> None:
  """Refuses what devices, models or players cannot be, before any file is."""
  jax.eval_shape(start)
  sharding.check_batch_size(config.batch_size, sharding.mesh())
  tables.lookup(tables.SHARDS, config.shard, "shard")


def train(
  run_dir: pathlib.Path,
  config: Any,
  start: Callable[[], state.State],
  turns: Sequence[step.Turn],
  batch_fn: Callable[[int], Any],
  save_sheet: Callable[[pathlib.Path, state.State], object],
) -> state.State:
  """Trains in a run directory, on from its last checkpoint if it has one.

  Args:
    run_dir: of runs.open_directory.
    config: with num_steps, shard, keep and the periods *_every.
    start: the state at step 0; traced.
    turns: the game.
    batch_fn: step -> {player: batch}, on the host.
    save_sheet: draws small samples of a state, now and then.

  Returns:
    The state at the last step. metrics.jsonl and curves.png are written.
  """
  # The mesh, and everything's place on it.
  mesh = sharding.mesh()
  rule = tables.lookup(tables.SHARDS, config.shard, "shard")
  places = sharding.shardings(jax.eval_shape(start), mesh, rule)
  train_step = step.make_train_step(tuple(turns), places)
  place = functools.partial(jax.device_put, device=sharding.split(mesh))

  # The state that it starts from: new, or the run's last.
  now = jax.jit(start, out_shardings=places)()
  checkpoints = runs.checkpoints(run_dir)
  if checkpoint.steps(checkpoints):
    now = checkpoint.restore(checkpoints, now)
  done = int(now.step)
  for name, player in now.players.items():
    size = sum(leaf.size for leaf in jax.tree.leaves(player.params))
    print(f"{run_dir}: {name}, {size:,} parameters", file=sys.stderr)
  print(f"{run_dir}: from step {done}", file=sys.stderr)

  # The loop.
  sheet = lambda now: save_sheet(
    run_dir / "sheets" / f"{int(now.step):06}.png", now
  )
  write = logging.jsonl(run_dir / METRICS, done)
  with (
    averages.snapshots(config) as save_snapshot,
    logging.progress(config.num_steps, done) as show,
  ):
    now = loop.run(
      train_step,
      now,
      loaders.prefetch(batch_fn, place),
      num_steps=config.num_steps,
      log_every=config.log_every,
      save_every=config.save_every,
      saver=checkpoint.saver(checkpoints, keep=config.keep),
      log=lambda *record: (write(*record), show(*record)),
      hooks=[
        (config.snapshot_every, save_snapshot),
        (config.samples_every, sheet),
      ],
    )
    save_snapshot(now)
  figures.curves(run_dir / "curves.png", logging.read(run_dir / METRICS))
  return now
