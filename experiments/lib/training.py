"""What every training script does: the loss of a batch from that of an
example, state and batches on the mesh, the last checkpoint, the loop with its
records, sheets and snapshots, the pictures at its end.
"""

import functools
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.lib import (
  averages,
  build,
  datasets,
  figures,
  report,
  settings,
  tables,
)
from experiments.lib import run as runs
from jaxgen.data import loaders
from jaxgen.training import checkpoint, logging, loop, sharding, state, step

METRICS = "metrics.jsonl"


def make_optimizer(config: Any) -> optax.GradientTransformation:
  """Adam with warm-up, gradients clipped."""
  rate, warmup = config.learning_rate, config.warmup_steps
  # Without steps to warm up in, optax stays at the first rate for ever.
  first = 0.0 if warmup else rate
  if config.schedule == "cosine":
    schedule = optax.warmup_cosine_decay_schedule(
      first, rate, warmup, config.num_steps
    )
  else:
    schedule = optax.warmup_constant_schedule(first, rate, warmup)
  clip = optax.clip_by_global_norm(config.clip_norm)
  return optax.chain(clip, optax.adam(schedule, b2=config.adam_b2))


def batch_loss(
  config: Any, method: build.Method, num_classes: int, loss: Callable
) -> Callable:
  """(params, key, batch) -> (loss, metrics), over a batch.

  Args:
    config: with label_dropout.
    method: its model is applied, its draw gives the times.
    num_classes: of the labels, that number being the null label.
    loss: of one example, (net, key, data, noise, t, *rest) -> [], with net the
      model with its parameters bound and rest what the batch has after
      (examples, labels).
  """

  def loss_fn(params, key, batch):
    examples, labels, *rest = batch
    t_key, noise_key, label_key, net_key = jax.random.split(key, 4)
    t = method.draw(t_key, (len(examples),)).astype(examples.dtype)
    noise = jax.random.normal(noise_key, examples.shape, examples.dtype)
    if labels is not None and config.label_dropout:
      drop = jax.random.bernoulli(label_key, config.label_dropout, labels.shape)
      labels = jnp.where(drop, num_classes, labels)
    net_keys = jax.random.split(net_key, len(examples))

    def one(label, key, *example):
      net = lambda x, c: method.model.apply(
        params, x, c, label, train=True, rngs={"dropout": key}
      )
      return loss(net, jax.random.fold_in(key, 1), *example)

    values = jax.vmap(one)(labels, net_keys, examples, noise, t, *rest)
    return values.mean(), {}

  return loss_fn


def make_turns(config: Any, loss_fn: Callable) -> tuple[step.Turn, ...]:
  """The game: one player, with its loss, optimizer and averages."""
  return step.single(loss_fn, make_optimizer(config), averages.rules(config))


def one_player(make_loss: Callable) -> Callable:
  """(config, method, data) -> the turns of the game of one loss.

  Args:
    make_loss: (config, method, data) -> the loss of a batch.
  """
  return lambda config, method, data: make_turns(
    config, make_loss(config, method, data)
  )


def data_batches(
  config: Any, data: datasets.Data, key: jax.Array
) -> Callable[[int], Any]:
  """step -> (examples, labels)."""
  return data.batches(key, config.batch_size)


def for_model(make_batches: Callable) -> Callable:
  """(config, data, key) -> (step -> {"model": batch}).

  Args:
    make_batches: (config, data, key) -> (step -> batch), on the host.
  """

  def make(config, data, key):
    batches = make_batches(config, data, key)
    return lambda number: {"model": batches(number)}

  return make


