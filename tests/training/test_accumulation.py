"""Gradient accumulation: parts of a batch, and the batch as a whole."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen.training import accumulation, ema, state, step
from tests import expect, trees

AVERAGES = {"slow": ema.warmup(0.9), "power": ema.power(0.2)}


def _loss(params, key, batch):
  x, y = batch
  residual = jnp.tanh(x @ params["w"]) + params["b"] - y
  return jnp.mean(residual**2), {"worst": jnp.abs(residual).mean()}


def _noisy(params, key, batch):
  x, y = batch
  noise = jax.random.normal(key, x.shape)
  return _loss(params, key, (x + noise, y))


def _batch(number):
  rng = np.random.default_rng(number)
  return rng.normal(size=(64, 3)).astype("f"), rng.normal(size=64).astype("f")


def _train(loss_fn, accumulate, steps=5):
  optimizer = optax.adamw(0.1, weight_decay=0.01)
  turns = step.single(loss_fn, optimizer, AVERAGES, accumulate)
  params = {"w": jnp.array([0.5, -1.0, 2.0]), "b": jnp.zeros(())}
  now = state.init(jax.random.key(0), {"model": params}, turns)
  train_step = step.make_train_step(turns)
  for number in range(steps):
    now, metrics = train_step(now, {"model": _batch(number)})
  return now, metrics


@pytest.mark.parametrize("parts", [2, 4, 64])
def test_parts_are_the_whole_batch(parts):
  """Parameters, averages and metrics after five updates, to rounding."""
  (found, metrics), (whole, expected) = _train(_loss, parts), _train(_loss, 1)
  assert int(found.step) == 5
  own = found.players["model"], whole.players["model"]
  trees.assert_close(*own, rtol=2e-5, atol=2e-6)
  trees.assert_close(metrics, expected, rtol=2e-5, atol=1e-6)


def test_each_part_has_its_rows_and_its_key():
  """By a loop over the parts, with a loss that draws noise."""
  x, y = _batch(0)
  params = {"w": jnp.array([0.5, -1.0, 2.0]), "b": jnp.zeros(())}
  key, gradient = jax.random.key(3), jax.value_and_grad(_noisy, has_aux=True)
  parts = [
    gradient(params, jax.random.fold_in(key, i), (x[i::4], y[i::4]))
    for i in range(4)
  ]
  mean = jax.tree.map(lambda *leaves: sum(leaves) / 4, *parts)

  def with_extras(params, extras, key, batch):
    (loss, metrics), grads = gradient(params, key, batch)
    return (loss, (metrics, extras + 1)), grads

  run = accumulation.accumulated(with_extras, 4)
  (loss, (metrics, extras)), grads = jax.jit(run)(
    params, jnp.zeros(()), key, (x, y)
  )
  trees.assert_close(((loss, metrics), grads), mean, rtol=1e-5, atol=1e-6)
  assert float(extras) == 4  # they pass from part to part


def test_what_is_rejected():
  message = r"^accumulate: expected batches of a multiple of 5 rows, got shape"
  expect.error(message, _train, _loss, 5)
  expect.error("^model: expected accumulate of at least 1", _train, _loss, 0)
