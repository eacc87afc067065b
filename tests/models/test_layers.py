"""Layers against NumPy on one example."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.models import layers
from tests import expect


def numpy_group_norm(x, groups, epsilon=1e-5):
  """Two passes in float64 over one example [*D, C]."""
  x = np.asarray(x, np.float64)
  parts = x.reshape(-1, groups, x.shape[-1] // groups)
  mean = parts.mean((0, 2), keepdims=True)
  variance = ((parts - mean) ** 2).mean((0, 2), keepdims=True)
  return ((parts - mean) / np.sqrt(variance + epsilon)).reshape(x.shape)


def draw(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype("float32")


def normalise(x, groups):
  """The layer as it starts: gain 1, bias 0."""
  ones, zeros = np.ones(x.shape[-1], "float32"), np.zeros(x.shape[-1], "f")
  params = {"params": {"scale": ones, "bias": zeros}}
  return jax.jit(layers.GroupNorm(groups).apply)(params, x)


@pytest.mark.parametrize(
  "shape, groups", [((8, 8, 12), 4), ((5, 6), 6), ((3, 2, 4, 8), 1), ((8,), 2)]
)
def test_group_norm_is_numpys_with_scale_and_shift(shape, groups):
  x, (gain, bias, scale, shift) = draw(*shape), draw(4, shape[-1], seed=1)
  params = {"params": {"scale": gain, "bias": bias}}
  apply = jax.jit(layers.GroupNorm(groups).apply)
  plain = numpy_group_norm(x, groups) * gain + bias
  np.testing.assert_allclose(apply(params, x), plain, atol=5e-6)
  adapted = plain * (1 + scale) + shift
  np.testing.assert_allclose(apply(params, x, scale, shift), adapted, atol=2e-5)


@pytest.mark.parametrize("mean", [0.0, 10.0, 1e3, 1e5])
def test_group_norm_keeps_its_digits_at_large_means(mean):
  x = draw(32, 32, 16) + np.float32(mean)
  error = np.abs(normalise(x, 4) - numpy_group_norm(x, 4)).max()
  assert error < 2e-6 + 2e-7 * mean


def test_group_norm_of_channels_with_unlike_means():
  x = draw(16, 16, 8) + 100 * np.arange(8, dtype="float32")
  np.testing.assert_allclose(normalise(x, 4), numpy_group_norm(x, 4), atol=1e-5)


def test_group_norm_of_an_outlying_first_position_and_of_a_constant():
  x = draw(16, 16, 4)
  x[0, 0] = 300.0
  np.testing.assert_allclose(normalise(x, 4), numpy_group_norm(x, 4), atol=4e-3)
  constant = np.full((4, 4, 4), 1234.5, "float32")
  assert np.abs(normalise(constant, 2)).max() < 0.1


def test_group_norm_gradient_is_that_of_two_passes():
  x = np.random.default_rng(0).normal(size=(4, 4, 6)) + 3
  w = np.random.default_rng(1).normal(size=x.shape)

  def two_passes(x):
    parts = x.reshape(16, 3, 2)
    y = parts - parts.mean((0, 2), keepdims=True)
    y = y / jnp.sqrt((y * y).mean((0, 2), keepdims=True) + 1e-5)
    return (w * y.reshape(x.shape)).sum()

  with jax.enable_x64(True):
    params = {"params": {"scale": np.ones(6), "bias": np.zeros(6)}}
    layer = lambda x: (w * layers.GroupNorm(3).apply(params, x)).sum()
    hvp = lambda f: jax.jit(lambda x: jax.jvp(jax.grad(f), (x,), (w,)))(x)
    for mine, truth in zip(hvp(layer), hvp(two_passes), strict=True):
      np.testing.assert_allclose(mine, truth, atol=1e-10)


def test_group_norm_under_vmap_is_a_loop():
  one = lambda x: normalise(x, 2)
  expect.a_loop(one, jnp.asarray(draw(3, 4, 4, 8)), rtol=1e-7, atol=1e-6)


def test_group_norm_in_bfloat16_has_float32_statistics():
  half = jnp.asarray(draw(16, 16, 8) + 8, jnp.bfloat16)
  y = normalise(half, 2)
  assert y.dtype == jnp.bfloat16
  truth = numpy_group_norm(half, 2)
  np.testing.assert_allclose(y.astype("float32"), truth, atol=0.02)


def test_time_embedding_is_the_formula():
  for t in (-1.6, 0.0, 0.7, 1.1, np.pi / 2):
    w = 9.0 ** (np.arange(3) / 2)
    truth = np.concatenate([np.sin(w * t), np.cos(w * t)])
    mine = layers.time_embedding(t, 6, 9.0)
    assert mine.dtype == jnp.float32
    np.testing.assert_allclose(mine, truth, atol=2e-6)


def test_time_embedding_is_finite_and_tells_times_apart():
  embed = jax.jit(jax.vmap(lambda t: layers.time_embedding(t, 32)))
  features = embed(jnp.linspace(-1.6, np.pi / 2, 64))
  assert jnp.isfinite(features).all()
  gaps = jnp.linalg.norm(features[:, None] - features[None], axis=-1)
  assert (gaps + jnp.eye(64)).min() > 0.3
  assert np.isfinite(layers.time_embedding(80.0, 2)).all()


def test_label_embedding_has_a_null_row_and_no_nan():
  table = draw(4, 5)
  params = {"params": {"table": {"embedding": table}}}
  embed = layers.LabelEmbedding(3, 5)
  assert (embed.apply(params) == table[3]).all()
  assert (embed.apply(params, 3) == table[3]).all()
  assert (embed.apply(params, np.int32(1)) == table[1]).all()
  traced = jax.jit(jax.vmap(lambda label: embed.apply(params, label)))
  labels = jnp.array([0, 2, 3, 4, -1, 99])
  assert (traced(labels) == table[[0, 2, 3, 3, 3, 3]]).all()


@pytest.mark.parametrize("label", [-1, 4, np.int32(11)])
def test_label_embedding_refuses_concrete_labels_out_of_range(label):
  embed = layers.LabelEmbedding(3, 5)
  key = jax.random.key(0)
  expect.error(r"^label: expected 0 to 3, got", embed.init, key, label)


def test_attention_is_numpys():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 3, 8)).astype("float32")
  weight = lambda *shape: rng.normal(size=shape).astype("float32") / 3
  dense = lambda n: {"kernel": weight(8, n), "bias": weight(n)}
  norm = {"scale": weight(8), "bias": weight(8)}
  params = {"norm": norm, "qkv": dense(24), "out": dense(8)}
  h = numpy_group_norm(x, 4) * norm["scale"] + norm["bias"]
  h = h.reshape(6, 8) @ params["qkv"]["kernel"] + params["qkv"]["bias"]
  q, k, v = h.reshape(6, 3, 2, 4).transpose(1, 2, 0, 3)
  logits = q @ k.transpose(0, 2, 1) / np.sqrt(4)
  weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  h = (weights @ v).transpose(1, 0, 2).reshape(6, 8)
  h = h @ params["out"]["kernel"] + params["out"]["bias"]
  truth = x + h.reshape(x.shape)
  attention = layers.Attention(num_heads=2, num_groups=4)
  mine = jax.jit(attention.apply)({"params": params}, x)
  np.testing.assert_allclose(mine, truth, atol=5e-6)


def test_token_product_is_the_matrix_product_with_its_derivatives():
  rng = np.random.default_rng(0)
  x, kernel, v = (
    jnp.asarray(rng.normal(size=shape), "float32")
    for shape in ((3, 5, 4), (4, 6), (4, 6))
  )
  axes = (((1,), (0,)), ((), ()))
  product = lambda x, kernel: layers.token_product(x, kernel, axes)

  def everything(product):
    loss = lambda x, k: (jax.vmap(product, (0, None))(x, k) ** 3).sum()
    grad = jax.grad(loss, (0, 1))
    return jax.jvp(grad, (x, kernel), (x, v))

  mine = jax.jit(lambda: everything(product))()
  truth = jax.jit(lambda: everything(jnp.matmul))()
  for a, b in zip(*map(jax.tree.leaves, (mine, truth)), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())
