"""Variational bounds against SciPy, quadrature and exact models."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import integrate, stats

from jaxgen import diffusion_bound, fields, paths, predictions
from jaxgen.data import digits
from jaxgen.losses import decoders, normalizing_flow, variational
from tests import expect

MEAN, LOG_STD = jnp.array([0.3, -1.5, 0.0]), jnp.array([0.2, -1.0, 0.0])
Q = variational.Gaussian(MEAN, LOG_STD)
P = variational.Gaussian(jnp.array([-0.2, 0.5, 1.0]), jnp.array([0.1, 0.3, -1]))


def sigma_points(size):
  """2 size points whose mean of f is E f(N(0, I)) for quadratic f."""
  steps = np.sqrt(size) * np.eye(size)
  return jnp.asarray(np.concatenate([steps, -steps]))


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
  return jnp.mean(jax.vmap(one)(sigma_points(mean.size)))


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


def test_a_hierarchy_of_one_level_is_the_bound():
  noise = jnp.array([0.5, -1.0, 2.0])
  fn = lambda z: -jnp.sum(z**2)
  flat = variational.elbo(fn, Q, noise)
  start = variational.Gaussian(jnp.zeros(3), jnp.zeros(3))
  deep = variational.hierarchy(fn, [lambda above: (Q, start)], [noise])
  expect.close(deep, flat._replace(kl=(flat.kl,), latent=(flat.latent,)))
  np.testing.assert_allclose(variational.loss(deep), variational.loss(flat))


def test_two_levels_with_the_exact_posterior_are_the_evidence():
  """z_2 ~ N(0, 1), z_1 ~ N(a z_2, s^2), x ~ N(b z_1, r^2)."""
  a, s, b, r, x = 0.8, 0.5, 1.5, 0.7, jnp.array([0.9])
  given_2 = (b * s) ** 2 + r**2  # variance of x given z_2
  evidence = stats.norm.logpdf(x, 0, np.sqrt((a * b) ** 2 + given_2)).sum()
  precise = 1 + (a * b) ** 2 / given_2
  full = lambda value: jnp.full((1,), value, "float32")
  gaussian = lambda mean, variance: variational.Gaussian(
    mean, full(np.log(variance) / 2)
  )

  def top(_):
    exact = gaussian(a * b * x / given_2 / precise, 1 / precise)
    return exact, gaussian(full(0), 1.0)

  def bottom(above, error=0.0):
    variance = 1 / (1 / s**2 + (b / r) ** 2)
    mean = variance * (a * above / s**2 + b * x / r**2)
    return gaussian(mean + error, variance), gaussian(a * above, s**2)

  def bound(error):
    fn = lambda z: decoders.gaussian(x, b * z, np.log(r))
    levels = top, functools.partial(bottom, error=error)
    one = lambda n: variational.loss(
      variational.hierarchy(fn, levels, (n[:1], n[1:]))
    )
    return -jnp.mean(jax.vmap(one)(sigma_points(2).astype("float32")))

  np.testing.assert_allclose(bound(0.0), evidence, rtol=1e-5)
  # KL of the error, by the variance of z_1 given z_2 and x.
  gap = 0.3**2 * (1 / s**2 + (b / r) ** 2) / 2
  np.testing.assert_allclose(bound(0.3), evidence - gap, rtol=1e-5)


SD, DATA, LOW, HIGH = 0.6, 0.9, 0.05, 5.0


def diffusion_hierarchy(ratios):
  """-E bound of the chain with the exact denoiser of N(0, SD^2), alpha = 1.

  Levels are x at decreasing noise ratios; q(x_s | x_t, data) and the model's
  p(x_s | x_t) = q(x_s | x_t, D(x_t)) are Gaussians of equal variance.
  """
  x = jnp.array([DATA])
  full = lambda value: jnp.full((1,), value)
  prior_std = np.hypot(SD, ratios[0])

  def start(_):
    spread = full(np.log(ratios[0]))
    prior = variational.Gaussian(full(0.0), full(np.log(prior_std)))
    return variational.Gaussian(x, spread), prior

  def level(t, s):
    keep, std = (s / t) ** 2, s * np.sqrt(1 - (s / t) ** 2)
    toward = lambda data, x_t: variational.Gaussian(
      keep * x_t + (1 - keep) * data, full(np.log(std))
    )
    denoise = lambda x_t: SD**2 / (SD**2 + t**2) * x_t
    return lambda x_t: (toward(x, x_t), toward(denoise(x_t), x_t))

  steps = itertools.pairwise(ratios)
  levels = [start, *(level(t, s) for t, s in steps)]
  decode = lambda z: decoders.gaussian(x, z, np.log(ratios[-1]))
  one = lambda n: variational.loss(
    variational.hierarchy(decode, levels, list(n[:, None]))
  )
  return float(jnp.mean(jax.jit(jax.vmap(one))(sigma_points(len(ratios)))))


def test_the_diffusion_bound_is_the_limit_of_a_hierarchy():
  """Kingma et al. 2021, arXiv:2107.00630, eq. 13 to 18."""
  with jax.enable_x64(True):
    chains = {n: np.geomspace(HIGH, LOW, n + 1) for n in (32, 64)}
    found = {n: diffusion_hierarchy(chain) for n, chain in chains.items()}
    # E -log p(data + LOW z): the value of the continuous bound.
    variance = SD**2 + LOW**2
    spread = (DATA**2 + LOW**2) / variance
    limit = (np.log(2 * np.pi * variance) + spread) / 2
    gaps = {n: value - limit for n, value in found.items()}
    assert 0 < gaps[64] < gaps[32]
    np.testing.assert_allclose(gaps[32] / gaps[64], 2, rtol=0.1)
    field = fields.from_prediction(
      lambda x, t: SD**2 / (SD**2 + t**2) * x, paths.edm(), predictions.data
    )
    settings = dict(
      prior_std=float(np.hypot(SD, HIGH)),
      reconstruction=diffusion_bound.density(),
    )
    x = jnp.array([DATA])
    # The same chain by its own bound, and the limit by the continuous one.
    times, key = jnp.asarray(chains[32]), jax.random.key(0)
    bound = jax.jit(
      lambda key: diffusion_bound.discrete(
        field, x, times, key, num_draws=2000, **settings
      )
    )(key)
    assert abs(bound.total - found[32]) < 4 * bound.standard_error < 0.1
    bound = jax.jit(
      lambda key: diffusion_bound.continuous(
        field,
        x,
        key,
        num_cells=20_000,
        ratio_min=LOW,
        ratio_max=HIGH,
        **settings,
      )
    )(jax.random.key(1))
    assert abs(bound.total - limit) < 4 * bound.standard_error < 0.1


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
