"""Variational bounds against SciPy, quadrature and exact models."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import integrate, stats

from jaxgen.data import digits
from jaxgen.losses import decoders, normalizing_flow, variational
from tests import expect
from tests.truth import quadratic

MEAN, LOG_STD = jnp.array([0.3, -1.5, 0.0]), jnp.array([0.2, -1.0, 0.0])
Q = variational.Gaussian(MEAN, LOG_STD)
P = variational.Gaussian(jnp.array([-0.2, 0.5, 1.0]), jnp.array([0.1, 0.3, -1]))


def by_quadrature(m, s, prior):
  """KL(N(m, s^2) || prior) in one dimension."""
  q = stats.norm(m, s)
  integrand = lambda z: q.pdf(z) * (q.logpdf(z) - prior.logpdf(z))
  return integrate.quad(integrand, m - 12 * s, m + 12 * s, limit=200)[0]


def test_the_kl_is_that_of_quadrature():
  found, between = variational.kl(Q), variational.kl_between(Q, P)
  assert found.shape == between.shape == (3,)
  assert found.dtype == between.dtype == jnp.float32
  rows = zip(Q.mean, np.exp(Q.log_std), P.mean, np.exp(P.log_std), strict=True)
  for i, (m, s, center, std) in enumerate(rows):
    truth = by_quadrature(m, s, stats.norm(0, 1))
    np.testing.assert_allclose(found[i], truth, rtol=1e-5, atol=1e-6)
    truth = by_quadrature(m, s, stats.norm(center, std))
    np.testing.assert_allclose(between[i], truth, rtol=1e-5)


def test_the_kl_keeps_its_digits_near_the_prior():
  with jax.enable_x64(True):
    tiny = 1e-3 * jnp.array([1.0, -1.0])
    wide = variational.kl(variational.Gaussian(0 * tiny, tiny))
  small = variational.Gaussian(jnp.zeros(2), jnp.array([1e-3, -1e-3]))
  np.testing.assert_allclose(variational.kl(small), wide, rtol=2e-4)


def test_samples_and_their_log_densities_are_scipys():
  noise = jnp.array([0.5, -1.0, 2.0])
  z = variational.sample(Q, noise)
  np.testing.assert_allclose(z, MEAN + np.exp(LOG_STD) * noise, rtol=1e-6)
  truth = stats.norm.logpdf(z, MEAN, np.exp(LOG_STD)).sum()
  np.testing.assert_allclose(variational.log_prob(Q, z), truth, rtol=1e-6)


def test_the_mixture_is_scipys():
  pair = jax.tree.map(lambda a, b: jnp.stack([a, b]), Q, P)
  z = jnp.array([0.5, -1.0, 2.0])
  densities = [
    stats.norm.pdf(z, part.mean, np.exp(part.log_std)).prod() for part in (Q, P)
  ]
  found = variational.mixture(pair)(z)
  np.testing.assert_allclose(found, np.log(np.mean(densities)), rtol=1e-5)


def test_the_mean_of_the_sampled_kl_is_the_kl():
  nodes, weights = np.polynomial.hermite_e.hermegauss(5)
  one = lambda n: variational.sampled_elbo(
    lambda z: jnp.sum(z),
    variational.Gaussian(MEAN[:1], LOG_STD[:1]),
    n,
    prior_fn=normalizing_flow.standard_normal,
  )
  terms = jax.vmap(one)(jnp.asarray(nodes, "float32")[:, None])
  weights = weights / weights.sum()
  truth = variational.kl(Q)[0]
  np.testing.assert_allclose(weights @ terms.kl, truth, rtol=1e-4)
  np.testing.assert_allclose(weights @ terms.reconstruction, 0.3, rtol=1e-4)


def linear(params, x):
  """-ELBO of the linear VAE at one x, exact: it is quadratic in the noise."""
  centred = x - params["mu"]
  mean = params["encoder"] @ centred
  posterior = variational.Gaussian(mean, params["log_std"])

  def likelihood_fn(z):
    decoded = params["decoder"] @ z + params["mu"]
    return decoders.gaussian(x, decoded, params["log_sigma"])

  one = lambda n: variational.loss(
    variational.elbo(likelihood_fn, posterior, n)
  )
  return jnp.mean(jax.vmap(one)(quadratic.sigma_points(mean.size)))


def principal(data, q):
  """Probabilistic PCA by its closed form, as the linear VAE's parameters."""
  center = data.mean(0)
  spectrum, vectors = np.linalg.eigh(np.cov(data.T, bias=True))
  spectrum, vectors = spectrum[::-1], vectors[:, ::-1]
  noise = spectrum[q:].mean()
  decoder = vectors[:, :q] * np.sqrt(spectrum[:q] - noise)
  return dict(
    mu=center,
    decoder=decoder,
    log_sigma=np.log(noise) / 2,
    encoder=decoder.T / spectrum[:q, None],
    log_std=np.log(noise / spectrum[:q]) / 2,
  )


