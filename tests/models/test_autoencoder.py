"""The autoencoder of images against batch-first twins."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.models import autoencoder
from tests import expect
from tests.models import twins

IMAGES = jnp.sin(jnp.arange(96.0)).reshape(3, 8, 4, 1)
MAPS = jnp.cos(jnp.arange(18.0)).reshape(3, 2, 1, 3)
HOW = dict(factor=4, width=2, num_blocks=2, num_groups=2)
NETS = dict(
  encoder=(autoencoder.Encoder(3, **HOW), IMAGES),
  decoder=(autoencoder.Decoder((8, 4, 1, 5), **HOW), MAPS),
)
by_net = pytest.mark.parametrize("name", NETS)


@functools.cache
def params_of(name):
  net, x = NETS[name]
  start = lambda: net.init(jax.random.key(0), x[0])
  return twins.randomise(jax.eval_shape(start))


def blocks(p, x, name):
  for n in range(2):
    own, h = p[f"{name}_block_{n}"], x
    for i in (0, 1):
      h = twins.conv(
        own[f"conv_{i}"], jax.nn.silu(twins.norm(own[f"norm_{i}"], h))
      )
    x = x + h
  return x


def twin(p, x, step, resample):
  """[B, H, W, C] -> [B, h, w, C] before the last layer."""
  x = blocks(p, twins.conv(p["start"], x), "level_0")
  for i in (1, 2):
    x = blocks(p, twins.conv(p[f"{step}_{i}"], resample(x)), f"level_{i}")
  return jax.nn.silu(twins.norm(p["norm"], x))


@by_net
def test_one_example_is_the_batch_first_twins(name):
  net, x = NETS[name]
  params = params_of(name)
  found = expect.a_loop(lambda x: net.apply(params, x), x, rtol=1e-4, atol=1e-4)

  @jax.jit
  def truth(params, x):
    p = params["params"]
    if name == "encoder":
      return twins.dense(p["out"], twin(p, x, "down", twins.halve))
    made = twins.conv(p["out"], twin(p, x, "up", twins.double))
    return made.reshape(-1, 8, 4, 1, 5)

  expected = truth(params, x)
  assert found.dtype == jnp.float32 and found.shape == expected.shape
  assert np.abs(expected).max() > 0.1
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_shapes_and_channels_by_factor():
  """[4, 8, 3] at every factor: the map, the channels, and the image again."""
  x = jnp.zeros((4, 8, 3))
  for factor, size in ((1, (4, 8)), (2, (2, 4)), (4, (1, 2))):
    encoder = autoencoder.Encoder(5, factor, width=4)
    decoder = autoencoder.Decoder((4, 8, 3), factor, width=4)

    def both(key, encoder=encoder, decoder=decoder):
      z, params = encoder.init_with_output(key, x)
      return z, params, *decoder.init_with_output(key, z)

    z, params, made, others = jax.eval_shape(both, jax.random.key(0))
    assert z.shape == (*size, 5) and made.shape == (4, 8, 3)
    for tree in (params, others):
      kernels = [v["kernel"] for v in tree["params"].values() if "kernel" in v]
      wide = {kernel.shape[-1] for kernel in kernels}
      # 3 channels of the image, or 5 coordinates; the other widths double.
      assert {w for w in wide if w % 4 == 0} == {
        4 * 2**i for i in range(factor.bit_length())
      }


def test_branches_start_at_zero_and_the_map_does_not():
  """A codebook of features that are all alike would have no use."""
  net = autoencoder.Encoder(2, width=4)
  z, params = jax.jit(net.init_with_output)(jax.random.key(0), IMAGES[0])
  spread = np.asarray(z).reshape(-1, 2).std(0)
  assert (spread > 0.05).all()
  for name in ("level_0_block_0", "level_1_block_0"):
    np.testing.assert_array_equal(params["params"][name]["conv_1"]["kernel"], 0)


def test_bad_settings_and_shapes_are_one_line():
  start = lambda net, shape: jax.eval_shape(
    lambda: net.init(jax.random.key(0), jnp.zeros(shape))
  )
  image, encoder = (4, 4, 1), autoencoder.Encoder
  for factor in (0, -2, 3, 6):
    said = f"factor: expected a power of 2, got {factor}"
    expect.error(said, start, encoder(2, factor), image)
  for shape in ((6, 4, 1), (4, 6, 1), (0, 4, 1), (4, 0, 1), (4, 4, 0)):
    expect.error("multiples of 4, got", start, encoder(2, 4), shape)
  for name in ("width", "num_blocks"):
    said = f"{name}: expected at least 1, got 0"
    expect.error(said, start, encoder(2, **{name: 0}), image)
    decoder = autoencoder.Decoder(image, **{name: 0})
    expect.error(said, start, decoder, (2, 2, 3))
  expect.error("latent: expected at least 1, got 0", start, encoder(0), image)
  said = r"z: expected shape \[2, 2, D\], got"
  decoder = autoencoder.Decoder(image)
  for shape in ((2, 3, 3), (4, 4, 3)):
    expect.error(said, start, decoder, shape)
  flat = autoencoder.Decoder((4, 4))
  expect.error("shape: expected an image", start, flat, (2, 2, 3))
  said = "num_groups: expected a divisor of 6 channels, got 4"
  expect.error(said, start, encoder(2, width=6, num_groups=4), image)
