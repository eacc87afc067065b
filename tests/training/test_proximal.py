"""The lasso by its closed form and scikit-learn; decay beside a loss."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn import linear_model

from jaxgen.training import layerwise, proximal
from tests import expect

RNG = np.random.default_rng(0)


def soft(v, c):
  return np.sign(v) * np.maximum(np.abs(v) - c, 0)


def minimised(loss, optimizer, params, num_steps):
  @jax.jit
  def run(params):
    def body(_, carry):
      params, state = carry
      updates, state = optimizer.update(jax.grad(loss)(params), state, params)
      return optax.apply_updates(params, updates), state

    start = params, optimizer.init(params)
    return jax.lax.fori_loop(0, num_steps, body, start)[0]

  return run(params)


def test_each_step_uses_its_own_learning_rate():
  """Three steps in NumPy, with a schedule."""
  rates = [0.5, 0.25, 0.125]
  schedule = lambda count: jnp.array(rates)[count]
  optimizer = optax.chain(optax.sgd(schedule), proximal.l1(0.6, schedule))
  start, target = np.array([1.0, -1.4, 0.1]), np.array([2.0, -0.9, -0.2])
  loss = lambda x: jnp.sum((x - jnp.asarray(target, x.dtype)) ** 2) / 2
  x = jnp.asarray(start, "float32")
  state = optimizer.init(x)
  truth, update = start, jax.jit(optimizer.update)
  for rate in rates:
    updates, state = update(jax.grad(loss)(x), state, x)
    x = optax.apply_updates(x, updates)
    truth = soft(truth - rate * (truth - target), rate * 0.6)
    np.testing.assert_allclose(x, truth, rtol=1e-5)
  assert truth[2] == 0 == x[2] and np.count_nonzero(truth) == 2


def test_lasso_of_an_orthogonal_design():
  """S(X^T y, penalty), whatever the schedule; the plain layer is X^T y."""
  design = np.float32(np.linalg.qr(RNG.normal(size=(12, 5)))[0])
  y = np.float32(RNG.normal(size=12))
  rate = optax.cosine_decay_schedule(0.8, 200, alpha=0.1)
  penalty = layerwise.partition(
    {"sparse": proximal.l1(0.3, rate), "*": optax.identity()}
  )
  loss = lambda p: sum(jnp.sum((design @ x - y) ** 2) / 2 for x in p.values())
  start = {name: jnp.ones(5) for name in ("sparse", "plain")}
  optimizer = optax.chain(optax.sgd(rate), penalty)
  found = minimised(loss, optimizer, start, 100)
  truth = soft(design.T @ y, 0.3)
  assert 0 < np.count_nonzero(truth) < 5
  np.testing.assert_allclose(found["sparse"], truth, atol=1e-6)
  assert np.array_equal(np.asarray(found["sparse"]) == 0, truth == 0)
  np.testing.assert_allclose(found["plain"], design.T @ y, atol=1e-6)


def test_lasso_of_scikit_learn():
  design = RNG.normal(size=(30, 6)) + RNG.normal(size=(30, 1))
  y = design @ np.array([1.5, 0, 0, -1, 0, 0.2]) + 0.1 * RNG.normal(size=30)
  other = linear_model.Lasso(alpha=0.2, fit_intercept=False, tol=1e-10)
  truth = other.fit(design, y).coef_
  assert 0 < np.count_nonzero(truth) < 6
  a, b = jnp.asarray(design, "float32"), jnp.asarray(y, "float32")
  loss = lambda x: jnp.mean((a @ x - b) ** 2) / 2
  optimizer = optax.chain(optax.sgd(0.1), proximal.l1(0.2, 0.1))
  found = minimised(loss, optimizer, jnp.zeros(6), 600)
  np.testing.assert_allclose(found, truth, atol=1e-5)
  assert np.array_equal(np.asarray(found) == 0, truth == 0)


def test_decoupled_decay_is_a_loss_for_gradient_descent_alone():
  """Adam's first step is rate sign(gradient), so c x^2 / 2 changes only a sign.

  optax.add_decayed_weights adds c x after Adam's division: rate c x as well.
  """
  x, slope = jnp.array([2.0, -1.0, 0.5]), jnp.array([0.3, 0.1, -0.1])
  rate, c = 0.1, 0.4
  decay = optax.add_decayed_weights(c)

  def first(*parts, grads):
    optimizer = optax.chain(*parts, optax.scale(-rate))
    return optimizer.update(grads, optimizer.init(x), x)[0]

  both = slope + c * x
  loss, decoupled = first(grads=both), first(decay, grads=slope)
  np.testing.assert_allclose(loss, decoupled, rtol=1e-6)
  adam = optax.scale_by_adam(eps=0.0)
  loss, decoupled = first(adam, grads=both), first(adam, decay, grads=slope)
  np.testing.assert_allclose(loss, -rate * np.sign(both), rtol=1e-4)
  truth = -rate * (np.sign(slope) + c * np.asarray(x))
  np.testing.assert_allclose(decoupled, truth, rtol=1e-4)
  adamw = optax.adamw(rate, eps=0.0, weight_decay=c)
  same, _ = adamw.update(slope, adamw.init(x), x)
  np.testing.assert_allclose(decoupled, same, rtol=1e-6)


def test_bad_penalties():
  said = "^penalty: expected at least 0, got -1.0$"
  expect.error(said, proximal.l1, -1.0, 0.1)
  step, x = proximal.l1(0.0, 0.1), jnp.ones(2)
  assert step.update(x, step.init(x), x)[0].tolist() == [1, 1]
  said = "^params: expected the parameters, got None$"
  expect.error(said, step.update, x, step.init(x))
