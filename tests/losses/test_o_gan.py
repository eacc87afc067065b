"""O-GAN by hand: its value, and the gradient that each player receives."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from jaxgen.losses import o_gan
from tests import defaults, expect


def draws(*shape, seed=0):
  return jnp.float32(np.random.default_rng(seed).standard_normal(shape))


def test_correlation_is_scipys_and_zero_of_a_constant():
  a, b = draws(5), draws(5, seed=1)
  run = jax.jit(jax.value_and_grad(o_gan.correlation))
  value, slope = run(a, b)
  truth = stats.pearsonr(np.float64(a), np.float64(b)).statistic
  np.testing.assert_allclose(value, truth, rtol=1e-5)
  np.testing.assert_allclose(run(2 - 3 * a, b)[0], -truth, rtol=1e-5)
  np.testing.assert_allclose(
    slope @ jnp.stack([a, jnp.ones(5)], 1), 0, atol=1e-6
  )
  value, slope = run(jnp.ones(5), b)
  assert value == 0 and np.all(np.isfinite(slope))


def test_value_and_gradients_of_linear_players():
  """E(x) = A x and G(z) = B z, each player's terms in NumPy."""
  a, b = draws(3, 4), draws(4, 3, seed=1)
  x, z, weight = draws(4, seed=2), draws(3, seed=3), 0.7

  @jax.jit
  @jax.value_and_grad
  def run(players):
    a, b = players
    encode, generate = (lambda x: a @ x), (lambda z: b @ z)
    return o_gan.loss(encode, generate, x, z, weight=weight)

  value, slopes = run((a, b))
  a, b, x, z = (np.float64(v) for v in (a, b, x, z))
  y = b @ z
  gap, apart = (a @ (y - x)).mean(), np.mean((x - y) ** 2)
  rho = np.corrcoef(z, a @ y)[0, 1]
  truth = gap - weight * rho + gap**2 / (4 * apart)
  np.testing.assert_allclose(value, truth, rtol=1e-5)
  # d rho / d e, e = E(y), by the quotient rule.
  u, v = z - z.mean(), a @ y - (a @ y).mean()
  du = (u - rho * np.linalg.norm(u) / np.linalg.norm(v) * v) / (
    np.linalg.norm(u) * np.linalg.norm(v)
  )
  rate = 1 + gap / (2 * apart)
  for_a = rate * np.outer(np.ones(3), y - x) / 3 - weight * np.outer(du, y)
  for_b = np.outer(-a.mean(0) - weight * du @ a, z)
  np.testing.assert_allclose(slopes[0], for_a, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(slopes[1], for_b, rtol=1e-4, atol=1e-5)


def test_the_penalty_bounds_the_gap_of_a_pair():
  """By hand; with the dual, the best gap is twice the mean square."""
  penalty = jax.jit(
    lambda scale: o_gan.quadratic_penalty(lambda x: scale * x[0], x, y)
  )
  x, y = jnp.array([3.0, 1.0]), jnp.array([1.0, 2.0])
  np.testing.assert_allclose(penalty(1.0), 4 / 10, rtol=1e-6)
  best = jax.grad(lambda scale: penalty(scale) - 2 * scale)(2.5)
  np.testing.assert_allclose(best, 0, atol=1e-6)
  one = lambda x: o_gan.quadratic_penalty(jnp.sum, x, x)
  value, slope = jax.value_and_grad(one)(x)
  assert value == 0 and np.all(np.isfinite(slope))
  run = o_gan.quadratic_penalty
  expect.error("generated: expected shape", run, jnp.sum, x, x[:1])


def test_equal_examples_and_bad_input():
  defaults.check(o_gan.loss, weight=0.5)
  x, run = jnp.array([1.0, -2.0]), o_gan.loss
  same = lambda x: x
  loss = lambda x: run(same, same, x, x)
  value, slope = jax.value_and_grad(loss)(x)
  np.testing.assert_allclose(value, -0.5, rtol=1e-6)
  assert np.all(np.isfinite(slope))
  expect.error("weight: expected", run, same, same, x, x, weight=-1.0)
  expect.error(r"generated: expected shape", run, same, same, x[:1], x)
  longer = lambda x: jnp.append(x, 1.0)
  expect.error(r"encoding: expected shape", run, longer, same, x, x)
