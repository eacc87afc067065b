"""Steps of games against hand-written loops and recursions."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen.training import ema, state, step
from tests import expect, trees


def _loss(params, key, batch):
  """A linear regression with dropout, so that keys matter."""
  x, y = batch
  mask = jax.random.bernoulli(key, 0.5, x.shape)
  residual = (x * mask) @ params["w"] + params["b"] - y
  return jnp.mean(residual**2), {"bias": params["b"]}


def _params():
  return {"w": jnp.array([0.5, -1.0, 2.0]), "b": jnp.zeros(())}


def _batch(step):
  rng = np.random.default_rng(step)
  shape = (8, 3)
  return rng.normal(size=shape).astype("f"), rng.normal(size=8).astype("f")


def test_one_player_equals_the_loop_written_by_hand():
  adam = optax.adam(optax.cosine_decay_schedule(0.1, 10))
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), adam)
  mean = plain = params = _params()
  opt_state, losses = optimizer.init(params), []

  @jax.jit
  def update(params, opt_state, key, batch):
    (loss, _), grads = jax.value_and_grad(_loss, has_aux=True)(
      params, key, batch
    )
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, loss

  for i in range(6):
    key = jax.random.fold_in(jax.random.key(5), i)
    key = jax.random.fold_in(jax.random.fold_in(key, 0), 0)
    params, opt_state, loss = update(params, opt_state, key, _batch(i))
    decay = min(0.99, (1 + i) / (10 + i))
    mean = jax.tree.map(lambda m, p: decay * m + (1 - decay) * p, mean, params)
    plain = jax.tree.map(lambda m, p: m + (p - m) / (i + 1), plain, params)
    losses.append(loss)

  traced = chex.assert_max_traces(_loss, n=1)
  turns = step.single(
    traced, optimizer, {"mean": ema.warmup(0.99), "all": ema.power(12**-0.5)}
  )
  train_step = step.make_train_step(turns)
  now = state.init(jax.random.key(5), {"model": _params()}, turns)
  ours = []
  for i in range(6):
    now, metrics = train_step(now, {"model": _batch(i)})
    assert metrics.keys() == {"loss", "bias"}
    ours.append(metrics["loss"])
  np.testing.assert_allclose(ours, losses, rtol=1e-6)
  trees.assert_close(now.players["model"].params, params, rtol=1e-5)
  means = {"mean": mean, "all": plain}
  trees.assert_close(now.players["model"].ema, means, rtol=1e-5)
  assert int(now.step) == 6 and now.key == jax.random.key(5)


def _saddle(num_steps=5):
  """min over x, max over y of f = x y, y's gradient scaled by its batch."""

  @chex.assert_max_traces(n=1)
  def x_loss(params, extras, key, batch, number):
    return params["x"] * params["y"], ({}, extras)

  @chex.assert_max_traces(n=1)
  def y_loss(params, extras, key, batch, number):
    value = params["x"] * params["y"]
    extras = {"count": extras["count"] + 1}
    return -batch * value, ({"y": params["y"]}, extras)

  means = {"half": ema.constant(0.5), "all": ema.power(12**-0.5)}
  return (
    step.Turn("y", y_loss, optax.sgd(0.1), num_steps, averages=means),
    step.Turn("x", x_loss, optax.sgd(0.2)),
  )


def test_two_players_equal_the_recursion():
  """y <- y + .1 b_k x, five times; then x <- x - .2 y; ema halfway."""
  turns = _saddle()
  train_step = step.make_train_step(turns)
  params = {"x": jnp.float32(1.0), "y": jnp.float32(-0.5)}
  now = state.init(jax.random.key(0), params, turns, {"count": jnp.int32(0)})
  x, y, mean, updates = 1.0, -0.5, -0.5, []
  for i in range(4):
    scales = np.linspace(0.5, 1.5, 5, dtype="f") * (i + 1)
    now, metrics = train_step(now, {"x": jnp.zeros(()), "y": scales})
    for b in scales:
      y_before, y_loss = y, -b * x * y
      y += 0.1 * b * x
      mean = 0.5 * (mean + y)
      updates.append(y)
    x_loss = x * y
    x -= 0.2 * y
    expected = {"y/loss": y_loss, "y/y": y_before, "x/loss": x_loss}
    expect.close(metrics, expected, rtol=1e-5)
  np.testing.assert_allclose(now.players["x"].params, x, rtol=1e-5)
  np.testing.assert_allclose(now.players["y"].params, y, rtol=1e-5)
  np.testing.assert_allclose(now.players["y"].ema["half"], mean, rtol=1e-5)
  # The plain mean of all twenty updates: rules count the inner steps.
  found = now.players["y"].ema["all"]
  np.testing.assert_allclose(found, np.mean(updates), rtol=1e-5)
  assert now.players["x"].ema == {}
  assert int(now.extras["count"]) == 20 and int(now.step) == 4


