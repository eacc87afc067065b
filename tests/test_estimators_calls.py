"""Pathwise gradients; and what all estimators share: limits, calls, errors."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from jaxgen import estimators
from tests import expect


def quadratic(x):
  weight = jnp.arange(1.0, 1 + x.size).reshape(x.shape)
  return jnp.sum(weight * (x - 0.45) ** 2) + jnp.sum(x) ** 2


def scored_bernoulli(key, f, logits):
  draw = lambda key: jax.random.bernoulli(key, jax.nn.sigmoid(logits))
  return estimators.score_function(
    key,
    f,
    lambda key: draw(key).astype(logits.dtype),
    lambda x: -jnp.sum(jax.nn.softplus((1 - 2 * x) * logits)),
    num_samples=3,
  )


def scored_categorical(key, f, logits):
  draw = lambda key: jax.random.categorical(key, logits, mode="high")
  return estimators.score_function(
    key,
    f,
    lambda key: jax.nn.one_hot(draw(key), logits.shape[-1]),
    lambda x: jnp.sum(x * jax.nn.log_softmax(logits)),
    num_samples=3,
  )


def gaussian(key, f, mean):
  noise = lambda key: jax.random.normal(key, mean.shape, mean.dtype)
  return estimators.pathwise(key, f, lambda key: mean + 0.5 * noise(key))


ESTIMATORS = dict(
  pathwise=gaussian,
  score_function=scored_bernoulli,
  score_function_of_classes=scored_categorical,
  gumbel_softmax=functools.partial(estimators.gumbel_softmax, temperature=0.5),
  straight_through=functools.partial(
    estimators.straight_through, temperature=0.5
  ),
  arm=estimators.arm,
  disarm=estimators.disarm,
  measure_valued=estimators.measure_valued,
)
every = pytest.mark.parametrize("name", ESTIMATORS)


def value_and_slope(name):
  estimator = ESTIMATORS[name]
  return lambda key, logits: jax.value_and_grad(
    lambda logits: estimator(key, quadratic, logits)
  )(logits)


def test_gaussian_by_quadrature():
  """E x^4 and E sin x of N(mean, std^2), with the nodes of Hermite's rule."""
  node, weight = special.roots_hermitenorm(40)
  weight = weight / math.sqrt(2 * math.pi)
  with jax.enable_x64(True):
    mean, std = jnp.float64(0.7), jnp.float64(0.4)

    def one(z):
      sample_fn = lambda mean, std: lambda key: mean + std * z
      surrogate = lambda mean, std: estimators.pathwise(
        jax.random.key(0), lambda x: x**4 + jnp.sin(x), sample_fn(mean, std)
      )
      return jax.value_and_grad(surrogate, (0, 1))(mean, std)

    found = jax.tree.map(
      lambda x: weight @ x, jax.jit(jax.vmap(one))(jnp.asarray(node))
    )
    truth = jax.value_and_grad(
      lambda m, s: (
        m**4 + 6 * m**2 * s**2 + 3 * s**4 + jnp.sin(m) * jnp.exp(-(s**2) / 2)
      ),
      (0, 1),
    )(mean, std)
  expect.close(found, truth, rtol=1e-12)


def test_gamma_is_differentiated_implicitly():
  """In each sample dx/da = -(dF/da) / p(x), of SciPy's F."""
  with jax.enable_x64(True):

    def surrogate(a, key):
      draw = lambda key: jax.random.gamma(key, a)
      return estimators.pathwise(key, lambda x: x, draw)

    a = np.array([0.3, 1.0, 2.5, 20.0])
    keys = jax.random.split(jax.random.key(0), (8, 4))
    run = jax.vmap(jax.vmap(jax.value_and_grad(surrogate)), (None, 0))
    x, slope = jax.device_get(jax.jit(run)(a, keys))
  step = 1e-5 * a
  rise = special.gammainc(a + step, x) - special.gammainc(a - step, x)
  truth = -rise / (2 * step) / stats.gamma.pdf(x, a)
  np.testing.assert_allclose(slope, truth, rtol=1e-4)


