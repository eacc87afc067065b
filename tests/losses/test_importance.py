"""Importance-weighted bounds on a linear Gaussian model, whose log p is exact.

z ~ N(0, 1),   x ~ N(W z, S^2)
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from jaxgen.losses import decoders, importance, variational
from tests import expect

W, S, X = 1.4, 0.8, 1.1
LOG_P = stats.norm.logpdf(X, 0, np.hypot(W, S))
EXACT_MEAN, EXACT_STD = W * X / (W**2 + S**2), S / np.hypot(W, S)
# A posterior that is wrong in mean and width, and the model's W.
WRONG = dict(mean=EXACT_MEAN + 0.4, log_std=np.log(0.8 * EXACT_STD), w=W)
BOUNDS = dict(
  iwae=lambda *args, **kwargs: importance.iwae(
    importance.log_weights(*args, **kwargs)
  ),
  dreg=importance.doubly_reparameterised,
)


def model(params):
  """(likelihood_fn, posterior)."""
  posterior = variational.Gaussian(
    params["mean"][None], params["log_std"][None]
  )
  x, log_std = jnp.full((1,), X), np.log(S)
  return lambda z: decoders.gaussian(x, params["w"] * z, log_std), posterior


def bound(name, params, noise):
  """The bound for noise [K], []."""
  return BOUNDS[name](*model(params), noise[:, None])


def numbers(tree):
  return {name: jnp.asarray(value, float) for name, value in tree.items()}


def test_the_weights_are_scipys():
  noise = jnp.array([[0.3], [-1.2]])
  found = importance.log_weights(*model(numbers(WRONG)), noise)
  std = np.exp(WRONG["log_std"])
  z = WRONG["mean"] + std * noise[:, 0]
  truth = stats.norm.logpdf(X, W * z, S) + stats.norm.logpdf(z)
  truth = truth - stats.norm.logpdf(z, WRONG["mean"], std)
  np.testing.assert_allclose(found, truth, rtol=1e-5, atol=1e-5)
  value = special.logsumexp(truth) - np.log(2)
  for name in BOUNDS:
    found = bound(name, numbers(WRONG), noise[:, 0])
    assert found.shape == () and found.dtype == jnp.float32
    np.testing.assert_allclose(found, value, rtol=1e-5)


def test_more_samples_are_nearer_to_the_evidence():
  noise = jax.random.normal(jax.random.key(0), (2000, 50))

  @jax.jit
  @functools.partial(jax.vmap, in_axes=(None, 0))
  def run(params, noise):
    return {k: bound("iwae", params, noise[:k]) for k in (1, 5, 50)}

  found = run(numbers(WRONG), noise)
  found = {k: np.asarray(v, float) for k, v in found.items()}
  for low, high in ((1, 5), (5, 50)):
    gain = found[high] - found[low]
    assert gain.mean() > 4 * gain.std() / np.sqrt(len(gain))
  gap = LOG_P - found[50]
  assert 0 < gap.mean() < 0.1
  assert gap.mean() > 4 * gap.std() / np.sqrt(len(gap))
  # K = 1 is the evidence lower bound: log p - KL(q || exact posterior).
  ratio = WRONG["log_std"] - np.log(EXACT_STD)
  shift = 0.4 / EXACT_STD
  kl = (shift**2 + np.exp(2 * ratio) - 1) / 2 - ratio
  error = found[1].std() / np.sqrt(len(noise))
  assert abs(found[1].mean() - LOG_P + kl) < 4 * error


def test_the_exact_posterior_gives_the_evidence_for_each_sample():
  exact = dict(mean=EXACT_MEAN, log_std=np.log(EXACT_STD), w=W)
  noise = jax.random.normal(jax.random.key(0), (5,))
  with jax.enable_x64(True):
    noise = noise.astype("float64")
    for name in BOUNDS:
      run = jax.value_and_grad(functools.partial(bound, name))
      value, slopes = run(numbers(exact), noise)
      np.testing.assert_allclose(value, LOG_P, rtol=1e-12)
    # DReG has no noise there; the bound's own gradient does.
    for slope in slopes["mean"], slopes["log_std"]:
      np.testing.assert_allclose(slope, 0, atol=1e-12)
    own = jax.grad(functools.partial(bound, "iwae"))(numbers(exact), noise)
    assert abs(own["mean"]) > 0.1


@pytest.mark.parametrize("num_samples", [1, 2])
def test_both_gradients_have_the_same_expectation(num_samples):
  """By Gauss-Hermite quadrature over the noise."""
  nodes, weights = np.polynomial.hermite_e.hermegauss(64)
  axes = [nodes] * num_samples
  grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
  weight = functools.reduce(np.multiply.outer, [weights] * num_samples)
  weight = weight.ravel() / weight.sum()
  with jax.enable_x64(True):
    noise = jnp.asarray(grid.reshape(-1, num_samples))
    means = {}
    for name in BOUNDS:
      run = jax.vmap(
        jax.grad(functools.partial(bound, name)), in_axes=(None, 0)
      )
      slopes = jax.jit(run)(numbers(WRONG), noise)
      means[name] = {n: weight @ np.asarray(v) for n, v in slopes.items()}
  expect.close(means["dreg"], means["iwae"], rtol=1e-6)
  if num_samples == 1:  # of the analytic bound
    np.testing.assert_allclose(
      means["dreg"]["mean"], -0.4 / EXACT_STD**2, rtol=1e-9
    )


def test_only_dreg_keeps_its_signal_with_many_samples():
  """Standard deviation of the encoder's gradient relative to its mean."""
  noise = jax.random.normal(jax.random.key(0), (4000, 64))

  @jax.jit
  @functools.partial(jax.vmap, in_axes=(None, 0))
  def run(params, noise):
    return {
      (name, k): jax.grad(functools.partial(bound, name))(params, noise[:k])
      for name in BOUNDS
      for k in (4, 64)
    }

  # Wider than the exact posterior, so that the weights are bounded.
  wide = np.log(1.3 * EXACT_STD)
  near = WRONG | dict(mean=EXACT_MEAN + 0.1, log_std=wide)
  slopes = {
    key: np.asarray(found["mean"], float)
    for key, found in run(numbers(near), noise).items()
  }
  noisiness = {key: v.std() / abs(v.mean()) for key, v in slopes.items()}
  assert noisiness["iwae", 64] > 2 * noisiness["iwae", 4]
  assert noisiness["dreg", 64] < noisiness["dreg", 4] / 2
  assert slopes["dreg", 64].std() < slopes["dreg", 4].std()


def test_jit_and_rows():
  noise = jax.random.normal(jax.random.key(0), (3, 4))
  params = numbers(WRONG)
  for name in BOUNDS:

    def one(noise, name=name):
      return jax.value_and_grad(functools.partial(bound, name))(params, noise)

    expect.a_loop(one, noise, rtol=1e-5, atol=1e-6)
    expect.close(one(noise[0]), jax.jit(one)(noise[0]), 1e-5, 1e-6)


def test_bad_input_is_rejected():
  likelihood_fn, posterior = model(numbers(WRONG))
  for fn in (importance.log_weights, importance.doubly_reparameterised):
    for noise in (jnp.ones(1), jnp.ones((0, 1)), jnp.ones((2, 3, 1))):
      said = r"noise: expected shape \[K, \*Z\]"
      expect.error(said, fn, likelihood_fn, posterior, noise)
    expect.error(
      "noise: expected shape", fn, likelihood_fn, posterior, jnp.ones((2, 3))
    )
    expect.error(
      "expected a scalar", fn, lambda z: z, posterior, jnp.ones((2, 1))
    )
