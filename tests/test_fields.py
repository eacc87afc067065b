"""Fields against a Gaussian's posterior mean, score and density by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import fields, paths, predictions
from tests import expect
from tests.cases import PATHS, ROWS, by_path

RATIOS = (0.002, 0.05, 0.7, 5.0, 80.0)
MEAN, STD = np.array([0.5, -1.0, 2.0]), np.array([0.3, 0.9, 0.05])
Z = np.array([0.4, -1.3, 0.8])


def gaussian(path):
  """Every estimate of data ~ N(MEAN, diag STD^2), on any path."""

  def estimate(x, t):
    alpha, sigma = path.alpha(t), path.sigma(t)
    mean, var = jnp.asarray(MEAN, x.dtype), jnp.asarray(STD, x.dtype) ** 2
    total = alpha**2 * var + sigma**2
    residual = x - alpha * mean
    data = (sigma**2 * mean + alpha * var * x) / total
    noise = sigma * residual / total
    alpha_rate, sigma_rate = path.rates(t)
    log_prob = -0.5 * (residual**2 / total + jnp.log(2 * jnp.pi * total)).sum()
    return fields.Estimate(
      velocity=alpha_rate * data + sigma_rate * noise,
      score=-residual / total,
      data=data,
      noise=noise,
      log_prob=log_prob,
    )

  return fields.Field(estimate, path)


def input_at(path, t):
  """A likely x_t, [3]."""
  return path.alpha(t) * (MEAN + STD * Z) + path.sigma(t) * Z[::-1]


def assert_close(value, truth, rtol):
  """Relative to the largest element of each estimate at each time."""
  value, truth = np.asarray(value), np.asarray(truth)
  axes = tuple(range(1, truth.ndim))
  scale = np.abs(truth).max(axis=axes, keepdims=True)
  assert np.max(np.abs(value - truth) / scale) < rtol


@by_path
def test_from_prediction_is_the_gaussian_for_every_prediction(path):
  @jax.jit
  @jax.vmap
  def both(t):
    x, truth = input_at(path, t), gaussian(path)

    def field(prediction):
      def predict_fn(x, t):
        at = truth(x, t)
        return predictions.target(path, prediction, at.data, at.noise, t)

      return fields.from_prediction(predict_fn, path, prediction)

    return truth(x, t), {n: field(row)(x, t) for n, row in ROWS.items()}

  with jax.enable_x64(True):
    t = path.time(jnp.array(RATIOS))
    truth, estimates = jax.device_get(both(t))
  for at in estimates.values():
    for name in ("velocity", "score", "data", "noise"):
      assert_close(getattr(at, name), getattr(truth, name), 1e-9)
    assert at.log_prob is None


def test_the_gaussian_above_is_consistent():
  """Its score is its density's gradient; x_t = alpha data + sigma noise."""
  path = paths.vp()
  field = gaussian(path)
  with jax.enable_x64(True):
    t = path.time(jnp.float64(0.7))
    x = input_at(path, t)
    at = field(x, t)
    slope = jax.grad(lambda x: field(x, t).log_prob)(x)
    assert_close(at.score[None], slope[None], 1e-12)
    sum_of_both = path.alpha(t) * at.data + path.sigma(t) * at.noise
    np.testing.assert_allclose(sum_of_both, x, rtol=1e-12)


@pytest.mark.parametrize("source", PATHS.values(), ids=PATHS)
def test_on_path_is_the_gaussian_on_every_other_path(source):
  @jax.jit
  def both(ratio):
    results = []
    for target in PATHS.values():
      t = target.time(ratio)
      x = input_at(target, t)
      moved = fields.on_path(gaussian(source), target)
      assert moved.path is target
      results.append((moved(x, t), gaussian(target)(x, t)))
    return results

  with jax.enable_x64(True):
    pairs = jax.device_get(jax.vmap(both)(jnp.array(RATIOS)))
  for moved, truth in pairs:
    for name, value in truth._asdict().items():
      assert_close(getattr(moved, name), value, 1e-10)


def test_on_path_without_a_density_has_none():
  path = paths.edm()
  field = fields.from_prediction(lambda x, t: x, path, predictions.data)
  moved = fields.on_path(field, paths.linear())
  assert moved(jnp.ones(2), 0.5).log_prob is None


