"""TarFlow: one map by three inversions, causal, guided."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.models import tarflow
from tests import expect, trees

SHAPE = (4, 4, 1)
SIZES = dict(num_classes=3, num_blocks=2, width=8, depth=1, num_heads=2)
MODEL = tarflow.TarFlow(SHAPE, **SIZES)


@pytest.fixture(scope="module")
def params():
  """Parameters away from the start, where the flow is the identity."""
  start = jax.jit(MODEL.init)(jax.random.key(0), jnp.zeros(SHAPE))
  return trees.moved(start, 0.2)


def image(seed=2):
  return jax.random.normal(jax.random.key(seed), SHAPE)


@pytest.mark.parametrize("sweeps", [0, 1, 2, 4])
def test_the_cache_and_jacobi_sweeps_invert_it(params, sweeps):
  model, x = MODEL.clone(sweeps=sweeps), jnp.stack([image(2), image(3)])

  @jax.jit
  @jax.vmap
  def run(x):
    y, log_det = model.apply(params, x, 1)
    back, other = model.apply(params, y, 1, method="inverse")
    return back, log_det + other, model.apply(params, y, 1, method="states")

  back, rest, states = run(x)
  np.testing.assert_allclose(back, x, atol=1e-5)
  np.testing.assert_allclose(rest, 0, atol=1e-5)
  assert states.shape == (2, 3, *SHAPE) and back.dtype == jnp.float32
  np.testing.assert_allclose(states[:, -1], x, atol=1e-5)


def test_log_determinant_is_that_of_the_jacobian(params):
  flat = lambda x: MODEL.apply(params, x.reshape(SHAPE), 0)[0].ravel()
  jacobian = jax.jit(jax.jacfwd(flat))(image().ravel())
  log_det = MODEL.apply(params, image(), 0)[1]
  truth = np.linalg.slogdet(np.asarray(jacobian, float))[1]
  np.testing.assert_allclose(log_det, truth, atol=1e-4)
  assert np.abs(np.asarray(jacobian) - np.eye(16)).max() > 0.1


def test_odd_blocks_read_in_reverse(params):
  """One block is triangular over patches; with two all depend on all."""
  patch = lambda x: x.reshape(2, 2, 2, 2).swapaxes(1, 2).reshape(4, 4)

  def dependence(model, own):
    flat = lambda x: patch(model.apply(own, x.reshape(SHAPE), 0)[0])
    slope = jax.jacfwd(flat)(image().ravel()).reshape(4, 4, *SHAPE)
    by_patch = jax.vmap(jax.vmap(patch))(slope[..., 0])
    return np.abs(by_patch).max((1, 3)) > 0

  one = MODEL.clone(num_blocks=1)
  names = {"transformers_0": params["params"]["transformers_0"]}
  lower = dependence(one, {"params": names})
  np.testing.assert_array_equal(lower, np.tri(4, dtype=bool))
  assert dependence(MODEL, params).all()


def test_it_starts_at_the_identity():
  params = MODEL.init(jax.random.key(0), image())
  y, log_det = MODEL.apply(params, image(), 2)
  assert y.dtype == log_det.dtype == jnp.float32
  np.testing.assert_allclose(y, image(), atol=1e-6)
  np.testing.assert_allclose(log_det, 0, atol=1e-6)


def test_guidance_mixes_label_and_null_label(params):
  y = image(5)
  decode = lambda label, **how: MODEL.apply(
    params, y, label, method="inverse", **how
  )[0]
  same = decode(1, guidance=1.0)
  np.testing.assert_allclose(same, decode(1), atol=1e-5)
  null = decode(1, guidance=0.0)
  np.testing.assert_allclose(null, decode(None), atol=1e-5)
  np.testing.assert_allclose(decode(None), decode(3), atol=1e-6)
  assert np.abs(decode(1, guidance=2.0) - same).max() > 1e-3
  swept = MODEL.clone(sweeps=2).apply(
    params, y, 1, method="inverse", guidance=2.0
  )[0]
  np.testing.assert_allclose(swept, decode(1, guidance=2.0), atol=1e-4)


def test_bad_input_is_one_line(params):
  init = lambda **how: MODEL.clone(**how).init(jax.random.key(0), image())
  expect.error("side: expected a divisor", init, patch=3)
  expect.error("num_blocks: expected", init, num_blocks=0)
  expect.error("x: expected shape", MODEL.apply, params, jnp.zeros((4, 2, 1)))
