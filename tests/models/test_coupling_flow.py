"""The flow of couplings: invertible, with the right determinant, by label."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.models import coupling_flow
from tests import expect, trees

SHAPE = (3, 2, 1)
SIZES = dict(num_blocks=4, width=8, depth=1)


def noisy(model):
  """Parameters away from the start, where the flow is the identity."""
  params = jax.jit(model.init)(jax.random.key(0), jnp.zeros(model.shape))
  return trees.moved(params, 0.1)


@pytest.mark.parametrize("num_bins", [0, 4], ids=["affine", "spline"])
def test_inverse_and_log_determinant(num_bins):
  with jax.enable_x64(True):
    model = coupling_flow.CouplingFlow(
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
      return y, log_det, back, other, states, jax.jacfwd(flat)(x.ravel())

    y, log_det, back, other, states, jacobian = run(x)
    np.testing.assert_allclose(back, x, atol=1e-9)
    np.testing.assert_allclose(other, -log_det, atol=1e-9)
    truth = np.linalg.slogdet(jacobian)[1]
    np.testing.assert_allclose(log_det, truth, atol=1e-9)
    assert states.shape == (4, 5, *SHAPE)
    np.testing.assert_allclose(states[:, 0], y)
    np.testing.assert_allclose(states[:, -1], x, atol=1e-9)
    # Every latent coordinate depends on every coordinate of the data.
    assert np.abs(jacobian).min(0).min() > 0


def test_it_starts_at_the_identity():
  model = coupling_flow.CouplingFlow(SHAPE, **SIZES)
  x = jax.random.normal(jax.random.key(0), SHAPE)
  params = model.init(jax.random.key(1), x)
  y, log_det = model.apply(params, x)
  assert y.dtype == log_det.dtype == jnp.float32
  np.testing.assert_allclose(y, x, atol=1e-5)
  np.testing.assert_allclose(log_det, 0, atol=1e-5)


def test_labels_matter_and_none_is_the_null_label():
  model = coupling_flow.CouplingFlow(SHAPE, num_classes=2, **SIZES)
  params, x = noisy(model), jnp.ones(SHAPE)
  apply = jax.jit(lambda label: model.apply(params, x, label)[1])
  found = [float(apply(label)) for label in (0, 1, 2, None)]
  assert np.min(np.abs(np.diff(np.sort(found[:3])))) > 1e-3
  np.testing.assert_allclose(found[2], found[3], rtol=1e-4)


def test_a_density_given_a_context():
  model = coupling_flow.CouplingFlow(SHAPE, context_size=4, **SIZES)
  x, key = jax.random.normal(jax.random.key(3), SHAPE), jax.random.key(0)
  params = model.init(key, x, context=jnp.zeros((2, 2)))
  params = trees.moved(params, 0.1)

  @jax.jit
  @jax.vmap
  def run(context):
    y, log_det = model.apply(params, x, context=context)
    back, _ = model.apply(params, y, context=context, method="inverse")
    states = model.apply(params, y, context=context, method="states")
    flat = lambda v: model.apply(params, v.reshape(SHAPE), context=context)[0]
    jacobian = jax.jacfwd(lambda v: flat(v).ravel())(x.ravel())
    return log_det, back, states[-1], jacobian

  contexts = jax.random.normal(jax.random.key(4), (3, 2, 2))
  log_det, back, last, jacobian = run(contexts)
  assert np.min(np.abs(np.diff(np.sort(log_det)))) > 1e-3
  truth = np.linalg.slogdet(np.float64(jacobian))[1]
  np.testing.assert_allclose(log_det, truth, atol=1e-4)
  for found in (back, last):
    np.testing.assert_allclose(
      found, np.broadcast_to(x, found.shape), atol=1e-4
    )


def test_half_precision_keeps_float32_outside_the_networks():
  model = coupling_flow.CouplingFlow(SHAPE, dtype=jnp.bfloat16, **SIZES)
  params, x = noisy(model), jnp.ones(SHAPE)
  y, log_det = model.apply(params, x)
  assert y.dtype == log_det.dtype == jnp.float32
  back, _ = model.apply(params, y, method="inverse")
  # The same kept halves give the same parameters, up to rounding to bfloat16.
  np.testing.assert_allclose(back, x, atol=1e-2)


def test_dropout_needs_a_key_and_changes_the_latent():
  model = coupling_flow.CouplingFlow(SHAPE, dropout=0.5, **SIZES)
  params, x = noisy(model), jnp.ones(SHAPE)
  run = lambda seed: model.apply(
    params, x, train=True, rngs={"dropout": jax.random.key(seed)}
  )[0]
  assert not np.allclose(run(0), run(1))
  keys = {"dropout": jax.random.key(0)}
  plain = model.apply(params, x)[0]  # a key alone changes nothing
  np.testing.assert_array_equal(model.apply(params, x, rngs=keys)[0], plain)
  assert not np.allclose(plain, run(0))


def test_bad_settings_are_rejected():
  make = lambda shape, **how: coupling_flow.CouplingFlow(shape, **how).init(
    jax.random.key(0), jnp.zeros(shape)
  )
  expect.error("shape: expected 2 coordinates", make, (1,))
  expect.error("num_blocks, width: expected", make, (2,), num_blocks=0)
  expect.error("dropout: expected", make, (2,), dropout=1.0)
  model = coupling_flow.CouplingFlow((2,), **SIZES)
  params = model.init(jax.random.key(0), jnp.zeros(2))
  expect.error("x: expected the mask's shape", model.apply, params, jnp.ones(3))
  expect.error("label: expected None", model.apply, params, jnp.ones(2), 1)
  given = model.apply, params, jnp.ones(2), None, jnp.ones(3)
  expect.error("context: expected 0 numbers, got 3", *given)
  expect.error("context: expected 3 num", make, (2,), context_size=3)