def test_on_path_needs_a_path_data_and_noise():
  bare = fields.from_velocity(lambda x, t: -x)
  expect.error("path", fields.on_path, bare, paths.linear())
  lacking = fields.Field(bare.estimate, paths.edm())
  moved = fields.on_path(lacking, paths.linear())
  expect.error("data and noise", moved, jnp.ones(2), 0.5)


def test_from_velocity():
  at = fields.from_velocity(lambda x, t: t * x)(jnp.array([1.0, 2.0]), 3.0)
  np.testing.assert_allclose(at.velocity, [3.0, 6.0])
  assert at[1:] == (None, None, None, None)


@pytest.mark.parametrize(
  "path", [paths.linear(), paths.trigonometric()], ids=["linear", "circle"]
)
def test_from_interpolant_is_the_posterior_of_two_gaussians(path):
  bridge = lambda t: 0.7 * jnp.sqrt(t * (1 - t / path.t_max))
  bridge_rate = lambda t: 0.245 * (1 - 2 * t / path.t_max) / bridge(t)
  t, x = jnp.float32(0.2), jnp.array([0.9, -0.4])
  mean, place = jnp.array([0.5, -1.0]), jnp.array([2.0, 0.0])
  alpha, sigma, gamma = path.alpha(t), path.sigma(t), bridge(t)
  variance = (0.3 * alpha) ** 2 + (1.2 * sigma) ** 2 + gamma**2
  gap = (x - alpha * mean - sigma * place) / variance
  data, source = mean + 0.09 * alpha * gap, place + 1.44 * sigma * gap
  alpha_rate, sigma_rate = path.rates(t)
  velocity = alpha_rate * data + sigma_rate * source
  velocity += bridge_rate(t) * gamma * gap
  predict_fn = lambda x, t: (velocity, gamma * gap)
  field = fields.from_interpolant(predict_fn, bridge, path)
  at = jax.jit(field)(x, t)
  np.testing.assert_array_equal(at.velocity, velocity)
  np.testing.assert_allclose(at.score, -gap, rtol=1e-6)
  np.testing.assert_allclose(at.data, data, rtol=1e-5)
  assert at[3:] == (None, None) and field.path is None


def test_from_potential_flows_down_its_gradient():
  potential = lambda x: (jnp.array([1.0, 3.0]) * x**2).sum() / 2
  at = fields.from_potential(potential)(jnp.array([2.0, -1.0]), 0.0)
  np.testing.assert_allclose(at.velocity, [-2.0, 3.0])
  assert at[1:] == (None, None, None, None)


def test_from_log_density_is_stationary():
  log_prob = lambda x: -(x**2).sum() / 8 - jnp.log(8 * jnp.pi)  # N(0, 4 I)
  at = fields.from_log_density(log_prob)(jnp.array([2.0, -1.0]), 0.0)
  np.testing.assert_array_equal(at.velocity, [0.0, 0.0])
  np.testing.assert_allclose(at.score, [-0.5, 0.25])
  np.testing.assert_allclose(at.log_prob, -5 / 8 - np.log(8 * np.pi), rtol=1e-6)
  assert at.data is None and at.noise is None


def test_from_transport_map_carries_its_particle_in_one_step():
  matrix, start = jnp.array([[2.0, 1.0], [0.0, 3.0]]), jnp.array([1.0, -1.0])
  transport = lambda x: matrix @ x + 1
  field = fields.from_transport_map(transport, start)
  assert field.path is None
  for x, t in ((start, 0.0), (start + 7, 0.3)):
    np.testing.assert_allclose(field(x, t).velocity, [1.0, -1.0])
  np.testing.assert_allclose(start + field(start, 0.0).velocity, [2.0, -2.0])


@by_path
def test_jit_is_eager_and_vmap_is_a_loop(path):
  predict_fn = lambda x, t: jnp.tanh(x) * path.conditioning(t)
  field = fields.from_prediction(predict_fn, path, predictions.v)
  t = path.time(jnp.array([0.3, 2.0]))
  x = jnp.array([[0.3, -0.7], [1.1, 0.4]])
  estimate = lambda x, t: field(x, t)[:4]
  loop = expect.a_loop(estimate, x, t, rtol=2e-5)
  for i in range(2):
    one = [value[i] for value in loop]
    expect.close([*estimate(x[i], t[i])], one, rtol=2e-5)
