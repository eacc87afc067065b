"""What games of two laws share: their batches, and playing them through."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxgen.training import state, step


def batches(
  turns: Sequence[step.Turn], batch_size: int, draw: Callable, key: Any
) -> Callable[[int], dict[str, Any]]:
  """step -> {player: draws}, with a leading axis for a turn's inner steps.

  Args:
    turns: the game.
    batch_size: B, of one inner step.
    draw: (key, number) -> arrays [number, *D], a pytree of them.
    key: of all draws.
  """

  def batch_fn(number):
    step_key = jax.random.fold_in(key, number)
    batch = {}
    for i, turn in enumerate(turns):
      size = turn.num_steps * batch_size
      draws = draw(jax.random.fold_in(step_key, i), size)
      batch[turn.player] = _by_inner_step(turn, draws)
    return batch

  return batch_fn


def zipped(
  turns: Sequence[step.Turn], batch_size: int, *sets: tuple[Callable, Any]
) -> Callable[[int], dict[str, Any]]:
  """The same of data sets: step -> {player: (examples of each)}.

  Args:
    turns, batch_size: as in `batches`.
    sets: (batches, key) of each: (key, number) -> (step -> [number, *D]).
  """
  parts = {}
  for i, turn in enumerate(turns):
    size = turn.num_steps * batch_size
    parts[turn.player] = [
      make(jax.random.fold_in(key, i), size) for make, key in sets
    ]
  return lambda number: {
    turn.player: _by_inner_step(
      turn, tuple(part(number) for part in parts[turn.player])
    )
    for turn in turns
  }


def _by_inner_step(turn, draws):
  if turn.num_steps == 1:
    return draws
  lead = turn.num_steps
  return jax.tree.map(lambda x: x.reshape(lead, -1, *x.shape[1:]), draws)


def play(
  turns: tuple[step.Turn, ...],
  params: dict[str, Any],
  batch_fn: Callable[[int], dict[str, Any]],
  num_steps: int,
  key: Any,
) -> state.State:
  """The state after so many steps, without a run directory."""
  now = state.init(key, params, turns)
  train_step = step.make_train_step(turns)
  for number in range(num_steps):
    now, _ = train_step(now, batch_fn(number))
  return jax.block_until_ready(now)
