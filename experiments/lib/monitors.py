"""What a run records beside its training loss, and where.

  held_out, held_out_ema  the loss on held-out data, for the weights and for the
                          first averages, with the same noise each time, and
                          dropout as in training
  log_likelihood/NAME     mean log-likelihoods of held-out examples in nats, for
                          the first averages and without dropout
  metrics/NAME            a metric of `evaluate`, for one set of samples

Each is one more record of metrics.jsonl, at the step it belongs to. `report`
says at which step the first two were best, and how they ended.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from experiments.experiment import Experiment
from experiments.lib import averages, likelihoods, quality, samples
from experiments.pictures import figures
from jaxgen.training import logging, state

NUM_BATCHES = 4  # held-out batches of a loss


def measures(ex: Experiment) -> list[tuple[int, Callable]]:
  """(period, state -> {name: value}) of what the settings ask for.

  Raises:
    ValueError: the settings ask for what the experiment lacks.
  """
  config, found = ex.config, []
  for name in ("validate_every", "metrics_every"):
    if getattr(config, name) < 0:
      raise ValueError(
        f"{name}: expected at least 0, got {getattr(config, name)}"
      )
  if config.validate_every:
    found.append((config.validate_every, held_out(ex)))
    if ex.log_likelihood is not None:
      found.append((config.validate_every, log_likelihood(ex)))
  if config.metrics_every:
    found.append((config.metrics_every, metrics(ex)))
  return found


def hooks(
  found: list[tuple[int, Callable]], log: logging.Log
) -> list[tuple[int, Callable]]:
  """(period, state -> None) for training.loop, which call log(step, values)."""
  record = lambda measure, now: log(int(now.step), measure(now))
  return [(every, functools.partial(record, fn)) for every, fn in found]


def held_out(ex: Experiment) -> Callable[[state.State], dict[str, float]]:
  """state -> the losses of all turns on held-out batches.

  Raises:
    ValueError: the experiment has no held-out batches.
  """
  if ex.validation is None:
    raise ValueError(
      "validate_every: expected 0, as runs of this script have no held-out loss"
    )
  seed_key = lambda: ex.keys(jax.random.key(ex.config.seed)).state
  batch_fn = ex.validation(jax.random.fold_in(seed_key(), 1))

  @jax.jit
  def losses(params, extras, number, batch, step):
    key = jax.random.fold_in(jax.random.fold_in(seed_key(), 2), number)
    return {
      turn.player: turn.loss_fn(params, extras, key, batch[turn.player], step)[
        0
      ]
      for turn in ex.turns
    }

  def mean(params, now):
    values = [
      losses(params, now.extras, number, batch_fn(number), now.step)
      for number in range(NUM_BATCHES)
    ]
    return jax.tree.map(lambda *x: float(np.mean(x)), *values)

  def measure(now):
    weights = {name: player.params for name, player in now.players.items()}
    smooth = weights | averages.sampled(ex, now)
    found = {"held_out": mean(weights, now), "held_out_ema": mean(smooth, now)}
    single = len(ex.turns) == 1
    return {
      name if single else f"{player}/{name}": value
      for name, of_player in found.items()
      for player, value in of_player.items()
    }

  return measure


def log_likelihood(ex: Experiment) -> Callable:
  """state -> mean log-likelihoods of held-out examples, one draw of each."""
  once = ex._replace(log_likelihood=ex.log_likelihood._replace(num_draws=1))
  rows = likelihoods.measurer(once, "validation")

  def measure(now):
    key = jax.random.key(ex.config.seed)
    found = rows(averages.sampled(ex, now), now.extras, key)
    return {f"log_likelihood/{row.condition}": row.nats for row in found}

  return measure


def metrics(ex: Experiment) -> Callable[[state.State], dict[str, float]]:
  """state -> the metrics of as many samples as there are held-out examples.

  Raises:
    ValueError: the experiment has no samples, or its data no features.
  """
  if ex.sample is None:
    raise ValueError(
      "metrics_every: expected 0, as runs of this script have no samples"
    )
  if ex.data.to_bytes is not None:
    raise ValueError("metrics_every: expected 0, as text has no metrics")
  reference, compute = quality.reference(ex.data, "validation"), None

  def measure(now):
    nonlocal compute
    compute = compute or samples.make_sampler(ex)
    draw = samples.from_params(compute, averages.sampled(ex, now), now.extras)
    key = jax.random.key(ex.config.seed)
    found = quality.evaluate(
      lambda i, labels, n: draw(key, labels, n)[1], reference, num_draws=1
    )
    values = {name: row["samples"] for name, row in found.rows.items()}
    return {f"metrics/{k}": v for k, v in values.items() if v is not None}

  return measure


def report(records: list[dict[str, Any]]) -> list[str]:
  """How far a run has over-fitted: one line for each curve of held-out data.

  Args:
    records: those of metrics.jsonl, from logging.read.

  Returns:
    "held_out: best 0.5123 at step 400, 0.61 at step 900, the last" and so on.
  """
  lines = []
  for name in dict.fromkeys(name for record in records for name in record):
    better = figures.better(name)
    found = better and logging.best(records, name, better)
    if found:
      last = next(r for r in reversed(records) if name in r)
      lines.append(
        f"{name}: best {found[1]:.4g} at step {found[0]}, {last[name]:.4g} at"
        f" step {last['step']}, the last"
      )
  return lines


@contextlib.contextmanager
def places(config: Any, run_dir: Any, step: int) -> Iterator[logging.Log]:
  """Yields a log that writes to every place of log_to."""
  with contextlib.ExitStack() as stack:
    logs = []
    if "tensorboard" in config.log_to:
      folder = run_dir / "tensorboard"
      logs.append(stack.enter_context(logging.tensorboard(folder, step)))
    if "wandb" in config.log_to:
      logs.append(stack.enter_context(logging.wandb(run_dir, vars(config))))

    def log(number, values):
      for each in logs:
        each(number, values)

    yield log
