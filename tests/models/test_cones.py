"""Cones in NumPy, McShane's extension, and W1 from below."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special

from jaxgen.data import transport_pairs as pairs
from jaxgen.losses import wasserstein
from jaxgen.models import lipschitz
from tests.models import slopes

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module", params=[2, 8, 9, 32])
def tips(request):
  """Random cones: parameters and points, both of the dimension."""
  dim = request.param
  high, low = RNG.standard_normal((2, 7, dim)).astype("float32")
  start = lipschitz.init_cones(jnp.asarray(high), jnp.asarray(low[:5]))
  return start, *slopes.points(dim)


@pytest.mark.parametrize("temperature", [1e-3, 0.1, 3.0])
def test_cones_of_any_parameters_have_slope_one(tips, temperature):
  start, x, y = tips
  params = slopes.random_like(start, (0.3, 3.0, 100.0))
  value_fn = lambda params, x: lipschitz.cones(params, x, temperature)
  for found in slopes.of(value_fn, params, x, y):
    assert np.max(found) <= 1 + 1e-4
  assert np.max(found) > 0.3


many_cones = jax.jit(jax.vmap(lipschitz.cones, (None, 0, None)))


@pytest.mark.parametrize("temperature", [1e-4, 0.2, 2.0])
def test_cones_are_numpys(tips, temperature):
  start, x, _ = tips
  params = jax.tree.map(lambda p: p[0], slopes.random_like(start, (1.0,), 1))
  high, high_offset, low, low_offset, mix = (np.float64(p) for p in params)
  reach = lambda a, b: np.linalg.norm(np.float64(x)[:, None] - a, axis=2) + b
  falls, rises = -reach(high, high_offset), reach(low, low_offset)
  if temperature < 1e-3:  # the limit
    falling, rising = falls.max(1), rises.min(1)
  else:
    sums = lambda z: temperature * special.logsumexp(z / temperature, axis=1)
    falling, rising = sums(falls), -sums(-rises)
  share = special.expit(mix)
  truth = share * falling + (1 - share) * rising
  found = many_cones(params, x, temperature)
  assert found.shape == (64,) and found.dtype == jnp.float32
  np.testing.assert_allclose(found, truth, atol=2e-4)


def test_init_cones_is_an_equal_mix(tips):
  start, *_ = tips
  assert start.mix == 0 and not start.high_offset.any()
  assert not start.low_offset.any()
  assert (len(start.high_offset), len(start.low_offset)) == (7, 5)


def test_at_a_tip_the_gradient_is_finite(tips):
  start, *_ = tips
  slope_fn = jax.jit(jax.grad(lipschitz.cones, (0, 1)))
  for tip, distances in (
    (start.high[2], start.high),
    (start.low[1], start.low),
  ):
    by_params, by_x = slope_fn(start, tip, 0.05)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(by_params))
    assert np.linalg.norm(by_x) <= 1 + 1e-5
    value = lipschitz.cones(start, tip, 1e-4)
    others = start.low if distances is start.high else start.high
    away = np.linalg.norm(others - tip[None], axis=1).min()
    truth = (1 if distances is start.high else -1) * away / 2
    np.testing.assert_allclose(value, truth, rtol=2e-3)


@pytest.mark.parametrize("dim", [2, 16])
def test_cones_are_mcshanes_extensions(dim):
  """Tips at points give back a 1-Lipschitz function there; elsewhere falling
  cones lie below it and rising ones above.
  """
  f = lambda x: 0.6 * np.sin(x[:, 0]) + 0.8 * np.cos(x[:, -1])
  known, x = (jnp.float32(2 * RNG.standard_normal((60, dim))) for _ in range(2))
  values, temperature = jnp.asarray(f(known)), 1e-3
  slack = temperature * np.log(60) + 2e-3 * float(jnp.abs(known).max()) * (
    0 if dim == 2 else np.sqrt(dim)
  )
  cones = lipschitz.Cones(known, -values, known, values, jnp.float32(0))
  for mix, sign in ((40.0, 1), (-40.0, -1)):
    one_sided = cones._replace(mix=jnp.float32(mix))
    there = many_cones(one_sided, known, temperature)
    np.testing.assert_allclose(there, values, atol=slack)
    elsewhere = many_cones(one_sided, x, temperature)
    assert np.max(sign * (elsewhere - f(x))) <= slack


def test_training_approaches_w1_from_below():
  """Of paired draws every difference is at most |x - y|, so the mean is too."""
  pair = pairs.shifted(2)
  sample = jax.vmap(pair.sample)
  start_key, run_key, test_key = jax.random.split(jax.random.key(0), 3)
  start = lipschitz.init_cones(*sample(jax.random.split(start_key, 32)))
  optimizer = optax.adam(0.02)

  def value(params, x, y, temperature):
    f = lambda x: lipschitz.cones(params, x, temperature)
    return jax.vmap(lambda x, y: wasserstein.dual(f, x, y))(x, y).mean()

  def step(carry, number):
    params, state = carry
    keys = jax.random.split(jax.random.fold_in(run_key, number), (2, 128))
    x, _ = sample(keys[0])
    _, y = sample(keys[1])
    temperature = 0.3 * 0.1 ** (number / 300)
    grads = jax.grad(value)(params, x, y, temperature)
    updates, state = optimizer.update(grads, state)
    return (optax.apply_updates(params, updates), state), None

  train = jax.jit(
    lambda start: jax.lax.scan(
      step, (start, optimizer.init(start)), jnp.arange(300.0)
    )[0][0]
  )
  x, y = sample(jax.random.split(test_key, 4096))
  best = 2.0  # the shift
  before, after = (
    -value(params, x, y, 0.03) for params in (start, train(start))
  )
  assert before < 0.9 * best <= after <= best + 1e-4
