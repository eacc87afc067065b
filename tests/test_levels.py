"""Draws against their laws in SciPy, weights against published formulas."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxgen import levels, paths, predictions
from jaxgen.losses import denoising
from jaxgen.samplers import grids
from tests import cases, expect
from tests.cases import by_path

LOW, HIGH = 0.002, 80.0
DRAWS = {
  "uniform": levels.uniform,
  "stratified": levels.stratified,
  "logit_normal": levels.logit_normal,
  "log_normal": levels.log_normal,
  # Half of the mass of the normal law beyond one end.
  "at the data end": functools.partial(levels.logit_normal, mean=np.log(LOW)),
  "at the noise end": functools.partial(levels.logit_normal, mean=np.log(HIGH)),
}
for end, ratio in (("data end", LOW), ("noise end", HIGH)):
  sharp = dict(mean=np.log(ratio), std=1e-7)  # all within rounding of the end
  DRAWS[end] = functools.partial(levels.logit_normal, **sharp)


@by_path
def test_no_draw_leaves_the_domain(path):
  n = 200_000
  keys = jax.random.split(jax.random.key(0), len(DRAWS))

  @jax.jit
  def everything(keys):
    drawn = [draw(keys[i], path, (n,)) for i, draw in enumerate(DRAWS.values())]
    return [(t, path.ratio(t)) for t in drawn]

  for t, ratio in everything(keys):
    assert t.dtype == jnp.float32 and t.shape == (n,)
    assert t.min() >= np.float32(path.t_min)
    assert t.max() <= np.float32(path.t_max)
    # 3e-5 at the noise end: one float32 ulp of t moves cosine's ratio by 2e-5.
    assert ratio.min() >= LOW * (1 - 1e-5)
    assert ratio.max() <= HIGH * (1 + 3e-5)


@by_path
def test_laws(path):
  """Kolmogorov-Smirnov: uniform in t; truncated normal in log ratio."""
  n, mean, std = 20_000, 0.3, 1.5
  low, high = 0.05, 9.0

  @jax.jit
  def draw(key):
    first, second, third = jax.random.split(key, 3)
    t = levels.logit_normal(second, path, (n,), mean, std, low, high)
    return (
      levels.uniform(first, path, (n,), low, high),
      path.log_ratio(t),
      path.log_ratio(levels.log_normal(third, path, (n,))),
      path.time(jnp.array([low, high])),
    )

  with jax.enable_x64(True):
    t, normal, karras, ends = jax.device_get(draw(jax.random.key(1)))
  uniform = stats.uniform(ends[0], ends[1] - ends[0])
  a, b = (np.log([low, high]) - mean) / std
  c, d = (np.log([LOW, HIGH]) + 1.2) / 1.2
  for values, law in (
    (t, uniform),
    (normal, stats.truncnorm(a, b, mean, std)),
    (karras, stats.truncnorm(c, d, -1.2, 1.2)),
  ):
    assert stats.kstest(values, law.cdf).pvalue > 1e-3


@by_path
def test_laws_in_a_tail(path):
  """Ratios 5.6, 19 and 160 deviations above the mean, 11 below: float32."""
  n = 10_000
  laws = [
    (-1.2, 0.5, 5.0, 80.0),
    (-1.2, 0.15, 5.0, 80.0),
    (-0.5, 0.01, 3.0, 3.05),
    (3.0, 0.5, 0.002, 0.1),
  ]

  @jax.jit
  def draws(key):
    split = jax.random.split(key, len(laws))
    drawn = [
      levels.logit_normal(key, path, (n,), *law)
      for key, law in zip(split, laws, strict=True)
    ]
    densities = [
      levels.logit_normal_density(path, *law)(t)
      for t, law in zip(drawn, laws, strict=True)
    ]
    rates = [jax.vmap(jax.grad(path.log_ratio))(t) for t in drawn]
    return [path.log_ratio(t) for t in drawn], densities, rates

  for (mean, std, low, high), value, density, rate in zip(
    laws, *draws(jax.random.key(6)), strict=True
  ):
    ends = (np.log([low, high]) - mean) / std
    law = stats.truncnorm(*ends, mean, std)
    assert stats.kstest(value, law.cdf).pvalue > 1e-3
    assert density.dtype == jnp.float32 and density.shape == (n,)
    # One ulp of t is 1e-5 of cosine's ratio, times the slope of log p.
    slope = np.abs(np.asarray(value) - mean).max() / std**2
    truth = law.pdf(np.clip(value, *np.log([low, high]))) * rate
    np.testing.assert_allclose(density, truth, rtol=1e-4 + 1e-6 * slope)
  logs = np.quantile(draws(jax.random.key(7))[0][0], [0.1, 0.5, 0.9])
  np.testing.assert_allclose(np.exp(logs), [5.05, 5.31, 6.06], rtol=0.01)


@by_path
def test_densities_are_those_of_the_laws(path):
  mean, std, low, high = 0.3, 1.5, 0.05, 9.0
  with jax.enable_x64(True):
    logs = np.linspace(np.log(low), np.log(high), 20_001)
    t = path.time(jnp.exp(jnp.asarray(logs)))
    flat = levels.uniform_density(path, low, high)(t)
    bell = levels.logit_normal_density(path, mean, std, low, high)(t)
    t, flat, bell = np.asarray(t), np.asarray(flat), np.asarray(bell)
  np.testing.assert_allclose(flat, 1 / (t[-1] - t[0]), rtol=1e-12)
  a, b = (np.log([low, high]) - mean) / std
  mass = stats.truncnorm(a, b, mean, std).cdf(logs)
  parts = (bell[1:] + bell[:-1]) / 2 * np.diff(t)
  np.testing.assert_allclose(np.cumsum(parts), mass[1:], atol=1e-6)
  np.testing.assert_allclose(parts.sum(), 1, rtol=1e-6)


@by_path
def test_stratified_has_one_time_in_each_cell(path):
  n = 64
  t = np.asarray(levels.stratified(jax.random.key(3), path, (n,)))
  low, high = np.asarray(path.time(jnp.array([LOW, HIGH])))
  place = (t - low) / (high - low) * n
  gaps = np.diff(np.sort(place))
  np.testing.assert_allclose(gaps, 1, atol=1e-3)  # one u for all
  assert -1e-3 <= place.min() < 1 + 1e-3
  assert not np.all(np.diff(t) > 0)  # permuted


def test_a_stratified_time_is_uniform_alone():
  draw = lambda key: levels.stratified(key, paths.linear(), (7,), 0.5, 2.0)
  keys = jax.random.split(jax.random.key(4), 4000)
  t = np.asarray(jax.jit(jax.vmap(draw))(keys))
  law = stats.uniform(1 / 3, 1 / 3)
  for i in (0, 3, 6):
    assert stats.kstest(t[:, i], law.cdf).pvalue > 1e-3


@by_path
def test_weights_are_the_published_ones(path):
  sd = 0.5

  @jax.jit
  @jax.vmap
  def weights(t):
    return dict(
      uniform=levels.uniform_weight(t),
      edm=levels.edm_weight(path, sd)(t),
      min_snr=levels.min_snr_weight(path, 5.0)(t),
      sigmoid=levels.sigmoid_weight(path, -1.0)(t),
      moved=predictions.reweight(
        levels.uniform_weight, path, predictions.edm(sd), predictions.data
      )(t),
    )

  r = np.geomspace(LOW, HIGH, 30)
  with jax.enable_x64(True):
    w = jax.device_get(weights(path.time(jnp.asarray(r))))
  snr = r**-2
  published = dict(
    uniform=np.ones_like(r),
    edm=(r**2 + sd**2) / (r * sd) ** 2,
    min_snr=np.minimum(snr, 5.0),
    sigmoid=1 / (1 + np.exp(1.0 + np.log(snr))),
    moved=w["edm"],
  )
  expect.close(w, published, rtol=1e-8)


@by_path
def test_weights_are_finite_in_float32(path):
  densities = (levels.uniform_density(path), levels.logit_normal_density(path))
  every = (*cases.weights(path), *densities)
  t = path.time(jnp.geomspace(LOW, HIGH, 200))
  for value in jax.jit(lambda t: [fn(t) for fn in every])(t):
    assert value.dtype == jnp.float32
    assert np.all(np.isfinite(value)) and np.all(value > 0)


STD, DIM = 0.7, 3  # data N(0, STD^2 I) in DIM dimensions


def diffusion_nats(low, high):
  """-1/2 int SNR' E |data - D|^2 dt, E = DIM STD^2 / (1 + STD^2 SNR)."""
  return DIM / 2 * np.log((1 + (STD / low) ** 2) / (1 + (STD / high) ** 2))


