"""Sharpness: transfer functions of known kernels, and white noise."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from jaxgen.metrics import sharpness
from tests import expect


def images(seed, shape=(5, 8, 6, 2)):
  return jnp.float32(np.random.default_rng(seed).normal(size=shape))


def test_the_spectrum_is_the_discrete_transforms():
  """By the definition, a sum over pixels; a wave has power at +-f alone."""
  x = np.float64(images(0, (2, 4, 3, 1)))
  rows, columns = np.mgrid[:4, :3]
  truth = np.zeros((4, 3))
  for u in range(4):
    for v in range(3):
      wave = np.exp(-2j * np.pi * (u * rows / 4 + v * columns / 3))
      sums = (x * wave[None, ..., None]).sum((1, 2))
      truth[u, v] = (np.abs(sums) ** 2).mean() / 12
  found = jax.jit(sharpness.spectrum)(jnp.float32(x))
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(found, truth, rtol=1e-4)


def test_a_blur_lowers_it_by_its_transfer_function():
  """[1 2 1] / 4 along the rows and [1 1 1] / 3 along the columns, circular."""
  x = images(1)
  blurred = np.asarray(x, np.float64)
  for axis, kernel in ((1, [0.25, 0.5, 0.25]), (2, [1 / 3] * 3)):
    blurred = ndimage.convolve1d(blurred, kernel, axis, mode="wrap")
  u, v = np.fft.fftfreq(8)[:, None], np.fft.fftfreq(6)[None]
  transfer = (0.5 + 0.5 * np.cos(2 * np.pi * u)) * (
    1 / 3 + 2 / 3 * np.cos(2 * np.pi * v)
  )
  power = [np.float64(sharpness.spectrum(jnp.float32(a))) for a in (blurred, x)]
  np.testing.assert_allclose(power[0], transfer**2 * power[1], 1e-4, 1e-5)


def test_the_mean_of_a_transfer_function():
  """x + a (its neighbour below): |1 + a exp(2 pi i u)|^2, never 0."""
  x, shape = images(2), (8, 6)
  made = x + 0.5 * jnp.roll(x, 1, axis=1)
  u, v = np.fft.fftfreq(8)[:, None], np.fft.fftfreq(6)[None]
  for cutoff in (0.25, 0.5):
    chosen = np.hypot(u, v) >= cutoff
    np.testing.assert_array_equal(sharpness.high(shape, cutoff), chosen)
    power = np.abs(1 + 0.5 * np.exp(2j * np.pi * u)) ** 2
    truth = 10 * np.log10(np.broadcast_to(power, shape))[chosen].mean()
    found = jax.jit(lambda a, b, c=cutoff: sharpness.sharpness(a, b, c))(
      made, x
    )
    np.testing.assert_allclose(found, truth, rtol=1e-4)
    assert found.shape == ()
  assert sharpness.sharpness(x, x) == 0
  np.testing.assert_allclose(sharpness.sharpness(10 * x, x), 20, rtol=1e-5)


def test_white_noise_has_its_variance_at_every_frequency():
  """Of 4000 values each: six standard errors are 6 x sqrt(2 / 4000)."""
  found = jax.jit(sharpness.spectrum)(3 * images(3, (4000, 4, 4, 1)))
  np.testing.assert_allclose(found, 9, rtol=6 * np.sqrt(2 / 4000))


def test_bad_input():
  x = images(0)
  call = sharpness.sharpness
  expect.error(r"made: expected images \[8, 6, 2\]", call, x[:, :4], x)
  for cutoff in (0.0, 0.51, float("nan")):
    expect.error("cutoff: expected above 0 to 0.5", call, x, x, cutoff)
  said = r"images: expected sides with .* got \[1, 1\]"
  expect.error(said, call, x[:, :1, :1], x[:, :1, :1])
  assert call(x[:2], x).shape == ()
