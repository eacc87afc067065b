"""A run of the loop that saves and logs nothing unless it is told to."""

import contextlib
from typing import Any

from jaxgen.training import loop


def quiet(train_step: Any, start: Any, batch_fn: Any, **settings: Any) -> Any:
  """loop.run of one step, each logged and saved to nowhere; its last state."""
  nowhere = dict(saver=saver(lambda now: None), log=lambda *record: None)
  once = dict(num_steps=1, log_every=1, save_every=1)
  return loop.run(train_step, start, batch_fn, **nowhere | once | settings)


def saver(save: Any) -> Any:
  """Saves by calling the function."""
  return contextlib.nullcontext(save)