@by_path
def test_elbo_weight_by_quadrature(path):
  densities = (levels.uniform_density(path), levels.logit_normal_density(path))

  @jax.jit
  def integrands(ratio):
    t = path.time(ratio)
    mse = STD**2 / (1 + STD**2 / ratio**2)
    return t, [p(t) * levels.elbo_weight(path, p)(t) * mse for p in densities]

  ratio = np.geomspace(LOW, HIGH, 20_001)
  with jax.enable_x64(True):
    t, values = jax.device_get(integrands(jnp.asarray(ratio)))
  for value in values:
    nats = DIM * np.sum((value[1:] + value[:-1]) / 2 * np.diff(t))
    np.testing.assert_allclose(nats, diffusion_nats(LOW, HIGH), rtol=1e-6)


@by_path
@pytest.mark.parametrize("law", ["uniform", "logit_normal"])
def test_elbo_is_the_mean_of_the_denoising_loss(path, law):
  low, high, n = 0.1, 10.0, 100_000
  draw = getattr(levels, law)
  p = getattr(levels, f"{law}_density")(path, ratio_min=low, ratio_max=high)

  def loss(data, noise, t):
    def denoiser(x_t, t):
      alpha, sigma = path.alpha(t), path.sigma(t)
      return alpha * STD**2 / ((alpha * STD) ** 2 + sigma**2) * x_t

    options = dict(path=path, prediction=predictions.data)
    options |= dict(weight=levels.elbo_weight(path, p))
    return denoising.denoising(denoiser, data, noise, t, **options)

  @jax.jit
  def sample(key):
    t_key, data_key, noise_key = jax.random.split(key, 3)
    t = draw(t_key, path, (n,), ratio_min=low, ratio_max=high)
    data = STD * jax.random.normal(data_key, (n, DIM))
    return jax.vmap(loss)(data, jax.random.normal(noise_key, (n, DIM)), t)

  nats = DIM * np.asarray(sample(jax.random.key(5)), np.float64)
  error = nats.std() / np.sqrt(n)
  assert error < 0.03 * diffusion_nats(low, high)
  assert abs(nats.mean() - diffusion_nats(low, high)) < 4 * error


