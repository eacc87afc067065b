"""Active units by NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.metrics import latents
from tests import expect


def test_units_that_vary_are_active():
  rng = np.random.default_rng(0)
  scales = np.array([1.0, 0.2, 0.05, 0.0])
  means = jnp.float32(3 + rng.standard_normal((500, 4)) * scales)
  found = jax.jit(latents.active_units)(means)
  np.testing.assert_allclose(
    found.variances, np.var(means, 0, ddof=1), rtol=1e-4
  )
  assert found.number == 2 and found.number.shape == ()
  assert latents.active_units(means, threshold=0.001).number == 3
  assert latents.active_units(means, threshold=0.0).number >= 3


@pytest.mark.parametrize("threshold", [-0.1, float("nan")])
def test_bad_input(threshold):
  means = jnp.zeros((2, 3))
  assert latents.active_units(means).number == 0
  call = latents.active_units
  expect.error("means: expected at least 2", call, means[:1])
  expect.error("threshold: expected at least 0", call, means, threshold)
