"""Batches of pairs: functions of the step, coupled as their whole pool is."""

import jax
import numpy as np
import pytest

from jaxgen import couplings
from jaxgen.data import loaders, pairs
from tests import expect

SIZE, POOL = 4, 3


def examples(number):
  """Pool `number` of the data, labelled, and of the source, [12, 2]."""
  rng = np.random.default_rng(number)
  data, source = rng.standard_normal((2, SIZE * POOL, 2)).astype("float32")
  return data, rng.integers(0, 3, SIZE * POOL), source


def by_exact(key, data, source, labels):
  return couplings.exact(data, source)


def by_chance(key, data, source, labels):
  return np.asarray(jax.random.permutation(key, len(data)))


def batches(
  couple=by_exact, num_batches=POOL, batch_size=SIZE, seed=0, pool=examples
):
  """Of pools (data, labels, source) by their number."""
  parts = lambda number: pool(number)[:2], lambda number: pool(number)[2]
  key = jax.random.key(seed)
  return pairs.batches(*parts, key, batch_size, couple, num_batches)


def assert_same(one, two):
  for a, b in zip(one, two, strict=True):
    np.testing.assert_array_equal(a, b)


def test_a_pool_is_coupled_as_a_whole_and_labels_stay_with_the_data():
  batch_fn = batches()
  for number in (0, 5):
    data, labels, source = examples(number)
    steps = range(POOL * number, POOL * (number + 1))
    parts = [batch_fn(step) for step in steps]
    assert all(len(part[0]) == SIZE for part in parts)
    joined = [np.concatenate(part) for part in zip(*parts, strict=True)]
    order = couplings.exact(data, source)
    assert_same(joined, (data, labels, source[order]))
    # Which batch after batch would not have found.
    apart = [
      rows[0] + couplings.exact(data[rows], source[rows])
      for rows in np.arange(SIZE * POOL).reshape(POOL, SIZE)
    ]
    assert (np.concatenate(apart) != order).any()


@pytest.mark.parametrize("couple", [by_exact, by_chance, None])
def test_a_batch_is_a_function_of_its_step_in_any_order(couple):
  unbroken = [batches(couple)(step) for step in range(9)]
  batch_fn = batches(couple)
  for step in (7, 0, 8, 3, 3, 1, 6):
    assert_same(batch_fn(step), unbroken[step])
  resumed = batches(couple)
  for step in range(4, 9):
    assert_same(resumed(step), unbroken[step])


def test_the_key_and_the_pool_decide_a_random_coupling():
  same_data = lambda seed: batches(
    by_chance, 1, SIZE * POOL, seed, lambda number: examples(0)
  )
  first, other = same_data(0), same_data(1)
  assert_same(first(0), same_data(0)(0))
  assert (first(0)[2] != other(0)[2]).any()
  assert (first(0)[2] != first(1)[2]).any()


def test_without_a_coupling_or_labels():
  bare = lambda number: (*map(jax.numpy.asarray, examples(number)[::2]),)
  data_fn = lambda number: (bare(number)[0], None)
  source_fn, key = lambda number: examples(number)[2], jax.random.key(0)
  data, labels, source = pairs.batches(data_fn, source_fn, key, SIZE * POOL)(2)
  assert labels is None and isinstance(data, np.ndarray)
  assert_same((data, source), examples(2)[::2])


def test_conditional_sees_the_labels():
  couple = lambda key, data, source, labels: couplings.conditional(
    data, source, labels
  )
  data, labels, source = batches(couple, num_batches=1, batch_size=12)(1)
  truth, kept, free = examples(1)
  order = couplings.conditional(truth, free, kept)
  assert_same((data, labels, source), (truth, kept, free[order]))
  bare = lambda number: (truth, None, free)
  unlabelled = batches(couple, 1, 12, pool=bare)
  expect.error("condition: expected one value", unlabelled, 0)


def test_in_the_thread_of_prefetch():
  batch_fn, ahead = batches(), loaders.prefetch(batches())
  for step in (0, 1, 2, 3, 11, 12):
    placed = ahead(step)
    assert all(isinstance(leaf, jax.Array) for leaf in placed)
    assert_same(placed, batch_fn(step))


def test_what_does_not_fit_is_refused():
  expect.error("data: expected 15 examples in a pool", batches(batch_size=5), 0)
  data, labels, source = examples(0)
  short = batches(pool=lambda number: (data, labels, source[:11]))
  expect.error(r"source: expected 12 .*; got 11", short, 0)
  for bad in (dict(batch_size=0), dict(num_batches=0), dict(batch_size=-4)):
    expect.error("expected at least 1", batches, **bad)
  args = pairs.batches, examples, examples, jax.random.PRNGKey(0), SIZE
  expect.error("key: expected a typed key", *args)
