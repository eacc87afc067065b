"""Perceptrons of one point against NumPy; their linear parts by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.models import potentials
from tests import expect
from tests.models import twins

SILU, RELU = lambda h: h / (1 + np.exp(-h)), lambda h: np.maximum(h, 0)
X = np.array([0.3, -2.0, 0.7], "float32")
NETS = (
  potentials.Potential((4,), quadratic=3.0),
  potentials.Map((4,), linear=3.0),
)


def shaken(net, x):
  return twins.randomise(jax.eval_shape(net.init, jax.random.key(0), x))


def perceptron(params, h, smooth):
  p = jax.tree.map(np.asarray, params["params"])
  for name in ("hidden_0", "hidden_1"):
    h = smooth(h @ p[name]["kernel"] + p[name]["bias"])
  return h @ p["out"]["kernel"] + p["out"]["bias"]


@pytest.mark.parametrize(
  "activation, truth", [(nn.silu, SILU), (nn.relu, RELU)]
)
@pytest.mark.parametrize("start", [None, 1.0])
def test_outputs_are_numpys(activation, truth, start):
  f = potentials.Potential((5, 4), activation, quadratic=start)
  params = shaken(f, jnp.asarray(X))
  expected = perceptron(params, X, truth)[0]
  if start is not None:
    expected += X @ np.asarray(params["params"]["matrix"]) @ X / 2
  mine = f.apply(params, jnp.asarray(X))
  np.testing.assert_allclose(mine, expected, rtol=1e-5)
  assert mine.shape == ()

  transport = potentials.Map((5, 4), activation, linear=start)
  params = shaken(transport, jnp.asarray(X))
  expected = perceptron(params, X, truth)
  if start is not None:
    expected += np.asarray(params["params"]["matrix"]) @ X
  mine = transport.apply(params, jnp.asarray(X))
  np.testing.assert_allclose(mine, expected, rtol=1e-5, atol=1e-5)


def test_the_linear_part_starts_at_a_multiple_of_the_identity():
  start = lambda net: net.init(jax.random.key(0), jnp.zeros(2))["params"]
  for net in NETS:
    np.testing.assert_array_equal(start(net)["matrix"], 3 * np.eye(2))
  for net in (potentials.Potential((4,)), potentials.Map((4,))):
    assert "matrix" not in start(net)


def test_gradient_map_has_a_symmetric_jacobian():
  net = potentials.Potential((5, 4), quadratic=1.0)
  params = shaken(net, jnp.asarray(X))  # its M is not symmetric
  jacobian = jax.hessian(lambda x: net.apply(params, x))(jnp.asarray(X))
  np.testing.assert_allclose(jacobian, jacobian.T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(), (2,), (2, 3), (4, 4, 1)])
def test_any_shape(shape):
  x = jnp.ones(shape)
  for net, expected in zip(NETS, ((), shape), strict=True):
    out, _ = jax.jit(net.init_with_output)(jax.random.key(0), x)
    assert out.shape == expected and out.dtype == jnp.float32


def test_jit_and_vmap_are_a_loop():
  x = jax.random.normal(jax.random.key(2), (4, 3))
  for net in NETS:
    params = shaken(net, x[0])
    apply = lambda x, net=net, params=params: net.apply(params, x)
    loop = expect.a_loop(apply, x, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(loop[0], apply(x[0]), rtol=1e-5, atol=1e-5)
