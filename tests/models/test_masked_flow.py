"""The masked autoregressive flow: triangular, invertible, by label."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.models import masked_flow
from tests import expect

SHAPE = (3, 2)
SIZES = dict(num_blocks=2, features=(16,))


def noisy(model):
  """Parameters away from the start, where the flow is the identity."""
  params = jax.jit(model.init)(jax.random.key(0), jnp.zeros(model.shape))
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  moved = [
    leaf + 0.2 * jax.random.normal(key, leaf.shape)
    for leaf, key in zip(leaves, keys, strict=True)
  ]
  return jax.tree.unflatten(tree, moved)


@pytest.mark.parametrize("num_bins", [0, 4], ids=["affine", "spline"])
def test_inverse_log_determinant_and_triangle(num_bins):
  with jax.enable_x64(True):
    model = masked_flow.MaskedFlow(
      SHAPE, num_bins=num_bins, dtype=jnp.float64, **SIZES
    )
    params = noisy(model)
    x = jax.random.normal(jax.random.key(2), (4, *SHAPE))

    @jax.jit
    @jax.vmap
    def run(x):
      y, log_det = model.apply(params, x)
      back, other = model.apply(params, y, method="inverse")
      states = model.apply(params, y, method="states")
      flat = lambda x: model.apply(params, x.reshape(SHAPE))[0].ravel()
      return log_det, back, other, states, jax.jacfwd(flat)(x.ravel())

    log_det, back, other, states, jacobian = run(x)
    np.testing.assert_allclose(back, x, atol=1e-9)
    np.testing.assert_allclose(other, -log_det, atol=1e-9)
    truth = np.linalg.slogdet(jacobian)[1]
    np.testing.assert_allclose(log_det, truth, atol=1e-9)
    assert states.shape == (4, 3, *SHAPE)
    np.testing.assert_allclose(states[:, -1], x, atol=1e-9)
    # With both orders, every coordinate depends on every other one.
    assert np.abs(jacobian).max(0).min() > 0


def test_one_block_is_triangular():
  model = masked_flow.MaskedFlow(SHAPE, num_blocks=1, features=(16,))
  params = noisy(model)
  flat = lambda x: model.apply(params, x.reshape(SHAPE))[0].ravel()
  slope = jax.jacfwd(flat)(jax.random.normal(jax.random.key(0), (6,)))
  np.testing.assert_array_equal(slope != 0, np.tri(6, dtype=bool))


def test_it_starts_at_the_identity_and_reads_labels():
  model = masked_flow.MaskedFlow(SHAPE, num_classes=2, **SIZES)
  x = jax.random.normal(jax.random.key(0), SHAPE)
  y, log_det = model.apply(model.init(jax.random.key(1), x), x, 1)
  np.testing.assert_allclose(y, x, atol=1e-5)
  np.testing.assert_allclose(log_det, 0, atol=1e-5)
  params = noisy(model)
  found = [model.apply(params, x, label)[1] for label in (0, 1, 2, None)]
  assert len({float(value) for value in found[:3]}) == 3
  np.testing.assert_allclose(found[2], found[3], rtol=1e-5)


def test_bad_settings_are_rejected():
  init = lambda **how: masked_flow.MaskedFlow(SHAPE, **how).init(
    jax.random.key(0), jnp.zeros(SHAPE)
  )
  expect.error("num_blocks: expected", init, num_blocks=0)
  expect.error("dropout: expected", init, dropout=1.0)
  model = masked_flow.MaskedFlow(SHAPE, **SIZES)
  params = model.init(jax.random.key(0), jnp.zeros(SHAPE))
  expect.error("x: expected shape", model.apply, params, jnp.zeros((2, 3)))
