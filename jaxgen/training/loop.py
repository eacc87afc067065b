"""The training loop: steps, logs, hooks, checkpoints, interruption."""

import collections
import contextlib
import math
import operator
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, SupportsIndex

import jax
import numpy as np
import optax

from jaxgen.training.state import State
from jaxgen.training.step import AHEAD


class Interrupted(Exception):
  """A run that SIGINT (Ctrl-C) or SIGTERM ended early, after saving.

  Attributes:
    step: steps done and saved.
    signal_number: the signal received.
  """

  def __init__(self, step: int, signal_number: int):
    name = signal.Signals(signal_number).name
    super().__init__(f"{name}: stopped and saved at step {step}")
    self.step = step
    self.signal_number = signal_number


class Diverged(Exception):
  """A run whose loss or parameters are no longer finite.

  Nothing is saved of that step or later ones.

  A loss that is not finite is accepted if the player's optimizer skips such
  updates (optax.apply_if_finite, optax.zero_nans, or optax.MultiSteps with
  should_skip_update_fn) and the player's parameters are still finite.

  Attributes:
    player: name of the player.
    step: steps done, counted from one.
  """

  def __init__(self, player: str, what: str, step: int):
    super().__init__(f"{player}: {what} at step {step}")
    self.player = player
    self.step = step


def run(
  train_step: Callable,
  state: State,
  batch_fn: Callable[[int], Any],
  *,
  num_steps: SupportsIndex,
  log_every: SupportsIndex,
  save_every: SupportsIndex,
  saver: contextlib.AbstractContextManager[Callable[[State], object]],
  log: Callable[[int, dict[str, float]], object],
  hooks: Sequence[tuple[SupportsIndex, Callable[[State], object]]] = (),
  begin: Callable[[int], object] | None = None,
) -> State:
  """Trains from state.step to num_steps.

  At their periods, log is called first, then each hook, then save; log and save
  are also called after the last step. Logged metrics are those of a single
  step, so that a resumed run logs the same as an unbroken one, and logging does
  not block other steps. The losses of all steps are checked at these calls, and
  the parameters before hooks and save.

  On SIGINT or SIGTERM the step finishes, the state is saved, and Interrupted is
  raised once all is written; further signals have no effect. Signals are caught
  in the main thread only, and the previous handlers are always restored.

  Args:
    train_step: (state, batch) -> (state, metrics), from make_train_step.
    state: the initial state; consumed.
    batch_fn: step (from 0) -> the batch, a function of the step alone.
    num_steps: total number of steps, including those already done.
    log_every: period of log, in steps.
    save_every: period of save, in steps.
    saver: checkpoint.saver(...), not yet entered: it yields save(state), which
      must have read the state when it returns. For a plain function, use
      contextlib.nullcontext(save).
    log: (step, {name: float}) -> anything.
    hooks: (period, state -> anything) pairs; a hook must not keep the state.
    begin: steps done -> anything, called once the first step, which compiles,
      is finished.

  Returns:
    The state at num_steps, saved.

  Raises:
    ValueError: a period is below 1, or the state is beyond num_steps.
    Interrupted, Diverged: see these classes.
  """
  start = int(state.step)
  index = operator.index
  periods = index(num_steps), index(log_every), index(save_every)
  hooks = [(index(every), hook) for every, hook in hooks]
  _check(start, *periods, hooks)
  with _signals() as received:
    with saver as save:
      events = _Events(*periods, save, log, hooks, begin)
      state = _train(train_step, state, batch_fn, start, events, received)
    if received:  # the signal came during the last step or save
      raise Interrupted(periods[0], received[0])
  return state


class _Events(NamedTuple):
  """The calls between steps, as in run."""

  num_steps: int
  log_every: int
  save_every: int
  save: Callable
  log: Callable
  hooks: Sequence
  begin: Callable | None


def _train(train_step, state, batch_fn, start, events, received):
  losses = {}  # {step: {name: loss}}, not yet checked
  ahead: collections.deque = collections.deque()  # metrics of steps not awaited
  for step in range(start, events.num_steps):
    state, metrics = train_step(state, batch_fn(step))
    done, last = step + 1, step + 1 == events.num_steps
    if step == start and events.begin is not None:
      jax.block_until_ready(metrics)
      events.begin(done)
    ahead.append(metrics)
    if len(ahead) > AHEAD:
      jax.block_until_ready(ahead.popleft())
    losses[done] = {k: v for k, v in metrics.items() if _is_loss(k, state)}
    stop = bool(received)
    logs = last or done % events.log_every == 0
    calls = [hook for every, hook in events.hooks if done % every == 0]
    if stop or last or done % events.save_every == 0:
      calls.append(events.save)
    if logs or calls:
      _check_losses(losses, state)
      losses.clear()
    if logs:
      events.log(done, {name: float(v) for name, v in metrics.items()})
    if calls:
      _check_params(done, state)
    for call in calls:
      call(state)
    if stop:
      raise Interrupted(done, received[0])
  return state


def _is_loss(name, state):
  player, slash, rest = name.rpartition("/")
  return rest == "loss" and (not slash or player in state.players)


def _check_losses(losses, state):
  """Raises Diverged for the first update with a loss that is not finite."""
  players = state.players
  trained = [n for n, p in players.items() if jax.tree.leaves(p.opt_state)]
  for step, values in jax.device_get(losses).items():
    for name, value in values.items():
      if math.isfinite(value):
        continue
      player = name.rpartition("/")[0] or (trained or list(players))[0]
      if not (_skips(players[player]) and _is_finite(players[player].params)):
        raise Diverged(player, f"loss is {float(value)}", step)


def _skips(player):
  """Whether the player's optimizer skips updates that are not finite."""

  def guards(x):
    if isinstance(x, optax.MultiStepsState):
      return bool(jax.tree.leaves(x.skip_state))
    return isinstance(x, optax.ApplyIfFiniteState | optax.ZeroNansState)

  return any(map(guards, jax.tree.leaves(player.opt_state, is_leaf=guards)))


def _check_params(step, state):
  """Raises Diverged if parameters or averages are not finite."""
  for name, player in state.players.items():
    for what in ("params", "ema"):
      if not _is_finite(getattr(player, what)):
        raise Diverged(name, f"{what} are not finite", step)


def _is_finite(tree):
  """Whether all values are finite, checked on the host, shard by shard.

  Parameters are transferred to be saved anyway, and a jitted check would take
  longer to compile than a small network's step.
  """
  return all(
    np.isfinite(np.asarray(shard.data)).all()
    for leaf in jax.tree.leaves(tree)
    for shard in leaf.addressable_shards
    if shard.replica_id == 0
  )


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
  """Collects SIGINT and SIGTERM in a list, if handlers can be set."""
  received: list[int] = []
  if threading.current_thread() is not threading.main_thread():
    yield received
    return
  numbers = (signal.SIGINT, signal.SIGTERM)
  old = {number: signal.getsignal(number) for number in numbers}
  for number in numbers:
    signal.signal(number, lambda number, frame: received.append(number))
  try:
    yield received
  finally:
    for number, handler in old.items():
      signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _check(start, num_steps, log_every, save_every, hooks):
  periods = {"log_every": log_every, "save_every": save_every}
  periods |= {f"hooks[{i}]": every for i, (every, _) in enumerate(hooks)}
  for name, every in periods.items():
    if every < 1:
      raise ValueError(f"{name}: expected at least 1 step, got {every}")
  if start > num_steps:
    raise ValueError(
      f"num_steps: expected at least the {start} steps done, got {num_steps}"
    )
