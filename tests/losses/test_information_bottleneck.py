"""The variational information bottleneck by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxgen.losses import information_bottleneck, variational
from tests import expect

WEIGHTS = jnp.array([[1.0, -0.5, 0.2], [0.3, 2.0, -1.0]])
Q = variational.Gaussian(jnp.array([0.4, -0.3]), jnp.array([-1.0, 0.2]))
bottleneck = information_bottleneck.information_bottleneck
classify = lambda z: z @ WEIGHTS


@pytest.mark.parametrize("label", [0, 2])
def test_rate_and_distortion(label):
  noise = jnp.array([0.5, -1.0])
  found = bottleneck(classify, Q, noise, label, beta=0.1)
  std = np.exp(Q.log_std)
  logits = (Q.mean + std * noise) @ WEIGHTS
  distortion = special.logsumexp(logits) - logits[label]
  rate = np.sum((Q.mean**2 + std**2 - 1) / 2 - Q.log_std)
  truth = distortion + 0.1 * rate, distortion, rate, logits
  expect.close(tuple(found), truth, rtol=1e-5)
  assert found.loss.shape == () and found.loss.dtype == jnp.float32


def test_the_gradient_is_that_of_the_weighted_sum():
  """Linear in the two parts, and finite at logits of 100."""
  noise = jnp.array([0.5, -1.0])

  def parts(mean, scale, beta):
    q = Q._replace(mean=mean)
    fn = lambda z: scale * classify(z)
    return bottleneck(fn, q, noise, 1, beta=beta)

  slope = lambda beta: jax.grad(lambda m: parts(m, 1.0, beta).loss)(Q.mean)
  rate = jax.grad(lambda m: parts(m, 1.0, 0.0).rate)(Q.mean)
  np.testing.assert_allclose(slope(0.3), slope(0.0) + 0.3 * rate, rtol=1e-5)
  steep = jax.grad(lambda m: parts(m, 200.0, 0.3).loss)(Q.mean)
  assert np.isfinite(steep).all()


def test_jit_and_rows():
  noises = jax.random.normal(jax.random.key(0), (3, 2))

  def one(noise, label):
    return bottleneck(classify, Q, noise, label, beta=0.1)

  expect.a_loop(one, noises, jnp.array([0, 1, 2]))


def test_bad_input():
  noise = jnp.ones(2)
  call = lambda fn, noise, label: bottleneck(fn, Q, noise, label, beta=1.0)
  expect.error("noise: expected shape", call, classify, noise[:1], 0)
  expect.error(r"logits: expected shape \[C\]", call, jnp.sum, noise, 0)
  expect.error("at least 2, got 1", call, lambda z: z[:1], noise, 0)
  for label in (-1, 3):
    assert np.isnan(call(classify, noise, label).loss)
