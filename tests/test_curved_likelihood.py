"""Log-densities on manifolds against closed forms and SciPy's solver."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import integrate as quadrature

from jaxgen import (
  curved_likelihood,
  fields,
  likelihood,
  manifolds,
  samplers,
  traces,
)
from jaxgen.data import spheres
from tests import expect

RK4, EXACT = samplers.rk4(), traces.exact()
SPHERE = manifolds.sphere()
LAW = spheres.VonMisesFisher(
  np.array([0.6, 0.4]),
  np.array([[0.0, 0.6, 0.8], [-0.8, 0.0, -0.6]]),
  np.array([6.0, 2.0]),
)
KEY = 0


def uniform(x):
  return jnp.asarray(spheres.LOG_UNIFORM, x.dtype)


@jax.jit
def of_mixture(x, times):
  """log_prob of the exact flow to LAW, of points [N, 3]."""
  one = lambda x: curved_likelihood.log_prob(
    *(RK4, LAW.field(num_nodes=20), x, times, jax.random.key(KEY)),
    **dict(manifold=SPHERE, prior=uniform, trace=EXACT),
  )
  return jax.vmap(one)(x)


def padded(num_steps, total):
  """A grid of num_steps, and steps of length 0 after them."""
  return jnp.append(
    jnp.linspace(0.0, 1.0, num_steps + 1), jnp.ones(total - num_steps)
  )


def test_the_exact_flow_has_the_mixtures_density_at_order_four():
  with jax.enable_x64(True):
    keys = jax.random.split(jax.random.key(7), 12)
    x = jax.vmap(LAW.sample)(keys)
    truth = jax.vmap(LAW.log_prob)(x)
    errors = []
    for steps in (8, 16):
      found = of_mixture(x, padded(steps, 16))
      errors.append(float(jnp.max(jnp.abs(found.log_prob - truth))))
      lengths = jnp.linalg.norm(found.end, axis=1)
      np.testing.assert_allclose(lengths, 1, atol=1e-14)
  assert errors[0] < 1e-3 and 3.5 < np.log2(errors[0] / errors[1]) < 5.2, errors


def test_in_float32_points_stay_and_the_density_is_within_one_thousandth():
  keys = jax.random.split(jax.random.key(8), 12)
  x = jax.jit(jax.vmap(LAW.sample))(keys)
  found = of_mixture(x, padded(16, 16))
  truth = jax.jit(jax.vmap(LAW.log_prob))(x)
  np.testing.assert_allclose(found.log_prob, truth, atol=1e-3)
  lengths = np.linalg.norm(np.float64(found.end), axis=1)
  np.testing.assert_allclose(lengths, 1, atol=1e-6)
  assert found.log_prob.dtype == found.end.dtype == jnp.float32


def test_the_conformal_flow_of_a_constant_vector_in_four_dimensions():
  """dx/dt = P a takes the uniform density to (cosh t - sinh t <a, x>)^-3."""
  direction = jnp.array([0.0, 0.6, 0.0, 0.8])
  field = fields.from_velocity(lambda x, t: direction + 2 * x)
  options = dict(manifold=SPHERE, prior=uniform)

  @jax.jit
  def run(x, times, key):
    keys = jax.random.split(key, 3)
    given = RK4, field, x, times
    one = curved_likelihood.generate(*given, keys[0], **options, trace=EXACT)
    probes = traces.hutchinson(64)
    rough = curved_likelihood.generate(*given, keys[1], **options, trace=probes)
    back = RK4, field, one.end, times[::-1], keys[2]
    again = curved_likelihood.log_prob(*back, **options, trace=EXACT)
    return one, rough, again

  for seed in range(3):
    keys = jax.random.split(jax.random.key(seed))
    x = spheres.uniform(keys[0], 4)
    one, rough, again = run(x, jnp.linspace(0.0, 0.7, 9), keys[1])
    height = np.cosh(0.7) - np.sinh(0.7) * float(one.end @ direction)
    truth = spheres.LOG_UNIFORM - 3 * np.log(height)
    np.testing.assert_allclose(one.log_prob, truth, atol=2e-5)
    np.testing.assert_allclose(again.log_prob, truth, atol=2e-5)
    np.testing.assert_allclose(again.end, x, atol=2e-5)
    assert rough.standard_error > 0
    gap = abs(float(rough.log_prob - one.log_prob))
    assert gap < 4 * float(rough.standard_error)


def test_rotations_have_the_laplacian_of_a_trace():
  """div of the gradient of tr(A^T R) is -tr(A^T R), lengths those of R^9."""
  rng = np.random.default_rng(0)
  matrix = rng.normal(size=(3, 3))
  manifold = manifolds.rotations()
  with jax.enable_x64(True):
    wide = jnp.asarray(matrix)
    field = fields.from_velocity(lambda x, t: wide)
    run = lambda x: curved_likelihood.log_prob(
      *(RK4, field, x, jnp.linspace(0.0, 0.8, 17), jax.random.key(KEY)),
      **dict(manifold=manifold, prior=lambda x: x[0, 0], trace=EXACT),
    )
    found = jax.jit(run)(jnp.eye(3))

  def slope(t, y):
    turn = y[:9].reshape(3, 3).T @ matrix
    velocity = y[:9].reshape(3, 3) @ (turn - turn.T) / 2
    return np.append(velocity, -np.trace(turn))

  start = np.append(np.eye(3), 0)
  truth = quadrature.solve_ivp(slope, (0, 0.8), start, rtol=1e-10, atol=1e-12)
  end = truth.y[:, -1]
  np.testing.assert_allclose(found.end.ravel(), end[:9], atol=1e-6)
  np.testing.assert_allclose(found.divergence, end[9], atol=1e-6)
  np.testing.assert_allclose(found.log_prob, end[0] + end[9], atol=1e-6)
  place = np.asarray(found.end)
  np.testing.assert_allclose(place @ place.T, np.eye(3), atol=1e-14)


def test_on_the_torus_it_is_the_flat_density():
  field = fields.from_velocity(lambda x, t: 2 + jnp.sin(x) * jnp.cos(x[::-1]))
  prior = lambda x: jnp.sum(jnp.cos(x))
  times = jnp.linspace(0.0, 1.0, 9)

  @jax.jit
  def run(x):
    first, second = jax.random.split(jax.random.key(KEY))
    options = dict(prior=prior, trace=EXACT)
    curved = curved_likelihood.log_prob(
      RK4, field, x, times, first, manifold=manifolds.torus(), **options
    )
    flat = likelihood.log_prob(
      likelihood.along(RK4, times), field, x, second, **options
    )
    return curved, flat

  curved, flat = run(jnp.array([2.5, -1.0]))
  np.testing.assert_allclose(curved.log_prob, flat.log_prob, atol=1e-5)
  np.testing.assert_allclose(curved.divergence, flat.divergence, atol=1e-5)
  assert np.abs(flat.end).max() > np.pi > np.abs(curved.end).max()


def test_bad_input():
  x, times = jnp.array([0.0, 0.0, 1.0]), jnp.linspace(0.0, 1.0, 3)
  key, options = jax.random.key(KEY), dict(manifold=SPHERE, prior=uniform)
  field = fields.from_velocity(lambda x, t: x)
  said = "solver: expected a one-step method .*, got ddim"
  given = samplers.ddim(), field, x, times, key
  expect.error(said, curved_likelihood.log_prob, *given, **options, trace=EXACT)
  wrong = fields.from_velocity(lambda x, t: x[:2])
  said = r"field: expected velocity of shape \(3,\), which log_prob needs"
  given = RK4, wrong, x, times, key
  expect.error(said, curved_likelihood.log_prob, *given, **options, trace=EXACT)
