"""The averages of a run's parameters: which are kept, and reading them back.

A run keeps several at once. Those of EDM2 are also stored as snapshots, from
which an average of any length is recombined after training.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax

from experiments.lib import run as runs
from experiments.lib import settings
from jaxgen.training import checkpoint, ema, state

POWER = "power_"  # before the length in the name of an EDM2 average


def rules(config: Any) -> dict[str, ema.Rule]:
  """The averages that the run keeps, by name; the first is sampled."""
  with settings.naming(config, decay="ema_decay", length="ema_length"):
    decays = {f"{decay:g}": ema.warmup(decay) for decay in config.ema_decay}
    powers = {f"{POWER}{v:g}": ema.power(v) for v in config.ema_length}
  if not decays | powers:
    raise ValueError(
      "ema_decay, ema_length: expected at least one average, got none"
    )
  return decays | powers


def sampled(config: Any, method: Any, now: state.State) -> Any:
  """The averaged parameters that are sampled."""
  return now.players[method.player].ema[next(iter(rules(config)))]


@contextlib.contextmanager
def snapshots(
  config: Any, player: str
) -> Iterator[Callable[[state.State], None]]:
  """Yields save(state), which stores EDM2's averages, where there are any."""
  if not getattr(config, "ema_length", ()):
    yield lambda now: None
    return
  directory = runs.snapshots(config.run_dir)
  how = dict(items=("ema",), wait=True)  # before the next checkpoint is
  with checkpoint.saver(directory, keep=None, **how) as save:
    yield lambda now: save(_powers(now, player))


def _powers(now, name):
  """The state with EDM2's averages of one player alone."""
  player = now.players[name]
  means = {k: v for k, v in player.ema.items() if k.startswith(POWER)}
  return now._replace(players={name: player._replace(ema=means)})


def load(
  config: Any,
  method: Any,
  step: int | None = None,
  average: str | None = None,
) -> Any:
  """Averaged parameters of a run.

  Args:
    config: the run's configuration.
    method: what it says.
    step: of the checkpoint; None for the latest.
    average: which of the run's averages ("0.999"), or power_LENGTH for EDM2's
      of any length, recombined from the run's snapshots; None for the first.

  Raises:
    FileNotFoundError: no checkpoint, or no snapshot.
    ValueError: no such average, or files that do not fit the configuration.
  """
  start = jax.eval_shape(lambda: method.players(jax.random.key(0)))
  player, like = method.player, start[method.player]
  names = list(rules(config))
  name = names[0] if average is None else average
  if name in names:
    means = {player: dict.fromkeys(names, like)}
    directory = runs.checkpoints(config.run_dir)
    with settings.naming(config, None if step is None else "step"):
      return checkpoint.restore_ema(directory, means, step)[player][name]
  try:
    length = float(name.removeprefix(POWER) if POWER in name else "")
  except ValueError:
    raise ValueError(
      f"average: expected {', '.join(names)} or {POWER}LENGTH, got {name!r}"
    ) from None
  return _recombined(config, player, like, length, step)


def _recombined(config: Any, player: str, like: Any, length: float, step):
  """EDM2's average of any length, from the run's snapshots up to a step."""
  directory = runs.snapshots(config.run_dir)
  steps = [n for n in checkpoint.steps(directory) if step is None or n <= step]
  if not steps:
    raise FileNotFoundError(
      f"average: {directory} holds no snapshots to recombine; train with"
      " --ema-length"
    )
  names = [f"{POWER}{value:g}" for value in config.ema_length]
  means = {player: dict.fromkeys(names, like)}

  def read():
    for n in steps:
      stored = checkpoint.restore_ema(directory, means, n)[player]
      yield from (stored[name] for name in names)

  with settings.naming(config, length="average"):
    weights = ema.recombination(
      [n for n in steps for _ in names],
      list(config.ema_length) * len(steps),
      steps[-1],
      length,
    )
  return ema.combine(weights, read())
