"""Faults of the storage layer are one line, from all of its threads."""

import contextlib
import logging
import resource
import threading

import jax
import jax.numpy as jnp
import optax
import pytest

from jaxgen.training import checkpoint, ema, state, step, storage


def _state(at):
  """More random numbers than fit into a small file."""
  loss_fn = lambda params, key, batch: (jnp.sum(params), {})
  turns = step.single(loss_fn, optax.adam(0.1), {"mean": ema.constant(0.5)})
  params = jax.random.normal(jax.random.key(at), (50_000,))
  start = state.init(jax.random.key(0), {"model": params}, turns)
  return start._replace(step=start.step + at)


@contextlib.contextmanager
def _small_files(size):
  """No file of this process grows beyond it, as on a disk that is full."""
  kind = resource.RLIMIT_FSIZE
  before, highest = resource.getrlimit(kind)
  resource.setrlimit(kind, (size, highest))
  try:
    yield
  finally:
    resource.setrlimit(kind, (before, highest))


@pytest.mark.parametrize("size", [100, 2**15])
@pytest.mark.parametrize("earlier", [False, True])
def test_a_full_disk_is_one_line_that_is_true(
  tmp_path, caplog, capfd, earlier, size
):
  """Whatever threads are still writing when the first of them fails."""
  if earlier:
    with checkpoint.saver(tmp_path, keep=2) as save:
      save(_state(1))
  threads, later = set(threading.enumerate()), _state(2)
  with _small_files(size), pytest.raises(OSError) as error:
    with checkpoint.saver(tmp_path, keep=2, wait=True) as save:
      save(later)
  for thread in set(threading.enumerate()) - threads:
    if type(thread).__name__ == "_SignalingThread":  # orbax writes in these
      threading.Thread.join(thread, 60)  # its own join raises
  before = "that of step 1 is whole" if earlier else "there is no earlier one"
  text = str(error.value)
  assert text.startswith(f"{tmp_path}: a checkpoint could not be written (")
  assert "too large" in text and "\n" not in text
  assert text.endswith(f"; {before}: free space and run the same command again")
  assert caplog.records == [] and capfd.readouterr() == ("", "")
  assert checkpoint.steps(tmp_path) == ([1] if earlier else [])


def test_a_late_future_of_the_storage_layer_is_not_heard(caplog):
  """asyncio logs an error that nobody asked for, from its own file."""
  fails = compile("1 / 0", "site-packages/orbax/checkpoint/x.py", "exec")
  with storage.quiet_log():
    try:
      exec(fails, {})
    except ZeroDivisionError:
      logging.getLogger("asyncio").exception("Future exception")
  assert caplog.records == []


def test_what_others_log_while_a_run_saves_is_heard(tmp_path, caplog):
  with checkpoint.saver(tmp_path, keep=1):
    logging.getLogger("absl").warning("of another library")
    logging.getLogger("asyncio").error("too")
  assert [r.getMessage() for r in caplog.records] == [
    "of another library",
    "too",
  ]
