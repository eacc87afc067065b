"""The documented means and variances of one problem, exactly.

By enumeration and quadrature in float64, and the biases by SciPy.
"""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
from scipy import integrate, special

from jaxgen import estimators
from tests.truth import estimates

DOCS = pathlib.Path(__file__).parent.parent / "docs/estimators.md"


def toy(b):
  return (b - 0.45) ** 2


def by_quadrature(estimator, theta):
  """Mean and variance of the gradient of the toy problem."""
  noise, weights = estimates.quadrature(theta, 48)
  slope = jax.grad(lambda t: estimator(jax.random.key(0), toy, t))
  one = lambda e: estimates.with_noise(e, lambda: slope(jnp.float64(theta)))
  return estimates.moments(np.asarray(jax.jit(jax.vmap(one))(noise)), weights)


def by_enumeration(theta, num_samples, baseline=True):
  """Mean and variance of the score function on the toy problem."""
  table = jnp.array([0.0, 1.0])

  def slope(key, sample_fn):
    def surrogate(t, add):
      f = lambda x: toy(x) + add[x.astype(int)]
      args = f, sample_fn, estimates.bernoulli(t)[1]
      if baseline:
        return estimators.score_function(key, *args, num_samples)
      keys = jax.random.split(key, num_samples)
      one = lambda key: estimators.score_function(key, *args, 1)
      return jax.vmap(one)(keys).mean()

    return jax.grad(surrogate, (0, 1))(jnp.float64(theta), jnp.zeros(2))

  p = special.expit(theta)
  return estimates.moments(
    *estimates.by_multisets(slope, table, (1 - p, p), num_samples, 256)
  )


def figures(theta):
  """Row of the docs: (mean, variance)."""
  rows = {
    name: by_quadrature(call, theta)
    for name, call in (estimates.UNBIASED | estimates.BIASED).items()
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


def test_antithetic_values_are_means_of_both_samples():
  """At probability 1/2 they are 0 and 1, whatever the noise."""
  seeds = jax.random.split(jax.random.key(0), 8)
  for estimator in (estimators.arm, estimators.disarm):
    value = jax.vmap(lambda key: estimator(key, toy, jnp.zeros(())))(
      jax.random.clone(seeds)
    )
    np.testing.assert_allclose(value, (0.45**2 + 0.55**2) / 2, rtol=1e-6)