@pytest.mark.parametrize("name", ["uniform", "stratified", "logit_normal"])
def test_keys_matter_and_bad_input_raises(name):
  draw, path = getattr(levels, name), paths.linear()
  one = draw(jax.random.key(0), path, (5,))
  np.testing.assert_array_equal(one, draw(jax.random.key(0), path, (5,)))
  assert np.all(one != draw(jax.random.key(1), path, (5,)))
  expect.error("typed key", draw, jax.random.PRNGKey(0), path, (5,))
  for low, high in ((2.0, 1.0), (0.0, 1.0), (1.0, float("inf")), (1.0, 1.0)):
    ends = dict(ratio_min=low, ratio_max=high)
    expect.error("ratio_min", draw, jax.random.key(0), path, (5,), **ends)


@pytest.mark.parametrize("std", [0.0, -1.0])
def test_bad_std(std):
  key, path = jax.random.key(0), paths.edm()
  expect.error("std", levels.logit_normal, key, path, (2,), std=std)
  expect.error("std", levels.logit_normal_density, path, std=std)


@pytest.mark.parametrize("number", [1, 10, 160])
@by_path
def test_neighbours_are_a_step_of_the_grid(path, number):
  """Of grids.karras around each draw; cells have a truncated normal's mass."""
  low, high, mean, std, n = 0.01, 9.0, -1.1, 2.0, 20_000

  @jax.jit
  def draw(key, number):
    t = levels.log_normal(key, path, (n,), mean, std, low, high)
    return t, levels.neighbours(t, path, number, low, high)

  t, (above, below) = jax.device_get(draw(jax.random.key(0), number))
  assert above.shape == below.shape == (n,) and above.dtype == t.dtype
  assert np.all((below < above) & (below <= t) & (t <= above * (1 + 1e-6)))
  some = jnp.ones(1) / 2, path, number
  expect.error("rho: expected", levels.neighbours, *some, rho=0.0)
  grid = np.asarray(grids.karras(path, number, low, high))[::-1]
  cell = np.argmin(np.abs(grid[:, None] - below), 0)
  np.testing.assert_allclose(below, grid[cell], rtol=2e-5)
  np.testing.assert_allclose(above, grid[cell + 1], rtol=2e-5)
  edges = np.linspace(low ** (1 / 7), high ** (1 / 7), number + 1) ** 7
  shares = np.diff(stats.norm.cdf(np.log(edges), mean, std))
  expected = n * shares / shares.sum()
  counts = np.bincount(cell, minlength=number)
  assert np.sum((counts - expected) ** 2 / expected) < number + 5 * number**0.5
