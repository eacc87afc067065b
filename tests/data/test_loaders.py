import gc
import threading

import jax
import numpy as np
import pytest

from jaxgen.data import loaders
from tests import expect, processes


def stream(key, size, batch_size, num_steps):
  batch_fn = loaders.batches(np.arange(size), key, batch_size)
  return np.concatenate([batch_fn(step) for step in range(num_steps)])


@pytest.mark.parametrize("batch_size", [1, 4, 7, 10, 23])
def test_each_epoch_is_a_permutation(batch_size):
  """Straddling batches and batches larger than the data included."""
  rows = stream(jax.random.key(0), 10, batch_size, 210 // batch_size)
  epochs = rows[: len(rows) // 10 * 10].reshape(-1, 10)
  assert len(epochs) > 10
  every = np.tile(np.arange(10), (len(epochs), 1))
  np.testing.assert_array_equal(np.sort(epochs, 1), every)
  assert len(np.unique(epochs, axis=0)) == len(epochs)


def test_the_row_of_epochs_does_not_depend_on_the_batch_size():
  one = stream(jax.random.key(1), 12, 1, 60)
  np.testing.assert_array_equal(one, stream(jax.random.key(1), 12, 5, 12))
  np.testing.assert_array_equal(one, stream(jax.random.key(1), 12, 30, 2))


def test_a_batch_is_a_function_of_key_and_step():
  make = lambda seed: loaders.batches(np.arange(50), jax.random.key(seed), 8)
  forward, again = make(3), make(3)
  batches = [forward(step) for step in range(40)]
  for step in (39, 0, 17, 17, 5):  # out of order, from a loader that is new
    np.testing.assert_array_equal(again(step), batches[step])
    np.testing.assert_array_equal(again(np.int64(step)), batches[step])
  other = make(4)
  assert any(np.any(other(step) != batches[step]) for step in range(3))


def test_every_order_is_as_likely():
  """Chi-square of the 24 orders of 4 examples, 23 degrees of freedom."""
  rows = stream(jax.random.key(5), 4, 4, 2400).reshape(-1, 4)
  _, counts = np.unique(rows, axis=0, return_counts=True)
  assert len(counts) == 24
  assert np.sum((counts - 100) ** 2 / 100) < 49.7  # p = .001


def test_a_pytree_keeps_its_rows_together():
  images = np.random.default_rng(0).normal(size=(9, 2, 2, 1)).astype(np.float32)
  data = {"image": images, "label": (np.arange(9), np.arange(9) * 10)}
  batch = loaders.batches(data, jax.random.key(0), 4)(1)
  label, tens = batch["label"]
  assert batch["image"].dtype == np.float32
  np.testing.assert_array_equal(batch["image"], images[label])
  np.testing.assert_array_equal(tens, label * 10)


def test_a_batch_is_a_copy():
  data = np.arange(6.0)
  batch_fn = loaders.batches(data, jax.random.key(0), 6)
  batch_fn(0)[:] = -1
  np.testing.assert_array_equal(np.sort(batch_fn(0)), np.arange(6.0))


@pytest.mark.parametrize(
  ("arrays", "batch_size", "message"),
  [
    (np.zeros(3), 0, "batch_size: expected at least 1, got 0"),
    (np.zeros(3), -1, "batch_size: expected at least 1, got -1"),
    (np.zeros((0, 2)), 1, "at least one example"),
    ((), 1, "got none or a scalar"),
    ((np.zeros(3), np.float32(1.0)), 1, "got none or a scalar"),
    ((np.zeros(3), np.zeros(4)), 1, r"one leading size, got \[3, 4\]"),
  ],
)
def test_bad_data_are_refused(arrays, batch_size, message):
  key = jax.random.key(0)
  expect.error(message, loaders.batches, arrays, key, batch_size)


def test_bad_keys_and_steps_are_refused():
  rows, legacy = np.zeros(3), jax.random.PRNGKey(0)
  two = jax.random.split(jax.random.key(0))
  expect.error("expected a typed key", loaders.batches, rows, legacy, 1)
  expect.error("expected one", loaders.batches, rows, two, 1)
  batch_fn = loaders.batches(rows, jax.random.key(0), 2)
  expect.error("step: expected at least 0, got -1", batch_fn, -1)


def test_a_subset_is_the_rows_of_a_source():
  source = loaders.in_memory({"x": np.arange(10) * 10})
  part = loaders.subset(source, np.array([7, 2, 5]))
  assert part.size == 3
  np.testing.assert_array_equal(part.read(np.array([2, 0]))["x"], [50, 70])
  batch = loaders.batches_from(part, jax.random.key(0), 3)(0)
  np.testing.assert_array_equal(np.sort(batch["x"]), [20, 50, 70])


@pytest.mark.parametrize("there", [(), ("test",), ("validation",)])
@pytest.mark.parametrize("size, held_out", [(4, 1), (57, 5), (20000, 1000)])
def test_what_a_set_lacks_is_cut_from_train(size, held_out, there):
  own = loaders.in_memory(np.arange(-3, 0))
  train = loaders.in_memory(np.arange(size))
  given = {"train": train} | dict.fromkeys(there, own)
  parts = loaders.with_held_out(given, "x")
  whole = {n: part.read(np.arange(part.size)) for n, part in parts.items()}
  assert whole.keys() == {"train", "validation", "test"}
  for name in there:
    assert parts[name] is own
  cut = [whole[n] for n in ("test", "validation", "train") if n not in there]
  assert [len(rows) for rows in cut[:-1]] == [held_out] * len(cut[:-1])
  order = np.random.RandomState(0).permutation(size)
  np.testing.assert_array_equal(np.concatenate(cut), order)


def test_a_set_with_all_its_parts_stays_as_it_is():
  one = loaders.in_memory(np.arange(1))
  parts = dict.fromkeys(("train", "validation", "test"), one)
  assert loaders.with_held_out(parts, "x") is parts


def test_too_few_to_hold_out_are_refused():
  parts = {"train": loaders.in_memory(np.arange(2))}
  said = r"a\.npz: expected at least 3 examples"
  expect.error(said, loaders.with_held_out, parts, "a.npz")


def test_ahead_is_the_same_function():
  data = np.arange(50.0)
  plain = loaders.batches(data, jax.random.key(0), 8)
  ahead = loaders.prefetch(plain)
  for step in (0, 1, 2, 3, 17, 18, 2, 2, 3, np.int64(4), 0):
    batch = ahead(step)
    assert isinstance(batch, jax.Array)
    np.testing.assert_array_equal(batch, plain(int(step)))


def test_a_resumed_run_sees_the_same_batches():
  make = lambda: loaders.prefetch(
    loaders.batches(np.arange(50), jax.random.key(3), 8), depth=3
  )
  unbroken = make()
  batches = [np.asarray(unbroken(step)) for step in range(12)]
  resumed = make()
  for step in range(7, 12):
    np.testing.assert_array_equal(resumed(step), batches[step])


@pytest.mark.parametrize("depth", [1, 4])
def test_it_works_so_many_steps_ahead_and_no_more(depth):
  asked = []
  done = threading.Semaphore(0)

  def batch_fn(step):
    asked.append((step, threading.current_thread()))
    done.release()
    return step

  ahead = loaders.prefetch(batch_fn, place=lambda step: -step, depth=depth)
  assert not asked  # nothing before the first question
  assert [ahead(0), ahead(1)] == [0, -1]
  for _ in range(depth + 2):
    assert done.acquire(timeout=60)
  assert [step for step, _ in asked] == list(range(depth + 2))
  threads = {thread for _, thread in asked}
  assert len(threads) == 1 and threading.main_thread() not in threads


def test_a_fault_is_raised_at_its_own_step():
  def batch_fn(step):
    if step == 2:
      raise OSError("row 2 cannot be read")
    return step

  ahead = loaders.prefetch(batch_fn, place=lambda batch: batch, depth=4)
  assert [ahead(0), ahead(1)] == [0, 1]
  for _ in range(2):  # as often as it is asked
    with pytest.raises(OSError, match="row 2 cannot be read"):
      ahead(2)
  assert [ahead(3), ahead(4)] == [3, 4]


def test_the_thread_ends_with_the_function():
  threads = []

  def batch_fn(step):
    threads.append(threading.current_thread())
    return step

  ahead = loaders.prefetch(batch_fn)
  ahead(0)
  assert threads[0].is_alive()
  del ahead
  gc.collect()
  threads[0].join(timeout=60)
  assert not threads[0].is_alive()


def test_a_process_ends_in_the_middle_of_a_run():
  code = """
import numpy as np
from jaxgen.data import loaders
ahead = loaders.prefetch(lambda step: np.full(1000, step), depth=8)
print(float(ahead(0)[0] + ahead(1)[0]))
raise SystemExit(3)
"""
  done = processes.python("-c", code, timeout=300)
  assert (done.returncode, done.stdout, done.stderr) == (3, "1.0\n", "")


def test_a_depth_of_none_is_refused():
  said = "depth: expected at least 1, got 0"
  expect.error(said, loaders.prefetch, lambda step: step, depth=0)
