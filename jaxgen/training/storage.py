"""Faults of the storage layer (orbax, tensorstore) as one line each.

It raises pages of text, logs the same again, and what its threads and tasks
meet after the first fault finds nobody to tell.
"""

import contextlib
import functools
import gc
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")


def attempt(call: Callable[[], T], to_error: Callable[[str], Exception]) -> T:
  """call(), where whatever the storage layer raises becomes one line.

  Args:
    call: reads or writes.
    to_error: the reason, one line -> what is raised.
  """
  hook = sys.unraisablehook
  if not (isinstance(hook, functools.partial) and hook.func is _unless_late):
    sys.unraisablehook = functools.partial(_unless_late, hook)
  with quiet_log(), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    try:
      value = call()
    except Exception as error:
      reason = _reason(error)
    else:
      sys.unraisablehook = hook
      return value
    gc.collect()  # now, as tasks that failed tell of it when they go
    raise to_error(reason)


def _unless_late(hook, unraisable):
  """Reads under way beside one that failed find no one to tell, even later."""
  text = str(unraisable.exc_value)
  if not ("loop is closed" in text or "reading array index" in text):
    hook(unraisable)


def _reason(error):
  """The end of what the storage layer says, where the cause is."""
  text = getattr(error, "strerror", None) or str(error)
  text = text.splitlines()[0] if text else ""
  text = text.split(" [tensorstore_spec")[0].rpartition('": ')[2]
  return f"{type(error).__name__}: {text[-200:]}"


@contextlib.contextmanager
def quiet_log() -> Iterator[None]:
  """Keeps the storage layer's notes off the screen; its errors still raise.

  After a failure it stays so: the threads that worked beside the one that
  failed go on, and log what they meet when nobody waits for them any more.
  """
  loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
  loggers = [logger for logger in loggers if _is_foreign not in logger.filters]
  for logger in loggers:
    logger.addFilter(_is_foreign)
  yield
  for logger in loggers:
    logger.removeFilter(_is_foreign)


def _is_foreign(record):
  """Whether a log record has nothing to do with the storage layer."""
  text = f"{record.pathname} {record.getMessage()}"
  return "orbax/checkpoint" not in text and "tensorstore" not in text
