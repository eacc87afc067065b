"""The causal transformer against NumPy, and what its cache costs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import outputs, samplers
from jaxgen.models import causal
from tests import expect
from tests.models import twins

NET = causal.Transformer(5, 3, width=8, depth=2, num_heads=2, num_classes=2)


def dense(p, x):
  return x @ p["kernel"] + p["bias"]


def norm(p, x):
  y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
  return y * p["scale"] + p["bias"]


def gelu(x):
  return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def turned(x, heads):
  """Rotary positions as products of complex numbers, of each head."""
  a, b = np.split(x.reshape(len(x), heads, -1), 2, -1)
  half = a.shape[-1]
  angle = np.arange(len(x))[:, None] / 1e4 ** (np.arange(half) / half)
  z = (a + 1j * b) * np.exp(1j * angle)[:, None]
  return np.concatenate([z.real, z.imag], -1).reshape(x.shape)


def attention(p, x, heads, rotary=False):
  """Position by position: each sees itself and those before."""
  q, k, v = np.split(dense(p["qkv"], x), 3, -1)
  if rotary:
    q, k = turned(q, heads), turned(k, heads)
  size, out = x.shape[-1] // heads, np.zeros(x.shape)
  for i in range(len(x)):
    for part in (np.s_[n * size : (n + 1) * size] for n in range(heads)):
      scores = k[: i + 1, part] @ q[i, part] / np.sqrt(size)
      weights = np.exp(scores - scores.max())
      out[i, part] = weights / weights.sum() @ v[: i + 1, part]
  return dense(p["out"], out)


def twin(variables, x, label, rotary):
  p = jax.tree.map(np.float64, variables["params"])
  inputs = p["inputs"]
  h = inputs["positions"][: len(x)].copy()
  h[1:] += dense(inputs["project"], np.float64(x[:-1]))
  h += inputs["label"]["table"]["embedding"][label]
  for i in range(2):
    q = p[f"blocks_{i}"]
    h = h + attention(q, norm(q["norm_0"], h), 2, rotary)
    h = h + dense(q["mlp_1"], gelu(dense(q["mlp_0"], norm(q["norm_1"], h))))
  return dense(p["out"], norm(p["norm"], h))


@pytest.mark.parametrize("rotary", [False, True])
def test_outputs_are_numpys_and_prefixes_have_their_own(rotary):
  net = NET.clone(rotary=rotary)
  x = jax.random.normal(jax.random.key(1), (5, 2))
  params = twins.randomise(jax.eval_shape(net.init, jax.random.key(0), x))
  truth = twin(params, x, 1, rotary)
  apply = jax.jit(lambda x: net.apply(params, x, 1))
  np.testing.assert_allclose(apply(x), truth, atol=3e-5)
  np.testing.assert_allclose(apply(x[:3]), truth[:3], atol=3e-5)


def memory(length):
  """(bytes of the caches, bytes of a batch's temporaries) of a sample."""
  net = causal.Transformer(length, 2, width=32, depth=2)
  x = jnp.zeros((length, 1))
  params = jax.eval_shape(net.init, jax.random.key(0), x)

  def sample(params, key):
    start = net.apply(params, method="start")

    def step(cache, before, i):
      token = before[None].astype("float32")
      return net.apply(params, cache, token, i, method="step")

    return samplers.autoregressive(
      step, start, outputs.categorical(2), length, key
    )

  run = jax.jit(jax.vmap(sample, (None, 0)))
  keys = jax.random.split(jax.random.key(0), 8)
  used = run.lower(params, keys).compile().memory_analysis()
  cache = jax.eval_shape(lambda p: net.apply(p, method="start"), params)
  floats = sum(a.size for a in jax.tree.leaves((cache.keys, cache.values)))
  return 8 * 4 * floats, used.temp_size_in_bytes


def test_a_sample_needs_little_memory_beyond_its_cache():
  """Scores of one query, 1 / 32 of the cache, not those of all pairs."""
  small, large = memory(64), memory(256)
  cache, used = (b - a for a, b in zip(small, large, strict=True))
  assert cache < used < 1.1 * cache


def test_the_caches_first_pages_are_empty():
  params = twins.randomise(
    jax.eval_shape(NET.init, jax.random.key(0), jnp.zeros((5, 2)))
  )
  cache = NET.apply(params, 1, method="start")
  for page in (*cache.keys, *cache.values):
    assert page.shape == (2, 5, 4) and (page == 0).all()
  step = lambda i: NET.apply(params, cache, jnp.ones(2), i, method="step")[0]
  after = jax.jit(step)(jnp.array(2))
  for page in (*after.keys, *after.values):
    filled = (page != 0).any((0, 2))
    assert filled.tolist() == [False, False, True, False, False]


def test_rotary_needs_heads_of_even_size():
  net = causal.Transformer(5, 3, width=6, num_heads=2, rotary=True)
  start = lambda: jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((5, 2)))
  expect.error("^width, num_heads: expected heads of even size", start)
