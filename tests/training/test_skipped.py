"""Losses that are not finite, where the optimizer skips their updates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen.training import loop, state, step
from tests.training import runs

BAD = {2: np.nan, 3: np.inf, 7: np.nan}  # steps, counted from zero
RATE, NUM_STEPS = 0.1, 10
EVERY = dict(num_steps=NUM_STEPS, log_every=1, save_every=5)


def _loss(params, key, batch):
  """Its gradient is the batch, and not finite where the batch is not."""
  return jnp.sum(params["w"] * batch), {}


def _multi_steps(**settings):
  return optax.MultiSteps(optax.sgd(RATE), 1, **settings)


def _run(optimizer, *, bad=BAD, dtype=int):
  """(the state at the end, the log) of a run of NUM_STEPS."""
  turns = step.single(_loss, optimizer)
  params = {"model": {"w": jnp.ones(2)}}
  logged = {}
  batch_fn = lambda i: {"model": np.full(2, bad.get(i, 1.0), "f")}
  start = state.init(jax.random.key(0), params, turns)
  now = runs.quiet(
    step.make_train_step(turns),
    start,
    batch_fn,
    **{name: dtype(number) for name, number in EVERY.items()},
    log=lambda done, metrics: logged.update({done: metrics["loss"]}),
    hooks=[(dtype(1), lambda now: None)],
  )
  return now, logged


SKIPPING = _multi_steps(should_skip_update_fn=optax.skip_not_finite)
GUARDED = {
  "apply_if_finite": optax.apply_if_finite(optax.sgd(RATE), 2),
  "chained": optax.chain(optax.apply_if_finite(optax.sgd(RATE), 2)),
  "multi_steps": SKIPPING.gradient_transformation(),
}


@pytest.mark.parametrize("optimizer", GUARDED.values(), ids=GUARDED)
def test_a_skipped_step_does_not_end_the_run(optimizer):
  """w falls by the rate at every other step: 1 - .1 * 7."""
  now, logged = _run(optimizer)
  w = now.players["model"].params["w"]
  np.testing.assert_allclose(w, np.full(2, 1 - 7 * RATE), rtol=1e-5)
  bad = [done for done, loss in logged.items() if not np.isfinite(loss)]
  assert bad == [3, 4, 8] and int(now.step) == NUM_STEPS


def test_zeroed_gradients_do_not_end_the_run():
  optimizer = optax.chain(optax.zero_nans(), optax.sgd(RATE))
  now, _ = _run(optimizer, bad={4: np.nan})
  w = now.players["model"].params["w"]
  np.testing.assert_allclose(w, np.full(2, 1 - 9 * RATE), rtol=1e-4)


UNGUARDED = {
  "plain": (optax.sgd(RATE), 3),
  "gives up": (optax.apply_if_finite(optax.sgd(RATE), 1), 4),
  "accumulates": (_multi_steps().gradient_transformation(), 3),
  "infinite": (optax.chain(optax.zero_nans(), optax.sgd(RATE)), 4),
}


@pytest.mark.parametrize("optimizer, at", UNGUARDED.values(), ids=UNGUARDED)
def test_an_update_that_is_not_skipped_ends_the_run(optimizer, at):
  with pytest.raises(loop.Diverged, match=f"loss is .* at step {at}"):
    _run(optimizer)


def test_a_loss_alone_that_is_not_finite_ends_a_plain_run():
  """Whatever the parameters are, as its record promises."""
  turns = step.single(
    lambda params, key, batch: (jnp.sum(params) * 0 + jnp.nan, {}),
    optax.sgd(RATE),
  )
  start = state.init(jax.random.key(0), {"model": jnp.ones(2)}, turns)
  train_step = step.make_train_step(turns)
  unsaved, batch_fn = runs.saver(pytest.fail), lambda i: {"model": None}
  with pytest.raises(loop.Diverged, match="model: loss is nan at step 1"):
    runs.quiet(train_step, start, batch_fn, saver=unsaved)


@pytest.mark.parametrize("dtype", [np.int64, jnp.int32])
def test_periods_are_scalars_of_any_library(dtype):
  now, logged = _run(optax.sgd(RATE), bad={}, dtype=dtype)
  assert list(logged) == list(range(1, NUM_STEPS + 1))
  assert all(type(done) is int for done in logged)
  assert int(now.step) == NUM_STEPS
