"""The two players against NumPy, and the derivatives that games take."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.losses import adversarial
from jaxgen.models import gan
from tests import expect

GENERATOR = gan.Generator(
  (4, 2), (16, 8), num_classes=3, embedding_width=6, bounded=True
)
DISCRIMINATOR = gan.Discriminator((16, 8), num_classes=3)
Z, X = jnp.linspace(-1, 2, 5), jnp.linspace(-2, 1, 8).reshape(4, 2)
PLAYERS = dict(generator=(GENERATOR, Z), discriminator=(DISCRIMINATOR, X))


@functools.cache
def started(name):
  """A player's parameters, none of them zero."""
  net, x = PLAYERS[name]
  params = jax.jit(net.init)(jax.random.key(0), x, 0)
  return jax.tree.map(lambda p: p + 0.1, params)


def wide(tree):
  return jax.tree.map(lambda a: jnp.asarray(a, "float64"), tree)


def numpy_trunk(p, h):
  for name in ("hidden_0", "hidden_1"):
    h = h @ p[name]["kernel"] + p[name]["bias"]
    h = h / (1 + np.exp(-h))
  return h


def test_generator_is_numpys():
  p = jax.tree.map(np.asarray, started("generator"))["params"]
  vector = p["label"]["table"]["embedding"][1]
  h = numpy_trunk(p, np.concatenate([Z, vector]))
  truth = np.tanh(h @ p["out"]["kernel"] + p["out"]["bias"]).reshape(4, 2)
  mine = GENERATOR.apply(started("generator"), Z, 1)
  np.testing.assert_allclose(mine, truth, atol=1e-6)
  free = GENERATOR.clone(bounded=False).apply(started("generator"), Z, 1)
  np.testing.assert_allclose(np.tanh(free), truth, atol=1e-6)


def test_discriminator_is_numpys():
  p = jax.tree.map(np.asarray, started("discriminator"))["params"]
  h = numpy_trunk(p, np.asarray(X).ravel())
  vector = p["label"]["table"]["embedding"][2]
  truth = h @ p["out"]["kernel"][:, 0] + p["out"]["bias"][0]
  truth = truth + vector @ h / np.sqrt(8)
  mine = DISCRIMINATOR.apply(started("discriminator"), X, 2)
  np.testing.assert_allclose(mine, truth, rtol=1e-5)


@pytest.mark.parametrize("shape", [(), (2,), (8, 8, 1)])
def test_any_shape_without_labels(shape):
  generator, discriminator = gan.Generator(shape, (4,)), gan.Discriminator((4,))
  key = jax.random.key(0)
  x, g = jax.jit(generator.init_with_output)(key, jnp.ones(3))
  score, d = jax.jit(discriminator.init_with_output)(key, x)
  assert x.shape == shape and score.shape == ()
  assert {a.dtype for a in jax.tree.leaves((g, d))} == {jnp.dtype("float32")}


def test_weights_start_with_variance_two_over_inputs():
  init = jax.jit(gan.Discriminator((200, 200)).init)
  params = init(jax.random.key(0), jnp.ones(100))["params"]
  for name, inputs in (("hidden_0", 100), ("hidden_1", 200)):
    variance = jnp.var(params[name]["kernel"])
    np.testing.assert_allclose(variance, 2 / inputs, rtol=0.05)


@pytest.mark.parametrize("name", PLAYERS)
def test_vmap_is_a_loop_labels_matter_and_one_trace(name):
  net, x = PLAYERS[name]
  traces = []

  def apply(x, label):
    traces.append(label)
    return net.apply(started(name), x, label)

  many = jnp.stack([x, x, 0.5 * x, x])
  labels = jnp.array([0, 1, 2, 2])
  single, batched = jax.jit(apply), jax.jit(jax.vmap(apply))
  loop = jnp.stack([single(*one) for one in zip(many, labels, strict=True)])
  assert len(traces) == 1
  np.testing.assert_allclose(batched(many, labels), loop, atol=1e-6)
  batched(many, labels)
  assert len(traces) == 2
  np.testing.assert_allclose(net.apply(started(name), x, 1), loop[1], atol=1e-6)
  for i, j in ((0, 1), (1, 3), (0, 3)):
    assert jnp.abs(loop[i] - loop[j]).max() > 1e-3


@pytest.mark.parametrize("name", PLAYERS)
def test_jvp_is_the_difference(name):
  with jax.enable_x64(True):
    net, x = PLAYERS[name]
    params, x = wide(started(name)), wide(x)
    f = jax.jit(lambda x: net.apply(params, x, 2))
    v, h = jnp.cos(x), 1e-5
    found = jax.jvp(f, (x,), (v,))[1]
    slope = (f(x + h * v) - f(x - h * v)) / (2 * h)
    np.testing.assert_allclose(found, slope, rtol=1e-6, atol=1e-8)


def test_gradient_of_the_penalty_is_the_difference():
  with jax.enable_x64(True):
    params, x = wide(started("discriminator")), wide(X)

    @jax.jit
    def penalty(params):
      critic_fn = lambda x: DISCRIMINATOR.apply(params, x, 0)
      return adversarial.zero_centred(critic_fn, x)

    grads = jax.grad(penalty)(params)
    moved = lambda h: jax.tree.map(lambda p: p + h * jnp.cos(9 * p), params)
    along = jax.tree.map(
      lambda g, p: jnp.vdot(g, jnp.cos(9 * p)), grads, params
    )
    found = sum(jax.tree.leaves(along))
    slope = (penalty(moved(1e-5)) - penalty(moved(-1e-5))) / 2e-5
    np.testing.assert_allclose(found, slope, rtol=1e-6)
    # A bias moves the penalty by second derivatives of silu alone.
    assert jnp.abs(grads["params"]["hidden_1"]["bias"]).max() > 1e-3


def test_penalty_is_finite_where_the_score_is_flat():
  params = jax.tree.map(jnp.zeros_like, started("discriminator"))
  penalty = lambda params: adversarial.zero_centred(
    lambda x: DISCRIMINATOR.apply(params, x, 0), X
  )
  value, grads = jax.jit(jax.value_and_grad(penalty))(params)
  assert value == 0
  assert all(jnp.all(jnp.isfinite(g)) for g in jax.tree.leaves(grads))


@pytest.mark.parametrize(
  "settings, label, message",
  [
    (dict(num_classes=3), None, "label: expected 0 to 2, got None"),
    (dict(num_classes=3), 3, "label: expected 0 to 2, got 3"),
    (dict(num_classes=3), -1, "label: expected 0 to 2, got -1"),
    (dict(), 0, "label: expected None"),
    (dict(num_classes=-1), None, "num_classes: "),
    (dict(features=()), None, "features: "),
    (dict(features=(4, 0)), None, "features: "),
  ],
)
def test_bad_input_is_one_line(settings, label, message):
  for net in (gan.Generator((2,), **settings), gan.Discriminator(**settings)):
    key = jax.random.key(0)
    expect.error(rf"^{message}", net.init, key, jnp.ones(2), label)
