"""The constants of models.lipschitz, each where it shows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.models import lipschitz


@pytest.mark.parametrize("size", [16, 256])
def test_the_bound_of_equal_singular_values_is_the_powers(size):
  """|(W^T W)^256|_F^(1/512) of c I is c size^(1/1024)."""
  found = jax.jit(lipschitz.spectral_norm)(3 * jnp.eye(size))
  np.testing.assert_allclose(found, 3 * size ** (1 / 1024), rtol=1e-5)


def test_orthogonal_takes_twelve_steps():
  """Of singular values s <- s (3 - s^2) / 2, in float64."""
  values = np.array([1.0, 0.03, 3e-3, 1e-4])
  truth = values / np.sqrt(np.sum(values**512) ** (1 / 256))
  for _ in range(12):
    truth = truth * (3 - truth**2) / 2
  found = jax.jit(lipschitz.orthogonal)(jnp.diag(jnp.float32(values)))
  np.testing.assert_allclose(np.diag(found), truth, rtol=1e-4)


@pytest.mark.parametrize("dim", [8, 9])
def test_tips_are_round_above_eight_dimensions(dim):
  """One falling cone alone: at its tip -1e-3 |(x, a)|, or -1e-10 below."""
  tip = np.full(dim, 1.5)  # whose products are exact
  params = lipschitz.init_cones(jnp.float32(tip)[None], jnp.zeros((1, dim)))
  params = params._replace(mix=jnp.float32(200.0))
  found = jax.jit(lipschitz.cones)(params, jnp.float32(tip), 1.0)
  rounded = 1e-3 * np.sqrt(2 * np.sum(tip**2))
  truth = -1e-10 if dim == 8 else -rounded
  np.testing.assert_allclose(found, truth, rtol=1e-3)
