"""What both networks of images owe, the DiT and the U-Net."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.models import dit, unet
from tests import expect
from tests.models import test_dit, test_unet, twins

DIT, UNET = test_dit.NET, unet.UNet()
SMALL = dict(embedding_width=2)


@pytest.fixture(
  scope="module", params=[test_dit, test_unet], ids=["dit", "unet"]
)
def started(request):
  """(the network, its parameters, itself with them, three examples)."""
  net, examples = request.param.NET, request.param.examples()
  start = lambda x: net.init(jax.random.key(0), x, 0.0)
  params = twins.randomise(jax.eval_shape(start, examples[0][0]))
  apply = jax.jit(lambda x, t, label: net.apply(params, x, t, label))
  return net, params, apply, examples


def test_one_trace_and_vmap_is_a_loop(started):
  net, params, _, examples = started
  apply = lambda *example: net.apply(params, *example)
  expect.a_loop(apply, *examples, rtol=1e-7, atol=3e-5)


def test_null_label_is_the_last_one(started):
  net, params, apply, (x, t, _) = started
  null = jax.jit(lambda x, t: net.apply(params, x, t))(x[0], t[0])
  atol = 1e-5 if isinstance(net, dit.DiT) else 1e-6
  np.testing.assert_allclose(null, apply(x[0], t[0], 3), atol=atol)
  assert jnp.abs(null - apply(x[0], t[0], 0)).max() > 1e-3


def test_starts_at_zero(started):
  net, _, _, examples = started
  one = [a[0] for a in examples]
  out, _ = jax.jit(net.init_with_output)(jax.random.key(0), *one)
  assert (out == 0).all()


def test_bfloat16_is_near_float32(started):
  net, params, apply, examples = started
  one = [a[0] for a in examples]
  half = jax.jit(net.clone(dtype=jnp.bfloat16).apply)
  out, truth = half(params, *one), apply(*one)
  assert out.dtype == jnp.float32
  error = jnp.abs(out - truth)
  assert error.max() > 0 and error.mean() < 0.05 * jnp.abs(truth).mean()


def test_recomputed_blocks_give_the_same_gradient(started):
  net, params, _, examples = started
  one = [a[0] for a in examples]
  loss = lambda p, net: jnp.sum(net.apply(p, *one) ** 2)
  slope = jax.jit(jax.grad(loss), static_argnums=1)
  plain, again = slope(params, net), slope(params, net.clone(remat=True))
  assert jax.tree.structure(plain) == jax.tree.structure(again)
  for a, b in zip(*map(jax.tree.leaves, (plain, again)), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-4 * (1 + np.abs(a).max()))


def test_dropout_masks_differ_by_key_and_example(started):
  net, params, apply, examples = started
  one, net = [a[0] for a in examples], net.clone(dropout=0.5)
  rest = jax.jit(net.apply)(params, *one)
  np.testing.assert_allclose(rest, apply(*one), atol=3e-5)
  drop = lambda key: net.apply(params, *one, train=True, rngs={"dropout": key})
  out = jax.jit(jax.vmap(drop))(jax.random.split(jax.random.key(2), 3))
  gaps = jnp.abs(out[:, None] - out[None]).max((2, 3, 4)) + jnp.eye(3)
  assert gaps.min() > 1e-2


def shape_of(net, shape, label=None):
  """The output's, at the time 1 / 2; nothing is compiled."""
  start = lambda x: net.init_with_output(jax.random.key(0), x, 0.5, label)[0]
  return jax.eval_shape(start, jax.ShapeDtypeStruct(shape, jnp.float32)).shape


HEADS = dict(attention=(4, 2), num_heads=4)


