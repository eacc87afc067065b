"""Fields of bridges: both directions of a diffusion, and the flow, by the
marginals of the exact bridge between two Gaussians.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import bridge_fields, paths, samplers
from jaxgen.data import bridges as exact_bridges
from jaxgen.losses import bridges, flow_matching
from tests import expect

STD = 0.7
LAW = exact_bridges.schrodinger(
  np.array([0.5]), np.array([[0.3]]), np.array([-1.0]), np.eye(1) * 1.5, std=STD
)


def field():
  return bridge_fields.from_drifts(LAW.to_source, LAW.to_data, STD)


def test_two_drifts_give_velocity_and_score():
  x = jnp.array([0.3])
  with jax.enable_x64(True):
    x = jnp.asarray(x, "float64")
    for t in (0.1, 0.8):
      found, truth = field()(x, t), LAW.field()(x, t)
      variance = float(LAW.covariance(t)[0, 0])
      score = -(float(x[0]) - float(LAW.mean(t)[0])) / variance
      np.testing.assert_allclose(found.score, [score], rtol=1e-12)
      np.testing.assert_allclose(found.velocity, truth.velocity, rtol=1e-12)
      assert found.data is None and found.noise is None


def moments(times):
  """Mean and variance of the diffusion's steps, by the affine drift alone."""
  drift = LAW.to_source if times[0] < times[-1] else LAW.to_data
  mean = float(LAW.mean(times[0])[0])
  variance = float(LAW.covariance(times[0])[0, 0])
  found = [(mean, variance)]
  for t, h in zip(times, np.abs(np.diff(times)), strict=False):
    at = lambda x, t=t: float(drift(jnp.array([x]), t)[0])
    base, slope = at(0.0), at(1.0) - at(0.0)
    mean = mean + h * (base + slope * mean)
    variance = variance * (1 + h * slope) ** 2 + h * STD**2
    found.append((mean, variance))
  return np.array(found)


@pytest.mark.parametrize("back", [False, True], ids=["to data", "to source"])
def test_euler_maruyama_simulates_the_drift_of_the_grids_direction(back):
  """Against the moments of x + drift dt + std sqrt(dt) z, and the bridge's."""
  times = np.linspace(1, 0, 17, dtype=np.float32)
  times = times[::-1] if back else times
  mean, variance = LAW.mean(times[0]), LAW.covariance(times[0])
  rng = np.random.default_rng(0)
  z = rng.standard_normal((10_000, 1))
  z = (z - z.mean()) / z.std()
  start = jnp.asarray(np.asarray(mean) + z * np.sqrt(variance), jnp.float32)
  solver = samplers.euler_maruyama(lambda t: STD**2 / 2 + 0 * t)
  run = lambda x, key: samplers.trajectory(
    solver, field(), x, jnp.asarray(times), key
  )
  keys = jax.random.split(jax.random.key(0), len(z))
  states = np.asarray(jax.jit(jax.vmap(run))(start, keys))[..., 0]
  expected = moments(times)
  np.testing.assert_allclose(states.mean(0), expected[:, 0], atol=0.03)
  np.testing.assert_allclose(states.var(0), expected[:, 1], rtol=0.06)
  truth = [float(LAW.covariance(t)[0, 0]) for t in times]
  np.testing.assert_allclose(states.var(0), truth, rtol=0.12)
  ends = np.cov(states[:, 0], states[:, -1])[0, 1]
  np.testing.assert_allclose(ends, LAW.cross[0, 0], atol=0.05)


