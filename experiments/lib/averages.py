"""The averages of a run's parameters: their rules, storing and loading them.

A run can keep several averages. Those of EDM2 are also stored as snapshots,
which can be combined to an average of any length after training.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax

from experiments.experiment import Experiment
from experiments.lib import checks
from experiments.lib import run as runs
from jaxgen.training import checkpoint, ema, state

POWER = "power_"  # names of EDM2's averages: power_LENGTH


def rules(config: Any) -> dict[str, ema.Rule]:
  """The averages that the run keeps, by name; the first is sampled."""
  with checks.naming(config, decay="ema_decay", length="ema_length"):
    decays = {f"{decay:g}": ema.warmup(decay) for decay in config.ema_decay}
    powers = {f"{POWER}{v:g}": ema.power(v) for v in config.ema_length}
  for name in ("ema_decay", "ema_length"):
    values = getattr(config, name)
    if len(set(values)) < len(values):
      raise ValueError(
        f"{name}: expected different values, got"
        f" {' '.join(f'{v:g}' for v in values)}"
      )
  if not decays | powers:
    raise ValueError(
      "ema_decay, ema_length: expected at least one average, got none"
    )
  return decays | powers


def sampled(ex: Experiment, now: state.State) -> dict[str, Any]:
  """{player: averaged parameters} of the sampled players."""
  first = next(iter(rules(ex.config)))
  return {name: now.players[name].ema[first] for name in ex.sampled}


@contextlib.contextmanager
def snapshots(ex: Experiment) -> Iterator[Callable[[state.State], None]]:
  """Yields save(state), which stores EDM2's averages if the run has any."""
  if not getattr(ex.config, "ema_length", ()):
    yield lambda now: None
    return
  directory = runs.snapshots(ex.config.run_dir)
  how = dict(items=("ema",), wait=True)  # is on disk before the next checkpoint
  with checkpoint.saver(directory, keep=None, **how) as save:
    yield lambda now: save(_powers(now, ex.sampled))


def _powers(now, names):
  """The state with only EDM2's averages of these players."""
  players = {}
  for name in names:
    player = now.players[name]
    means = {k: v for k, v in player.ema.items() if k.startswith(POWER)}
    players[name] = player._replace(ema=means)
  return now._replace(players=players)


def load(
  ex: Experiment, step: int | None = None, average: str | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Averaged parameters of a run, {player: parameters}, and its extras.

  Args:
    ex: the experiment of the run.
    step: step of the checkpoint; None for the latest.
    average: name of one of the run's averages ("0.999"), or power_LENGTH for an
      EDM2 average of any length, combined from the run's snapshots; None for
      the first.

  Raises:
    FileNotFoundError: no checkpoint, or no snapshot.
    ValueError: no such average, a run without averages, or files that do not
      match the configuration.
  """
  config = ex.config
  if not ex.sampled:
    raise ValueError(
      f"{config.run_dir}: a run of this script keeps no averages"
    )
  keys = ex.keys(jax.random.key(0))
  start = jax.eval_shape(lambda: ex.players(keys.players))
  like = {name: start[name] for name in ex.sampled}
  extras = jax.eval_shape(lambda: ex.extras(keys.players))
  names = list(rules(config))
  name = names[0] if average is None else average
  directory = runs.checkpoints(config.run_dir)
  with checks.naming(config, None if step is None else "step"):
    if extras:
      extras = checkpoint.restore_extras(directory, extras, step)
    if name in names:
      means = {player: dict.fromkeys(names, x) for player, x in like.items()}
      found = checkpoint.restore_ema(directory, means, step)
      return {player: found[player][name] for player in like}, extras
  try:
    length = float(name.removeprefix(POWER) if POWER in name else "")
  except ValueError:
    raise ValueError(
      f"average: expected {', '.join(names)} or {POWER}LENGTH, got {name!r}"
    ) from None
  return _recombined(config, like, length, step), extras


def _recombined(config: Any, like: Any, length: float, step):
  """An EDM2 average of any length, from the run's snapshots up to a step."""
  directory = runs.snapshots(config.run_dir)
  steps = [n for n in checkpoint.steps(directory) if step is None or n <= step]
  if not steps:
    raise FileNotFoundError(
      f"average: {directory} contains no snapshots; train with --ema-length"
    )
  names = [f"{POWER}{value:g}" for value in config.ema_length]
  means = {player: dict.fromkeys(names, x) for player, x in like.items()}

  def read():
    for n in steps:
      stored = checkpoint.restore_ema(directory, means, n)
      for name in names:
        yield {player: stored[player][name] for player in like}

  with checks.naming(config, length="average"):
    weights = ema.recombination(
      [n for n in steps for _ in names],
      list(config.ema_length) * len(steps),
      steps[-1],
      length,
    )
  return ema.combine(weights, read())
