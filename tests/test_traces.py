"""Divergence estimators against jacfwd, enumeration and known variances."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from scipy import stats

from jaxgen import traces
from tests import expect, trees

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
  return trace.estimate(f, x, trace.draw(key, x))


def _many(trace, matrix, number):
  """Estimates of tr(matrix) over keys, [number, K]."""
  f, x = lambda x: jnp.asarray(matrix) @ x, jnp.zeros(len(matrix))
  many = jax.jit(jax.vmap(lambda key: _estimate(trace, f, x, key)[1]))
  return np.asarray(many(jax.random.split(jax.random.key(0), number)))


@estimators
def test_value_and_shapes(trace):
  run = jax.jit(lambda x, key: _estimate(trace, _curved, x, key))
  value, found = run(X, jax.random.key(0))
  np.testing.assert_allclose(value, _curved(jnp.asarray(X)), rtol=1e-5)
  assert found.shape == (trace.num_estimates,)
  products = dict(exact=8, hutchinson=3, hutchpp=6)
  assert trace.num_products(8) == products[trace.name]


def test_exact_is_the_trace_of_jacfwd():
  _, found = jax.jit(
    lambda x: _estimate(traces.exact(), _curved, x, jax.random.key(0))
  )(X)
  jacobian = jax.jit(jax.jacfwd(_curved))(X).reshape(8, 8)
  np.testing.assert_allclose(found, [np.trace(jacobian)], rtol=1e-5)


@pytest.mark.parametrize("size", [1, 4, 5, 8, 9, 16, 21])
def test_products_in_parts(size):
  """Of every number of rows: tr J and each z . J z, by jacfwd."""
  with jax.enable_x64(True):
    rng = np.random.default_rng(size)
    matrix, x = rng.normal(size=(size, size)), rng.normal(size=size)
    f = lambda x: jnp.sin(matrix @ x)
    jacobian = np.asarray(jax.jacfwd(f)(x))
    trace = traces.exact()
    run = jax.jit(lambda x, probes: trace.estimate(f, x, probes))
    value, found = run(x, trace.draw(None, jnp.asarray(x)))
    np.testing.assert_allclose(value, f(x), rtol=1e-12)
    np.testing.assert_allclose(found, [np.trace(jacobian)], rtol=1e-10)
    probes = rng.normal(size=(size, size))
    found = traces.hutchinson(size).estimate(f, x, jnp.asarray(probes))[1]
    products = np.einsum("ki,ij,kj->k", probes, jacobian, probes)
    np.testing.assert_allclose(found, products, rtol=1e-9)


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


def test_normal_probes_of_half_precision_are_rounded_ones():
  trace = traces.hutchinson(3, jax.random.normal)
  x = jnp.zeros(4, "bfloat16")
  draw = lambda x: trace.draw(jax.random.key(0), x)
  trees.assert_equal(draw(x), draw(x.astype("float32")).astype(x.dtype))


def test_signs_are_blind_to_a_diagonal():
  # So no test of an interval may use one: it would cover by having no width.
  found = _many(traces.hutchinson(4), np.diag([1.0, -2.0, 0.5, 3.0]), 8)
  np.testing.assert_allclose(found, 2.5, rtol=1e-6)
  assert _many(traces.hutchinson(4, jax.random.normal), np.eye(4), 8).std() > 1


def _low_rank(shift, tail):
  """shift I + rank 3, not symmetric, + tail."""
  u, v, rest = (RNG.standard_normal(s) for s in ((16, 3), (16, 3), (16, 16)))
  return shift * np.eye(16) + u @ v.T + tail * rest


@pytest.mark.parametrize("shift, num_probes", [(0.0, 3), (-2.0, 3), (0.0, 5)])
def test_hutchpp_has_no_variance_on_a_shift_and_low_rank(shift, num_probes):
  # With more probes than ranks, and no shift, the image's columns depend.
  with jax.enable_x64(True):
    matrix = _low_rank(shift, 0.0)
    found = _many(traces.hutchpp(num_probes), matrix, 8)
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


def test_hutchpp_of_a_multiple_of_x_and_its_derivative_in_every_draw():
  """J = w I on [2, 4], w = 0 among them: tr J = 8 w, of derivative 8."""
  trace = traces.hutchpp(3)

  def one(w, key):
    probes = trace.draw(key, X)

    def found(w):
      return trace.estimate(lambda x: w * x, X, probes)[1]

    value, forward = jax.jvp(found, (w,), (jnp.ones_like(w),))
    return value, forward, jax.jacrev(found)(w)

  w = jnp.array([0.0, 1.0, -2.0, 0.3])
  value, forward, reverse = jax.jit(jax.vmap(one))(
    w, jax.random.split(jax.random.key(3), 4)
  )
  assert value.shape == forward.shape == reverse.shape == (4, 3)
  truth = np.broadcast_to(8 * w[:, None], (4, 3))
  np.testing.assert_allclose(value, truth, rtol=1e-5)
  np.testing.assert_allclose(forward, 8, rtol=1e-5)
  np.testing.assert_allclose(reverse, 8, rtol=1e-5)


def test_hutchpp_has_unbiased_derivatives():
  """c x + V tanh(W x): J S has dependent columns at V = 0 and of rank 2."""
  trace, number = traces.hutchpp(3), 1024
  rng = np.random.default_rng(4)
  start = dict(c=-1.0, last=np.ones((8, 2)), first=rng.standard_normal((2, 8)))
  zero = dict(start, c=0.0, last=np.zeros((8, 2)))
  both = jax.tree.map(
    lambda *each: np.stack(each).astype("float32"), start, zero
  )
  x, exact = jnp.asarray(X.ravel()), traces.exact()

  def slope(params, trace, probes):
    def found(params):
      c, last, first = params["c"], params["last"], params["first"]
      f = lambda x: c * x + last @ jnp.tanh(first @ x)
      return trace.estimate(f, x, probes)[1].mean()

    return jax.grad(found)(params)

  def run(key, params):
    draws = jax.random.split(key, number)
    one = lambda key: slope(params, trace, trace.draw(key, x))
    return slope(params, exact, exact.draw(None, x)), jax.vmap(one)(draws)

  keys = jax.random.split(jax.random.key(5), 2)
  truth, slopes = jax.jit(jax.vmap(run))(keys, both)
  for name, right in truth.items():
    error = slopes[name].std(1) / np.sqrt(number)
    assert np.all(np.abs(slopes[name].mean(1) - right) <= 4 * error + 1e-5)


@estimators
def test_shards_of_a_batch(trace):
  """In a shard_map as outside: constant rows, and probes that shards share."""
  mesh = jax.make_mesh(
    (2,), ("batch",), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:2]
  )
  batch = PartitionSpec("batch")
  x = jnp.stack([X, 2 * X])

  def run(x, key):
    one = lambda x: _estimate(trace, _curved, x, key)[1].sum()
    return jax.vmap(jax.value_and_grad(one))(x)

  apart = jax.shard_map(
    run, mesh=mesh, in_specs=(batch, PartitionSpec()), out_specs=batch
  )
  with jax.default_device(None):
    one, other = (jax.jit(f)(x, jax.random.key(6)) for f in (apart, run))
  trees.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_probes", [2, 3])
@pytest.mark.parametrize("dim", [2, 3, 4])
def test_intervals_of_signs_over_all_draws(dim, num_probes):
  """Enumerated: equal estimates by signs, right or wrong, have no error known.

  With their spread for an error, 0, the interval covers half of the draws of
  two signs in two dimensions.
  """
  rng = np.random.default_rng(7)
  pair = np.zeros((dim, dim))
  pair[0, 1] = 1
  kinds = [*rng.standard_normal((8, dim, dim)), np.ones((dim, dim)), pair]
  signs = np.array(list(itertools.product((-1.0, 1.0), repeat=dim)), "float32")
  trace = traces.hutchinson(num_probes)
  draws = np.array(
    list(itertools.product(range(len(signs)), repeat=num_probes))
  )

  def one(matrix):
    f = lambda x: matrix @ x
    _, found = trace.estimate(f, jnp.zeros(dim), signs)
    return jax.vmap(lambda draw: traces.mean(trace, found[draw]))(draws)

  mean, error = jax.jit(jax.vmap(one))(np.asarray(kinds, np.float32))
  assert mean.shape == error.shape == (len(kinds), len(draws))
  truth = np.trace(kinds, axis1=1, axis2=2)
  np.testing.assert_allclose(mean.mean(1), truth, rtol=1e-4, atol=1e-5)
  assert error.min() > 1e-3  # never 0, that of an exact trace
  reach = stats.t.ppf(0.975, num_probes - 1) * np.asarray(error) * (1 + 1e-5)
  covered = np.mean(np.abs(mean - truth[:, None]) <= reach, 1)
  # Where estimates have two values, equal ones alone could miss.
  np.testing.assert_array_equal(covered[8:], 1)
  assert covered.mean() >= (1.0 if dim == 2 else 0.9)
  assert covered.min() >= 0.6


def test_mean_and_its_error():
  values = jnp.array([1.0, 2.0, 4.0])
  mean, error = traces.mean(traces.hutchinson(3), values)
  np.testing.assert_allclose(mean, 7 / 3, rtol=1e-6)
  expected = np.std([1, 2, 4], ddof=1) / np.sqrt(3)
  np.testing.assert_allclose(error, expected, rtol=1e-6)
  assert traces.mean(traces.exact(), values[:1])[1] == 0
  assert np.isinf(traces.mean(traces.hutchinson(1), values[:1])[1])
  # Equal estimates, to rounding: of signs alone are they no evidence.
  equal = jnp.float32(0.1) * jnp.array([1.0, 1.0, 1 + 1e-7])
  normal = traces.hutchinson(3, jax.random.normal)
  assert np.isinf(traces.mean(traces.hutchinson(3), equal)[1])
  for trace in (normal, traces.hutchpp(3)):
    assert traces.mean(trace, equal)[1] < 1e-7


@pytest.mark.parametrize(
  "shape", [(4,), (5,), (6,), (7,), (2, 4), (3, 3), (11,)]
)
def test_hutchpp_takes_fewer_probes_than_half_the_size(shape):
  """Every k with 2 <= k < D / 2 is valid, and no other."""
  size, x = int(np.prod(shape)), jnp.zeros(shape)
  for k in range(2, size + 2):
    trace = traces.hutchpp(k)
    if k < size / 2:
      draw = lambda key: trace.estimate(jnp.sin, x, trace.draw(key, x))
      value, found = jax.eval_shape(draw, jax.random.key(0))
      assert value.shape == shape and found.shape == (k,)
      assert (trace.num_estimates, trace.num_products(size)) == (k, 3 * k)
    else:
      said = f"hutchpp: expected num_probes below {size} /.*{k}"
      expect.error(said, trace.draw, jax.random.key(0), x)


def test_the_least_number_of_probes():
  for make, least in ((traces.hutchinson, 1), (traces.hutchpp, 2)):
    assert make(least).num_estimates == least
    pattern = f"{make.__name__}: expected num_probes at least {least}"
    for number in (least - 1, least - 2):
      expect.error(pattern, make, number)
  assert traces.exact().num_estimates == 1
