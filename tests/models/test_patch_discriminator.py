"""The discriminator of patches: SciPy's convolutions and the Jacobian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.models import patch_discriminator
from tests import expect
from tests.models import twins

kind = patch_discriminator.PatchDiscriminator


def started(net, shape):
  start = lambda: net.init(jax.random.key(0), jnp.zeros(shape))
  return twins.randomise(jax.eval_shape(start))


def strided(p, x):
  """4 x 4 taps on [H, W, C] at every second pixel, zeros around: 1 before."""
  padded = np.pad(x, ((1, 2), (1, 2), (0, 0)))
  height, width = (-(-side // 2) for side in x.shape[:2])
  total = np.zeros((height, width, p["kernel"].shape[-1])) + p["bias"]
  for i in range(height):
    for j in range(width):
      part = padded[2 * i : 2 * i + 4, 2 * j : 2 * j + 4]
      total[i, j] += np.einsum("abi,abij->j", part, p["kernel"])
  return total


def leaky(x):
  return np.where(x > 0, x, 0.2 * x)


def test_by_numpy():
  net = kind(width=2, num_levels=2)
  x = jnp.sin(jnp.arange(96.0)).reshape(2, 6, 8, 1)
  params = started(net, x.shape[1:])
  found = expect.a_loop(lambda x: net.apply(params, x), x, rtol=1e-4, atol=1e-5)
  p = jax.tree.map(np.float64, params["params"])
  for n, image in enumerate(np.float64(x)):
    first = leaky(strided(p["level_0"], image))
    h = strided(p["level_1"], first)
    h = h - h.mean(-1, keepdims=True)
    h = h / np.sqrt((h**2).mean(-1, keepdims=True) + 1e-6)
    h = leaky(h * p["norm_1"]["scale"] + p["norm_1"]["bias"])
    logits = twins.conv(p["out"], jnp.float32(h)[None])[0, ..., 0]
    assert found.logits.shape == (2, 2, 2)
    np.testing.assert_allclose(found.logits[n], logits, rtol=1e-3, atol=1e-4)
    for layer, truth in zip(found.features, (first, h), strict=True):
      np.testing.assert_allclose(layer[n], truth, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("levels, side", [(1, 24), (2, 40)])
def test_a_logit_sees_its_patch_alone(levels, side):
  """The Jacobian of the logit in the middle: r x r pixels, none outside."""
  r = patch_discriminator.receptive_field(levels)
  assert r == {1: 8, 2: 18}[levels]
  net = kind(width=2, num_levels=levels)
  x = jnp.sin(jnp.arange(float(side**2))).reshape(side, side, 1)
  params = started(net, x.shape)
  at = side // 2**levels // 2
  slope = jax.jit(jax.grad(lambda x: net.apply(params, x).logits[at, at]))(x)
  rows, columns = np.nonzero(np.asarray(slope[..., 0]))
  for places in (rows, columns):
    assert places.max() - places.min() + 1 == r
  assert len(rows) > 0.9 * r**2


def test_sizes_and_bad_settings():
  def shapes(net, shape):
    fn = lambda x: net.init_with_output(jax.random.key(0), x)[0]
    found = jax.eval_shape(fn, jnp.zeros(shape))
    return found.logits.shape, [layer.shape for layer in found.features]

  assert shapes(kind(width=3, num_levels=1), (1, 1, 2)) == ((1, 1), [(1, 1, 3)])
  wide = [(4, 3, 4), (2, 2, 8), (1, 1, 16)]
  assert shapes(kind(width=4, num_levels=3), (7, 5, 1)) == ((1, 1), wide)
  for name in ("width", "num_levels"):
    said = f"{name}: expected at least 1, got 0"
    expect.error(said, shapes, kind(**{name: 0}), (4, 4, 1))
