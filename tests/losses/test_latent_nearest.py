"""GLO, IMLE and its rejection form, by hand and by every pair in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial import distance

from jaxgen.losses import latent_nearest
from tests import defaults, expect

DOUBLED = dict(features_fn=lambda x: 2 * x)


def draws(*shape, seed=0):
  rng = np.random.default_rng(seed)
  return jnp.float32(rng.standard_normal(shape))


def test_projections():
  z = jnp.array([[3.0, -4.0], [0.3, 0.4], [0.0, 0.0]])
  sphere = jax.vmap(latent_nearest.on_sphere)(z)
  np.testing.assert_allclose(sphere, [[0.6, -0.8], [0.6, 0.8], [0, 0]], 1e-6)
  ball = jax.vmap(latent_nearest.in_ball)(z)
  np.testing.assert_allclose(ball, [[0.6, -0.8], [0.3, 0.4], [0, 0]], 1e-6)


def test_reconstruction_of_a_linear_generator():
  """4 mean (A z - x)^2 for features 2 x, and its slopes by hand."""
  a, z, x = draws(4, 2), draws(2, seed=1), draws(4, seed=2)

  @jax.jit
  def run(a, z):
    loss = lambda a, z: latent_nearest.reconstruction(
      lambda z: (a @ z).reshape(2, 2), z, x.reshape(2, 2), **DOUBLED
    )
    return jax.value_and_grad(loss, argnums=(0, 1))(a, z)

  loss, slopes = run(a, z)
  gap = a @ z - x
  assert loss.shape == () and loss.dtype == jnp.float32
  np.testing.assert_allclose(loss, 4 * np.mean(gap**2), rtol=1e-6)
  np.testing.assert_allclose(slopes[0], 2 * np.outer(gap, z), rtol=1e-5)
  np.testing.assert_allclose(slopes[1], 2 * gap @ a, rtol=1e-5)
  expect.error(
    r"generated: expected shape \[3\]",
    *(latent_nearest.reconstruction, lambda z: z, jnp.ones(2), jnp.ones(3)),
  )


def test_match_rejects_what_is_near_to_any_datum():
  data, samples = draws(9, 3), draws(40, 3, seed=1)
  apart = distance.cdist(data, samples)
  for epsilon in (0.0, 0.9, 100.0):
    found = jax.jit(
      lambda x, y, e=epsilon: latent_nearest.match(x, y, epsilon=e, chunk=4)
    )(data, samples)
    accepted = apart.min(0) >= epsilon
    np.testing.assert_array_equal(found.accepted, accepted)
    held = np.where(accepted, apart, np.inf)
    np.testing.assert_array_equal(found.rows, held.argmin(1))
    np.testing.assert_allclose(found.squares, held.min(1) ** 2, rtol=1e-5)
  assert 0 < (apart.min(0) >= 0.9).sum() < 40
  # At a distance of epsilon itself, a sample is accepted.
  samples = jnp.array([[3.0, 4.0], [3.0, 3.0]])
  found = latent_nearest.match(jnp.zeros((1, 2)), samples, epsilon=5.0)
  np.testing.assert_array_equal(found.accepted, [True, False])


def test_imle_and_its_gradient_by_every_pair():
  """The matched noise alone has a slope, as the match is held."""
  a, noise, data = draws(3, 2), draws(30, 2, seed=1), draws(8, 3, seed=2)
  run = jax.jit(
    jax.value_and_grad(
      lambda a, epsilon: latent_nearest.imle(
        *(lambda e: a @ e, data, noise), epsilon=epsilon, chunk=64, **DOUBLED
      )
    ),
    static_argnums=1,
  )
  made = noise @ a.T
  apart = distance.cdist(2 * data, 2 * made)
  for epsilon in (0.0, 1.5):
    accepted = apart.min(0) >= epsilon
    rows = np.where(accepted, apart, np.inf).argmin(1)
    gaps = made[rows] - data
    loss, slope = run(a, epsilon)
    np.testing.assert_allclose(loss, 4 * np.mean(gaps**2), rtol=1e-6)
    truth = 8 * gaps.T @ noise[rows] / gaps.size
    np.testing.assert_allclose(slope, truth, rtol=1e-5, atol=1e-6)
  assert not accepted.all()
  loss, slope = run(a, 100.0)
  assert loss == 0 and not np.any(slope)


def test_defaults_and_bad_input():
  for function in (latent_nearest.match, latent_nearest.imle):
    defaults.check(function, epsilon=0.0, chunk=512)
  x = jnp.ones((3, 2))
  said = "epsilon: expected at least 0, got"
  for wrong in (-1.0, float("nan")):
    expect.error(said, latent_nearest.match, x, x, epsilon=wrong)
  expect.error("chunk: expected", latent_nearest.match, x, x, chunk=0)
  expect.error("reference: expected", latent_nearest.match, x, x[:, :1])
