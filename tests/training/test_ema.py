"""The average against closed forms and a NumPy recursion."""

import chex
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.training import ema


class UpdateTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_a_constant_value_is_approached_geometrically(self):
    """From m toward p: p + decay^n (m - p)."""
    update = self.variant(ema.update)
    mean, params = {"w": jnp.array([1.0, -2.0])}, {"w": jnp.array([3.0, 0.5])}
    for _ in range(20):
      mean = update(mean, params, 0.9)
    expected = params["w"] + 0.9**20 * (jnp.array([1.0, -2.0]) - params["w"])
    np.testing.assert_allclose(mean["w"], expected, rtol=1e-6)


def test_a_constant_gradient_lags_by_the_averaging_time():
  """params = n g: the mean lags by decay (1 - decay^n) / (1 - decay) g."""
  mean, decay, n = jnp.zeros(()), 0.8, 30
  for i in range(1, n + 1):
    mean = ema.update(mean, jnp.float32(i * 0.25), decay)
  lag = decay * (1 - decay**n) / (1 - decay) * 0.25
  np.testing.assert_allclose(mean, n * 0.25 - lag, rtol=1e-6)


def test_rules():
  steps = [0, 5, 80, 10**6]
  warm = [float(ema.warmup(0.9)(jnp.int32(i))) for i in steps]
  np.testing.assert_allclose(warm, [0.1, 0.4, 0.9, 0.9], rtol=1e-6)
  assert ema.constant(0.5)(jnp.int32(7)) == 0.5


def test_half_precision_parameters_are_averaged_in_float32():
  params = jnp.ones((), jnp.bfloat16)
  mean = ema.init(params)
  assert mean.dtype == jnp.float32
  for _ in range(10):
    mean = ema.update(mean, jnp.array(2.0, jnp.bfloat16), 0.999)
  np.testing.assert_allclose(mean, 2 - 0.999**10, rtol=1e-6)


@pytest.mark.parametrize("rule", [ema.constant, ema.warmup])
def test_a_decay_outside_the_unit_interval_is_refused(rule):
  with pytest.raises(ValueError, match=r"decay: expected .* got 1\.5"):
    rule(1.5)
