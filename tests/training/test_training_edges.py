"""Training's settings at their edges: averages, sharding, games, records."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen.training import (
  checkpoint,
  ema,
  leaves,
  logging,
  loop,
  sharding,
  state,
  step,
)
from tests import expect


def test_decays_from_nothing_to_everything():
  for decay in (0.0, 0.25, 1.0):
    np.testing.assert_allclose(ema.constant(decay)(7), 1 - decay)
    # 9 / (10 + step), from step 0: .9 of the first.
    warm, least = ema.warmup(decay), 1 - decay
    np.testing.assert_allclose(warm(0), max(least, 0.9))
    np.testing.assert_allclose(warm(80), max(least, 0.1), rtol=1e-6)
  for rule in (ema.constant, ema.warmup):
    for bad in (-1e-3, 1.001, math.nan):
      expect.error("decay: expected", rule, bad)


def test_exponents_of_lengths():
  """Published: .05 is 16.97 and .1 is 6.94; 12^-.5 is the plain mean."""
  for length, gamma in ((0.05, 16.97), (0.1, 6.94)):
    found = ema.exponent(length)
    assert abs(found - gamma) < 0.005
    square = (found + 1) / ((found + 2) ** 2 * (found + 3))
    np.testing.assert_allclose(length**2, square, rtol=1e-9)
  assert abs(ema.exponent(12**-0.5)) < 1e-6
  for bad in (0.0, -0.1, 12**-0.5 + 1e-6, math.nan):
    expect.error("length: expected", ema.exponent, bad)
  # The first step sets it, and of the plain mean step i takes 1 / (i + 1).
  rule = ema.power(12**-0.5)
  np.testing.assert_allclose([rule(0), rule(4)], [1, 0.2], rtol=1e-5)


def test_one_stored_average_is_itself():
  np.testing.assert_allclose(ema.recombination([1], [0.1], 1, 0.1), [1])
  np.testing.assert_allclose(ema.recombination([7], [0.05], 9, 0.2), [1])
  for steps, at in (([0], 5), ([5], 0), ([3, 0], 5), ([-1], 5)):
    given = steps, [0.1] * len(steps), at, 0.1
    expect.error("step: expected at least 1", ema.recombination, *given)
  expect.error(
    "steps: expected one", ema.recombination, [1], [0.1, 0.2], 5, 0.1
  )
  mean = {"a": jnp.ones(2, jnp.bfloat16), "b": np.full(3, 2.0, np.float32)}
  found = ema.combine([0.5, 2.0], [mean, mean])
  assert found["a"].dtype == jnp.bfloat16 and found["b"].dtype == np.float32
  np.testing.assert_array_equal(found["b"], np.full(3, 5.0))
  np.testing.assert_array_equal(np.float32(found["a"]), [2.5, 2.5])


def game(loss_fn, num_steps=1):
  turns = (step.Turn("m", loss_fn, optax.sgd(0.5), num_steps),)
  params, extras = {"m": jnp.array([1.0, 2.0])}, {"n": jnp.zeros(())}
  now = state.init(jax.random.key(0), params, turns, extras)
  return step.make_train_step(turns), now


def test_the_smallest_game():
  train_step, now = game(lambda p, e, k, b, n: (jnp.sum(p["m"] * b), ({}, e)))
  now, metrics = train_step(now, {"m": jnp.array([2.0, -4.0])})
  np.testing.assert_allclose(now.players["m"].params, [0.0, 4.0])
  assert set(metrics) == {"loss"} and metrics["loss"] == -6
  assert int(now.step) == 1


def test_two_inner_steps_take_their_own_batches():
  loss = lambda p, e, k, b, n: (jnp.sum(p["m"]) * b, ({"b": b}, e))
  train_step, now = game(loss, 2)
  now, metrics = train_step(now, {"m": jnp.array([1.0, 3.0])})
  np.testing.assert_allclose(now.players["m"].params, [-1.0, 0.0])
  assert metrics["b"] == 3 and int(now.step) == 1
  for bad in (jnp.ones(()), jnp.ones(1), jnp.ones(3)):
    train_step, now = game(loss, 2)
    expect.error("num_steps = 2, got shape", train_step, now, {"m": bad})


@pytest.mark.parametrize(
  "result, match",
  [
    (lambda p, e: p.sum(), r"expected \(loss, \(metrics, extras\)\)"),
    (lambda p, e: (p.sum(), {}), r"expected \(loss, \(metrics, extras\)\)"),
    (lambda p, e: [p.sum(), ({}, e)], r"expected \(loss, \(metrics, ex"),
    (lambda p, e: (p.sum(), [{}, e]), r"expected \(loss, \(metrics, ex"),
    (lambda p, e: (p.sum(), ({}, e, e)), r"expected \(loss, \(metrics, ex"),
    (lambda p, e: (p.sum(), ({}, e), e), r"expected \(loss, \(metrics, ex"),
    (lambda p, e: (p, ({}, e)), "expected a real scalar loss, got float32"),
    (lambda p, e: (jnp.int32(1), ({}, e)), "real scalar loss, got int32"),
    (lambda p, e: (p.sum(), ([], e)), "expected metrics in a dict"),
    (lambda p, e: (p.sum(), ({"loss": p[0]}, e)), "without 'loss'"),
    (lambda p, e: (p.sum(), ({"a": p}, e)), r"scalar metrics, got a \(2,\)"),
    (lambda p, e: (p.sum(), ({}, {})), r"m: loss_fn: expected extras"),
    (
      lambda p, e: (p.sum(), ({}, {"n": p})),
      r"expected extras .*float32\(\), got .*float32\(2,\)",
    ),
  ],
)
def test_what_a_loss_may_not_return(result, match):
  train_step, now = game(lambda p, e, k, b, n: result(p["m"], e))
  expect.error(match, train_step, now, {"m": jnp.zeros(2)})


@pytest.mark.parametrize(
  "line", ['{"step": 1.5}', '{"step": "1"}', "1", "null", '["step"]', "{}"]
)
def test_what_is_no_record(tmp_path, line):
  path = tmp_path / "metrics.jsonl"
  path.write_text('{"step": 1}\n' + line + "\n")
  expect.error("line 2: expected a record", logging.read, path)
  path.write_text('{"step": 1}\n' + line)  # cut short: not yet a line
  assert logging.read(path) == [{"step": 1}]


def test_a_clock_counts_seconds_minutes_and_hours():
  seconds = (0, 59.4, 59.6, 3599.6, 36061)
  shown = "0:00:00 0:00:59 0:01:00 1:00:00 10:01:01"
  assert " ".join(map(logging._clock, seconds)) == shown


def test_what_a_saver_keeps(tmp_path):
  enter = lambda **settings: checkpoint.saver(tmp_path, **settings).__enter__()
  for keep in (0, -1):
    expect.error("keep: expected at least 1", enter, keep=keep)
  for items in ((), ("state", "other"), ("other",)):
    expect.error("items: expected some of", enter, keep=1, items=items)
  assert not any(tmp_path.iterdir())


def test_two_leaves_of_one_name_are_refused():
  tree = {"a": {"b": jnp.ones(1)}, "a/b": jnp.ones(1)}
  expect.error("two leaves are both named", leaves.flatten, tree)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("what", ["params", "ema"])
def test_one_number_in_one_shard_is_found(bad, what):
  with jax.default_device(None):
    mesh = sharding.mesh()
  good = jax.device_put(jnp.zeros((16, 2)), sharding.split(mesh))
  spoilt = jax.device_put(good.at[11, 1].set(bad), sharding.split(mesh))
  player = state.Player({"w": good}, (), {"fast": {"w": good}})
  now = state.State(jnp.int32(3), jax.random.key(0), {"m": player}, {})
  loop._check_params(3, now)
  tree = {"w": spoilt} if what == "params" else {"fast": {"w": spoilt}}
  now = now._replace(players={"m": player._replace(**{what: tree})})
  said = f"m: {what} are not finite at step 3"
  with pytest.raises(loop.Diverged, match=said):
    loop._check_params(3, now)
