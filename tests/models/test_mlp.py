"""The MLP against NumPy, and its derivatives against differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.models import layers, mlp
from tests import expect

NET = mlp.MLP((16, 8), num_classes=3, embedding_width=8, zero_output=False)


@pytest.fixture(scope="module")
def params():
  return jax.jit(NET.init)(jax.random.key(0), jnp.zeros(2), 0.0)


def test_output_is_numpys(params):
  x, t = np.array([0.3, -2.0], "float32"), 0.4
  p = jax.tree.map(np.asarray, params["params"])
  h = np.concatenate([x, layers.time_embedding(t, 8)])
  h = np.concatenate([h, p["label"]["table"]["embedding"][1]])
  for name in ("hidden_0", "hidden_1"):
    h = h @ p[name]["kernel"] + p[name]["bias"]
    h = h / (1 + np.exp(-h))
  truth = h @ p["out"]["kernel"] + p["out"]["bias"]
  mine = NET.apply(params, jnp.asarray(x), t, 1)
  np.testing.assert_allclose(mine, truth, atol=1e-5)


@pytest.mark.parametrize("shape", [(), (2,), (4, 3), (8, 8, 1)])
def test_any_shape_and_a_zero_start(shape):
  net = mlp.MLP((4,), embedding_width=2)
  x = jnp.ones(shape)
  out, params = jax.jit(net.init_with_output)(jax.random.key(0), x, 0.5)
  assert out.shape == shape and (out == 0).all()
  assert {a.dtype for a in jax.tree.leaves(params)} == {jnp.dtype("float32")}


def test_without_hidden_layers_it_is_linear():
  net = mlp.MLP((), embedding_width=2, zero_output=False)
  x = jnp.array([0.3, -2.0])
  out, params = jax.jit(net.init_with_output)(jax.random.key(0), x, 0.4)
  layer = params["params"]["out"]
  h = np.concatenate([x, layers.time_embedding(0.4, 2)])
  np.testing.assert_allclose(out, h @ layer["kernel"], atol=1e-6)


def test_null_label_is_the_last_one(params):
  apply = lambda label: NET.apply(params, jnp.ones(2), 0.5, label)
  np.testing.assert_array_equal(apply(None), apply(3))
  assert jnp.abs(apply(None) - apply(0)).max() > 1e-4


def test_vmap_is_a_loop(params):
  x = jax.random.normal(jax.random.key(1), (3, 2))
  t, label = jnp.array([-1.6, 0.0, 1.1]), jnp.array([0, 3, 1])
  apply = lambda x, t, label: NET.apply(params, x, t, label)
  expect.a_loop(apply, x, t, label, rtol=1e-7, atol=1e-6)


def test_jvp_and_second_derivatives_are_the_differences():
  with jax.enable_x64(True):
    net = mlp.MLP((8, 8), embedding_width=8, zero_output=False, dtype="float64")
    x, v = jnp.array([0.3, -0.5]), jnp.array([1.0, 2.0])
    params = jax.jit(net.init)(jax.random.key(0), x, 0.5)
    f = jax.jit(lambda x, t: jnp.sum(net.apply(params, x, t) ** 2))
    grad = jax.jit(jax.grad(f, (0, 1)))
    h = 1e-5
    jvp = jax.jvp(f, (x, 0.5), (v, 1.0))[1]
    ends = f(x + h * v, 0.5 + h), f(x - h * v, 0.5 - h)
    np.testing.assert_allclose(jvp, (ends[0] - ends[1]) / (2 * h), rtol=1e-7)
    hvp = jax.jvp(grad, (x, 0.5), (v, 1.0))[1]
    ends = grad(x + h * v, 0.5 + h), grad(x - h * v, 0.5 - h)
    for mine, up, down in zip(hvp, *ends, strict=True):
      np.testing.assert_allclose(mine, (up - down) / (2 * h), rtol=1e-6)


def test_bfloat16_activations_keep_float32_parameters_and_output():
  net = mlp.MLP((32,), dtype=jnp.bfloat16, zero_output=False)
  x = jnp.ones(2)
  out, params = jax.jit(net.init_with_output)(jax.random.key(0), x, 0.5)
  assert out.dtype == jnp.float32
  assert {a.dtype for a in jax.tree.leaves(params)} == {jnp.dtype("float32")}
  wide = net.clone(dtype=jnp.float32).apply(params, x, 0.5)
  assert 0 < jnp.abs(out - wide).max() < 0.05


def test_dropout_needs_a_key_only_in_training(params):
  net = NET.clone(dropout=0.5)
  x = jnp.ones(2)
  same = NET.apply(params, x, 0.5)
  np.testing.assert_array_equal(net.apply(params, x, 0.5), same)
  np.testing.assert_array_equal(NET.apply(params, x, 0.5, train=True), same)
  drop = lambda key: net.apply(
    params, x, 0.5, train=True, rngs={"dropout": key}
  )
  out = jax.jit(jax.vmap(drop))(jax.random.split(jax.random.key(2), 4))
  assert len({tuple(row) for row in out.tolist()}) == 4


@pytest.mark.parametrize(
  "settings, label, message",
  [
    (dict(num_classes=3), 4, "label: expected 0 to 3, got 4"),
    (dict(), 0, "label: expected None"),
    (dict(num_classes=-1), None, "num_classes: "),
    (dict(dropout=1.0), None, "dropout: "),
    (dict(embedding_width=3), None, "dim: "),
  ],
)
def test_bad_input_is_one_line(settings, label, message):
  init, key = mlp.MLP(**settings).init, jax.random.key(0)
  expect.error(rf"^{message}", init, key, jnp.ones(2), 0.5, label)