def test_every_step_turn_and_inner_step_has_its_own_key():
  def loss_fn(params, extras, key, batch, number):
    draws = jnp.roll(extras["draws"], 1).at[0].set(jax.random.uniform(key))
    return params["a"] ** 2, ({}, {"draws": draws})

  turns = (
    step.Turn("a", loss_fn, optax.sgd(0.1)),
    step.Turn("b", loss_fn, optax.sgd(0.1), num_steps=3),
  )
  train_step = step.make_train_step(turns)
  params = {"a": jnp.ones(()), "b": jnp.ones(())}
  now = state.init(jax.random.key(1), params, turns, {"draws": jnp.zeros(8)})
  for _ in range(2):
    now, _ = train_step(now, {"a": None, "b": None})

  expected, fold = [], jax.random.fold_in
  for i in range(2):
    for turn, inner in [(0, 0), (1, 0), (1, 1), (1, 2)]:
      key = fold(fold(fold(jax.random.key(1), i), turn), inner)
      expected.append(float(jax.random.uniform(key)))
  draws = np.asarray(now.extras["draws"])[::-1]
  assert len(np.unique(draws)) == 8 and int(now.step) == 2
  np.testing.assert_array_equal(draws, np.float32(expected))


def test_a_loss_sees_the_step_of_the_game():
  """A table of weights, by the step: the same at all inner steps of a step."""
  weights = np.float32([1.0, 0.5, 4.0])

  @chex.assert_max_traces(n=1)
  def loss_fn(params, extras, key, batch, number):
    return jnp.asarray(weights)[number] * params["w"], ({}, extras)

  turns = (step.Turn("w", loss_fn, optax.sgd(1.0), num_steps=2),)
  now = state.init(jax.random.key(0), {"w": jnp.zeros(())}, turns)
  train_step = step.make_train_step(turns)
  for total in (2.0, 3.0, 11.0):
    now, _ = train_step(now, {"w": None})
    assert float(now.players["w"].params) == -total


def test_a_projection_follows_every_update_and_frozen_players_stay():
  def loss_fn(params, extras, key, batch, number):
    value = jnp.sum(params["critic"] * params["teacher"])
    return -value, ({}, extras)

  clip = lambda params: jax.tree.map(lambda p: jnp.clip(p, -0.1, 0.1), params)
  means = {"now": ema.constant(0.0)}
  turns = (step.Turn("critic", loss_fn, optax.sgd(1.0), 1, clip, means),)
  params = {"critic": jnp.zeros(2), "teacher": jnp.array([0.05, 3.0])}
  now = state.init(jax.random.key(0), params, turns)
  train_step = step.make_train_step(turns)
  now, metrics = train_step(now, {"critic": jnp.zeros(())})
  assert metrics.keys() == {"loss"}
  np.testing.assert_allclose(now.players["critic"].params, [0.05, 0.1])
  np.testing.assert_allclose(now.players["critic"].ema["now"], [0.05, 0.1])
  teacher = now.players["teacher"].params
  np.testing.assert_array_equal(teacher, params["teacher"])


def test_optimizers_that_read_the_loss():
  """The plateau rule halves the rate at the second loss that is no better."""
  rule = dict(factor=0.5, patience=1, rtol=0.0, atol=1e-6)
  plateau = optax.contrib.reduce_on_plateau(**rule)
  optimizer = optax.chain(optax.sgd(1.0), plateau)
  turns = step.single(lambda w, key, batch: (w - w + 1.0, {}), optimizer)
  train_step = step.make_train_step(turns)
  now = state.init(jax.random.key(0), {"model": jnp.ones(())}, turns)
  for _ in range(3):
    now, _ = train_step(now, {"model": jnp.zeros(())})
  assert float(now.players["model"].opt_state[1].scale) < 1


def test_a_loss_without_metrics_is_refused():
  turns = step.single(lambda w, key, batch: w, optax.sgd(0.1))
  now = state.init(jax.random.key(0), {"model": jnp.ones(())}, turns)
  train_step, batch = step.make_train_step(turns), {"model": jnp.zeros(())}
  expect.error(r"loss_fn: expected \(loss, metrics\)", train_step, now, batch)


def test_bad_batches_and_games():
  turns = _saddle()
  params = {"x": jnp.ones(()), "y": jnp.ones(())}
  now = state.init(jax.random.key(0), params, turns, {"count": jnp.int32(0)})
  one, short = {"x": jnp.zeros(())}, {"x": jnp.zeros(()), "y": np.ones(4, "f")}
  for batches, said in (
    (one, r"players \['x', 'y'\], got \['x'\]"),
    (short, r"num_steps = 5, got shape \(4,\)"),
  ):
    expect.error(said, step.make_train_step(turns), now, batches)
  for game, said in (
    ((), r"one turn per player, got \[\]"),
    ((turns[0], turns[0]), "one turn per player"),
    (_saddle(num_steps=0), "y: expected num_steps .* got 0"),
  ):
    expect.error(said, step.make_train_step, game)


def test_jit_equals_no_jit():
  turns = step.single(_loss, optax.sgd(0.1), {"mean": ema.constant(0.9)})
  results = []
  for off in (False, True):
    now = state.init(jax.random.key(5), {"model": _params()}, turns)
    with jax.disable_jit(off):
      now, _ = step.make_train_step(turns)(now, {"model": _batch(0)})
    results.append(now.players)
  trees.assert_close(*results, rtol=1e-6)


def test_few_programs_of_a_step_are_under_way_at_once(monkeypatch):
  waited, wait = [], jax.block_until_ready
  monkeypatch.setattr(
    step.jax, "block_until_ready", lambda x: waited.append(x) or wait(x)
  )
  turns = _saddle(num_steps=12)
  params = {"x": jnp.float32(1.0), "y": jnp.float32(-0.5)}
  now = state.init(jax.random.key(0), params, turns, {"count": jnp.int32(0)})
  batches = {"y": jnp.ones(12), "x": jnp.float32(0)}
  now, _ = step.make_train_step(turns)(now, batches)
  assert len(waited) == 12 + 1 - step.AHEAD
