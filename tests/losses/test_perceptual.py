"""Feature distances against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.losses import perceptual
from tests import expect


def features(seed):
  """Two layers of an image, and a vector."""
  rng = np.random.default_rng(seed)
  shapes = (3, 2, 4), (2, 5), (6,)
  return tuple(jnp.float32(rng.normal(size=shape)) for shape in shapes)


def truth(x, y, epsilon):
  parts = []
  for a, b in zip(x, y, strict=True):
    a, b = (np.float64(h).reshape(-1, h.shape[-1]) for h in (a, b))
    unit = lambda h: h / np.sqrt((h**2).sum(1) + epsilon)[:, None]
    parts.append(((unit(a) - unit(b)) ** 2).sum(1).mean())
  return np.mean(parts)


def test_by_numpy():
  x, y = features(0), features(1)
  for epsilon in (1e-6, 0.5):
    fn = jax.jit(lambda x, y, e=epsilon: perceptual.distance(x, y, e))
    found = fn(x, y)
    np.testing.assert_allclose(found, truth(x, y, epsilon), rtol=1e-5)
    assert found.shape == () and found.dtype == jnp.float32
  assert perceptual.distance(x, y) == perceptual.distance(x, y, 1e-6)


def test_the_length_of_channels_does_not_count():
  x = features(0)
  longer = tuple(3 * h for h in x)
  opposite = tuple(-h for h in x)
  np.testing.assert_allclose(perceptual.distance(x, longer), 0, atol=1e-6)
  np.testing.assert_allclose(perceptual.distance(x, opposite), 4, rtol=1e-5)
  assert perceptual.distance(x, x) == 0


def test_slopes_are_finite_where_all_channels_are_zero():
  y, zero = jnp.array([[0.0, 2.0]]), jnp.zeros((1, 2))
  fn = lambda x: perceptual.distance([x], [y], 0.25)
  # u = x / sqrt(|x|^2 + e) has slope 1 / sqrt(e) at 0: 2 (0 - u_y) / sqrt(e).
  slope = -2 * (2 / np.sqrt(4.25)) / 0.5
  np.testing.assert_allclose(jax.grad(fn)(zero), [[0, slope]], rtol=1e-6)


def test_bad_features():
  call, x = perceptual.distance, jnp.ones((2, 3))
  said = "features: expected layers"
  for pair in (([], []), ([x], [x, x]), ([x], [x[:1]]), ([x[0, 0]],) * 2):
    expect.error(said, call, *pair)
  for epsilon in (0.0, -1.0, float("nan")):
    expect.error("epsilon: expected a positive", call, [x], [x], epsilon)
