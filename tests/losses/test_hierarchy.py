"""Hierarchies of latents: exact posteriors, and diffusion as their limit."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from jaxgen import diffusion_bound, fields, paths, predictions
from jaxgen.losses import decoders, variational
from tests import expect
from tests.truth import quadratic

POSTERIOR = variational.Gaussian(
  jnp.array([0.3, -1.5, 0.0]), jnp.array([0.2, -1.0, 0.0])
)


def test_a_hierarchy_of_one_level_is_the_bound():
  noise = jnp.array([0.5, -1.0, 2.0])
  fn = lambda z: -jnp.sum(z**2)
  flat = variational.elbo(fn, POSTERIOR, noise)
  start = variational.Gaussian(jnp.zeros(3), jnp.zeros(3))
  deep = variational.hierarchy(fn, [lambda above: (POSTERIOR, start)], [noise])
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
    return -jnp.mean(jax.vmap(one)(quadratic.sigma_points(2).astype("float32")))

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
  return float(
    jnp.mean(jax.jit(jax.vmap(one))(quadratic.sigma_points(len(ratios))))
  )


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
