"""Flow maps and their solvers, against the map of a Gaussian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import fields, flow_maps, paths, predictions, samplers
from tests import expect
from tests.cases import by_path
from tests.truth import gaussian_maps

TIMES = (0.9, 0.6, 0.35, 0.05)  # fractions of the logarithm of the noise ratio


def times_on(path, marks=TIMES):
  ratios = 80 ** (2 * jnp.array(marks) - 1)
  return path.time(ratios)


def integrate(solver, field, x, times):
  key = jax.random.key(0)
  run = lambda x: samplers.integrate(solver, field, x, times, key)
  return jax.jit(run)(x)


@by_path
@pytest.mark.parametrize("marks", [TIMES, TIMES[::3]], ids=["four", "two"])
def test_jumps_of_an_exact_map_are_exact_on_any_grid(path, marks):
  with jax.enable_x64(True):
    times = times_on(path, marks)
    x = gaussian_maps.state(path, times[0], jnp.float64)
    field = flow_maps.FlowMap(gaussian_maps.mean_velocity(path), path)
    found = integrate(samplers.jump_map(), field, x, times)
    expected = gaussian_maps.state(path, times[-1], jnp.float64)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert found.dtype == jnp.float64


def test_a_map_goes_both_ways_if_it_says_so():
  path = paths.linear()
  times = times_on(path)[::-1]
  x = gaussian_maps.state(path, times[0])
  one_way = flow_maps.FlowMap(gaussian_maps.mean_velocity(path), path)
  said = "times: expected decreasing times, which jump_map needs"
  expect.error(said, integrate, samplers.jump_map(), one_way, x, times)
  both = flow_maps.FlowMap(one_way.mean_velocity, path, both_ways=True)
  found = integrate(samplers.jump_map(), both, x, times)
  expected = gaussian_maps.state(path, times[-1])
  np.testing.assert_allclose(found, expected, rtol=1e-5)


@by_path
def test_renoised_states_have_the_marginals(path):
  """From exact states: the mean and the variance at every time but the last."""
  number, grid = 4000, times_on(path, (0.8, 0.55, 0.02))
  field = flow_maps.FlowMap(gaussian_maps.mean_velocity(path), path)

  def one(key):
    start_key, key = jax.random.split(key)
    z = jax.random.normal(start_key, (3,))
    mean = jnp.asarray(gaussian_maps.MEAN, "float32")
    spread = gaussian_maps.spread(path, grid[0], "float32")
    start = path.alpha(grid[0]) * mean + spread * z
    return samplers.trajectory(samplers.renoised(), field, start, grid, key)

  states = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), number))
  for n in (1, 2):
    mean = path.alpha(grid[n]) * gaussian_maps.MEAN
    spread = gaussian_maps.spread(path, grid[n], "float32")
    np.testing.assert_allclose(
      (states[:, n].mean(0) - mean) / spread, 0, atol=5 / number**0.5
    )
    np.testing.assert_allclose(states[:, n].std(0) / spread, 1, atol=0.06)
  # New noise: the middle state does not determine the last one's noise.
  assert np.abs(np.corrcoef(states[:, 0, 0], states[:, 1, 0])[0, 1]) < 0.9


def test_the_last_renoised_step_adds_no_noise():
  path, times = paths.linear(), times_on(paths.linear(), (0.8, 0.02))
  x = gaussian_maps.state(path, times[0])
  field = flow_maps.FlowMap(gaussian_maps.mean_velocity(path), path)
  found = integrate(samplers.renoised(), field, x, times)
  jumped = integrate(samplers.jump_map(), field, x, times)
  np.testing.assert_allclose(found, jumped, rtol=1e-6)


def test_a_sample_in_one_call_calls_the_map_once():
  calls = []

  def mean_velocity(x, t, s):
    jax.debug.callback(lambda: calls.append(1))
    return -x

  times = jnp.array([1.0, 0.0])
  for solver in (samplers.jump_map(), samplers.renoised()):
    calls.clear()
    field = flow_maps.FlowMap(mean_velocity, paths.linear())
    found = integrate(solver, field, jnp.ones(2), times)
    jax.effects_barrier()
    np.testing.assert_allclose(found, 2.0)
    assert len(calls) == solver.num_calls(1) == 1


def test_the_input_of_a_network_has_unit_variance_and_two_times():
  path, seen = paths.edm(), []

  def net(x, c):
    seen.append(c.shape)
    return jnp.concatenate([x, c])

  t, s = jnp.float32(2.0), jnp.float32(0.5)
  map_fn = flow_maps.preconditioned(net, path, 0.5)
  x = jnp.array([3.0, -1.0])
  found = map_fn(x, t, s)
  scale = predictions.input_scale(path, t, 0.5)
  expected = [*(x / scale), np.log(2) / 4, np.log(4) / 4]
  expected = np.sqrt(1.25) * np.array(expected)  # R of sigma_data .5
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  assert seen == [(2,)] and found.dtype == jnp.float32


def test_the_velocity_of_a_map_is_its_value_at_equal_times():
  map_fn = lambda x, t, s: x * (1 + t) + 2 * s
  found = flow_maps.velocity(map_fn)(jnp.ones(2), 0.5)
  np.testing.assert_allclose(found, 2.5)


def test_bad_input():
  x, times = jnp.ones(2), jnp.array([1.0, 0.5])
  field = fields.from_velocity(lambda x, t: x)
  for name, solver in (
    ("jump_map", samplers.jump_map()),
    ("renoised", samplers.renoised()),
  ):
    said = f"field: expected a FlowMap, which {name} needs, got Field"
    path_field = fields.Field(field.estimate, paths.linear())
    expect.error(said, integrate, solver, path_field, x, times)
  wrong = flow_maps.FlowMap(lambda x, t, s: x[:1], paths.linear())
  said = r"field: expected a mean velocity of shape \(2,\), got \(1,\)"
  expect.error(said, integrate, samplers.jump_map(), wrong, x, times)
  right = flow_maps.FlowMap(lambda x, t, s: x)
  said = "field: expected path, which renoised needs"
  expect.error(said, integrate, samplers.renoised(), right, x, times)
  said = "field: expected a Field, which euler needs, got FlowMap"
  expect.error(said, integrate, samplers.euler(), right, x, times)