@pytest.mark.parametrize("to_data", [True, False], ids=["data", "source"])
def test_one_drift_simulates_its_own_direction_as_both_do(to_data):
  drift = LAW.to_data if to_data else LAW.to_source
  alone = bridge_fields.from_drift(drift, to_data)
  times = jnp.linspace(1, 0, 9)
  times = times if to_data else times[::-1]
  solver = samplers.euler_maruyama(lambda t: STD**2 / 2 + 0 * t)
  start = jnp.array([0.4])

  @jax.jit
  def run(key):
    return [
      samplers.trajectory(solver, f, start, times, jax.random.clone(key))
      for f in (alone, field())
    ]

  found, expected = run(jax.random.key(3))
  assert found.shape == expected.shape and found.dtype == expected.dtype
  np.testing.assert_allclose(found, expected, atol=2e-6)
  assert np.ptp(expected) > 0.5
  at = alone(start, 0.3)
  np.testing.assert_array_equal(at.score, [0])
  sign = -1 if to_data else 1
  np.testing.assert_allclose(at.velocity, sign * drift(start, 0.3), rtol=1e-6)


@pytest.mark.parametrize("back", [False, True], ids=["to data", "to source"])
def test_the_flow_keeps_quantiles(back):
  """mean + z std at every time: that of a Gaussian on the line."""
  times = jnp.linspace(1, 0, 33)
  times = times[::-1] if back else times
  at = lambda t, z: LAW.mean(t)[0] + z * jnp.sqrt(LAW.covariance(t)[0, 0])
  run = jax.jit(
    lambda x: samplers.trajectory(
      samplers.heun(), field(), x, times, jax.random.key(0)
    )
  )
  for z in (-1.5, 0.0, 2.0):
    states = run(at(times[0], z)[None])[:, 0]
    np.testing.assert_allclose(states, [at(t, z) for t in times], atol=2e-3)


def test_a_pinned_field_is_the_gaussians():
  """Data N(m, v) and a known source: E[data | x_t] gives velocity and score of
  N(A m + S source, A^2 v + G^2), whose rate is by a difference.
  """
  path, mean, variance, source = paths.vp(0.1, 2.0), 0.4, 0.25, -0.8
  ends, gamma = bridges.pinned(path)

  def law(t):
    alpha, width = ends.alpha(t), gamma(t)
    middle = alpha * mean + ends.sigma(t) * source
    return middle, alpha**2 * variance + width**2

  def denoise(x, t, source):
    middle, total = law(t)
    return mean + ends.alpha(t) * variance / total * (x - middle)

  with jax.enable_x64(True):
    given = jnp.asarray([source])
    found = bridge_fields.from_pinned(denoise, given, ends, gamma)
    for t in (0.2, 0.6, 0.95):
      t, h = jnp.float64(t), 1e-6
      middle, total = law(t)
      z = 0.7
      x = jnp.asarray([middle + z * np.sqrt(total)])
      place = lambda t: law(t)[0] + z * jnp.sqrt(law(t)[1])
      rate = (place(t + h) - place(t - h)) / (2 * h)
      at = jax.jit(found.estimate)(x, t)
      np.testing.assert_allclose(at.velocity, [rate], rtol=1e-6)
      np.testing.assert_allclose(at.score, -(x - middle) / total, rtol=1e-9)
      np.testing.assert_allclose(at.data, denoise(x, t, given), rtol=1e-12)


def test_a_pinned_field_on_any_interpolant():
  """A constant bridge adds nothing to the velocity but its alpha and sigma."""
  bridge, data = flow_matching.constant(0.5), jnp.array([1.0, 2.0])
  source, x = jnp.array([0.0, -1.0]), jnp.array([0.3, 0.1])
  found = bridge_fields.from_pinned(
    lambda x, t, source: data, source, paths.linear(), bridge
  )(x, 0.25)
  np.testing.assert_allclose(found.velocity, source - data)
  z = (x - 0.75 * data - 0.25 * source) / 0.5
  np.testing.assert_allclose(found.score, -z / 0.5, rtol=1e-6)


@pytest.mark.parametrize("std", [0.0, -1.0, float("nan")])
def test_bad_input(std):
  same = lambda x, t: x
  said = "^std: expected a positive number, got"
  expect.error(said, bridge_fields.from_drifts, same, same, std)
