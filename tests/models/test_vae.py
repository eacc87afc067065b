"""Encoders and decoders against NumPy, and how they start."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.models import vae
from tests import expect

IMAGE = jnp.sin(jnp.arange(32.0)).reshape(8, 4, 1)
LATENT = jnp.array([0.3, -1.0, 2.0])
NETS = dict(
  encoder=(vae.Encoder(3, (16, 8), num_classes=3), IMAGE),
  decoder=(vae.Decoder((8, 4, 1, 2), (16, 8), num_classes=3), LATENT),
  conv_encoder=(vae.ConvEncoder(3, (4, 6), num_classes=3), IMAGE),
  conv_decoder=(vae.ConvDecoder((8, 4, 1, 2), (6, 4), num_classes=3), LATENT),
)
by_net = pytest.mark.parametrize("name", NETS)


@functools.cache
def started(name):
  net, x = NETS[name]
  return jax.jit(net.init)(jax.random.key(0), x, 0)


def moved(name):
  """Parameters none of which is zero."""
  return jax.tree.map(lambda p: p + 0.1, started(name))


@by_net
def test_outputs_start_at_zero(name):
  net, x = NETS[name]
  out = net.apply(started(name), x, 1)
  shapes = [(3,), (3,)] if "encoder" in name else [(8, 4, 1, 2)]
  leaves = jax.tree.leaves(out)
  assert [leaf.shape for leaf in leaves] == shapes
  for leaf in leaves:
    assert leaf.dtype == jnp.float32
    np.testing.assert_array_equal(leaf, 0)


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_perceptrons_are_numpys(name):
  net, x = NETS[name]
  p = jax.tree.map(np.asarray, moved(name))["params"]
  h = np.concatenate([np.ravel(x), p["label"]["table"]["embedding"][2]])
  for layer in ("hidden_0", "hidden_1"):
    h = h @ p[layer]["kernel"] + p[layer]["bias"]
    h = h / (1 + np.exp(-h))
  last = p["posterior" if name == "encoder" else "out"]
  truth = h @ last["kernel"] + last["bias"]
  found = net.apply(moved(name), x, 2)
  found = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(found)])
  np.testing.assert_allclose(found, truth, rtol=1e-4, atol=1e-5)


@by_net
def test_vmap_is_a_loop_and_labels_matter(name):
  net, x = NETS[name]
  apply = lambda x, label: net.apply(moved(name), x, label)
  many, labels = jnp.stack([x, x, 0.5 * x]), jnp.array([0, 1, 1])
  rows = expect.a_loop(apply, many, labels, rtol=1e-4, atol=1e-5)
  for leaf in jax.tree.leaves(rows):
    assert np.abs(leaf[0] - leaf[1]).max() > 1e-4
    assert np.abs(leaf[1] - leaf[2]).max() > 1e-4


@by_net
def test_no_label_is_the_null_label(name):
  net, x = NETS[name]
  none, null, one = (net.apply(moved(name), x, y) for y in (None, 3, 1))
  expect.close(none, null)
  first = lambda tree: jax.tree.leaves(tree)[0]
  assert np.abs(first(none) - first(one)).max() > 1e-4


@by_net
def test_dropout_needs_its_key_and_only_in_training(name):
  net, x = NETS[name]
  net = net.clone(dropout=0.5)
  apply = functools.partial(net.apply, moved(name), x, 0)
  plain = jax.tree.leaves(apply())[0]
  one, other = (
    jax.tree.leaves(apply(train=True, rngs=dict(dropout=jax.random.key(n))))[0]
    for n in (0, 1)
  )
  assert np.abs(one - other).max() > 1e-4
  assert np.abs(one - plain).max() > 1e-4


@pytest.mark.parametrize("kind", [vae.Encoder, vae.ConvEncoder])
def test_bad_encoders_are_rejected(kind):
  start = lambda net, *args: jax.eval_shape(
    lambda key: net.init(key, IMAGE, *args), jax.random.key(0)
  )
  expect.error("latent: expected at least 1, got 0", start, kind(0))
  expect.error("features: expected at least one", start, kind(2, ()))
  expect.error("features: expected at least one", start, kind(2, (0,)))
  expect.error("label: expected None", start, kind(2), 1)
  labelled = kind(2, num_classes=3)
  expect.error("label: expected 0 to 3, got 4", start, labelled, 4)
  expect.error("dropout: expected", start, kind(2, dropout=1.0))
  assert start(kind(1, (1,), num_classes=1), 0)


def test_sides_that_cannot_be_halved_are_rejected():
  key = jax.random.key(0)
  for shape, net in (
    ((8, 4, 1), vae.ConvEncoder(2, (4, 4, 4))),
    ((6, 8, 1), vae.ConvEncoder(2, (4, 4))),
    ((2,), vae.ConvEncoder(2, (4,))),
  ):
    call = lambda x, net=net: jax.eval_shape(net.init, key, x)
    if len(shape) == 3:
      expect.error("sides are multiples of", call, jnp.ones(shape))
  decoder = vae.ConvDecoder((6, 8, 1, 2), (4, 4))
  expect.error("sides are multiples of 4, got", decoder.init, key, jnp.ones(3))
