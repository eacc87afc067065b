"""One `integrate` samples diffusion, flows, displacements and rays alike."""

import ast
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import costs, fields, paths, samplers
from jaxgen.data import transport_pairs
from tests.samplers import menu
from tests.truth import recursion

MEAN = np.array([1.0, -2.0, 0.5], np.float32)
STD = 0.3
SAMPLERS = pathlib.Path(samplers.__file__).parent


def _affine(path):
  """From noise to N(MEAN, STD^2 I): (field, start, times, end)."""
  field = recursion.gaussian_field(path, MEAN, STD)
  times = samplers.grids.log_snr(path, 64)
  noise = jnp.array([0.3, -1.0, 0.8])
  first, last = times[0], times[-1]
  spread = lambda t: jnp.hypot(path.alpha(t) * STD, path.sigma(t))
  start = path.alpha(first) * MEAN + spread(first) * noise
  return field, start, times, path.alpha(last) * MEAN + spread(last) * noise


def _move(x):
  """The optimal map of N(0, I) to N(MEAN, 9 I)."""
  return MEAN + 3.0 * x


def _displacement():
  start = jnp.array([0.3, -1.0, 0.8])
  field = fields.from_transport_map(_move, start)
  return field, start, jnp.linspace(0.0, 1.0, 5), _move(start)


def _frozen():
  start = jnp.array([0.3, -1.0, 0.8])
  field = fields.from_frozen_map(_move, start)
  end = _move(start) + np.exp(-2.0) * (start - _move(start))
  return field, start, jnp.linspace(0.0, 2.0, 33), end


def _ray():
  pair = transport_pairs.funnels(jax.random.key(2), 3, 4)
  end, start = jax.jit(pair.sample)(jax.random.key(5))
  times = costs.distance(start, end) * jnp.linspace(0.0, 1.0, 5)
  return fields.from_critic(pair.potential), start, times, end


CASES = {
  "EDM": lambda: _affine(paths.edm()),
  "flow matching": lambda: _affine(paths.linear()),
  "displacement": _displacement,
  "frozen map": _frozen,
  "W1 ray": _ray,
}


@pytest.mark.parametrize("name", CASES)
def test_one_driver_reaches_every_end_with_the_same_calls(name):
  field, start, times, end = CASES[name]()
  counting, calls = menu.counted(field)
  for solver in (samplers.heun(), samplers.rk4()):
    calls.clear()
    run = functools.partial(samplers.integrate, solver, counting)
    found = jax.jit(run)(start, times, jax.random.key(0))
    jax.effects_barrier()
    assert len(calls) == solver.num_calls(len(times) - 1)
    tolerance = 5e-3 if solver.name == "heun" else 1e-3
    np.testing.assert_allclose(found, end, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("num_steps", [1, 4, 16])
def test_displacements_and_rays_are_exact_in_any_number_of_steps(num_steps):
  for make in (_displacement, _ray):
    field, start, times, end = make()
    grid = jnp.linspace(times[0], times[-1], num_steps + 1)
    solver, key = samplers.euler(), jax.random.key(0)
    found = samplers.integrate(solver, field, start, grid, key)
    np.testing.assert_allclose(found, end, rtol=2e-5, atol=2e-5)


def test_a_displacement_of_where_the_particle_is_would_not_be():
  """T(x) - x at every state instead of the start's: 1, 4, 16 steps differ."""
  field = fields.from_velocity(lambda x, t: 2 * x)  # of T(x) = 3 x
  ends = []
  for num_steps in (1, 4, 16):
    grid, key = jnp.linspace(0.0, 1.0, num_steps + 1), jax.random.key(0)
    end = samplers.integrate(samplers.euler(), field, jnp.ones(1), grid, key)
    ends.append(float(end[0]))
  np.testing.assert_allclose(ends, [3.0, 5.0625, 6.583], rtol=1e-3)


def test_a_flat_critic_moves_nothing():
  field = fields.from_critic(lambda x: jnp.sum(x) * 0.0)
  assert not np.any(field(jnp.ones(3), 0.0).velocity)
  slope = lambda x: field(x, 0.0).velocity.sum()
  assert np.all(np.isfinite(jax.grad(slope)(jnp.ones(3))))


def test_no_solver_names_what_it_samples():
  words = ("transport", "critic", "wasserstein", "adversarial", "losses")
  for file in SAMPLERS.glob("*.py"):
    tree = ast.parse(file.read_text())
    names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    names |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    named = [n for n in names if any(word in n.lower() for word in words)]
    assert not named, (file.name, named)
