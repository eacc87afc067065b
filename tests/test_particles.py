"""Flows of particles against NumPy, other losses' gradients, closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import distance

from jaxgen import fields, particles, samplers
from jaxgen.losses import clouds
from tests import expect


def draws(*shape, seed=0):
  return jnp.float32(np.random.default_rng(seed).standard_normal(shape))


def at(field, x):
  """The velocity of a cloud; the field has no other estimate."""
  found = jax.jit(field)(x, 0.0)
  assert found[1:] == (None,) * 4 and field.path is None
  assert found.velocity.shape == x.shape
  assert found.velocity.dtype == jnp.float32
  return found.velocity


def flowed(field, x, time, steps):
  times = jnp.linspace(0.0, time, steps + 1)
  key = jax.random.key(0)
  run = lambda x: samplers.integrate(samplers.euler(), field, x, times, key)
  return jax.jit(run)(x)


@pytest.mark.parametrize("number", [4, 8, 6, 16])
def test_sliced_flow_on_the_line_is_the_quantile_displacement(number):
  """One Euler step of length 1 ends at mean quantiles of the target."""
  x, y = draws(number, 1), draws(8, 1, seed=1)
  field = particles.sliced_wasserstein(y, jnp.array([[-1.0]]))
  fine = np.repeat(np.sort(y[:, 0]), number)  # steps of length 1 / (N M)
  means = fine.reshape(number, 8).mean(1)
  truth = means[np.argsort(np.argsort(x[:, 0]))]
  np.testing.assert_allclose(flowed(field, x, 1.0, 1)[:, 0], truth, 1e-5, 1e-6)


def test_sliced_flow_is_the_gradient_of_the_sliced_distance():
  along = particles.directions(jax.random.key(3), 5, 6)
  np.testing.assert_allclose(jnp.sum(along**2, 1), np.ones(5), rtol=1e-6)
  for number in (7, 9):
    x, y = draws(number, 2, 3), draws(7, 2, 3, seed=1)
    distance_of = clouds.sliced_wasserstein
    slope = jax.grad(lambda x: distance_of(jax.random.key(3), x, y, 5))(x)
    found = at(particles.sliced_wasserstein(y, along), x)
    np.testing.assert_allclose(found, -number / 2 * slope, 1e-4, 1e-5)


def test_mmd_flow_is_the_gradient_of_the_discrepancy():
  """With the energy kernel, MMD^2 is the squared energy distance."""
  x, y = draws(5, 2), draws(7, 2, seed=1)
  slope = jax.grad(lambda x: clouds.energy_distance(x, y))(x)
  found = at(particles.mmd(y, particles.energy), x)
  np.testing.assert_allclose(found, -5 / 2 * slope, rtol=1e-4, atol=1e-6)


def test_mmd_flow_of_two_kernels_is_numpys():
  x, y = draws(5, 2), draws(7, 2, seed=1)

  def truth(slope):
    """slope: (differences, squares) -> grad of k by its first argument."""
    of = lambda other: np.mean(
      slope(
        np.float64(x)[:, None] - other, distance.cdist(x, other)[..., None] ** 2
      ),
      1,
    )
    return of(np.float64(y)) - of(np.float64(x))

  found = at(particles.mmd(y, particles.gaussian(0.8)), x)
  expected = truth(lambda gap, s: -gap / 0.64 * np.exp(-s / 1.28))
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
  found = at(particles.mmd(y, particles.inverse_multiquadric(0.5)), x)
  expected = truth(lambda gap, s: -gap / 0.25 * (1 + s / 0.25) ** -1.5)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_noise_widens_a_gaussian_kernel_on_average():
  """E grad k_h(x + b u - y) = (h / w)^D grad k_w(x - y), w^2 = h^2 + b^2."""
  nodes, weights = np.polynomial.hermite_e.hermegauss(24)
  u = jnp.float32(np.stack(np.meshgrid(nodes, nodes), -1).reshape(-1, 1, 2))
  share = np.outer(weights, weights).ravel() / (2 * np.pi)
  x, y, width = draws(1, 2), draws(4, 2, seed=1), np.hypot(0.8, 0.5)
  slope = lambda u: particles.mmd(y, particles.gaussian(0.8), 0.5 * u)(x, 0.0)
  found = share @ np.float64(jax.jit(jax.vmap(slope))(u).velocity)[:, 0]
  wide = particles.gaussian(float(width))
  # The particle itself, at distance 0, has a slope at the shifted points.
  truth = (0.8 / width) ** 2 * at(particles.mmd(y, wide), x)[0]
  np.testing.assert_allclose(found, truth, rtol=1e-4, atol=1e-6)


def test_shifted_slopes_are_those_of_the_cloud_that_stays():
  """With k = <x, y>^2 / 2, v(x_i) = (E y y^T - E x x^T) (x_i + s_i)."""
  x, y, shift = draws(5, 2), draws(7, 2, seed=1), draws(5, 2, seed=2)
  kernel = lambda x, y: jnp.sum(x * y) ** 2 / 2
  found = at(particles.mmd(y, kernel, shift), x)
  matrix = y.T @ y / 7 - x.T @ x / 5
  np.testing.assert_allclose(found, (x + shift) @ matrix, rtol=1e-4, atol=1e-6)
  said = r"shift: expected shape \(5, 2\), the cloud's, got \(4, 2\)"
  expect.error(said, particles.mmd(y, kernel, shift[:4]), x, 0.0)


def test_stein_of_one_particle_ascends_and_of_many_is_numpys():
  log_prob = lambda x: -jnp.sum((x - 1) ** 2) - jnp.sum(x**4)
  score = lambda x: -2 * (x - 1) - 4 * x**3
  one, x = draws(1, 3), np.float64(draws(6, 2, seed=1))
  field = particles.stein(log_prob)
  np.testing.assert_allclose(at(field, one), score(one), rtol=1e-5)
  # The median heuristic: k = exp(-|x - y|^2 log(N + 1) / median^2).
  rate = np.log(7) / np.median(distance.pdist(x)) ** 2
  k = np.exp(-rate * distance.cdist(x, x, "sqeuclidean"))
  gaps = x[:, None] - x  # of i and j
  truth = (k @ score(x) + 2 * rate * (k[..., None] * gaps).sum(1)) / 6
  np.testing.assert_allclose(at(field, jnp.float32(x)), truth, 1e-4, 1e-5)
  # A kernel of another shape of points, given.
  field = particles.stein(log_prob, particles.gaussian((2 * rate) ** -0.5))
  same = at(field, jnp.float32(x).reshape(6, 2, 1)).reshape(6, 2)
  np.testing.assert_allclose(same, truth, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("equal", [4, 5])
def test_stein_of_equal_points(equal):
  """The median square is 0: the mean square, or 1 where all are equal."""
  x = np.float64(draws(5, 2))
  x[:equal] = x[0]
  found = at(particles.stein(lambda x: -jnp.sum(x**2) / 2), jnp.float32(x))
  squares = distance.cdist(x, x, "sqeuclidean")
  mean = squares.sum() / 20
  rate = np.log(6) / mean if mean else 1.0
  k = np.exp(-rate * squares)
  gaps = x[:, None] - x
  truth = (k @ -x + 2 * rate * (k[..., None] * gaps).sum(1)) / 5
  np.testing.assert_allclose(found, truth, 1e-5, 1e-6)


def test_stein_of_a_linear_kernel_finds_the_moments_of_a_gaussian():
  """Liu and Wang 2018, arXiv:1810.11693: k = <x, y> + 1, exactly."""
  mean, matrix = np.array([1.0, -2.0]), np.array([[1.0, 0.3], [0.3, 0.5]])
  precision = jnp.float32(np.linalg.inv(matrix))
  log_prob = lambda x: -(x - mean) @ precision @ (x - mean) / 2
  field = particles.stein(log_prob, lambda x, y: jnp.sum(x * y) + 1)
  found = np.float64(flowed(field, draws(9, 2), 60.0, 1200))
  np.testing.assert_allclose(found.mean(0), mean, atol=1e-3)
  np.testing.assert_allclose(np.cov(found.T, bias=True), matrix, atol=1e-3)


def test_discriminator_follows_the_ratio_of_two_gaussians():
  """Of N(0, I) to N(1, I), d = x - 1/2; of N(0, 4 I) to N(0, I), a bowl."""
  x = draws(4, 3)
  shift = particles.discriminator(lambda x: jnp.sum(x))
  np.testing.assert_array_equal(at(shift, x), np.ones((4, 3)))
  bowl = particles.discriminator(lambda x: -3 / 8 * jnp.sum(x**2))
  np.testing.assert_allclose(at(bowl, x), -0.75 * x, rtol=1e-6)
  # The reverse KL has f = -log r, h = 1 / r = exp(d).
  scaled = particles.discriminator(lambda x: jnp.sum(x), jnp.exp)
  truth = np.exp(np.sum(x, 1))[:, None] * np.ones((4, 3))
  np.testing.assert_allclose(at(scaled, x), truth, rtol=1e-5)


def test_a_map_is_a_field_on_a_cloud():
  x = draws(5, 2)
  field = fields.from_transport_map(jax.vmap(lambda x: 3 * x + 1), x)
  np.testing.assert_allclose(flowed(field, x, 1.0, 3), 3 * x + 1, rtol=1e-5)


def test_bad_input_is_one_line():
  said = "expected a positive number, got"
  for wrong in (-1.0, 0.0, float("nan")):
    expect.error(f"bandwidth: {said}", particles.gaussian, wrong)
    expect.error(f"scale: {said}", particles.inverse_multiquadric, wrong)
  key, y = jax.random.key(0), jnp.ones((3, 2))
  expect.error("num_directions: expected", particles.directions, key, 0, 2)
  expect.error("size: expected at least 1", particles.directions, key, 2, 0)
  expect.error(
    "key: expected a typed", particles.directions, jax.random.PRNGKey(0), 1, 2
  )
  along = jnp.ones((4, 3))
  sliced, mmd = particles.sliced_wasserstein, particles.mmd
  expect.error(r"along: expected directions \[K, 2\]", sliced, y, along)
  expect.error("along: expected", sliced, y, along[:0, :2])
  expect.error("target: expected at least 1", sliced, y[:0], along[:, :2])
  expect.error("target: expected", mmd, y[:0], particles.energy)
  for field in (sliced(y, along[:, :2]), mmd(y, particles.energy)):
    expect.error(r"x: expected a cloud \[N, 2\]", field, jnp.ones(2), 0.0)
  field = particles.discriminator(lambda x: x)
  expect.error(r"expected a scalar \[\]", field, y, 0.0)
