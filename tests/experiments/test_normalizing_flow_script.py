"""experiments.normalizing_flow: its bound by learned noise, and its loss."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import normalizing_flow as script
from experiments.recipes import invertible
from jaxgen import dequantisation, outputs
from tests import trees

LEVELS = 3
# Every pair of levels; the second one follows the first.
PAIRS = np.stack(np.meshgrid(*[np.arange(LEVELS)] * 2), -1).reshape(-1, 2)
EXAMPLES = outputs.to_values(jnp.asarray(PAIRS), LEVELS)
DATA = types.SimpleNamespace(
  shape=(2,),
  levels=LEVELS,
  std=0.8,
  num_classes=0,
  split=lambda name: (np.asarray(EXAMPLES), None),
)
CONFIG = script.Config(
  "", dequantisation="learned", width=8, num_blocks=2, depth=1, num_bins=4
)


@pytest.fixture(scope="module")
def flow():
  """The parts of a flow, and parameters away from the start."""
  made = invertible.make(CONFIG, DATA)
  params = jax.jit(made.init)(jax.random.key(0))
  assert params.keys() == {"params", "noise"}
  return made, trees.moved(params, 0.05)


def bounds(made, params, seed, number):
  """log p(x) + correction of draws of each pair, [9, number]."""

  def one(key, data):
    draw = made.noised(params, key, data)
    return made.log_prob(params, draw.x, None) + draw.correction

  keys = jax.random.split(jax.random.key(seed), (len(EXAMPLES), number))
  many = jax.vmap(jax.vmap(one, (0, None)))
  return jax.jit(many)(keys, EXAMPLES)


def test_weights_of_learned_noise_give_the_probabilities(flow):
  """Those of uniform noise, which add up to one; the bound is below them."""
  made, params = flow
  found = bounds(made, params, 1, 4000)
  uniform = made._replace(
    noised=lambda params, key, x: dequantisation.uniform(key, x, LEVELS)
  )
  truth = np.exp(bounds(uniform, params, 2, 4000)).mean(1)
  weights = np.exp(np.float64(found))
  spread = weights.std(1) / np.sqrt(weights.shape[1])
  assert np.all(np.abs(weights.mean(1) - truth) < 0.02 * truth + 4 * spread)
  np.testing.assert_allclose(weights.mean(1).sum(), 1, rtol=0.02)
  assert np.ptp(truth) > 0.05  # not the model at the start
  gaps = np.log(truth) - found.mean(1)
  assert gaps.min() > 0 and np.ptp(gaps) > 1e-3


def test_the_loss_is_the_mean_bound_and_trains_the_noise(flow):
  made, params = flow
  loss_fn = script.make_loss(CONFIG, made, 0)
  batch = jnp.repeat(EXAMPLES, 1000, 0), None
  run = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
  (loss, _), grads = run(params, jax.random.key(3), batch)
  found = -bounds(made, params, 4, 1000) / 2
  error = (2 * found.var(1).mean() / found.size) ** 0.5  # of two such means
  np.testing.assert_allclose(loss, found.mean(), atol=4 * error)
  assert error < 0.01
  shift = jax.tree.map(lambda g: -0.002 * g, grads["noise"])
  moved = params | {"noise": jax.tree.map(jnp.add, params["noise"], shift)}
  change = run(moved, jax.random.key(3), batch)[0][0] - loss
  first_order = sum(
    jnp.vdot(g, s)
    for g, s in zip(*map(jax.tree.leaves, (grads["noise"], shift)), strict=True)
  )
  assert first_order < -1e-4
  np.testing.assert_allclose(change, first_order, rtol=0.1)


def test_noise_depends_on_the_levels(flow):
  made, params = flow
  draw = jax.jit(lambda data: made.noised(params, jax.random.key(5), data))
  places = [draw(data).x - data for data in EXAMPLES]
  assert np.std(places, 0).min() > 1e-3
