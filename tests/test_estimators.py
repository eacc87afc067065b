"""Means and variances of estimators, exactly: by enumeration and quadrature.

The noise of the estimators of Bernoulli variables is replaced by the nodes of a
quadrature, which is exact between the noise at which samples change: gradients
are linear in u there. The samples of the score function are all the multisets,
weighed by their probability. Other tests keep the noise, with standard errors.
"""

import functools
import itertools
import math
import pathlib
import re
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special

from jaxgen import estimators
from tests import expect

DOCS = pathlib.Path(__file__).parent.parent / "docs/estimators.md"


def toy(b):
  return (b - 0.45) ** 2


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


def scored(key, f, logits):
  return estimators.score_function(key, f, *bernoulli(logits), num_samples=3)


ANTITHETIC = dict(
  arm=estimators.arm,
  disarm=estimators.disarm,
  measure_valued=estimators.measure_valued,
)
BIASED = dict(
  gumbel_softmax=functools.partial(relaxed, estimators.gumbel_softmax),
  straight_through=functools.partial(relaxed, estimators.straight_through),
)
exact = pytest.mark.parametrize("name", ANTITHETIC)


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


def by_quadrature(estimator, theta):
  """Mean and variance of the gradient of the toy problem."""
  noise, weights = quadrature(theta, 48)
  slope = jax.grad(lambda t: estimator(jax.random.key(0), toy, t))
  one = lambda e: with_noise(e, lambda: slope(jnp.float64(theta)))
  return moments(np.asarray(jax.jit(jax.vmap(one))(noise)), weights)


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


def by_enumeration(theta, num_samples, baseline=True):
  """Mean and variance of the score function on the toy problem."""
  table = jnp.array([0.0, 1.0])

  def slope(key, sample_fn):
    def surrogate(t, add):
      f = lambda x: toy(x) + add[x.astype(int)]
      args = f, sample_fn, bernoulli(t)[1]
      if baseline:
        return estimators.score_function(key, *args, num_samples)
      keys = jax.random.split(key, num_samples)
      one = lambda key: estimators.score_function(key, *args, 1)
      return jax.vmap(one)(keys).mean()

    return jax.grad(surrogate, (0, 1))(jnp.float64(theta), jnp.zeros(2))

  p = special.expit(theta)
  return moments(*by_multisets(slope, table, (1 - p, p), num_samples, 256))


def figures(theta):
  """Row of the docs: (mean, variance)."""
  rows = {
    name: by_quadrature(call, theta)
    for name, call in (ANTITHETIC | BIASED).items()
  }
  return rows | {
    "score_function, one sample": by_enumeration(theta, 1),
    "mean of four of these": by_enumeration(theta, 4, baseline=False),
    "score_function, four samples": by_enumeration(theta, 4),
  }


def test_documented_figures():
  """The table of docs/estimators.md, to the digits that it shows."""
  text = DOCS.read_text().partition("\n## Bias and variance\n")[2]
  with jax.enable_x64(True):
    columns = figures(0.0), figures(2.0)
  assert columns[0].keys() == columns[1].keys()
  for name in columns[0]:
    (row,) = re.findall(rf"^\| `?{name}`? \|.*\|$", text, re.MULTILINE)
    shown = [cell.strip() for cell in row.split("|")[3:-1]]
    found = [value for column in columns for value in column[name]]
    for cell, value in zip(shown, found, strict=True):
      if float(cell) == 0:
        assert value < 1e-30, (name, cell, value)
      else:
        assert float(cell) == float(f"{value:.3g}"), (name, cell, value)


def test_biases_of_the_toy_problem():
  """None, or that of the relaxed objective, by SciPy's quadrature."""
  for theta, slope in ((0.0, 0.025), (2.0, 0.0104993585403507)):
    p = special.expit(theta)
    np.testing.assert_allclose(slope, p * (1 - p) * 0.1, rtol=1e-12)

    def wrong(u, hard):
      logit = (theta + special.logit(u)) / 0.5
      y = special.expit(logit)
      rate = special.expit(logit) * special.expit(-logit) / 0.5
      return 2 * ((u > 1 - p if hard else y) - 0.45) * rate

    with jax.enable_x64(True):
      found = {name: value[0] for name, value in figures(theta).items()}
    for name, hard in (("gumbel_softmax", False), ("straight_through", True)):
      split = dict(points=[1 - p], epsabs=1e-12)
      truth = integrate.quad(wrong, 0, 1, args=(hard,), **split)[0]
      np.testing.assert_allclose(found.pop(name), truth, rtol=1e-8)
      assert abs(truth / slope - 1) > 0.1
    np.testing.assert_allclose(list(found.values()), slope, rtol=1e-12)


STATES = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
PARAMS = dict(
  logits=np.array([0.3, -1.2, 0.8]), model=np.array([0.5, -1.0, 2.0])
)


def integrand(params, b):
  """log q(b) - log p(b), up to a constant: both have parameters."""
  log_q = bernoulli(params["logits"])[1](b)
  mixed = jnp.sin(b @ jnp.array([1.0, 2.0, 3.0]) + params["model"][0])
  return log_q - params["model"] @ b + 0.7 * mixed


def enumerated(params):
  """E f, the truth, over the eight states."""
  log_prob_fn = bernoulli(params["logits"])[1]
  one = lambda b: jnp.exp(log_prob_fn(b)) * integrand(params, b)
  return jax.vmap(one)(STATES.astype(params["logits"].dtype)).sum()


def elbo_like(estimator, key, params):
  f = functools.partial(integrand, params)
  return estimator(key, f, params["logits"])


@pytest.fixture(scope="module")
def exact_grids():
  """Values and gradients of the antithetic estimators at all nodes."""
  rules = [quadrature(logit, 2) for logit in PARAMS["logits"]]
  noise = np.array(list(itertools.product(*(rule[0] for rule in rules))))
  weights = functools.reduce(np.multiply.outer, [rule[1] for rule in rules])

  def grid(estimator, params):
    one = lambda e: with_noise(
      e,
      lambda: jax.value_and_grad(
        lambda params: elbo_like(estimator, jax.random.key(0), params)
      )(params),
    )
    return jax.vmap(one)(jnp.asarray(noise))

  with jax.enable_x64(True):
    params = jax.tree.map(jnp.asarray, PARAMS)
    run = lambda p: {name: grid(call, p) for name, call in ANTITHETIC.items()}
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
  spread = {n: moments(s, weights)[1] for n, s in slopes.items()}
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
        log_prob_fn = bernoulli(v[:3])[1]
        return estimators.score_function(
          key, f, sample_fn, log_prob_fn, num_samples
        )

      zero = jnp.zeros(8)
      counts = jax.grad(surrogate, 1)(flat, zero)
      return all_of(lambda v: surrogate(v, zero)), counts

    log_prob_fn = bernoulli(flat[:3])[1]
    probs = np.exp(jax.vmap(log_prob_fn)(table))
    values, weights = by_multisets(slope, table, probs, num_samples)
    truth = all_of(lambda v: enumerated(named(v)))
  np.testing.assert_allclose(weights @ values, truth, rtol=1e-10, atol=1e-12)


@functools.cache
def monte_carlo(num_keys=8192):
  """Means of value and gradients over keys, and their standard errors."""
  params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), PARAMS)
  calls = ANTITHETIC | dict(
    score_function=scored, straight_through=BIASED["straight_through"]
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


@pytest.mark.parametrize("name", [*ANTITHETIC, "score_function"])
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
