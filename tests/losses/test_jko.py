"""JKO steps of Gaussians, whose minimiser has a closed form."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.losses import jko
from tests import defaults, expect


def test_step_of_a_gaussian_in_a_bowl():
  """rho = N(m, s^2), V = c x^2 / 2: the map is affine, with slope a,
  (c + 1 / tau) s^2 a^2 - s^2 a / tau - beta = 0, and mean m / (1 + tau c).

  Points m +- s have the moments that the objective depends on.
  """
  m, s, tau = np.array([1.5, -0.5]), np.array([0.6, 2.0]), 0.3
  signs = [[1, 1], [1, -1], [-1, 1], [-1, -1]]
  points = jnp.float32(m + s * np.float64(signs))
  for beta, c in ((1.0, 2.0), (0.0, 2.0), (0.5, 0.0)):
    rate = (c + 1 / tau) * s**2
    start = s**2 / tau
    slope = (start + np.sqrt(start**2 + 4 * rate * beta)) / (2 * rate)
    truth = jnp.float32(slope), jnp.float32(m / (1 + tau * c) - slope * m)

    @jax.jit
    def objective(params, points=points, beta=beta, c=c):
      a, b = params
      psi = lambda x: jnp.sum(a * x**2 / 2 + b * x)
      energy = lambda x: c * jnp.sum(x**2) / 2
      one = lambda x: jko.step(psi, x, energy_fn=energy, tau=tau, entropy=beta)
      return jax.vmap(one)(points).mean()

    value, slopes = jax.value_and_grad(objective)(truth)
    assert value.shape == () and value.dtype == jnp.float32
    for found in slopes:  # the minimum
      np.testing.assert_allclose(found, 0, atol=2e-5)
    a, b = (np.float64(p) for p in truth)
    ends = a * np.float64(points) + b
    moved = np.sum((ends - points) ** 2, 1) / (2 * tau)
    energies = c * np.sum(ends**2, 1) / 2
    expected = np.mean(energies + moved) - beta * np.log(a).sum()
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_the_determinant_is_that_of_the_whole_hessian():
  matrix = jnp.array([[2.0, 0.7], [0.7, 1.0]])
  psi = lambda x: x @ matrix @ x / 2 + jnp.sum(x**4)
  x = jnp.array([0.5, -1.0])
  energy = lambda x: jnp.zeros(())
  run = jax.jit(lambda x: jko.step(psi, x, energy_fn=energy, tau=2.0))
  hessian = np.float64(matrix) + np.diag(12 * np.float64(x) ** 2)
  moved = np.float64(matrix @ x + 4 * x**3 - x)
  truth = moved @ moved / 4 - np.linalg.slogdet(hessian)[1]
  np.testing.assert_allclose(run(x), truth, rtol=1e-5)


def test_rejects_bad_input_and_defaults():
  defaults.check(jko.step, entropy=1.0)
  x, psi = jnp.ones(2), lambda x: jnp.sum(x**2)
  run = lambda f, **more: jko.step(f, x, energy_fn=psi, **more)
  for wrong in (0.0, -1.0, float("nan")):
    expect.error("tau: expected a positive number", run, psi, tau=wrong)
  said = "entropy: expected at least 0"
  expect.error(said, run, psi, tau=1.0, entropy=-1.0)
  expect.error(r"expected a scalar \[\]", run, lambda x: x, tau=1.0)