def test_means_of_gamma_and_beta():
  """E x^2 of Gamma(a), E x of Beta(a, b) = a / (a + b), and their slopes."""
  number = 8192
  shapes = jnp.array([1.5, 0.7])

  def surrogate(key, shapes):
    gamma_key, beta_key = jax.random.split(key)
    a, b = shapes
    gamma = lambda key: jax.random.gamma(key, a)
    beta = lambda key: jax.random.beta(key, a, b)
    return jnp.stack(
      (
        estimators.pathwise(gamma_key, lambda x: x**2, gamma),
        estimators.pathwise(beta_key, lambda x: x, beta),
      )
    )

  keys = jax.random.split(jax.random.key(1), number)
  twice = lambda key, shapes: (surrogate(key, shapes),) * 2
  each = jax.vmap(jax.jacrev(twice, 1, has_aux=True), (0, None))
  found = jax.device_get(jax.jit(each)(keys, shapes))[::-1]
  a, b = 1.5, 0.7
  values = np.array([a * (a + 1), a / (a + b)])
  slopes = np.array([[2 * a + 1, 0], [b / (a + b) ** 2, -a / (a + b) ** 2]])
  for x, truth in zip(found, (values, slopes), strict=True):
    error = x.std(0) / math.sqrt(number)
    assert (np.abs(x.mean(0) - truth) <= 4.5 * error).all()


def test_score_function_of_classes_over_keys():
  """E f over the nine pairs of two variables with three classes."""
  number = 8192
  logits = jnp.array([[0.5, -1.0, 0.2], [1.0, 0.0, -0.5]])

  def truth(logits):
    p, one = jax.nn.softmax(logits), jnp.eye(3)
    pair = lambda i, j: jnp.stack([one[i], one[j]])
    return sum(
      p[0, i] * p[1, j] * quadratic(pair(i, j))
      for i in range(3)
      for j in range(3)
    )

  @jax.jit
  def run(keys):
    each = value_and_slope("score_function_of_classes")
    found = jax.vmap(each, (0, None))(keys, logits)
    return found, jax.value_and_grad(truth)(logits)

  found, (value, slope) = run(jax.random.split(jax.random.key(2), number))
  for x, right in zip(found, (value, slope), strict=True):
    error = np.std(x, 0) / math.sqrt(number)
    assert (np.abs(np.mean(x, 0) - right) <= 4.5 * error + 1e-5).all()


def test_score_function_ignores_the_derivative_of_samples():
  """E x^2 of N(mean, std^2), whose samples are differentiable too.

  One sample: with a baseline, their derivatives would cancel in the mean.
  """
  number, params = 8192, jnp.array([0.7, 0.5])

  def surrogate(params, key):
    mean, std = params
    return estimators.score_function(
      key,
      lambda x: x**2,
      lambda key: mean + std * jax.random.normal(key),
      lambda x: jax.scipy.stats.norm.logpdf(x, mean, std),
      num_samples=1,
    )

  keys = jax.random.split(jax.random.key(8), number)
  slope = jax.jit(jax.vmap(jax.grad(surrogate), (None, 0)))(params, keys)
  error = np.std(slope, 0) / math.sqrt(number)
  assert (np.abs(np.mean(slope, 0) - 2 * params) <= 4.5 * error).all()


