"""Networks of masked tokens against NumPy; every output sees every input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import orders
from jaxgen.models import bidirectional, masked_mlp
from tests import expect
from tests.models import twins
from tests.models.test_causal import dense, gelu, norm

LENGTH, FEATURES, OUT = 5, 2, 3
NETS = {
  "mlp": masked_mlp.MaskedMLP(OUT, (6, 4), num_classes=2, label_width=4),
  "transformer": bidirectional.Transformer(
    LENGTH, OUT, width=8, depth=2, num_heads=2, num_classes=2
  ),
}


def started(name):
  x = jnp.zeros((LENGTH, FEATURES))
  return twins.randomise(jax.eval_shape(NETS[name].init, jax.random.key(0), x))


def of_mlp(p, x, label):
  h = np.concatenate([x.ravel(), p["label"]["table"]["embedding"][label]])
  for name in ("hidden_0", "hidden_1"):
    h = dense(p[name], h)
    h = h / (1 + np.exp(-h))
  return dense(p["out"], h).reshape(LENGTH, OUT)


def of_transformer(p, x, label):
  inputs = p["Inputs_0"]
  h = dense(inputs["project"], x) + inputs["positions"]
  h = h + inputs["label"]["table"]["embedding"][label]
  for i in range(2):
    q = p[f"block_{i}"]
    h = h + attention(q, norm(q["norm_0"], h), 2)
    h = h + dense(q["mlp_1"], gelu(dense(q["mlp_0"], norm(q["norm_1"], h))))
  return dense(p["Dense_0"], norm(p["LayerNorm_0"], h))


def attention(p, x, heads):
  """All positions see one another."""
  parts = np.split(dense(p["qkv"], x), 3, -1)
  q, k, v = (part.reshape(len(x), heads, -1) for part in parts)
  scores = np.einsum("inc,jnc->nij", q, k) / np.sqrt(q.shape[-1])
  weights = np.exp(scores - scores.max(-1, keepdims=True))
  weights /= weights.sum(-1, keepdims=True)
  return dense(p["out"], np.einsum("nij,jnc->inc", weights, v).reshape(x.shape))


TWINS = {"mlp": of_mlp, "transformer": of_transformer}


@pytest.mark.parametrize("name", NETS)
def test_outputs_are_numpys_and_depend_on_every_input(name):
  net, params = NETS[name], started(name)
  x = jax.random.normal(jax.random.key(1), (LENGTH, FEATURES))
  run = jax.jit(lambda x, label: net.apply(params, x, label))
  p = jax.tree.map(np.float64, params["params"])
  for label in (1, 2):
    found = run(x, label)
    assert found.dtype == jnp.float32
    truth = TWINS[name](p, np.float64(x), label)
    np.testing.assert_allclose(found, truth, atol=3e-5)
  np.testing.assert_allclose(run(x, None), run(x, 2), atol=1e-6)
  seen = orders.receptive_field(
    jax.random.key(2), lambda x: run(x, 0), (LENGTH, FEATURES)
  )
  assert seen.all()


@pytest.mark.parametrize("name", NETS)
def test_dropout_by_key_a_zero_start_and_half_precision(name):
  net, params = NETS[name], started(name)
  x = jax.random.normal(jax.random.key(1), (LENGTH, FEATURES))
  out, fresh = jax.jit(net.init_with_output)(jax.random.key(0), x)
  assert (out == 0).all()
  assert {a.dtype for a in jax.tree.leaves(fresh)} == {jnp.dtype("float32")}
  drop = net.clone(dropout=0.5)
  one = lambda key: drop.apply(params, x, 1, train=True, rngs={"dropout": key})
  first, second = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(3)))
  assert jnp.abs(first - second).max() > 1e-3
  half = net.clone(dtype=jnp.bfloat16).apply(params, x, 1)
  truth = net.apply(params, x, 1)
  assert half.dtype == jnp.float32
  assert 0 < jnp.abs(half - truth).mean() < 0.05 * jnp.abs(truth).mean()


BAD = [
  ("mlp", dict(features=(0,)), "out_features, features: expected at least 1"),
  ("mlp", dict(dropout=1.0), "dropout: expected"),
  ("transformer", dict(num_heads=3), "width, num_heads: .*width 8, got 3"),
  ("transformer", dict(length=3), "tokens: expected 1 to 3 tokens, got 5"),
  ("transformer", dict(depth=0), "depth: expected at least 1, got 0"),
  ("transformer", dict(num_classes=-1), "num_classes: expected"),
]


@pytest.mark.parametrize("name, settings, message", BAD)
def test_bad_settings(name, settings, message):
  net, x = NETS[name].clone(**settings), jnp.zeros((LENGTH, FEATURES))
  start = lambda: jax.eval_shape(net.init, jax.random.key(0), x)
  expect.error(f"^{message}", start)
