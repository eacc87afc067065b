"""The U-Net against a batch-first twin written from its equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.models import unbatched, unet
from tests.models import twins

HEADS = dict(attention=(4,), num_heads=2, num_groups=2)
NET = unet.UNet(width=4, num_classes=3, embedding_width=4, **HEADS)


@pytest.fixture(scope="module")
def params():
  zeros = jnp.zeros((8, 8, 1))
  shapes = jax.eval_shape(NET.init, jax.random.key(0), zeros, 0.0)
  return twins.randomise(shapes)


@pytest.fixture(scope="module")
def apply(params):
  return jax.jit(lambda x, t, label: NET.apply(params, x, t, label))


def twin(variables, x, t, label):
  """Two levels, batch first: x [B, H, W, C], t [B], label [B]."""
  p = variables["params"]
  w = jnp.array([[1.0, 16.0]])
  time = jnp.concatenate([jnp.sin(t[:, None] * w), jnp.cos(t[:, None] * w)], 1)
  h = twins.dense(p["time_0"], time) + p["label"]["table"]["embedding"][label]
  condition = jax.nn.silu(twins.dense(p["time_1"], jax.nn.silu(h)))
  skip = twins.block(p["down_0_0"], twins.conv(p["conv_in"], x), condition)
  quarters = [skip[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
  h = twins.dense(p["halve_0"], sum(quarters) / 4)
  for name in ("middle_0", "middle_1"):
    h = twins.block(p[name], h, condition)
  h = twins.dense(p["double_0"], h).repeat(2, 1).repeat(2, 2)
  h = twins.block(p["up_0_0"], h + skip, condition)
  return twins.conv(p["conv_out"], jax.nn.silu(twins.norm(p["norm_out"], h)))


def examples():
  x = np.random.default_rng(1).normal(size=(3, 8, 8, 1)).astype("float32")
  return jnp.asarray(x), jnp.array([-1.6, 0.3, 1.1]), jnp.array([0, 3, 1])


def test_equals_its_batch_first_twin(params, apply):
  x, t, label = examples()
  truth = jax.jit(twin)(params, x, t, label)
  assert jnp.abs(truth).mean() > 0.1
  np.testing.assert_allclose(jax.vmap(apply)(x, t, label), truth, atol=3e-5)
  one = jax.jit(unbatched.unbatched(twin))(params, x[1], t[1], label[1])
  np.testing.assert_allclose(one, truth[1], atol=3e-5)


@pytest.mark.parametrize(
  "shape, settings",
  [
    ((8, 8, 1), dict(multipliers=(1,), num_middle_blocks=1, attention=(8,))),
    ((16, 8, 2), dict(multipliers=(1, 2, 2), attention=(4, 16))),
    ((32, 32, 3), dict(multipliers=(1, 2, 2, 4), num_blocks=2, dropout=0.1)),
    ((256, 256, 3), dict(multipliers=(1, 1, 2, 2, 4), attention=(16, 32))),
  ],
)
def test_shapes_and_float32_parameters(shape, settings):
  net = unet.UNet(dtype=jnp.bfloat16, num_classes=2, **settings)
  x = jax.ShapeDtypeStruct(shape, jnp.float32)
  t = jax.ShapeDtypeStruct((), jnp.float32)
  out, params = jax.eval_shape(net.init_with_output, jax.random.key(0), x, t)
  assert out.shape == shape and out.dtype == jnp.float32
  assert {a.dtype for a in jax.tree.leaves(params)} == {jnp.dtype("float32")}
  blocks = [name for name in params["params"] if "down" in name or "up" in name]
  upper = len(settings["multipliers"]) - 1
  assert len(blocks) == 2 * upper * settings.get("num_blocks", 1)


def test_channels_of_the_output():
  net = unet.UNet(width=8, out_features=5)
  x = jax.ShapeDtypeStruct((8, 8, 2), jnp.float32)
  out, params = jax.eval_shape(net.init_with_output, jax.random.key(0), x, 0.5)
  assert out.shape == (8, 8, 5)
  assert params["params"]["conv_out"]["kernel"].shape == (3, 3, 8, 5)


def test_the_digits_setting_has_the_stated_size():
  net = unet.UNet(attention=(4,), num_classes=10)
  x = jax.ShapeDtypeStruct((8, 8, 1), jnp.float32)
  params = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, 0.5), x)
  assert sum(a.size for a in jax.tree.leaves(params)) == 241_089


# {skips: channels in and out of every layer, in units of the width}.
CHANNELS = {
  "add": """conv_in 1 1; down_0_0 1 1; halve_0 1 2; down_1_0 2 2; halve_1 2 3;
    middle_0 3 3; middle_1 3 3; double_1 3 2; up_1_0 2 2; double_0 2 1;
    up_0_0 1 1; conv_out 1 1""",
  "concat": """conv_in 1 1; down_0_0 1 1; halve_0 1 1; down_1_0 1 2;
    halve_1 2 2; down_2_0 2 3; middle_0 3 3; middle_1 3 3; up_2_0 6 3;
    up_2_1 5 3; double_1 3 3; up_1_0 5 2; up_1_1 3 2; double_0 2 2; up_0_0 3 1;
    up_0_1 2 1; conv_out 1 1""",
}


@pytest.mark.parametrize("skips", CHANNELS)
def test_channels_of_every_layer_of_three_levels(skips):
  net = unet.UNet(width=8, multipliers=(1, 2, 3), skips=skips)
  zeros = jnp.zeros((8, 8, 8))
  layers = jax.eval_shape(net.init, jax.random.key(0), zeros, 0.0)["params"]
  kernel = lambda layer: layer.get("conv_0", layer)["kernel"]
  found = {
    name: [n // 8 for n in kernel(layer).shape[-2:]]
    for name, layer in layers.items()
    if not name.startswith(("time", "norm"))
  }
  rows = (row.split() for row in CHANNELS[skips].split(";"))
  assert found == {name: [int(a), int(b)] for name, a, b in rows}


def test_every_block_adds_nothing_to_its_input_at_the_start():
  params = jax.jit(NET.init)(jax.random.key(0), jnp.zeros((8, 8, 1)), 0.0)
  blocks = [p["conv_1"] for p in params["params"].values() if "conv_1" in p]
  assert len(blocks) == 4
  assert all((a == 0).all() for a in jax.tree.leaves(blocks))


def test_jvp_and_second_derivatives_are_the_differences(params):
  with jax.enable_x64(True):
    # dot_product_attention's softmax is float32 whatever its input: without.
    net = NET.clone(dtype=jnp.float64, attention=())
    wide = twins.randomise(params, "float64")
    x, v = np.random.default_rng(2).normal(size=(2, 8, 8, 1))
    f = lambda x, t: jnp.sum(net.apply(wide, x, t, 1) ** 2)
    grad = jax.jit(jax.grad(f, (0, 1)))
    both = jax.jit(lambda x, t: jax.jvp(grad, (x, t), (v, 1.0)))
    h = 1e-5
    (slope, rate), hvp = both(x, 0.4)
    up, down = grad(x + h * v, 0.4 + h), grad(x - h * v, 0.4 - h)
    for mine, a, b in zip(hvp, up, down, strict=True):
      scale = np.abs(mine).max()
      np.testing.assert_allclose(mine, (a - b) / (2 * h), atol=1e-6 * scale)
    push = jax.jit(lambda x, t: jax.jvp(f, (x, t), (v, 1.0)))
    ends = push(x + h * v, 0.4 + h)[0] - push(x - h * v, 0.4 - h)[0]
    forward = push(x, 0.4)[1]
    np.testing.assert_allclose(forward, ends / (2 * h), rtol=1e-6)
    np.testing.assert_allclose(forward, (slope * v).sum() + rate, rtol=1e-9)


def test_second_derivatives_through_attention_are_the_twins(params):
  x, t, label = (a[:1] for a in examples())
  mine = lambda x: jnp.sum(NET.apply(params, x[0], t[0], label[0]) ** 2)
  truth = lambda x: jnp.sum(twin(params, x, t, label) ** 2)
  hvp = lambda f: jax.jit(lambda x: jax.jvp(jax.grad(f), (x,), (x + 1,)))(x)
  for a, b in zip(hvp(mine), hvp(truth), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max())
