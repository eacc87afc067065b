"""The truncated normal law against SciPy's, at its middle and in its tails."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from jaxgen import truncated

# mean, std, low, high: the middle, then from 2.5 to 300 deviations in a tail.
MIDDLE = [(0.0, 1.0, -6.2, 4.4), (-1.2, 1.2, -6.2, 4.4), (0.5, 2.0, 1.0, 1.2)]
ABOVE = [
  (0.0, 1.0, 2.5, 40.0),
  (0.0, 2.0, 6.0, 6.01),
  (-1.2, 0.35, 1.6, 4.4),
  (1.0, 0.1, 3.0, 3.2),
  (-1.0, 0.01, 2.0, 9.0),
]
BELOW = [(-mean, std, -high, -low) for mean, std, low, high in ABOVE]
LAWS = MIDDLE + ABOVE + BELOW


def _law(mean, std, low, high):
  return stats.truncnorm((low - mean) / std, (high - mean) / std, mean, std)


@jax.jit
def _draws(key):
  number = (500,)
  u = jax.random.uniform(key, number)
  return u, [truncated.draw(key, number, *law) for law in LAWS]


def _quantiles():
  """Uniform draws, and of every law the draws that are made of them."""
  with jax.debug_key_reuse(False):
    u, found = jax.device_get(_draws(jax.random.key(0)))
  return u.astype(np.float64), found


def test_draws_are_the_quantiles_of_uniform_ones():
  u, found = _quantiles()
  for (mean, std, low, high), x in zip(LAWS, found, strict=True):
    assert x.dtype == np.float32 and x.shape == u.shape
    law = _law(mean, std, low, high)
    below = mean > high
    truth = law.isf(u) if below else law.ppf(u)
    # Rounding of x, and in the middle that of the normal's own inverse.
    middle = abs(max(min(mean, high), low) - mean) < std
    np.testing.assert_allclose(x, truth, rtol=3e-7, atol=2e-4 * std * middle)
    edge = 2e-7 * max(abs(low), abs(high))
    assert np.all((x >= low - edge) & (x <= high + edge))


def test_draws_keep_the_digits_of_float64():
  with jax.enable_x64(True):
    u, found = _quantiles()
  for law, x in zip(LAWS[3:], found[3:], strict=True):
    assert x.dtype == np.float64
    scipy = _law(*law)
    truth = scipy.isf(u) if law[0] > law[3] else scipy.ppf(u)
    np.testing.assert_allclose(x, truth, rtol=1e-11)


def test_densities():
  @jax.jit
  def densities(points, rate):
    pairs = zip(LAWS, points, strict=True)
    return [truncated.density(*law)(x, rate) for law, x in pairs]

  shares = np.linspace(0.001, 0.999, 41)
  points = [_law(*law).ppf(shares) for law in LAWS]
  truths = [3 * _law(*law).pdf(x) for law, x in zip(LAWS, points, strict=True)]
  with jax.enable_x64(True):
    wide = densities([jnp.asarray(x) for x in points], 3.0)
  narrow = densities([jnp.asarray(x, jnp.float32) for x in points], 3.0)
  rows = zip(LAWS, points, truths, wide, narrow, strict=True)
  for law, x, truth, value, half in rows:
    np.testing.assert_allclose(value, truth, rtol=1e-7)
    assert half.dtype == jnp.float32 and half.shape == truth.shape
    # One float32 ulp of x, times the slope of the logarithm.
    mean, std, *_ = law
    slope = np.max(np.abs(x - mean)) / std**2
    rtol = 1e-5 + 1e-7 * slope * np.max(np.abs(x))
    np.testing.assert_allclose(half, truth, rtol=rtol)