def run(
  module: str,
  config: Any,
  make_method: Callable,
  make_turns: Callable,
  make_batches: Callable,
  pictures: Callable = report.pictures,
) -> state.State:
  """Trains, samples and draws; resumes the run directory if it has begun.

  Args:
    module: the script's, "experiments.edm".
    config: of the script.
    make_method: (config, data) -> what it says, a build.Method or what has its
      players, player, sample and from_noise.
    make_turns: (config, method, data) -> the game.
    make_batches: (config, data, key) -> (step -> {player: batch}), on the host.
    pictures: (run_dir, draws samples, method, data) -> names of files.

  Returns:
    The state at the last step.
  """
  config = settings.plain(config)
  data = build.load_data(config)
  config = build.resolve(config, data)
  method = make_method(config, data)
  turns = make_turns(config, method, data)
  keys = jax.random.split(jax.random.key(config.seed), 4)
  init_key, data_key, run_key, sample_key = keys
  batch_fn = make_batches(config, data, data_key)
  start = lambda: state.init(run_key, method.players(init_key), turns)
  sampler = build.make_sampler(method)
  check(config, start, turns)
  sampled = functools.partial(averages.sampled, config, method)
  if not method.from_noise:  # where not every solver can run
    params = sampled(jax.eval_shape(start))
    jax.eval_shape(sampler, params, *report.draws(data, sample_key))

  def save_sheet(path, now):
    sample = functools.partial(sampler, sampled(now))
    report.sheet(path, sample, data, sample_key)

  with runs.open_directory(config.run_dir, config, module) as run_dir:
    now = train(
      run_dir, config, start, turns, batch_fn, save_sheet, method.player
    )
    players = {name: player.params for name, player in now.players.items()}
    draw = functools.partial(
      report.draw, sampler, sampled(now), data, sample_key, players
    )
    names = pictures(run_dir, draw, method, data)
  print(f"{run_dir}: curves.png {' '.join(names)}", file=sys.stderr)
  return now


def check(
  config: Any, start: Callable[[], state.State], turns: Sequence[step.Turn]
) -> None:
  """Refuses what devices, models or players cannot be, before any file is."""
  most = runs.MAX_COUNT // max(turn.num_steps for turn in turns)
  if config.num_steps > most:
    raise ValueError(
      f"num_steps: expected at most {most}, as a player's updates are counted"
      f" in int32, got {config.num_steps}"
    )
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
  player: str = "model",
) -> state.State:
  """Trains in a run directory, on from its last checkpoint if it has one.

  Args:
    run_dir: of runs.open_directory.
    config: with num_steps, shard, keep and the periods *_every.
    start: the state at step 0; traced.
    turns: the game.
    batch_fn: step -> {player: batch}, on the host.
    save_sheet: draws small samples of a state, now and then.
    player: whose averages are stored as snapshots.

  Returns:
    The state at the last step. metrics.jsonl and curves.png are written.
  """
  # The mesh, and everything's place on it.
  mesh = sharding.mesh()
  rule = tables.lookup(tables.SHARDS, config.shard, "shard")
  places = sharding.shardings(jax.eval_shape(start), mesh, rule)
  train_step = step.make_train_step(tuple(turns), places)
  place = functools.partial(_place, turns, mesh)

  # The state that it starts from: new, or the run's last.
  now = jax.jit(start, out_shardings=places)()
  checkpoints = runs.checkpoints(run_dir)
  if checkpoint.steps(checkpoints):
    now = checkpoint.restore(checkpoints, now)
  done = int(now.step)
  for name, of_name in now.players.items():
    size = sum(leaf.size for leaf in jax.tree.leaves(of_name.params))
    print(f"{run_dir}: {name}, {size:,} parameters", file=sys.stderr)
  print(f"{run_dir}: from step {done}", file=sys.stderr)

  # The loop.
  sheet = lambda now: save_sheet(
    run_dir / "sheets" / f"{int(now.step):06}.png", now
  )
  write = logging.jsonl(run_dir / METRICS, done)
  with (
    averages.snapshots(config, player) as save_snapshot,
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
        (getattr(config, "snapshot_every", config.save_every), save_snapshot),
        (config.samples_every, sheet),
      ],
    )
    save_snapshot(now)
  figures.curves(run_dir / "curves.png", logging.read(run_dir / METRICS))
  return now


def _place(turns, mesh, batches):
  """Batches on the mesh: their examples split, what has no axis of them whole.

  Their numbers are in float32, as parameters are, with JAX_ENABLE_X64 too.
  A turn of several inner steps has an axis of these before the examples'.
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
