"""Probabilities of levels against enumeration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxgen import dequantisation, elementwise, paths
from jaxgen.data import oracles
from tests import expect, trees

WEIGHTS = np.array([0.1, 0.4, 0.05, 0.25, 0.2])
LEVELS = np.linspace(-1, 1, 5)
# Atoms at the levels of one coordinate: P(level) is its weight.
ATOMS = oracles.Mixture(WEIGHTS, LEVELS[:, None], np.zeros(5))

IDENTITY = lambda z: (z, jnp.zeros(()))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_noise_in_half_precision_is_that_of_float32(dtype):
  """Drawn in bfloat16, uniform and normal noise take 128 values."""
  methods = (
    dequantisation.uniform,
    lambda *given: dequantisation.learned(*given, IDENTITY),
    lambda *given: dequantisation.gaussian(*given, paths.edm(), 0.1),
  )
  data = jnp.asarray(LEVELS, "float32")  # exact in half precision, too
  for method in methods:
    run = jax.jit(lambda x, method=method: method(jax.random.key(0), x, 5))
    found, expected = run(data.astype(dtype)), run(data)
    trees.assert_equal(found, expected)


def test_uniform_is_exact_for_a_density_constant_in_each_bin():
  width = 0.5

  @jax.jit
  @jax.vmap
  def run(level, key):
    draw = dequantisation.uniform(key, level[None], 5)
    bin_ = jnp.floor((draw.x[0] + 1 + width / 2) / width).astype(int)
    density = jnp.asarray(WEIGHTS, "float32")[bin_] / width
    return draw.x[0] - level, jnp.log(density) + draw.correction

  levels = np.repeat(LEVELS, 200).astype("float32")
  moves, log_p = run(levels, jax.random.split(jax.random.key(0), 1000))
  np.testing.assert_allclose(np.exp(log_p), np.repeat(WEIGHTS, 200), rtol=1e-5)
  assert np.abs(moves).max() <= width / 2
  assert stats.kstest(moves, "uniform", (-0.25, 0.5)).pvalue > 0.01


def test_learned_noise_of_the_models_own_density_gives_its_probabilities():
  """u = Phi(a z + b) has a density that SciPy knows."""
  a, b, width = 0.7, -0.4, 0.5

  @jax.jit
  @jax.vmap
  def run(key, level):
    flow = lambda z: (a * z + b, jnp.full((), z.size * np.log(a), z.dtype))
    return dequantisation.learned(key, jnp.full(2, level), 5, flow)

  levels = np.repeat(LEVELS, 200).astype("float32")
  x, correction = run(jax.random.split(jax.random.key(0), 1000), levels)
  assert x.dtype == correction.dtype == jnp.float32 and x.shape == (1000, 2)
  u = np.float64(x - levels[:, None]) / width + 0.5
  y = stats.norm.ppf(u)
  within = stats.norm.logpdf(y, b, a) - stats.norm.logpdf(y) - np.log(width)
  log_p = np.repeat(np.log(WEIGHTS), 200)[:, None] + within
  found = np.exp(log_p.sum(1) + correction)
  np.testing.assert_allclose(found, np.repeat(WEIGHTS, 200) ** 2, rtol=1e-4)
  assert stats.kstest(y.ravel(), stats.norm(b, a).cdf).pvalue > 0.01


def test_learned_noise_of_the_identity_is_uniform():
  data, key = jnp.full((300, 2), 0.5), jax.random.key(1)
  x, correction = jax.jit(
    lambda data: dequantisation.learned(key, data, 5, IDENTITY)
  )(data)
  np.testing.assert_allclose(correction, data.size * np.log(0.5), rtol=1e-6)
  assert stats.kstest(np.ravel(x), "uniform", (0.25, 0.5)).pvalue > 0.01


@pytest.mark.parametrize("y", [-10.0, -6.0, 0.0, 6.0, 10.0])
def test_learned_noise_far_out_stays_in_its_bin_and_is_finite(y):
  """Also at the ends of the outer bins, where a normal latent is infinite."""
  data = jnp.float32([-1, 0, 1])
  to_normal, _ = elementwise.histogram(jnp.zeros((3, 5)))

  @jax.jit
  @jax.value_and_grad
  def bound(y):
    flow = lambda z: (0 * z + y, jnp.zeros(()))
    x, correction = dequantisation.learned(jax.random.key(0), data, 5, flow)
    latent, log_slope = to_normal(x)
    inside = jnp.abs(x - data).max() <= 0.25
    found = log_slope.sum() - (latent**2).sum() / 2 + correction
    return jnp.where(inside, found, jnp.nan)

  for found in bound(jnp.float32(y)):
    assert np.isfinite(found)


@pytest.mark.parametrize("path", [paths.edm(), paths.vp()], ids=["edm", "vp"])
def test_gaussian_by_importance_is_the_probability(path):
  # log P = E log p + correction - KL of the noise: none at small ratios.

  @jax.jit
  @jax.vmap
  def run(level, key):
    def one(key, ratio):
      t = path.time(ratio)
      draw = dequantisation.gaussian(key, level[None], 5, path, t)
      return ATOMS.log_prob(path, draw.x, t) + draw.correction

    small = jax.vmap(lambda key: one(key, 0.03))
    wide = jax.vmap(lambda key: one(key, 0.25))
    small_key, wide_key = jax.random.split(key)
    values = wide(jax.random.split(wide_key, 4096))
    weighted = dequantisation.importance(values)
    return small(jax.random.split(small_key, 32)), values.mean(), weighted

  keys = jax.random.split(jax.random.key(0), 5)
  small, bound, weighted = run(LEVELS.astype("float32"), keys)
  truth = np.log(WEIGHTS)[:, None] + 0 * small
  np.testing.assert_allclose(small, truth, atol=1e-4)
  # The decoder has equal weights, the model has not: the bound is a bound, and
  # the model is p(x_t) P(level | x_t), whose probabilities add up to one.
  assert (weighted > bound).all()
  np.testing.assert_allclose(np.exp(weighted).sum(), 1, rtol=0.02)


def test_decoder_against_scipy():
  path, t = paths.linear(), 0.2
  data, x = np.array([[-1.0, 0.5]]), np.array([[-0.3, 0.55]])
  with jax.enable_x64(True):
    run = jax.jit(
      lambda data, x: dequantisation.level_log_prob(data, x, 5, path, t)
    )
    found = run(data, x)
    every = [run(np.full((1, 1), level), x[:, 1:]) for level in LEVELS]
  log_p = stats.norm.logpdf(x[..., None] / 0.8, LEVELS, 0.25)
  log_p -= np.logaddexp.reduce(log_p, axis=-1, keepdims=True)
  np.testing.assert_allclose(found, log_p[0, 0, 0] + log_p[0, 1, 3], rtol=1e-9)
  np.testing.assert_allclose(np.exp(every).sum(), 1, rtol=1e-9)


def test_importance():
  values = np.array([-1.0, -3.0, -2.0])
  found = dequantisation.importance(jnp.asarray(values))
  np.testing.assert_allclose(found, np.log(np.exp(values).mean()), rtol=1e-6)


def test_keys_matter_and_bad_input():
  data = jnp.zeros(3)
  draws = [
    dequantisation.uniform(jax.random.key(seed), data, 17).x for seed in (0, 1)
  ]
  assert (np.abs(draws[0] - draws[1]) > 0).all()
  for call in (
    lambda key, n: dequantisation.uniform(key, data, n),
    lambda key, n: dequantisation.learned(key, data, n, IDENTITY),
    lambda key, n: dequantisation.gaussian(key, data, n, paths.edm(), 0.1),
  ):
    few = "num_levels: expected at least 2"
    expect.error(few, call, jax.random.key(0), 1)
    expect.error("key: expected a typed key", call, jax.random.PRNGKey(0), 17)
  for flow in (
    lambda z: (z[:1], jnp.zeros(())),
    lambda z: (z, jnp.zeros(3)),
  ):
    given = dequantisation.learned, jax.random.key(0), data, 17, flow
    expect.error(r"flow: expected \(3,\) and a scalar, got", *given)
