"""The training loop: steps, records, hooks, checkpoints, interruption."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jaxgen.training.state import State


class Interrupted(Exception):
  """A run that SIGINT (Ctrl-C) or SIGTERM ended early, after saving.

  step: steps done and saved; signal_number: which signal it was.
  """

  def __init__(self, step: int, signal_number: int):
    name = signal.Signals(signal_number).name
    super().__init__(f"{name}: stopped and saved at step {step}")
    self.step = step
    self.signal_number = signal_number


def run(
  train_step: Callable,
  state: State,
  batch_fn: Callable[[int], Any],
  *,
  num_steps: int,
  log_every: int,
  save_every: int,
  save: Callable[[State], object],
  log: Callable[[int, dict[str, float]], object],
  hooks: Sequence[tuple[int, Callable[[State], object]]] = (),
) -> State:
  """Trains from state.step to num_steps.

  After every period of steps comes log, then each hook, then save; log and
  save also after the last step. Logged are that one step's metrics, so that a
  resumed run logs what the unbroken one does; nothing waits in between.

  SIGINT or SIGTERM lets the step finish, saves and raises Interrupted; more
  of them change nothing. They are caught in the main thread only, and the
  previous handlers come back whatever happens.

  Args:
    train_step: (state, batch) -> (state, metrics), of make_train_step.
    state: where to start; consumed.
    batch_fn: step (from 0) -> the batch, a function of the step alone.
    num_steps: steps in all, those already done included.
    log_every: period of log, in steps.
    save_every: period of save, in steps.
    save: state -> anything; must have read the state when it returns.
    log: (step, {name: float}) -> anything.
    hooks: (period, state -> anything) pairs; a hook must not keep the state.

  Returns:
    The state at num_steps.

  Raises:
    ValueError: a period below 1, or a state beyond num_steps.
    Interrupted: as above.
  """
  start = int(state.step)
  _check(start, num_steps, log_every, save_every, hooks)
  with _signals() as received:
    for step in range(start, num_steps):
      state, metrics = train_step(state, batch_fn(step))
      done, last = step + 1, step + 1 == num_steps
      if last or done % log_every == 0:
        log(done, {name: float(value) for name, value in metrics.items()})
      for every, hook in hooks:
        if done % every == 0:
          hook(state)
      stop = bool(received)
      if stop or last or done % save_every == 0:
        save(state)
      if stop:
        raise Interrupted(done, received[0])
    if received:  # during the last save
      raise Interrupted(num_steps, received[0])
  return state


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
  """Collects SIGINT and SIGTERM in a list, where handlers can be set."""
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
      f"num_steps: expected at least the {start} done, got {num_steps}"
    )
