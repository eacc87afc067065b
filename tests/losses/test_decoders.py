"""Likelihoods of decoders against SciPy, and their errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from jaxgen import outputs
from jaxgen.losses import decoders, variational
from tests import expect

OUTPUTS = (
  outputs.bernoulli(),
  outputs.categorical(5),
  outputs.logistic_mixture(5, 2),
)
by_output = pytest.mark.parametrize("output", OUTPUTS, ids=lambda o: o.name)
BITS = jnp.array([[-1.0, 1.0], [1.0, 1.0]])


def test_bernoulli_and_categorical_are_scipys():
  logits = jnp.array([[0.3, -2.0], [1.5, 4.0]])
  found = decoders.discrete(outputs.bernoulli(), logits[..., None], BITS)
  ones = np.asarray(BITS) > 0
  truth = stats.bernoulli.logpmf(ones, special.expit(logits)).sum()
  np.testing.assert_allclose(found, truth, rtol=1e-5)
  assert found.shape == () and found.dtype == jnp.float32
  rows = jax.random.normal(jax.random.key(0), (3, 5))
  values = jnp.array([-1.0, 0.5, 0.0])
  found = decoders.discrete(outputs.categorical(5), rows, values)
  truth = special.log_softmax(rows, 1)[[0, 1, 2], [0, 3, 2]].sum()
  np.testing.assert_allclose(found, truth, rtol=1e-5)


def test_gaussian_is_scipys():
  data, mean = jnp.array([0.5, -1.0, 2.0]), jnp.array([0.1, -0.3, 1.0])
  each = jnp.array([0.2, -0.5, 1.0])
  for log_std in (each, jnp.float32(-0.7), -0.7):
    found = decoders.gaussian(data, mean, log_std)
    truth = stats.norm.logpdf(data, mean, np.exp(log_std)).sum()
    np.testing.assert_allclose(found, truth, rtol=1e-5)


def test_the_optimal_log_std_is_the_maximum():
  data = jax.random.normal(jax.random.key(0), (4, 3))
  mean = 0.3 * data + 0.1
  best = decoders.optimal_log_std(data, mean)
  error = np.asarray(data - mean, float)
  np.testing.assert_allclose(best, np.log((error**2).mean()) / 2, rtol=1e-5)
  total = lambda s: jnp.sum(
    jax.vmap(decoders.gaussian, (0, 0, None))(data, mean, s)
  )
  value, slope = jax.value_and_grad(total)(best)
  np.testing.assert_allclose(slope, 0, atol=1e-4)
  assert value > max(total(best + 0.1), total(best - 0.1))
  # Rybkin et al. 2021: -D/2 log of the mean squared error, and a constant.
  truth = -12 / 2 * (np.log(2 * np.pi * (error**2).mean()) + 1)
  np.testing.assert_allclose(value, truth, rtol=1e-5)
  # Through the optimal value no gradient arrives: by the envelope theorem.
  through = lambda m: total_of(data, m, decoders.optimal_log_std(data, m))
  fixed = lambda m: total_of(data, m, best)
  expect.close(jax.grad(through)(mean), jax.grad(fixed)(mean), 1e-4, 1e-4)


def total_of(data, mean, log_std):
  one = jax.vmap(decoders.gaussian, (0, 0, None))
  return jnp.sum(one(data, mean, log_std))


@by_output
def test_losses_and_gradients_are_finite_at_logits_of_100(output):
  rng = np.random.default_rng(0)
  size = 16, 6, output.num_params
  params = jnp.asarray(rng.choice([-100.0, 0.0, 100.0], size), jnp.float32)
  levels = jnp.arange(6) % output.num_levels
  data = outputs.to_values(levels, output.num_levels)

  @jax.jit
  @jax.vmap
  def run(params):
    def loss(params):
      q = variational.gaussian(params[:, 0], params[:, -1])
      bound = variational.elbo(
        lambda z: decoders.discrete(output, params + z[:, None], data),
        q,
        jnp.ones(6),
      )
      return variational.loss(bound)

    return jax.value_and_grad(loss)(params)

  value, slope = run(params)
  assert np.isfinite(value).all() and np.isfinite(slope).all()


@by_output
def test_jit_and_rows(output):
  params = jax.random.normal(jax.random.key(0), (3, 2, output.num_params))
  data = jnp.array([[-1.0, 1.0], [1.0, 1.0], [-1.0, -1.0]])

  def one(params, data):
    return decoders.discrete(output, params, data)

  expect.a_loop(one, params, data)
  np.testing.assert_allclose(
    one(params[0], data[0]), jax.jit(one)(params[0], data[0]), rtol=1e-6
  )


@by_output
def test_another_shape_or_values_between_levels_are_rejected(output):
  call = lambda params, data: decoders.discrete(output, params, data)
  count = output.num_params
  for shape in ((2,), (2, count + 1), (3, count), (2, 2, count)):
    said = f"params: expected shape .*{count}.* got"
    expect.error(said, call, jnp.zeros(shape), jnp.ones(2))
  said = f"data: expected values at {output.num_levels} levels"
  expect.error(said, call, jnp.zeros((2, count)), jnp.array([1.0, 0.3]))
  # Traced values cannot raise: they give NaN.
  both = jnp.array([[1.0, 0.3], [1.0, -1.0]])
  found = jax.vmap(call, (None, 0))(jnp.zeros((2, count)), both)
  np.testing.assert_array_equal(np.isnan(found), [True, False])


def test_shapes_of_a_gaussian_are_checked():
  x = jnp.ones(3)
  expect.error("mean: expected shape", decoders.gaussian, x, x[:2], 0.0)
  expect.error("log_std: expected shape", decoders.gaussian, x, x, x[:2])
  expect.error("mean: expected shape", decoders.optimal_log_std, x, x[:2])
