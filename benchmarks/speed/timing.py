"""Timing of calls beside each other.

Every figure is a ratio of times measured in one run, in turn (ours, theirs,
ours, ...): the median over repetitions, with the quartiles beside it. A row has
a name and ours_ms; beside a peer, theirs_ms, ratio, low, high and limit (goal).
"""

import importlib.metadata
import time
from collections.abc import Callable, Iterable

import jax
import numpy as np

from benchmarks import pages

QUARTILES = (0.25, 0.5, 0.75)


def in_turn(
  calls: Iterable[Callable], repeats: int, warm: int = 2
) -> np.ndarray:
  """Seconds of each call, [repeats, calls], in turn and each waited for.

  Each is called a number of times before, to compile.
  """
  calls = list(calls)
  for call in calls:
    jax.block_until_ready([call() for _ in range(warm)])
  seconds = np.zeros((repeats, len(calls)))
  for i in range(repeats):
    for j in np.roll(np.arange(len(calls)), i):
      begun = time.perf_counter()
      jax.block_until_ready(calls[j]())
      seconds[i, j] = time.perf_counter() - begun
  return seconds


def many(call: Callable, inner: int) -> Callable:
  """`inner` calls, the last one's result."""

  def run():
    for _ in range(inner - 1):
      call()
    return call()

  return run


def beside(name, ours, theirs, repeats, inner=1, limit=1.0) -> dict:
  """The row of two calls, `inner` of them at a time; theirs may be None."""
  calls = [many(call, inner) for call in (ours, theirs) if call is not None]
  seconds = in_turn(calls, repeats) / inner
  ours_ms, *others = (1e3 * np.median(seconds, 0)).tolist()
  if theirs is None:
    return dict(name=name, ours_ms=ours_ms)
  low, ratio, high = np.quantile(seconds[:, 0] / seconds[:, 1], QUARTILES)
  found = dict(name=name, ratio=ratio, low=low, high=high, limit=limit)
  return found | dict(ours_ms=ours_ms, theirs_ms=others[0])


def spread(low, middle, high, form=".2f") -> str:
  """A median and its quartiles."""
  return f"{middle:{form}} ({low:{form}}-{high:{form}})"


def ratio_of(row: dict, form=".3f") -> str:
  """The ratio of a row and its quartiles."""
  return spread(row["low"], row["ratio"], row["high"], form)


def ratios(rows, head: str) -> list[str]:
  """The table of rows of two times."""
  text = lambda value: "" if value is None else f"{value:.2f}"
  numbers = lambda r: [text(r[k]) for k in ("limit", "ours_ms", "theirs_ms")]
  cells = [(r["name"], ratio_of(r), *numbers(r)) for r in rows]
  return pages.table(head, cells)


def version(distribution: str) -> str | None:
  """The version of a peer, None if it is not installed."""
  try:
    return importlib.metadata.version(distribution)
  except importlib.metadata.PackageNotFoundError:
    return None


def stepping(train_step, start, batch) -> Callable:
  """() -> the loss of one more step on the same batch."""
  carry = [start]

  def call():
    carry[0], metrics = train_step(carry[0], batch)
    return metrics["loss"]

  return call
