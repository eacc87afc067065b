"""Exact moments of gradient estimators: their noise or samples replaced."""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from jaxgen import estimators


def bernoulli(logits):
  """sample_fn and log_prob_fn."""
  p = jax.nn.sigmoid(logits)
  return (
    lambda key: jax.random.bernoulli(key, p).astype(p.dtype),
    lambda x: -jnp.sum(jax.nn.softplus((1 - 2 * x) * logits)),
  )


def relaxed(estimator, key, f, logits):
  """Of Bernoulli variables, as the last of two classes."""
  both = jnp.stack([0 * logits, logits], -1)
  return estimator(key, lambda y: f(y[..., 1]), both, 0.5)


UNBIASED = dict(
  arm=estimators.arm,
  disarm=estimators.disarm,
  measure_valued=estimators.measure_valued,
)
BIASED = dict(
  gumbel_softmax=functools.partial(relaxed, estimators.gumbel_softmax),
  straight_through=functools.partial(relaxed, estimators.straight_through),
)


def quadrature(logit, num_nodes):
  """Noise and weights, exact for polynomials in u between samples' ends."""
  ends = np.array([0, *special.expit([-abs(logit), abs(logit)]), 1])
  node, weight = special.roots_legendre(num_nodes)
  widths = np.diff(ends)[:, None] / 2
  u = ends[:-1, None] + widths * (1 + node)
  return special.logit(u).ravel(), (widths * weight).ravel()


def with_noise(noise, call):
  """call(), with the differences of its Gumbel noise replaced."""

  def gumbel(key, shape, dtype, mode):
    pair = jnp.stack([noise, jnp.zeros_like(noise)], 0)
    assert mode == "high" and sorted(pair.shape) == sorted(shape)
    return pair.reshape(shape)

  with mock.patch.object(jax.random, "gumbel", gumbel):
    return call()


def moments(values, weights):
  mean = weights @ values
  return mean, weights @ (values - mean) ** 2


def by_multisets(slope, table, probs, num_samples, num_keys=2048):
  """Values of slope for each multiset of samples, and their probabilities.

  slope: (key, f's addend, sample_fn) -> (any array, histogram of samples).
  """
  index = lambda key: jax.random.randint(key, (), 0, len(table))
  keys = jax.random.split(jax.random.key(1), num_keys)
  one = lambda key: slope(key, lambda key: table[index(key)])
  values, counts = jax.device_get(jax.jit(jax.vmap(one))(keys))
  counts = np.rint(counts * num_samples).astype(int)
  kinds, first, inverse = np.unique(
    counts, axis=0, return_index=True, return_inverse=True
  )
  kept = values[first]
  np.testing.assert_allclose(values, kept[inverse], rtol=1e-9, atol=1e-12)
  orders = special.factorial(num_samples)
  orders = orders / special.factorial(kinds).prod(1)
  weights = orders * np.prod(np.asarray(probs) ** kinds, 1)
  np.testing.assert_allclose(weights.sum(), 1, rtol=1e-12)  # all were seen
  return kept, weights
