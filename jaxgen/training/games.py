"""Batches of a game, and playing it without a run directory."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jaxtyping import PyTree

from jaxgen.training import state as states
from jaxgen.training import step as steps


def batches(
  turns: Sequence[steps.Turn],
  batch_size: int,
  draw: Callable[[Any, int], PyTree],
  key: Any,
) -> Callable[[int], dict[str, PyTree]]:
  """Fresh samples for every player at every step.

  Args:
    turns: the game.
    batch_size: B, the examples of one inner step.
    draw: (key, number) -> arrays [number, *D], a pytree of them.
    key: the key of all samples.

  Returns:
    step -> {player: samples [B, *D]}, [inner, B, *D] where a turn has several
    inner steps.
  """

  def batch_fn(number):
    step_key = jax.random.fold_in(key, number)
    batch = {}
    for i, turn in enumerate(turns):
      size = turn.num_steps * batch_size
      samples = draw(jax.random.fold_in(step_key, i), size)
      batch[turn.player] = by_inner_step(turn, samples)
    return batch

  return batch_fn


def zipped(
  turns: Sequence[steps.Turn], batch_size: int, *sets: tuple[Callable, Any]
) -> Callable[[int], dict[str, tuple]]:
  """Batches from several datasets: every player gets one batch of each.

  Args:
    turns, batch_size: as in `batches`.
    sets: (make_batches, key) of each dataset, where make_batches(key, number)
      returns step -> examples [number, *D].

  Returns:
    step -> {player: (examples of each set)}, shaped as in `batches`.
  """
  parts = {}
  for i, turn in enumerate(turns):
    size = turn.num_steps * batch_size
    parts[turn.player] = [
      make(jax.random.fold_in(key, i), size) for make, key in sets
    ]
  return lambda number: {
    turn.player: by_inner_step(
      turn, tuple(part(number) for part in parts[turn.player])
    )
    for turn in turns
  }


def by_inner_step(turn: steps.Turn, batch: PyTree) -> PyTree:
  """[inner B, ...] as [inner, B, ...] where the turn has several inner steps.

  Args:
    turn: the player's turn.
    batch: arrays whose first axis has turn.num_steps times B entries.
  """
  if turn.num_steps == 1:
    return batch
  return jax.tree.map(
    lambda x: x.reshape(turn.num_steps, -1, *x.shape[1:]), batch
  )


def play(
  turns: tuple[steps.Turn, ...],
  params: Mapping[str, PyTree],
  batch_fn: Callable[[int], Mapping[str, PyTree]],
  num_steps: int,
  key: Any,
  extras: Mapping[str, PyTree] | None = None,
) -> states.State:
  """The state after num_steps steps, without a run directory.

  Args:
    turns: the game.
    params: {player: parameters} at the start.
    batch_fn: step -> {player: batch}.
    num_steps: steps of the game.
    key: the run's key, typed.
    extras: what the losses carry along.
  """
  now = states.init(key, params, turns, extras)
  train_step = steps.make_train_step(turns)
  for number in range(num_steps):
    now, _ = train_step(now, batch_fn(number))
  return jax.block_until_ready(now)
