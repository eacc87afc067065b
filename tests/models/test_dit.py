"""The DiT against NumPy in float64, written batch first from its equations."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.models import dit, unbatched
from tests.models import twins

NET = dit.DiT(
  width=8, depth=2, num_heads=2, num_classes=3, embedding_width=4, patch=2
)


@pytest.fixture(scope="module")
def params():
  zeros = jnp.zeros((4, 6, 3))
  shapes = jax.eval_shape(NET.init, jax.random.key(0), zeros, 0.0)
  return twins.randomise(shapes)


@pytest.fixture(scope="module")
def apply(params):
  return jax.jit(lambda x, t, label: NET.apply(params, x, t, label))


def examples():
  x = np.random.default_rng(1).normal(size=(3, 4, 6, 3)).astype("float32")
  return jnp.asarray(x), jnp.array([-1.6, 0.3, 1.1]), jnp.array([0, 3, 1])


def dense(p, x):
  kernel, bias = np.float64(p["kernel"]), np.float64(p["bias"])
  return x @ kernel + bias


def silu(x):
  return x / (1 + np.exp(-x))


def gelu(x):
  return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def adapt(x, scale, shift):
  """[B, L, C]; scale and shift [B, C]."""
  y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
  return y * (1 + scale[:, None]) + shift[:, None]


def attention(p, x, heads):
  q, k, v = np.split(dense(p["qkv"], x), 3, -1)
  size = x.shape[-1] // heads
  out = []
  for i in range(heads):
    part = np.s_[:, :, i * size : (i + 1) * size]
    logits = q[part] @ k[part].transpose(0, 2, 1) / np.sqrt(size)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    out.append(weights / weights.sum(-1, keepdims=True) @ v[part])
  return dense(p["out"], np.concatenate(out, -1))


def twin(variables, x, t, label, heads=2):
  """Batch first: x [B, H, W, C], t [B], label [B], patches of 2 x 2."""
  p = variables["params"]
  x, t, label = np.float64(x), np.float64(t)[:, None], np.asarray(label)
  angles = np.concatenate([t, 16 * t], 1)
  time = np.concatenate([np.sin(angles), np.cos(angles)], 1)
  time = dense(p["time_1"], silu(dense(p["time_0"], time)))
  table = np.float64(p["label"]["table"]["embedding"])
  c = silu(time + table[label])
  waves = lambda n: [f([n, n / 100]) for f in (np.sin, np.cos)]
  grid = itertools.product(range(x.shape[1] // 2), range(x.shape[2] // 2))
  places = [np.concatenate([*waves(i), *waves(j)]) for i, j in grid]
  corners = list(itertools.product(range(2), range(2)))
  taps = [x[:, i::2, j::2].reshape(len(x), -1, x.shape[3]) for i, j in corners]
  h = dense(p["patches"], np.concatenate(taps, -1)) + np.stack(places)
  for i in range(2):
    q = p[f"block_{i}"]
    a1, b1, g1, a2, b2, g2 = np.split(dense(q["adapt"], c), 6, -1)
    h = h + g1[:, None] * attention(q, adapt(h, a1, b1), heads)
    inner = gelu(dense(q["mlp_0"], adapt(h, a2, b2)))
    h = h + g2[:, None] * dense(q["mlp_1"], inner)
  h = dense(p["out"], adapt(h, *np.split(dense(p["adapt_out"], c), 2, -1)))
  out = np.zeros(x.shape)
  for (i, j), tap in zip(corners, np.split(h, 4, -1), strict=True):
    out[:, i::2, j::2] = tap.reshape(out[:, i::2, j::2].shape)
  return out


def test_equals_its_batch_first_twin(params, apply):
  x, t, label = examples()
  truth = twin(params, x, t, label)
  assert np.abs(truth).mean() > 0.1
  np.testing.assert_allclose(jax.vmap(apply)(x, t, label), truth, atol=3e-5)
  single = unbatched.unbatched(lambda *batch: jnp.asarray(twin(*batch), "f"))
  one = single(params, x[1], t[1], label[1])
  np.testing.assert_allclose(apply(x[1], t[1], label[1]), one, atol=3e-5)


def test_positions_tell_places_apart():
  places = dit.positions(3, 5, 16)
  assert places.shape == (15, 16) and places.dtype == np.float32
  row, column = 2, 3
  angles = 10000.0 ** (-np.arange(4) / 4)
  waves = [f(n * angles) for n in (row, column) for f in (np.sin, np.cos)]
  np.testing.assert_allclose(places[13], np.concatenate(waves), atol=1e-6)
  gaps = np.linalg.norm(places[:, None] - places[None], axis=-1)
  assert (gaps + 9 * np.eye(15)).min() > 0.5


def test_the_published_size():
  """DiT-B/2, Peebles and Xie: 130 M with 8 output channels for 4, 1000
  classes. By hand: a block has 18 w^2 + 15 w, of 3 + 1 + 8 + 6.
  """
  net = dit.DiT(width=768, depth=12, num_heads=12, num_classes=1000)
  x = jax.ShapeDtypeStruct((32, 32, 4), jnp.float32)
  start = lambda x: net.init_with_output(jax.random.key(0), x, 0.5)
  out, params = jax.eval_shape(start, x)
  assert out.shape == x.shape and out.dtype == jnp.float32
  w, patch = 768, 2 * 2 * 4
  blocks = 12 * (18 * w * w + 15 * w)
  time, label, ends = (256 + 1 + w + 1) * w, 1001 * w, (patch + 1) * w
  last = (2 * w + 2) * w + (w + 1) * patch
  size = sum(a.size for a in jax.tree.leaves(params))
  assert size == blocks + time + label + ends + last
  published = size + (w + 1) * patch  # which also predicts variances
  assert round(published / 1e6) == 130


def test_jvp_and_second_derivatives_are_the_differences(params):
  """Of the twin in float64; the softmax of dot_product_attention is float32."""
  x, t, label = (np.asarray(a[0]) for a in examples())
  v = np.random.default_rng(2).normal(size=x.shape)
  h = 1e-4
  ends = [
    twin(params, [x + s * v], [np.float64(t) + s], label[None])[0]
    for s in (-h, 0.0, h)
  ]
  slope, bend = (ends[2] - ends[0]) / (2 * h), np.diff(ends, 2, 0)[0] / h**2
  with jax.enable_x64(True):
    net = NET.clone(dtype=jnp.float64)
    f = lambda s: net.apply(params, x + s * v, t + s, label)
    push = lambda s: jax.jvp(f, (s,), (1.0,))
    twice = jax.jit(lambda s: jax.jvp(push, (s,), (1.0,)))
    (value, first), (_, second) = twice(0.0)
  np.testing.assert_allclose(value, ends[1], atol=1e-6)
  np.testing.assert_allclose(first, slope, atol=1e-5 * np.abs(slope).max())
  np.testing.assert_allclose(second, bend, atol=1e-4 * np.abs(bend).max())


def test_the_implementation_is_no_part_of_the_parameters(params, monkeypatch):
  """Both take the same parameters; cuDNN itself needs a GPU."""
  x, t, label = (a[0] for a in examples())
  plain, seen = jax.nn.dot_product_attention, []

  def spy(q, k, v, implementation):
    seen.append(implementation)
    return plain(q, k, v)

  monkeypatch.setattr(jax.nn, "dot_product_attention", spy)
  for name in ("xla", "cudnn"):
    net = NET.clone(implementation=name)
    jax.eval_shape(net.apply, params, x, t, label)
  assert seen == ["xla"] * NET.depth + ["cudnn"] * NET.depth