@pytest.mark.parametrize("name", ["gumbel_softmax", "straight_through"])
def test_samples_of_classes(name):
  """On the simplex, or one-hot exactly, with the classes' probabilities."""
  number, probs = 8192, np.array([0.2, 0.5, 0.3])
  logits = jnp.log(jnp.asarray(probs, jnp.float32))
  seen = lambda key, temperature: jax.grad(
    lambda add: getattr(estimators, name)(
      key, lambda x: jnp.sum(x * add), logits, temperature
    )
  )(jnp.zeros(3))
  for temperature in (0.5, 1e-4):
    keys = jax.random.split(jax.random.key(3), number)
    x = jax.jit(jax.vmap(seen, (0, None)))(keys, temperature)
    np.testing.assert_allclose(x.sum(1), 1, atol=1e-6)
    assert (x >= 0).all()
    if name == "straight_through":
      assert set(np.unique(x)) == {0, 1}
    counts = np.bincount(np.argmax(x, 1), minlength=3)
    assert stats.chisquare(counts, number * probs).pvalue > 1e-3


@every
def test_finite_at_the_largest_logits(name):
  """Where every variable is certain, the value is exact and the slope zero."""
  logits = jnp.array([[100.0, -100.0, -100.0], [-100.0, 100.0, -100.0]])
  each = jax.jit(jax.vmap(value_and_slope(name), (0, None)))
  value, slope = each(jax.random.split(jax.random.key(4), 16), logits)
  assert np.isfinite(value).all() and np.isfinite(slope).all()
  if name != "pathwise":
    certain = quadratic(np.asarray(logits > 0, np.float32))
    np.testing.assert_allclose(value, certain, rtol=1e-6)
    np.testing.assert_allclose(slope, 0, atol=1e-30)


@every
def test_a_batch_is_a_loop(name):
  fn = lambda seed, logits: value_and_slope(name)(jax.random.key(seed), logits)
  seeds, logits = jnp.arange(4), jax.random.normal(jax.random.key(6), (4, 2, 3))
  value, slope = expect.a_loop(fn, seeds, logits, rtol=1e-5, atol=1e-6)
  assert value.dtype == slope.dtype == np.float32
  assert value.shape == (4,) and slope.shape == (4, 2, 3)
  eager = fn(seeds[0], logits[0])
  expect.close(eager, (value[0], slope[0]), 1e-5, 1e-6)
  # Another key, another estimate at the same logits.
  same = jax.jit(jax.vmap(fn, (0, None)))(seeds, logits[0])
  assert len(np.unique(same[1], axis=0)) > 1


@every
def test_bad_input(name):
  logits = jnp.zeros((2, 3))
  call = lambda f: ESTIMATORS[name](jax.random.key(0), f, logits)
  expect.error(
    "key: expected a typed key",
    ESTIMATORS[name],
    jax.random.PRNGKey(0),
    jnp.sum,
    logits,
  )
  said = r"f: expected a scalar, float\[\], got float32\[2, 3\]"
  expect.error(said, call, lambda x: x)
  said = r"f: expected a scalar, float\[\], got tuple"
  expect.error(said, call, lambda x: (jnp.sum(x), x))
  said = r"f: expected a scalar, float\[\], got bool\[\]"
  expect.error(said, call, lambda x: jnp.sum(x) > 0)


def test_bad_settings():
  logits = jnp.zeros((2, 3))
  for function in (estimators.gumbel_softmax, estimators.straight_through):
    call = lambda *args: function(jax.random.key(0), jnp.sum, *args)
    for temperature in (0.0, -1.0, math.nan, jnp.float32(0)):
      said = f"temperature: expected a positive number, got {temperature}"
      expect.error(said, call, logits, temperature)
    said = r"logits: expected shape \[\*D, K\], got \[\]"
    expect.error(said, call, jnp.zeros(()), 1.0)
    assert jax.jit(call)(logits, 0.5).shape == ()  # a traced temperature
  score_function = lambda *args: estimators.score_function(
    jax.random.key(0),
    jnp.sum,
    lambda key: jax.random.normal(key, (3,)),
    *args,
  )
  for number in (0, -1):
    said = f"num_samples: expected at least 1, got {number}"
    expect.error(said, score_function, jnp.sum, number)
  said = r"log_prob_fn: expected a scalar, float\[\], got float32\[3\]"
  expect.error(said, score_function, lambda x: x, 2)
