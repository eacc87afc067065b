"""Solvers on manifolds keep their order, and their states stay there."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate as quadrature

from jaxgen import fields, manifolds, samplers
from tests import expect

TURN = np.array([[0, -1.0, 0.4], [1.0, 0, -0.7], [-0.4, 0.7, 0]])
OTHER = np.array([[0, 0.3, 1.1], [-0.3, 0, 0.2], [-1.1, -0.2, 0]])
ORDERS = dict(euler=1, heun=2, midpoint=2, rk4=4)


def integrate(solver, field, x, times):
  run = lambda x: samplers.trajectory(
    solver, field, x, times, jax.random.key(0)
  )
  return jax.jit(run)(x)


def spinning(x, t):
  """A rotation about an axis that changes, of a point or of a rotation."""
  return (TURN + 3 * t * OTHER) @ x


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("place", ["sphere", "rotations"])
def test_order(name, place):
  with jax.enable_x64(True):
    manifold = getattr(manifolds, place)()
    solver = samplers.on_manifold(getattr(samplers, name)(), manifold)
    start = np.array([0.6, 0.0, 0.8]) if place == "sphere" else np.eye(3)
    slope = lambda t, x: spinning(x.reshape(start.shape), t).ravel()
    truth = quadrature.solve_ivp(
      slope, (0, 1), start.ravel(), rtol=1e-11, atol=1e-12
    ).y[:, -1]
    errors = []
    for steps in (8, 16):
      times = jnp.linspace(0.0, 1.0, steps + 1)
      field = fields.from_velocity(spinning)
      found = integrate(solver, field, jnp.asarray(start), times)[-1]
      errors.append(np.abs(np.ravel(found) - truth).max())
    order = np.log2(errors[0] / errors[1])
    assert order == pytest.approx(ORDERS[name], abs=0.35), errors


def test_states_stay_on_the_sphere_whatever_the_field():
  manifold = manifolds.sphere()
  field = fields.from_velocity(lambda x, t: jnp.array([1.0, -2.0, 0.5]) + 3 * x)
  solver = samplers.on_manifold(samplers.heun(), manifold)
  times = jnp.linspace(0.0, 1.0, 31)
  states = integrate(solver, field, jnp.array([0.6, 0.0, 0.8]), times)
  lengths = np.linalg.norm(np.float64(states), axis=1)
  np.testing.assert_allclose(lengths, 1, atol=1e-6)
  assert states.dtype == jnp.float32 and np.ptp(states, 0).max() > 0.5


def test_on_the_torus_it_is_the_solver_up_to_turns():
  field = fields.from_velocity(lambda x, t: 5 + jnp.sin(x))
  times = jnp.linspace(0.0, 1.0, 21)
  curved = samplers.on_manifold(samplers.rk4(), manifolds.torus())
  x = jnp.array([0.5, -3.0])
  one, other = (
    integrate(s, field, x, times)[-1] for s in (curved, samplers.rk4())
  )
  np.testing.assert_allclose(np.cos(one - other), 1, atol=1e-5)
  assert (np.abs(one) <= np.pi + 1e-6).all() and np.abs(other).max() > np.pi


@pytest.mark.parametrize("name", ["ddim", "adams_bashforth", "ancestral"])
def test_other_solvers_are_rejected_by_name(name):
  solver = getattr(samplers, name)(*((2,) if name == "adams_bashforth" else ()))
  said = f"solver: expected a one-step method .*, got {re.escape(solver.name)}"
  expect.error(said, samplers.on_manifold, solver, manifolds.sphere())
