"""Distribution matching against the scores of two Gaussians."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import paths
from jaxgen.losses import distribution_matching, flow_maps
from tests import expect


def test_distribution_matching_is_the_score_difference_of_gaussians():
  """Its step is sigma^2 / alpha times the scores', over the published norm."""
  path = paths.vp()
  t, noise = 0.4, jnp.array([0.3, -0.7, 1.1])
  sample = jnp.array([0.2, 1.5, -0.4])
  alpha, sigma = path.alpha(t), path.sigma(t)
  x_t = alpha * sample + sigma * noise
  p, q = (0.5, 0.8), (-1.0, 1.7)  # mean and std of data and generated samples

  def denoise(law):
    mean, std = law
    total = alpha**2 * std**2 + sigma**2
    return (sigma**2 * mean + alpha * std**2 * x_t) / total

  def score(law):
    mean, std = law
    return -(x_t - alpha * mean) / (alpha**2 * std**2 + sigma**2)

  found = distribution_matching.problem(sample, denoise(p), denoise(q))
  size = np.abs(sample - denoise(p)).mean()
  step = sigma**2 / alpha * (score(q) - score(p)) / size
  np.testing.assert_allclose(found.value - found.target, step, rtol=1e-4)
  assert found.target.dtype == jnp.float32


def test_the_gradient_is_the_step_over_the_size():
  sample, data = jnp.array([1.0, 3.0]), jnp.array([0.0, 1.0])
  generated = jnp.array([2.0, -1.0])

  def loss(sample):
    found = distribution_matching.problem(sample, data, generated)
    return flow_maps.regression(found)

  # mean |sample - data| is 1.5; the mean over two entries halves the gradient.
  expected = (generated - data) / 1.5
  np.testing.assert_allclose(jax.grad(loss)(sample), expected, rtol=1e-6)


def test_bad_input():
  x, three = jnp.ones(2), jnp.ones(3)
  shapes = r"expected shape \(2,\), got \(3,\)"
  problem = distribution_matching.problem
  expect.error(f"generated: {shapes}", problem, x, x, three)
  expect.error(f"data: {shapes}", problem, x, three, x)
