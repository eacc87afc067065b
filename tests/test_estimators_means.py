"""Unbiased, for three Bernoulli variables and parameters in the integrand.

The noise of the estimators of Bernoulli variables is replaced by the nodes of a
quadrature, which is exact: between the noise at which samples change, gradients
are linear in u. The samples of the score function are all the multisets,
weighed by their probability. Other tests keep the noise, with standard errors.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import estimators
from tests import expect
from tests.truth import estimates

exact = pytest.mark.parametrize("name", estimates.UNBIASED)


def scored(key, f, logits):
  return estimators.score_function(
    key, f, *estimates.bernoulli(logits), num_samples=3
  )


STATES = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
PARAMS = dict(
  logits=np.array([0.3, -1.2, 0.8]), model=np.array([0.5, -1.0, 2.0])
)


def integrand(params, b):
  """log q(b) - log p(b), up to a constant: both have parameters."""
  log_q = estimates.bernoulli(params["logits"])[1](b)
  mixed = jnp.sin(b @ jnp.array([1.0, 2.0, 3.0]) + params["model"][0])
  return log_q - params["model"] @ b + 0.7 * mixed


def enumerated(params):
  """E f, the truth, over the eight states."""
  log_prob_fn = estimates.bernoulli(params["logits"])[1]
  one = lambda b: jnp.exp(log_prob_fn(b)) * integrand(params, b)
  return jax.vmap(one)(STATES.astype(params["logits"].dtype)).sum()


def elbo_like(estimator, key, params):
  f = functools.partial(integrand, params)
  return estimator(key, f, params["logits"])


@pytest.fixture(scope="module")
def exact_grids():
  """Values and gradients of the antithetic estimators at all nodes."""
  rules = [estimates.quadrature(logit, 2) for logit in PARAMS["logits"]]
  noise = np.array(list(itertools.product(*(rule[0] for rule in rules))))
  weights = functools.reduce(np.multiply.outer, [rule[1] for rule in rules])

  def grid(estimator, params):
    one = lambda e: estimates.with_noise(
      e,
      lambda: jax.value_and_grad(
        lambda params: elbo_like(estimator, jax.random.key(0), params)
      )(params),
    )
    return jax.vmap(one)(jnp.asarray(noise))

  with jax.enable_x64(True):
    params = jax.tree.map(jnp.asarray, PARAMS)
    run = lambda p: {
      name: grid(call, p) for name, call in estimates.UNBIASED.items()
    }
    found = jax.device_get(jax.jit(run)(params))
    truth = jax.device_get(jax.value_and_grad(enumerated)(params))
  return found, weights.ravel(), truth


@exact
def test_mean_over_three_variables(name, exact_grids):
  """Value, gradients of distribution and integrand, by exact integration."""
  found, weights, truth = exact_grids
  mean = jax.tree.map(lambda x: np.tensordot(weights, x, 1), found[name])
  expect.close(mean, truth, rtol=1e-12, atol=1e-14)


def test_disarm_is_the_mean_of_arm_given_its_samples(exact_grids):
  found, weights, _ = exact_grids
  slopes = {n: found[n][1]["logits"] for n in ("arm", "disarm")}
  means = {
    n: [np.average(s[rows], 0, weights[rows]) for rows in _regions(found)]
    for n, s in slopes.items()
  }
  np.testing.assert_allclose(means["arm"], means["disarm"], rtol=1e-11)
  spread = {n: estimates.moments(s, weights)[1] for n, s in slopes.items()}
  assert (spread["disarm"] < spread["arm"]).all()


def _regions(found):
  """Nodes of the same pair of samples: 27 regions of two nodes per variable."""
  region = np.arange(len(found["arm"][0])).reshape((3, 2) * 3)
  return region.transpose(0, 2, 4, 1, 3, 5).reshape(27, 8)


@pytest.mark.parametrize("num_samples", [1, 2])
def test_score_function_and_its_second_derivatives(num_samples):
  # The value and each derivative are of the same samples.
  with jax.enable_x64(True), jax.debug_key_reuse(False):
    flat = jnp.concatenate([PARAMS["logits"], PARAMS["model"]])
    named = lambda v: dict(logits=v[:3], model=v[3:])
    table = jnp.asarray(STATES)

    def all_of(function):
      parts = (function, jax.grad(function), jax.hessian(function))
      return jnp.concatenate([part(flat).ravel() for part in parts])

    def slope(key, sample_fn):
      def surrogate(v, add):
        index = lambda x: (x @ jnp.array([4, 2, 1])).astype(int)
        f = lambda x: integrand(named(v), x) + add[index(x)]
        log_prob_fn = estimates.bernoulli(v[:3])[1]
        return estimators.score_function(
          key, f, sample_fn, log_prob_fn, num_samples
        )

      zero = jnp.zeros(8)
      counts = jax.grad(surrogate, 1)(flat, zero)
      return all_of(lambda v: surrogate(v, zero)), counts

    log_prob_fn = estimates.bernoulli(flat[:3])[1]
    probs = np.exp(jax.vmap(log_prob_fn)(table))
    values, weights = estimates.by_multisets(slope, table, probs, num_samples)
    truth = all_of(lambda v: enumerated(named(v)))
  np.testing.assert_allclose(weights @ values, truth, rtol=1e-10, atol=1e-12)


@functools.cache
def monte_carlo(num_keys=8192):
  """Means of value and gradients over keys, and their standard errors."""
  params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), PARAMS)
  calls = estimates.UNBIASED | dict(
    score_function=scored, straight_through=estimates.BIASED["straight_through"]
  )
  keys = jax.random.split(jax.random.key(2), (len(calls), num_keys))

  def run(keys, params):
    one = lambda call, key: jax.value_and_grad(
      lambda params: elbo_like(call, key, params)
    )(params)
    return {
      name: jax.vmap(functools.partial(one, call))(own)
      for (name, call), own in zip(calls.items(), keys, strict=True)
    }

  found = jax.device_get(jax.jit(run)(keys, params))
  truth = jax.device_get(jax.value_and_grad(enumerated)(params))
  mean = jax.tree.map(lambda x: x.mean(0), found)
  error = jax.tree.map(lambda x: x.std(0) / math.sqrt(num_keys), found)
  return mean, error, truth


@pytest.mark.parametrize("name", [*estimates.UNBIASED, "score_function"])
def test_mean_over_keys(name):
  mean, error, truth = monte_carlo()
  jax.tree.map(_within, mean[name], error[name], truth)


def test_straight_through_is_biased_for_logits_alone():
  mean, error, truth = monte_carlo()
  name = "straight_through"
  (value, slope), (size, sizes) = mean[name], error[name]
  _within(value, size, truth[0])
  _within(slope["model"], sizes["model"], truth[1]["model"])
  bias = np.abs(slope["logits"] - truth[1]["logits"])
  assert (bias > 8 * sizes["logits"]).any()


def _within(mean, error, truth):
  assert (np.abs(mean - truth) <= 4.5 * error + 1e-5).all(), (mean, truth)