@pytest.mark.parametrize(
  "net, shape, label",
  [
    (dit.DiT(4, 1, 1, patch=1, mlp_ratio=1), (1, 1, 1), None),
    (dit.DiT(4, 1, 4, patch=3), (3, 6, 2), None),
    (dit.DiT(8, 1, 2, num_classes=1), (4, 2, 1), 1),
    (dit.DiT(8, 1, num_classes=2, dropout=0.99), (2, 2, 1), 0),
    (unet.UNet(1, (1,), num_middle_blocks=1, **SMALL), (1, 1, 1), None),
    (unet.UNet(2, (1, 1), num_groups=2, **SMALL), (2, 4, 1), None),
    (unet.UNet(4, (1, 1), **HEADS, **SMALL), (2, 4, 1), None),
    (
      unet.UNet(4, (1, 2, 1), num_groups=4, skips="concat", **SMALL),
      (4, 4, 1),
      None,
    ),
  ],
)
def test_the_smallest_networks(net, shape, label):
  assert shape_of(net, shape, label) == shape


OF_DIT = [
  (dict(patch=3), (4, 6, 3), "patch: .*sides 4 x 6, got 3"),
  (dict(patch=2), (4, 5, 1), "patch: expected"),
  (dict(patch=2), (5, 4, 1), "patch: expected"),
  (dict(patch=0), (4, 6, 3), "patch: expected at least 1, got 0"),
  (dict(num_heads=3), (4, 6, 3), "width, num_heads: .*width 8, got 3"),
  (dict(num_heads=0), (4, 4, 1), "num_heads: expected"),
  (dict(width=6, num_heads=2), (4, 6, 3), "width: .*multiple of 4, got 6"),
  (dict(width=0), (4, 4, 1), "width: expected"),
  (dict(width=2, num_heads=1), (4, 4, 1), "width: expected"),
  (dict(depth=0), (4, 6, 3), "depth: "),
  (dict(mlp_ratio=0), (4, 6, 3), "mlp_ratio: "),
  (dict(dropout=1.0), (4, 6, 3), "dropout: "),
  (dict(dropout=-0.01), (4, 4, 1), "dropout: expected"),
  (dict(num_classes=-1), (4, 4, 1), "num_classes: expected"),
]
OF_UNET = [
  (dict(multipliers=(1, 1, 1)), (8, 6, 1), "x: .*by 4.*got 8 x 6"),
  (dict(), (6, 5, 1), "x: expected"),
  (dict(), (5, 6, 1), "x: expected"),
  (dict(multipliers=()), (8, 8, 1), "multipliers: "),
  (dict(multipliers=(1, 0)), (4, 4, 1), "multipliers: expected"),
  (dict(multipliers=(0, 1)), (4, 4, 1), "multipliers: expected"),
  (dict(num_blocks=0), (8, 8, 1), "num_blocks: "),
  (dict(num_middle_blocks=0), (4, 4, 1), "num_middle_blocks: expected"),
  (dict(out_features=0), (4, 4, 1), "out_features: expected"),
  (dict(width=0), (4, 4, 1), "width: expected"),
  (dict(width=12), (8, 8, 1), "num_groups: .*12 channels"),
  (dict(attention=(5,)), (8, 8, 1), r"attention: .*\[8, 4\]"),
  (dict(attention=(1,)), (4, 4, 1), "attention: expected"),
  (dict(attention=(8,)), (4, 4, 1), "attention: expected"),
  (dict(num_heads=3, attention=(4,)), (8, 8, 1), "num_heads: "),
  (dict(dropout=1.5), (8, 8, 1), "dropout: "),
  (dict(dropout=1.0), (4, 4, 1), "dropout: expected"),
  (dict(skips="sum"), (8, 8, 2), "skips: expected add or concat"),
]


@pytest.mark.parametrize(
  "net, settings, shape, message",
  [(DIT, *row) for row in OF_DIT] + [(UNET, *row) for row in OF_UNET],
)
def test_settings_and_shapes_that_do_not_fit(net, settings, shape, message):
  expect.error(f"^{message}", shape_of, net.clone(**settings), shape)


@pytest.mark.parametrize("net", [DIT, UNET], ids=["dit", "unet"])
def test_bad_labels(net):
  for num_classes, label, message in (
    (0, 0, "label: expected None"),
    (2, 3, "label: expected 0 to 2, got 3"),
  ):
    of_classes = net.clone(num_classes=num_classes)
    expect.error(f"^{message}", shape_of, of_classes, (8, 8, 1), label)
