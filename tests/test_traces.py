"""Divergence estimators against jacfwd, enumeration and known variances."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import traces

RNG = np.random.default_rng(0)
MATRIX = RNG.standard_normal((4, 4))
estimators = pytest.mark.parametrize(
  "trace",
  [traces.exact(), traces.hutchinson(3), traces.hutchpp(2)],
  ids=lambda trace: trace.name,
)


def _curved(x):
  """A field on [2, 4] whose Jacobian is full."""
  weight = jnp.asarray(RNG_WEIGHT, x.dtype)
  return jnp.tanh(weight @ x.ravel()).reshape(x.shape) * x


RNG_WEIGHT = np.random.default_rng(1).standard_normal((8, 8)) / 3
X = np.random.default_rng(2).standard_normal((2, 4)).astype("float32")


def _estimate(trace, f, x, key):
  value, found = trace.estimate(f, x, trace.draw(key, x))
  return value, found


def _many(trace, matrix, number):
  """Estimates of tr(matrix) over keys, [number, K]."""
  f = lambda x: jnp.asarray(matrix) @ x

  def one(key):
    return _estimate(trace, f, jnp.zeros(len(matrix)), key)[1]

  return np.asarray(
    jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), number))
  )


@estimators
def test_value_and_shapes(trace):
  run = jax.jit(lambda x, key: _estimate(trace, _curved, x, key))
  value, found = run(X, jax.random.key(0))
  np.testing.assert_allclose(value, _curved(jnp.asarray(X)), rtol=1e-5)
  assert found.shape == (trace.num_estimates,)
  assert (
    trace.num_products(8) == dict(exact=8, hutchinson=3, hutchpp=6)[trace.name]
  )


def test_exact_is_the_trace_of_jacfwd():
  _, found = jax.jit(
    lambda x: _estimate(traces.exact(), _curved, x, jax.random.key(0))
  )(X)
  jacobian = jax.jit(jax.jacfwd(_curved))(X).reshape(8, 8)
  np.testing.assert_allclose(found, [np.trace(jacobian)], rtol=1e-5)


def test_hutchinson_over_all_signs_is_the_trace():
  signs = np.array(list(itertools.product((-1.0, 1.0), repeat=4)), "float32")
  trace = traces.hutchinson(16)
  f = lambda x: jnp.asarray(MATRIX, x.dtype) @ x
  _, found = jax.jit(lambda x: trace.estimate(f, x, signs))(jnp.zeros(4))
  np.testing.assert_allclose(found.mean(), np.trace(MATRIX), rtol=1e-5)
  symmetric = (MATRIX + MATRIX.T) / 2
  off = symmetric - np.diag(np.diag(symmetric))
  np.testing.assert_allclose(found.var(), 2 * np.sum(off**2), rtol=1e-4)


def test_variance_of_normal_probes():
  found = _many(traces.hutchinson(64, jax.random.normal), MATRIX, 512)
  symmetric = (MATRIX + MATRIX.T) / 2
  expected = 2 * np.sum(symmetric**2)
  np.testing.assert_allclose(found.var(), expected, rtol=0.05)
  error = np.sqrt(expected / found.size)
  assert abs(found.mean() - np.trace(MATRIX)) < 4 * error


def test_signs_are_blind_to_a_diagonal():
  # So no test of an interval may use one: it would cover by having no width.
  found = _many(traces.hutchinson(4), np.diag([1.0, -2.0, 0.5, 3.0]), 8)
  np.testing.assert_allclose(found, 2.5, rtol=1e-6)
  assert _many(traces.hutchinson(4, jax.random.normal), np.eye(4), 8).std() > 1


def _low_rank(shift, tail):
  """shift I + rank 3, not symmetric, + tail."""
  u, v, rest = (RNG.standard_normal(s) for s in ((16, 3), (16, 3), (16, 16)))
  return shift * np.eye(16) + u @ v.T + tail * rest


@pytest.mark.parametrize("shift", [0.0, -2.0])
def test_hutchpp_has_no_variance_on_a_shift_and_low_rank(shift):
  with jax.enable_x64(True):
    matrix = _low_rank(shift, 0.0)
    found = _many(traces.hutchpp(3), matrix, 8)
  np.testing.assert_allclose(found, np.trace(matrix), rtol=1e-9)


def test_hutchpp_is_unbiased_and_better_than_as_many_products():
  matrix = _low_rank(-2.0, 0.05)
  found = _many(traces.hutchpp(4), matrix, 2048)
  means = found.mean(1)
  error = means.std() / np.sqrt(len(means))
  assert abs(means.mean() - np.trace(matrix)) < 4 * error
  plain = _many(traces.hutchinson(12), matrix, 2048).mean(1)
  assert means.var() < plain.var() / 50
  # Where nothing is low rank it is unbiased too.
  matrix = RNG.standard_normal((16, 16))
  found = _many(traces.hutchpp(2), matrix, 4096).mean(1)
  error = found.std() / np.sqrt(len(found))
  assert abs(found.mean() - np.trace(matrix)) < 4 * error


def test_mean_and_its_error():
  values = jnp.array([1.0, 2.0, 4.0])
  mean, error = traces.mean(traces.hutchinson(3), values)
  np.testing.assert_allclose(mean, 7 / 3, rtol=1e-6)
  expected = np.std([1, 2, 4], ddof=1) / np.sqrt(3)
  np.testing.assert_allclose(error, expected, rtol=1e-6)
  assert traces.mean(traces.exact(), values[:1])[1] == 0
  assert np.isinf(traces.mean(traces.hutchinson(1), values[:1])[1])


def test_bad_input():
  for make, number, least in (
    (traces.hutchinson, 0, 1),
    (traces.hutchinson, -1, 1),
    (traces.hutchpp, 0, 2),
    (traces.hutchpp, 1, 2),
  ):
    pattern = f"{make.__name__}: expected num_probes at least {least}"
    with pytest.raises(ValueError, match=pattern):
      make(number)
  with pytest.raises(
    ValueError, match="hutchpp: expected num_probes below 4 /"
  ):
    traces.hutchpp(2).draw(jax.random.key(0), jnp.zeros(4))