def test_the_optimal_linear_vae_is_probabilistic_pca():
  """Tipping and Bishop 1999; Lucas et al. 2019, arXiv:1911.02469."""
  splits = {s: 8 * digits.load(s)[0] + 8 for s in ("train", "test")}
  rows = {s: x.reshape(len(x), 64).astype(float) for s, x in splits.items()}
  with jax.enable_x64(True):
    params = jax.tree.map(jnp.asarray, principal(rows["train"], 10))
    loss = lambda params, x: jnp.mean(jax.vmap(linear, (None, 0))(params, x))
    train, slopes = jax.jit(jax.value_and_grad(loss))(params, rows["train"])
    test = jax.jit(loss)(params, rows["test"])
    np.testing.assert_allclose(-train, -159.757170, atol=1e-5)
    np.testing.assert_allclose(-test, -160.4554, atol=1e-3)
    for name, slope in slopes.items():
      np.testing.assert_allclose(slope, 0, atol=1e-8, err_msg=name)
    # Equal to log p: the Gaussian with covariance W W^T + sigma^2 I.
    w, center = np.asarray(params["decoder"]), np.asarray(params["mu"])
    covariance = w @ w.T + np.exp(2 * params["log_sigma"]) * np.eye(64)
    exact = stats.multivariate_normal(center, covariance)
    truth = exact.logpdf(rows["test"]).mean()
    np.testing.assert_allclose(-test, truth, rtol=1e-10)
    # Any other posterior lies below.
    wrong = params | dict(log_std=params["log_std"] + 0.1)
    assert jax.jit(loss)(wrong, rows["test"]) > test + 0.1


def test_free_bits_and_beta():
  terms = variational.Terms(jnp.float32(-3.0), jnp.array([0.1, 2.0]), None)
  np.testing.assert_allclose(variational.loss(terms), 5.1, rtol=1e-6)
  np.testing.assert_allclose(variational.loss(terms, 0.5), 4.05, rtol=1e-6)

  def free(kl):
    bounded = terms._replace(kl=variational.free_bits(kl, 0.5))
    return variational.loss(bounded, 2.0)

  value, slope = jax.value_and_grad(free)(terms.kl)
  np.testing.assert_allclose(value, 8.0, rtol=1e-6)
  np.testing.assert_allclose(slope, [0, 2])


def test_jit_vmap_and_dtypes():
  noises = jax.random.normal(jax.random.key(0), (4, 3))

  def one(mean, noise):
    q = variational.gaussian(mean, LOG_STD)
    return variational.elbo(lambda z: jnp.sum(jnp.sin(z)), q, noise)

  rows = expect.a_loop(one, 2 * noises, noises, atol=1e-6)
  assert {a.dtype for a in jax.tree.leaves(rows)} == {np.dtype("float32")}
  assert rows.kl.shape == rows.latent.shape == (4, 3)
  expect.close(
    one(noises[0], noises[0]), jax.jit(one)(noises[0], noises[0]), 1e-5, 1e-6
  )


def test_values_and_gradients_are_finite_at_outputs_of_100():
  ends = jnp.array(np.meshgrid([-100.0, 0, 100], [-100.0, 0, 100]))

  def value(parts):
    q = variational.gaussian(parts[:1], parts[1:])
    return variational.loss(variational.elbo(jnp.sum, q, jnp.ones(1)))

  found = jax.vmap(jax.value_and_grad(value))(ends.reshape(2, -1).T)
  assert all(np.isfinite(a).all() for a in found)
  np.testing.assert_allclose(
    variational.gaussian(MEAN, jnp.array([0.1, -50, 50])).log_std,
    [7 * np.tanh(0.1 / 7), -7, 7],
    rtol=1e-4,
  )


def test_bad_input_is_rejected():
  noise, total = jnp.ones(3), jnp.sum
  expect.error("noise: expected shape", variational.sample, Q, noise[:2])
  expect.error("noise: expected shape", variational.elbo, total, Q, noise[:2])
  expect.error("expected a scalar", variational.elbo, lambda z: z, Q, noise)
  expect.error("value: expected shape", variational.log_prob, Q, noise[:2])
  short = jax.tree.map(lambda a: a[:2], P)
  expect.error("prior: expected shape", variational.kl_between, Q, short)
  expect.error("raw: expected shape", variational.gaussian, MEAN, noise[:2])
  for bound in (0.0, -1.0, 21.0, float("nan")):
    expect.error("bound: expected", variational.gaussian, MEAN, MEAN, bound)
  levels = [lambda above: (Q, P)]
  expect.error("noises: expected", variational.hierarchy, total, levels, [])
  expect.error("noises: expected", variational.hierarchy, total, [], [])
