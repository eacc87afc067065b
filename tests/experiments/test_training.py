"""What every training script does, without a run."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import edm, gan, transport_map, wasserstein
from experiments.lib import training
from experiments.recipes import critics, maps
from jaxgen.training import sharding, step

STEPS, RATE = 12, 0.25


def _updates(optimizer, number):
  """-(updates of the parameters), [number], of the constant gradient 1."""
  params = jnp.ones(())
  state, moves = optimizer.init(params), []
  update = jax.jit(optax.with_extra_args_support(optimizer).update)
  for _ in range(number):
    move, state = update(jnp.ones(()), state, params, value=jnp.ones(()))
    moves.append(-float(move))
  return moves


def _rates(schedule, warmup, steps, share=0.0):
  """i / w up to the peak; then the cosine to a share of it, or none."""
  i = np.arange(steps)
  left = (1 + np.cos(np.pi * (i - warmup) / (steps - warmup))) / 2
  falling = share + (1 - share) * left if schedule == "cosine" else 1 + 0 * i
  return RATE * np.where(i < warmup, i / max(warmup, 1), falling)


@pytest.mark.parametrize("warmup", [0, 1, 5, STEPS - 1])
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_learning_rate_of_a_network(schedule, warmup):
  """Adam moves by the learning rate where the gradient never changes."""
  rates = dict(learning_rate=RATE, warmup_steps=warmup, schedule=schedule)
  adam = dict(num_steps=STEPS, clip_norm=2.0, adam_b2=0.9)
  config = edm.Config("", **rates, **adam)
  found = _updates(training.adam(config), STEPS)
  truth = _rates(schedule, warmup, STEPS)
  np.testing.assert_allclose(found, truth, rtol=1e-5, atol=1e-8)
  assert (found[0] != 0) == (warmup == 0)  # parameters move at once


@pytest.mark.parametrize("steps, warmup", [(1, 0), (9, 0), (12, 1), (70, 7)])
def test_the_learning_rate_of_a_gan(steps, warmup):
  """Its warm-up is a tenth of the steps, of a short run none."""
  config = gan.Config("", data="ring", learning_rate=RATE, num_steps=steps)
  for turn in gan.experiment(config).turns:
    found = _updates(turn.optimizer, steps)
    truth = _rates("cosine", warmup, steps, 0.02)
    np.testing.assert_allclose(found, truth, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("kind", critics.RECIPES)
def test_the_learning_rate_of_a_critic(kind):
  recipe = critics.RECIPES[kind]._replace(num_steps=2, learning_rate=RATE)
  for turn in critics.make(kind, recipe, 2).turns:
    steps = 2 * turn.num_steps
    found, i = _updates(turn.optimizer, steps), np.arange(1, steps + 1)
    truth = _rates("cosine", 0, steps)
    if kind == "clipping":  # RMSProp: the mean square is 1 - .9^i
      truth = RATE / np.sqrt(1 - 0.9**i)
    np.testing.assert_allclose(found, truth, rtol=1e-5)


@pytest.mark.parametrize("kind", maps.RECIPES)
def test_the_learning_rate_of_a_map(kind):
  recipe = maps.RECIPES[kind]._replace(num_steps=2, learning_rate=RATE)
  for turn in maps.make(kind, recipe, 2).turns:
    steps = 2 * turn.num_steps
    truth = _rates("cosine", 0, steps, 0.01)
    np.testing.assert_allclose(_updates(turn.optimizer, steps), truth, 1e-5)


class _Traced(Exception):
  """The first step was traced."""


SCRIPTS = {
  edm: {"multipliers": (1,), "attention": ()},
  wasserstein: {},
  transport_map: {"method": "makkuva"},
}


@pytest.mark.parametrize("module", SCRIPTS)
def test_with_float64_a_run_trains_in_float32(monkeypatch, tmp_path, module):
  """JAX_ENABLE_X64: batches, parameters, optimizer, averages; and a run that
  fails in its first step leaves no directory.
  """

  def traced(run_dir, ex, start, batch_fn, *rest):
    assert (run_dir / "config.json").exists()
    before = jax.eval_shape(start)
    batches = training._place(ex.turns, sharding.mesh(), batch_fn(0))
    train_step = step.make_train_step(ex.turns)
    after, _ = jax.eval_shape(train_step, before, batches)
    assert after == before
    trees = before.step, before.players, batches
    wide = [x for x in jax.tree.leaves(trees) if x.dtype.itemsize > 4]
    assert not wide
    raise _Traced

  monkeypatch.setattr(training, "train", traced)
  changes = dict(run_dir=str(tmp_path / "run")) | SCRIPTS[module]
  config = dataclasses.replace(module.PRESETS["smoke"][1], **changes)
  with jax.enable_x64(True), pytest.raises(_Traced):
    module.run(config)
  assert not any(tmp_path.iterdir())
