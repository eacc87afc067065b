"""The U-Net with concatenated skips, as in DDPM++."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.models import unet
from tests.models import twins

HEADS = dict(attention=(8,), num_heads=2, num_groups=2, skips="concat")
NET = unet.UNet(width=4, multipliers=(2, 1), embedding_width=4, **HEADS)


def examples():
  x = np.random.default_rng(1).normal(size=(2, 8, 8, 2)).astype("float32")
  return jnp.asarray(x), jnp.array([-1.6, 0.3])


@pytest.fixture(scope="module")
def params():
  x, t = examples()
  shapes = jax.eval_shape(NET.init, jax.random.key(0), x[0], t[0])
  return twins.randomise(shapes)


def twin(variables, x, t):
  """Two levels, a block a level down and two up: [B, H, W, C], [B]."""
  p = variables["params"]
  silu, both = jax.nn.silu, lambda h, skip: jnp.concatenate([h, skip], -1)
  time = jnp.stack([f(w * t) for f in (jnp.sin, jnp.cos) for w in (1, 16)], 1)
  c = silu(twins.dense(p["time_1"], silu(twins.dense(p["time_0"], time))))
  run = lambda name, h, *size: twins.block(p[name], h, c, *size)
  first = twins.conv(p["conv_in"], x)
  large = run("down_0_0", first)
  half = run("halve_0", large, twins.halve)
  small = run("down_1_0", half)
  h = run("middle_1", run("middle_0", small))
  h = run("up_1_1", both(run("up_1_0", both(h, small)), half))
  h = run("double_0", h, twins.double)
  h = run("up_0_1", both(run("up_0_0", both(h, large)), first))
  return twins.conv(p["conv_out"], silu(twins.norm(p["norm_out"], h)))


def test_equals_its_batch_first_twin(params):
  x, t = examples()
  truth = jax.jit(twin)(params, x, t)
  assert jnp.abs(truth).mean() > 0.1
  apply = jax.jit(jax.vmap(NET.apply, (None, 0, 0)))
  np.testing.assert_allclose(apply(params, x, t), truth, atol=1e-4)


def test_attention_is_where_the_paper_has_it(params):
  found = {name for name, p in params["params"].items() if "attention" in p}
  assert found == {"down_0_0", "middle_0", "up_0_1"}


def test_starts_at_zero_and_recomputes():
  x, t = (a[0] for a in examples())
  net = NET.clone(remat=True)
  out, fresh = jax.jit(net.init_with_output)(jax.random.key(0), x, t)
  assert (out == 0).all()
  plain = jax.eval_shape(NET.init, jax.random.key(0), x, t)
  assert jax.tree.structure(plain) == jax.tree.structure(fresh)


def published_size():
  """Parameters of the DDPM++ of Karras et al. for CIFAR-10, by hand."""
  width, wide, features = 128, 256, 512
  conv = lambda a, b, k: a * b * k * k + b

  def block(a, b, attend=False, resample=False):
    size = 2 * a + conv(a, b, 3) + conv(features, b, 1) + 2 * b + conv(b, b, 3)
    size += conv(a, b, 1) if resample or a != b else 0
    return size + (2 * b + conv(b, 3 * b, 1) + conv(b, b, 1) if attend else 0)

  same, attends = block(wide, wide), block(wide, wide, attend=True)
  resamples = block(wide, wide, resample=True)
  joined = block(2 * wide, wide)
  down = block(width, wide) + 3 * same + 4 * attends + 4 * same + 2 * resamples
  middle = attends + same
  up = 4 * joined + block(wide + width, wide) + 4 * joined + 5 * joined
  up += block(2 * wide, wide, attend=True) + 2 * resamples
  ends = conv(3, width, 3) + 2 * wide + conv(wide, 3, 3)
  label, augmentation = conv(10, width, 1), 9 * width
  features_mlp = conv(width, features, 1) + conv(features, features, 1)
  return down + middle + up + ends + label + augmentation + features_mlp


def test_the_published_size():
  published = published_size()
  assert round(published / 1e5) == 557  # 55.7 M
  heads = dict(attention=(16,), num_groups=32, skips="concat")
  inputs = dict(embedding_width=256, dropout=0.13, num_classes=10)
  net = unet.UNet(128, (2, 2, 2), num_blocks=4, **heads, **inputs)
  x = jax.ShapeDtypeStruct((32, 32, 3), jnp.float32)
  start = lambda x: net.init_with_output(jax.random.key(0), x, 0.5)
  out, params = jax.eval_shape(start, x)
  assert out.shape == x.shape
  size = sum(a.size for a in jax.tree.leaves(params))
  assert abs(size / published - 1) < 0.005
