"""Optimizers are solvers of the loss's flows: equal steps, and fitted orders.

Gradient descent is Euler's method on x' = -grad f. Momentum is the
semi-implicit Euler method, with step h = sqrt(rate) and momentum
1 - friction h, on

  x' = v,   v' = -friction v - grad f(x),

whose exact solution for quadratic f is a matrix exponential.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import linalg

from jaxgen import fields, samplers

HESSIAN = np.array([[2.0, 0.6, 0.0], [0.6, 1.0, -0.3], [0.0, -0.3, 0.5]])
START, FRICTION, TIME = np.array([1.0, -2.0, 0.5]), 0.7, 2.0


def potential(x):
  return x @ jnp.asarray(HESSIAN, x.dtype) @ x / 2


def descended(f, optimizer, start, num_steps):
  def body(_, carry):
    x, state = carry
    updates, state = optimizer.update(jax.grad(f)(x), state, x)
    return optax.apply_updates(x, updates), state

  first = start, optimizer.init(start)
  return jax.lax.fori_loop(0, num_steps, body, first)[0]


def exact():
  """Position and velocity [2, D] after TIME, from rest at START."""
  eye, zero = np.eye(3), np.zeros((3, 3))
  matrix = np.block([[zero, eye], [-HESSIAN, -FRICTION * eye]])
  end = linalg.expm(TIME * matrix) @ np.r_[START, np.zeros(3)]
  return end.reshape(2, 3)


def order(errors):
  """Of errors at steps h, h / 2, h / 4."""
  return np.log2(np.array(errors[:-1]) / np.array(errors[1:]))


def test_gradient_descent_is_eulers_method():
  """Bit for bit over 20 steps of rate 1 / 16, of a loss with many minima."""
  f = lambda x: potential(x) + jnp.sum(jnp.cos(3 * x))
  rate, num_steps = 1 / 16, 20
  start = jnp.asarray(START, "float32")
  field = fields.from_potential(f)
  times = rate * jnp.arange(num_steps + 1.0)

  @jax.jit
  def run(start):
    one = descended(f, optax.sgd(rate), start, num_steps)
    key = jax.random.key(0)
    return one, samplers.integrate(samplers.euler(), field, start, times, key)

  one, other = run(start)
  np.testing.assert_array_equal(one, other)
  assert np.abs(one - start).min() > 0.05


def test_momentum_is_a_second_order_equation_to_first_order():
  with jax.enable_x64(True):
    start, errors = jnp.asarray(START), []
    for number in (64, 128, 256, 512):
      h = TIME / number
      optimizer = optax.sgd(h**2, momentum=1 - FRICTION * h)
      run = jax.jit(descended, static_argnums=(0, 1, 3))
      found = run(potential, optimizer, start, number)
      errors.append(np.linalg.norm(found - exact()[0]))
    np.testing.assert_allclose(order(errors), 1, atol=0.06)
    assert errors[-1] < 0.01


def test_its_field_has_the_order_of_the_solver():
  """The field on (position, velocity), [2, D], by rk4: order 4."""

  def velocity(state, t):
    x, v = state
    return jnp.stack([v, -FRICTION * v - jax.grad(potential)(x)])

  with jax.enable_x64(True):
    field, errors = fields.from_velocity(velocity), []
    start = jnp.stack([jnp.asarray(START), jnp.zeros(3)])
    for number in (16, 32, 64):
      times = jnp.linspace(0.0, TIME, number + 1)
      key = jax.random.key(0)
      run = jax.jit(samplers.integrate, static_argnums=(0, 1))
      found = run(samplers.rk4(), field, start, times, key)
      errors.append(np.linalg.norm(found - exact()))
    np.testing.assert_allclose(order(errors), 4, atol=0.15)
