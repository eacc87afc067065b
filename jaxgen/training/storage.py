"""One-line errors for failures of the storage layer (orbax, tensorstore).

It raises errors of several pages and logs them again, and its background
threads and tasks report further errors after the first.
"""

import contextlib
import functools
import gc
import logging
import pathlib
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:  # imported when used, which saves commands a quarter second
  from orbax.checkpoint import v1 as ocp

T = TypeVar("T")


def open_to_read(path: pathlib.Path) -> "ocp.training.Checkpointer":
  """Opens a directory of checkpoints."""
  from orbax.checkpoint import v1 as ocp

  return ocp.training.Checkpointer(path)


def open_to_write(
  path: pathlib.Path, keep: int | None
) -> "ocp.training.Checkpointer":
  """Opens a directory of checkpoints that keeps the latest; None keeps all."""
  from orbax.checkpoint import v1 as ocp

  policies = ocp.training.preservation_policies
  arrays = ocp.options.ArrayOptions
  # Otherwise replicated arrays are sliced, by one compiled program per shape.
  saving = arrays.Saving(use_replica_parallel=False)
  with ocp.Context(array_options=arrays(saving=saving)):
    return ocp.training.Checkpointer(
      path,
      preservation_policy=(
        policies.PreserveAll() if keep is None else policies.LatestN(keep)
      ),
      cleanup_tmp_directories=True,  # left by a killed process
    )


def attempt(call: Callable[[], T], to_error: Callable[[str], Exception]) -> T:
  """Returns call(), and turns any error of the storage layer into one line.

  Args:
    call: a function that reads or writes.
    to_error: one-line reason -> the exception to raise.
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
    gc.collect()  # now, because failed tasks report when they are collected
    raise to_error(reason)


def _unless_late(hook, unraisable):
  """Ignores errors of reads that were in progress when another one failed."""
  text = str(unraisable.exc_value)
  if not ("loop is closed" in text or "reading array index" in text):
    hook(unraisable)


def _reason(error):
  """The end of the storage layer's message, which has the cause."""
  text = getattr(error, "strerror", None) or str(error)
  text = text.splitlines()[0] if text else ""
  text = text.split(" [tensorstore_spec")[0].rpartition('": ')[2]
  return f"{type(error).__name__}: {text[-200:]}"


@contextlib.contextmanager
def quiet_log() -> Iterator[None]:
  """Hides the storage layer's log messages; its errors are still raised.

  After a failure they stay hidden, since the remaining threads go on and log
  further errors later.
  """
  loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
  loggers = [logger for logger in loggers if _is_foreign not in logger.filters]
  for logger in loggers:
    logger.addFilter(_is_foreign)
  yield
  for logger in loggers:
    logger.removeFilter(_is_foreign)


def _is_foreign(record):
  """Whether a log record does not come from the storage layer."""
  frames = traceback.extract_tb(record.exc_info[2]) if record.exc_info else ()
  files = record.pathname, *(frame.filename for frame in frames)
  text = f"{' '.join(files)} {record.getMessage()}"
  return "orbax/checkpoint" not in text and "tensorstore" not in text
