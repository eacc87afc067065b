"""Samples of a Markov chain, whose distribution is known, by both samplers."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxgen import outputs, samplers
from tests import expect

LENGTH, LEVELS = 3, 3
OUTPUT = outputs.categorical(LEVELS)
FIRST = np.log(np.array([0.2, 0.5, 0.3]))
MOVES = np.log(np.array([[0.1, 0.6, 0.3], [0.7, 0.2, 0.1], [0.3, 0.3, 0.4]]))
EVERY = np.array(list(itertools.product(range(LEVELS), repeat=LENGTH)))


def step_fn(memory, before, i):
  """Memory counts the positions, and keeps the token it was given."""
  first, moves = jnp.asarray(FIRST, "float32"), jnp.asarray(MOVES, "float32")
  count, _ = memory
  params = jnp.where(count == 0, first, moves[before])
  return (count + 1, before), params


def params_fn(levels):
  """The same chain on all positions at once."""
  moves = jnp.asarray(MOVES, "float32")[levels[:-1]]
  return jnp.concatenate([jnp.asarray(FIRST, "float32")[None], moves])


def by_steps(key, given=None):
  zero = jnp.zeros((), jnp.int32)
  memory = zero, zero
  return samplers.autoregressive(step_fn, memory, OUTPUT, LENGTH, key, given)


def by_forwards(key, given=None, order=None):
  fn = params_fn
  if order is not None:
    place = np.argsort(order)
    fn = lambda levels: params_fn(levels[order])[place]
  return samplers.autoregressive_by_forwards(
    fn, OUTPUT, (LENGTH,), key, order=order, given=given
  )


def keys_of(number):
  return jax.random.split(jax.random.key(0), number)


def probabilities():
  log_p = FIRST[EVERY[:, 0]]
  for i in (1, 2):
    log_p = log_p + MOVES[EVERY[:, i - 1], EVERY[:, i]]
  return np.exp(log_p)


def test_frequencies_are_the_chains_and_both_samplers_agree():
  levels = jax.jit(jax.vmap(by_steps))(keys_of(4000))
  assert levels.shape == (4000, LENGTH) and levels.dtype == jnp.int32
  counts = np.bincount(np.asarray(levels) @ [9, 3, 1], minlength=27)
  truth = probabilities()
  np.testing.assert_allclose(truth.sum(), 1)
  assert stats.chisquare(counts, 4000 * truth).pvalue > 1e-3
  again = jax.jit(jax.vmap(by_forwards))(keys_of(4000)[:64])
  np.testing.assert_array_equal(again, levels[:64])


def test_a_sample_is_its_keys_alone():
  run = jax.jit(by_steps)
  keys = jax.random.split(jax.random.key(1), 3)
  many = jax.jit(jax.vmap(by_steps))(keys)
  for key, row in zip(keys, many, strict=True):
    np.testing.assert_array_equal(run(key), row)
  np.testing.assert_array_equal(by_steps(keys[0]), many[0])


def test_given_levels_condition_the_rest():
  given = jnp.array([1, 0])
  run = functools.partial(by_steps, given=given)
  levels = np.asarray(jax.jit(jax.vmap(run))(keys_of(4000)))
  np.testing.assert_array_equal(levels[:, :2], [[1, 0]] * 4000)
  counts = np.bincount(levels[:, 2], minlength=3)
  assert stats.chisquare(counts, 4000 * np.exp(MOVES[0])).pvalue > 1e-3
  run = functools.partial(by_forwards, given=given)
  again = jax.jit(jax.vmap(run))(keys_of(4000)[:64])
  np.testing.assert_array_equal(again, levels[:64])
  whole = by_steps(jax.random.key(1), jnp.array([2, 2, 1]))
  np.testing.assert_array_equal(whole, [2, 2, 1])


def test_an_order_places_the_same_sample():
  order = np.array([2, 0, 1])
  plain = np.asarray(jax.jit(jax.vmap(by_forwards))(keys_of(64)))
  run = functools.partial(by_forwards, order=order)
  found = np.asarray(jax.jit(jax.vmap(run))(keys_of(64)))
  np.testing.assert_array_equal(found[:, order], plain)
  run = functools.partial(run, given=jnp.array([1]))
  found = np.asarray(jax.jit(jax.vmap(run))(keys_of(64)))
  assert (found[:, 2] == 1).all() and len(np.unique(found[:, 0])) == 3


def test_an_image_by_full_forwards():
  """Each pixel copies the one before it: the rows are constant."""

  def params_fn(levels):
    before = jnp.pad(levels.ravel()[:-1], (1, 0))
    logits = 200.0 * jax.nn.one_hot(before, 2) - 100
    return logits.at[0].set(0.0).reshape(2, 2, 1, 2)

  run = lambda key: samplers.autoregressive_by_forwards(
    params_fn, outputs.categorical(2), (2, 2, 1), key
  )
  found = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 32))
  assert found.shape == (32, 2, 2, 1)
  rows = np.asarray(found).reshape(32, 4)
  assert (rows == rows[:, :1]).all() and 0 < rows.mean() < 1


@pytest.mark.parametrize("call", [by_steps, by_forwards])
def test_bad_keys_and_given_levels(call):
  key = jax.random.key(0)
  expect.error("^key: expected a typed key", call, jax.random.PRNGKey(0))
  said = r"^given: expected at most 3 levels \[G\], got shape"
  expect.error(said, call, key, jnp.zeros(4, jnp.int32))
  expect.error(said, call, key, jnp.zeros((1, 1), jnp.int32))


def test_bad_sizes_and_orders():
  key = jax.random.key(0)
  run = lambda length, output=OUTPUT: samplers.autoregressive(
    step_fn, (0, 0), output, length, key
  )
  expect.error("^length: expected at least 1, got 0", run, 0)
  two = outputs.categorical(2)
  said = r"^step_fn: expected parameters of shape \(2,\), got \(3,\)"
  expect.error(said, run, 3, two)
  for order in (np.array([0, 0, 1]), np.arange(2)):
    said = "^order: expected a permutation of 0, ..., 2"
    expect.error(
      said,
      samplers.autoregressive_by_forwards,
      params_fn,
      OUTPUT,
      (3,),
      key,
      order,
    )
  said = r"^params_fn: expected parameters of shape \(3, 2\), got \(3, 3\)"
  expect.error(
    said, samplers.autoregressive_by_forwards, params_fn, two, (3,), key
  )
