"""Float32 keeps the digits of every noise ratio, on every path."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import paths
from tests.cases import PATHS

by_name = pytest.mark.parametrize("name", PATHS)


@by_name
def test_float32_keeps_the_digits_of_every_ratio(name):
  """Times, their slopes and the way back, beside float64 and by hand."""
  path = PATHS[name]
  ratios = np.geomspace(1e-6, 1e6, 73).astype("float32")

  @jax.jit
  def everything(ratio):
    t, slope = jax.vmap(jax.value_and_grad(path.time))(ratio)
    return t, slope, path.ratio(t), path.log_ratio(t)

  t, slope, again, log_ratio = everything(jnp.asarray(ratios))
  wide = ratios.astype(np.float64)
  with jax.enable_x64(True):
    truth, true_slope, exact, _ = everything(jnp.asarray(wide))
  for value in (t, slope, again, log_ratio):
    assert value.shape == ratios.shape and value.dtype == jnp.float32
  np.testing.assert_allclose(exact, wide, rtol=1e-9)
  np.testing.assert_allclose(t, truth, rtol=5e-7)
  usual = ratios < 100
  np.testing.assert_allclose(slope[usual], true_slope[usual], rtol=3e-5)
  # Cosine ends at u = 1.56, where one float32 ulp of u moves the ratio by 1e-5.
  np.testing.assert_allclose(again[usual], ratios[usual], rtol=3e-5)
  np.testing.assert_allclose(log_ratio[usual], np.log(wide[usual]), atol=3e-5)


@pytest.mark.parametrize("offset", [0.0, 1e-5, 0.008, 0.3])
def test_cosine_by_the_sines_of_its_turn(offset):
  scale = np.pi / 2 / (1 + offset)
  ratios = np.geomspace(1e-8, 1e3, 56)
  with jax.enable_x64(True):
    t = np.asarray(paths.cosine(offset).time(jnp.asarray(ratios)))
  turn, start = scale * t, scale * offset
  sines = np.sin(turn) * np.sin(turn + 2 * start)
  found = np.sqrt(sines) / np.sin(scale - turn)
  np.testing.assert_allclose(found, ratios, rtol=2e-12)
