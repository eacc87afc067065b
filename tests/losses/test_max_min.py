"""jaxgen.losses.max_min against sums by hand."""

import jax.numpy as jnp
import numpy as np

from jaxgen.losses import max_min


def test_losses_of_a_map_against_a_potential():
  f = lambda a, y: a * jnp.sum(y)
  move = lambda b, x: x + b
  half = lambda x, y: jnp.sum((x - y) ** 2) / 2
  of_map, of_potential = max_min.against(f, move, half)
  x, y = np.random.default_rng(0).normal(size=(2, 50, 2)).astype("float32")
  a, b = jnp.float32(0.3), jnp.float32(2.0)
  moved = x + 2
  truth = np.mean(0.5 * 8 - 0.3 * moved.sum(1))
  np.testing.assert_allclose(of_map(b, a, x, y), truth, rtol=1e-5)
  truth = 0.3 * np.mean(moved.sum(1)) - 0.3 * np.mean(y.sum(1))
  np.testing.assert_allclose(of_potential(b, a, x, y), truth, rtol=1e-5)
