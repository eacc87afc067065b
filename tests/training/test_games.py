"""jaxgen.training.games: batches of a game, and games without a run."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen.training import games, step


def _turn(player, inner=1):
  """A parameter that the batch's mean pulls by the rate 1."""

  def loss_fn(params, extras, key, batch, number):
    extras = {"seen": extras["seen"] + 1}
    return -params[player] * jnp.mean(batch), ({}, extras)

  return step.Turn(player, loss_fn, optax.sgd(1.0), inner)


TURNS = _turn("a", 3), _turn("b")


def test_by_inner_step_puts_the_inner_steps_in_front():
  batch = {"x": np.arange(24.0).reshape(12, 2), "label": np.arange(12)}
  found = games.by_inner_step(TURNS[0], batch)
  assert found["x"].shape == (3, 4, 2) and found["label"].shape == (3, 4)
  np.testing.assert_array_equal(found["label"].ravel(), batch["label"])
  np.testing.assert_array_equal(found["x"].reshape(12, 2), batch["x"])
  assert games.by_inner_step(TURNS[1], batch) is batch
  pair = games.by_inner_step(TURNS[0], (np.arange(6), None))
  assert pair[0].shape == (3, 2) and pair[1] is None


def _draw(key, number):
  return jax.random.normal(key, (number, 2))


def _zipped(key):
  make = lambda key, number: (
    lambda step: np.asarray(_draw(jax.random.fold_in(key, step), number))
  )
  keys = jax.random.split(key)
  return games.zipped(TURNS, 5, *((make, k) for k in keys))


@pytest.mark.parametrize("zipped", [False, True])
def test_batches_are_fresh_and_a_function_of_key_and_step(zipped):
  make = _zipped if zipped else lambda k: games.batches(TURNS, 5, _draw, k)
  batch_fn = make(jax.random.key(0))
  seen = []
  for batch in (batch_fn(0), batch_fn(1), make(jax.random.key(1))(0)):
    shapes = [x.shape for x in jax.tree.leaves(batch)]
    number = 2 if zipped else 1
    assert shapes == [(3, 5, 2)] * number + [(5, 2)] * number
    seen += [np.ravel(x) for x in jax.tree.leaves(batch)]
  flat = np.concatenate(seen)
  assert len(np.unique(flat)) == len(flat)  # nobody sees a sample twice
  again = jax.tree.leaves(batch_fn(0))
  for one, two in zip(again, seen[: len(again)], strict=True):
    np.testing.assert_array_equal(np.ravel(one), two)


def test_a_game_is_played_without_a_run():
  batch_fn = lambda number: {
    "a": np.float32([[1.0], [2.0], [3.0]]) + number,
    "b": np.ones(4, "float32"),
  }
  start = {"a": jnp.zeros(()), "b": jnp.ones(())}
  extras = {"seen": jnp.int32(0)}
  now = games.play(TURNS, start, batch_fn, 2, jax.random.key(0), extras)
  assert int(now.step) == 2 and int(now.extras["seen"]) == 8
  assert float(now.players["a"].params) == 6 + 9
  assert float(now.players["b"].params) == 1 + 2
