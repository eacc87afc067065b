"""What games of two laws share: batches, losses, and playing them through."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen import costs
from jaxgen.losses import transport, wasserstein
from jaxgen.training import state, step

PART = 128  # examples that `mean` takes at once


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


def against(
  potential_fn: Callable, move_fn: Callable, cost: costs.Cost
) -> tuple[Callable, Callable]:
  """A map against a potential: the losses of both, in this order.

    max_f min_T  E [c(x, T(x)) - f(T(x))] + E f(y)

  Args:
    potential_fn: (params, y [*D]) -> f(y) [], high on the target.
    move_fn: (params, x [*D]) -> T(x) [*D].
    cost: c.

  Returns:
    Two of (map's params, potential's, source [B, *D], target [B, *D]) -> [].
  """
  bind = functools.partial

  def of_map(moves, values, source, target):
    f, move = bind(potential_fn, values), bind(move_fn, moves)
    one = lambda x: transport.mover(f, move, x, cost=cost)
    return jnp.mean(jax.vmap(one)(source))

  def of_potential(moves, values, source, target):
    moved = jax.vmap(bind(move_fn, moves))(source)
    one = bind(wasserstein.dual, bind(potential_fn, values))
    return jnp.mean(jax.vmap(one)(target, moved))

  return of_map, of_potential


def mean(fn: Callable, *batch: Any) -> Any:
  """mean_i fn(x_i, y_i, ...) [], a part of the batch at a time.

  The memory is that of PART examples, forth and back; on a CPU, where a part
  then fits the cache, cones take a third of the time. A part has examples of
  every device's share of the batch.

  Args:
    fn: (x, y, ...) of one example each -> [].
    batch: arrays [B, ...]; all at once if PART does not divide B.
  """
  number = len(batch[0])
  size = number if number % PART else PART
  apart = lambda x: jnp.moveaxis(x.reshape(size, -1, *x.shape[1:]), 1, 0)
  part = jax.checkpoint(lambda part: jnp.mean(jax.vmap(fn)(*part)))
  return jnp.mean(jax.lax.map(part, tuple(map(apart, batch))))


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
