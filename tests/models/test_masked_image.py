"""Networks of masked images against NumPy; time is the share of masks."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import orders
from jaxgen.models import dit, masked_image, padded, unet
from tests import defaults, expect
from tests.models import twins
from tests.models.test_causal import dense

SHAPE, FEATURES, OUT = (4, 2, 3), 2, 5
NET = unet.UNet(width=8, num_classes=2, num_groups=2, out_features=3 * OUT)


def started(net=NET, shape=SHAPE, **settings):
  """(the module, entries [D, F] of which a third is masked, parameters)."""
  module = masked_image.MaskedImage(net, shape, **settings)
  x = jax.random.normal(jax.random.key(0), (np.prod(shape), FEATURES))
  x = x.at[:, -1].set(jnp.arange(len(x)) % 3 == 0)
  init = jax.eval_shape(module.init, jax.random.key(1), x)
  return module, x, twins.randomise(init)


def test_the_network_sees_pixels_and_the_share_of_masks():
  module, x, params = started(width=8)
  found = jax.jit(module.apply)(params, x, 1)
  assert found.shape == (24, OUT) and found.dtype == jnp.float32
  p = params["params"]
  pixels = np.float64(x).reshape(4, 2, 6)  # three entries' features each
  layer, position = jax.tree.map(np.float64, (p["pixels"], p["position"]))
  h = dense(layer, pixels) + position
  truth = NET.apply({"params": p["net"]}, jnp.float32(h), 1 / 3, 1)
  # Entry k of pixel ij has the channels k K, ..., k K + K - 1.
  truth = truth.reshape(8, 3, OUT).reshape(24, OUT)
  np.testing.assert_allclose(found, truth, rtol=1e-4, atol=1e-5)
  other = jax.jit(module.apply)(params, x, 0)
  assert jnp.abs(found - other).max() > 1e-3


def test_every_output_sees_every_input():
  net = NET.clone(attention=(2,))
  module, _, params = started(net, width=8)
  run = jax.jit(lambda x: module.apply(params, x, 0))
  seen = orders.receptive_field(jax.random.key(2), run, (24, FEATURES))
  assert seen.all()


def test_dropout_half_precision_and_a_zero_start():
  module, x, params = started(NET.clone(dropout=0.5, dtype=jnp.bfloat16))
  one = lambda key: module.apply(
    params, x, 1, train=True, rngs={"dropout": key}
  )
  first, second = jax.vmap(one)(jax.random.split(jax.random.key(3)))
  assert jnp.abs(first - second).max() > 1e-3
  assert first.dtype == jnp.float32
  out, fresh = module.clone(dtype=jnp.bfloat16).init_with_output(
    jax.random.key(0), x
  )
  assert (out == 0).all()
  assert {a.dtype for a in jax.tree.leaves(fresh)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
  "net, shape",
  [
    (dit.DiT(width=8, depth=1, num_heads=2), (4, 2, 1)),
    (padded.Padded(NET.clone(out_features=5), 2), (3, 5, 1)),
  ],
  ids=["dit", "padded"],
)
def test_other_networks_of_images(net, shape):
  """A DiT has as many channels as its input."""
  module, x, params = started(net, shape, width=5)
  p = params["params"]
  h = x.reshape(*shape[:2], 2) @ p["pixels"]["kernel"] + jnp.broadcast_to(
    p["pixels"]["bias"], p["position"].shape
  )
  truth = net.apply({"params": p["net"]}, h + p["position"], x[:, -1].mean())
  found = module.apply(params, x)
  assert found.shape == (len(x), 5)
  np.testing.assert_allclose(found, truth.reshape(-1, 5), rtol=1e-4, atol=1e-5)


class Same(nn.Module):
  """The image itself."""

  def __call__(self, x, t, label=None, *, train=False):
    return x


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_network_is_given_the_dtype(dtype):
  module, x, params = started(Same(), (4, 2, 1), width=3, dtype=dtype)
  assert module.apply(params, x).dtype == dtype


def test_bad_shapes():
  module, x, params = started(width=8)
  message = r"^x: expected the 24 entries of shape \[4, 2, 3\], got 23"
  expect.error(message, module.apply, params, x[1:])
  module = masked_image.MaskedImage(NET.clone(out_features=7), SHAPE)
  message = (
    r"^net: expected an output \[4, 2, a multiple of 3\], got \[4, 2, 7\]"
  )
  expect.error(message, jax.eval_shape, module.init, jax.random.key(0), x)


def test_defaults():
  defaults.check(masked_image.MaskedImage, width=32)
  defaults.check(masked_image.MaskedImage.__call__, train=False)
