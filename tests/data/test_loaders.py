import time

import jax
import numpy as np
import pytest

from jaxgen.data import loaders


def stream(key, size, batch_size, num_steps):
  batch_fn = loaders.batches(np.arange(size), key, batch_size)
  return np.concatenate([batch_fn(step) for step in range(num_steps)])


@pytest.mark.parametrize("batch_size", [1, 4, 7, 10, 23])
def test_each_epoch_is_a_permutation(batch_size):
  """Straddling batches and batches larger than the data included."""
  rows = stream(jax.random.key(0), 10, batch_size, 210 // batch_size)
  epochs = rows[: len(rows) // 10 * 10].reshape(-1, 10)
  assert len(epochs) > 10
  np.testing.assert_array_equal(
    np.sort(epochs, 1), np.tile(np.arange(10), (len(epochs), 1))
  )
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


def test_fast_enough_for_digits():
  """At least 1000 batches a second of processor time, on a busy machine."""
  data = (np.zeros((1257, 8, 8, 1), np.float32), np.zeros(1257, np.int32))
  batch_fn = loaders.batches(data, jax.random.key(0), 64)
  start = time.process_time()
  for step in range(1000):
    batch_fn(step)
  assert time.process_time() - start < 1


@pytest.mark.parametrize(
  ("arrays", "batch_size", "message"),
  [
    (np.zeros(3), 0, "batch_size: expected at least 1, got 0"),
    (np.zeros((0, 2)), 1, "at least one example"),
    ((), 1, "got none or a scalar"),
    ((np.zeros(3), np.float32(1.0)), 1, "got none or a scalar"),
    ((np.zeros(3), np.zeros(4)), 1, r"one leading size, got \[3, 4\]"),
  ],
)
def test_bad_data_are_refused(arrays, batch_size, message):
  with pytest.raises(ValueError, match=message):
    loaders.batches(arrays, jax.random.key(0), batch_size)


def test_bad_keys_and_steps_are_refused():
  with pytest.raises(ValueError, match=r"expected a typed key"):
    loaders.batches(np.zeros(3), jax.random.PRNGKey(0), 1)
  with pytest.raises(ValueError, match="expected one"):
    loaders.batches(np.zeros(3), jax.random.split(jax.random.key(0)), 1)
  with pytest.raises(ValueError, match="step: expected at least 0, got -1"):
    loaders.batches(np.zeros(3), jax.random.key(0), 2)(-1)
