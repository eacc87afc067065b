"""Complex parameters: descent, averages, checkpoints, finite checks."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen.training import checkpoint, ema, loop, state, step
from tests import trees
from tests.training import runs

GOAL = np.array([1 + 2j, -0.5j, 3.0])
NUM_STEPS = 20


def _loss(params, key, batch):
  """|w - goal|^2 of a complex leaf beside that of a real one."""
  apart = jnp.abs(params["w"] - GOAL.astype("F")) ** 2
  return jnp.sum(apart) + (params["b"] - 2) ** 2, {}


def _start(optimizer):
  """The game and its first state."""
  turns = step.single(_loss, optimizer, {"half": ema.constant(0.5)})
  params = {"w": jnp.zeros(3, jnp.complex64), "b": jnp.zeros(())}
  return turns, state.init(jax.random.key(0), {"model": params}, turns)


def _train(optimizer):
  turns, now = _start(optimizer)
  train_step = step.make_train_step(turns)
  for _ in range(NUM_STEPS):
    now, _ = train_step(now, {"model": None})
  return now.players["model"]


def _near(found, expected):
  assert found.shape == np.shape(expected)
  np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)


def test_gradient_descent_goes_downhill():
  """w <- w - .1 (2 (w - goal)): w = (1 - .8^n) goal."""
  found = _train(optax.sgd(0.1))
  _near(found.params["w"], (1 - 0.8**NUM_STEPS) * GOAL)
  _near(found.params["b"], (1 - 0.8**NUM_STEPS) * 2)
  mean, n = 0.0, np.arange(1, NUM_STEPS + 1)
  for share in 1 - 0.8**n:
    mean = (mean + share) / 2
  _near(found.ema["half"]["w"], mean * GOAL)
  dtypes = jax.tree.map(lambda x: x.dtype.name, (found.params, found.ema))
  one = {"b": "float32", "w": "complex64"}
  assert dtypes == (one, {"half": one})


def test_adam_and_clipping_take_the_modulus():
  """The second moment is that of |g|, the norm that over all leaves."""
  clip = optax.clip_by_global_norm(1.0)
  found = _train(optax.chain(clip, optax.adam(0.1, b2=0.9, eps=1e-8)))
  w = np.zeros(4, complex)  # b last
  first, second = np.zeros(4, complex), np.zeros(4)
  for i in range(1, NUM_STEPS + 1):
    g = 2 * (w - np.append(GOAL, 2))
    g /= max(1, np.sqrt(np.sum(np.abs(g) ** 2)))
    first = 0.9 * first + 0.1 * g
    second = 0.9 * second + 0.1 * np.abs(g) ** 2
    mean, square = first / (1 - 0.9**i), second / (1 - 0.9**i)
    w = w - 0.1 * mean / (np.sqrt(square) + 1e-8)
  _near(found.params["w"], w[:3])
  _near(found.params["b"], w[3].real)


def test_checkpoints_and_recombined_averages_keep_the_imaginary_part(tmp_path):
  optimizer = optax.adam(0.1)
  turns, now = _start(optimizer)
  now, _ = step.make_train_step(turns)(now, {"model": None})
  with checkpoint.saver(tmp_path, keep=1) as save:
    save(now)
  read = checkpoint.restore(tmp_path, _start(optimizer)[1])
  trees.assert_equal(read.players, now.players)
  assert np.abs(read.players["model"].params["w"].imag).max() > 0.09
  total = ema.combine([2.0, -0.5], [{"w": GOAL.astype("F")}] * 2)
  np.testing.assert_array_equal(total["w"], 1.5 * GOAL.astype("F"))
  assert total["w"].dtype == np.complex64


@pytest.mark.parametrize("bad", [1j * np.nan, complex(0, np.inf)])
def test_an_imaginary_part_that_is_not_finite_ends_the_run(bad):
  def train_step(now, batch):
    model = now.players["model"]
    w = model.params["w"].at[1].set(bad)
    players = {"model": model._replace(params=model.params | {"w": w})}
    return now._replace(players=players), {"loss": np.float32(0)}

  _, start = _start(optax.sgd(0.1))
  unsaved = runs.saver(pytest.fail)
  with pytest.raises(loop.Diverged, match="params are not finite at step 1"):
    runs.quiet(train_step, start, lambda number: None, saver=unsaved)
