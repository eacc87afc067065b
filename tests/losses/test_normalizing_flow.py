"""Log-densities of flows against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from jaxgen import bijectors, linear_maps
from jaxgen.losses import normalizing_flow
from tests import expect

X = jnp.array([[0.3, -1.2], [2.0, 0.5]])


def gaussian():
  """The flow to N(0, 1) of N(mean, exp(2 log_std))."""
  return linear_maps.scale_and_shift(-jnp.log(2.0), -0.5)


def test_a_scale_and_shift_is_a_gaussian():
  found = jax.jit(
    jax.vmap(lambda x: normalizing_flow.log_prob(gaussian().forward, x))
  )(X)
  truth = stats.norm(1.0, 2.0).logpdf(X).sum(-1)
  np.testing.assert_allclose(found, truth, rtol=1e-6)
  assert found.dtype == jnp.float32 and found.shape == (2,)
  loss = normalizing_flow.negative_log_likelihood(gaussian().forward, X[0])
  np.testing.assert_allclose(loss, -truth[0] / 2, rtol=1e-6)


def test_another_prior():
  prior = lambda y: jnp.sum(jax.scipy.stats.logistic.logpdf(y))
  found = normalizing_flow.log_prob(gaussian().forward, X[0], prior=prior)
  truth = stats.logistic(1.0, 2.0).logpdf(X[0]).sum()
  np.testing.assert_allclose(found, truth, rtol=1e-6)


def test_the_density_of_a_chain_integrates_to_one():
  lu = linear_maps.random_rotation(jax.random.key(0), 2)
  flow = bijectors.chain(gaussian(), linear_maps.linear(lu))
  side = jnp.linspace(-12, 12, 301)
  grid = jnp.stack(jnp.meshgrid(side, side), -1).reshape(-1, 2)
  log_p = jax.jit(
    jax.vmap(lambda x: normalizing_flow.log_prob(flow.forward, x))
  )(grid)
  mass = jnp.sum(jnp.exp(log_p)) * (side[1] - side[0]) ** 2
  np.testing.assert_allclose(mass, 1, rtol=1e-4)


def test_gradients_are_those_of_maximum_likelihood():
  def loss(params):
    layer = linear_maps.scale_and_shift(*params)
    nats = lambda x: normalizing_flow.negative_log_likelihood(layer.forward, x)
    return jax.vmap(nats)(X).mean()

  # At the data's own mean and standard deviation the gradient is 0.
  mean, std = X.mean(), X.std()
  slopes = jax.grad(loss)((-jnp.log(std), -mean / std))
  np.testing.assert_allclose(slopes, 0, atol=1e-6)
  other = jax.grad(loss)((0.0, 0.0))
  assert np.abs(other).max() > 0.1


def test_a_forward_of_another_size_is_rejected():
  loss = normalizing_flow.negative_log_likelihood
  expect.error("2 numbers and a scalar", loss, lambda x: (x[:1], 0.0), X[0])
  expect.error("2 numbers and a scalar", loss, lambda x: (x, x), X[0])
