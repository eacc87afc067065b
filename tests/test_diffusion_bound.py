"""The diffusion bound against quadrature, enumeration and the exact value."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxgen import diffusion_bound, fields, paths, samplers
from jaxgen.data import oracles
from tests import expect, trees
from tests.truth import mixture

MIXTURE = oracles.Mixture(mixture.WEIGHTS, mixture.MEANS, np.full(3, 0.3))
# The mixture's root mean square, for a prior of the same size at ratio 80.
SQUARE = 0.3**2 + mixture.WEIGHTS @ (mixture.MEANS**2).sum(1) / 2
RATIO_MIN, RATIO_MAX = 0.05, 80.0
POINTS = mixture.POINTS[:2]


def _settings(path):
  with jax.ensure_compile_time_eval():
    high = path.ends(RATIO_MIN, RATIO_MAX)[1]
    std = float(np.hypot(path.alpha(high) * SQUARE**0.5, path.sigma(high)))
  return dict(prior_std=std, reconstruction=diffusion_bound.density())


def _continuous(path, data, key, num_cells, field=None):
  field = MIXTURE.field(path) if field is None else field
  options = dict(ratio_min=RATIO_MIN, ratio_max=RATIO_MAX) | _settings(path)
  options |= dict(num_cells=num_cells)
  return diffusion_bound.continuous(field, data, key, **options)


def _log_prob(y, ratio):
  """log p at a noise ratio on the scale where alpha = 1, y [..., 2]."""
  variance = 0.3**2 + ratio**2
  square = ((y[..., None, :] - mixture.MEANS) ** 2).sum(-1)
  log_p = np.log(mixture.WEIGHTS / (2 * np.pi * variance))
  return special.logsumexp(log_p - square / (2 * variance), -1)


def _expected(data, ratio=RATIO_MIN):
  """E -log p_r(data + r z), by Gauss-Hermite quadrature."""
  nodes, weights = np.polynomial.hermite_e.hermegauss(24)
  z = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), -1)
  weight = weights[:, None] * weights / (2 * np.pi)
  return -np.sum(weight * _log_prob(data + ratio * z, ratio))


def test_continuous_equals_the_exact_value():
  path, number = paths.vp(), 128

  @jax.jit
  @functools.partial(jax.vmap, in_axes=(0, None))
  @functools.partial(jax.vmap, in_axes=(None, 0))
  def run(data, key):
    return _continuous(path, data, key, num_cells=256)

  keys = jax.random.split(jax.random.key(0), number)
  found = run(jnp.asarray(POINTS, "float32"), keys)
  found = jax.tree.map(lambda a: np.asarray(a, "float64"), found)
  truth = np.array([_expected(x) for x in POINTS])
  error = np.sqrt((found.standard_error**2).mean(1))
  bias, spread = found.total.mean(1) - truth, error / np.sqrt(number)
  assert (spread < 0.04).all()
  np.testing.assert_array_less(np.abs(bias), 3 * spread)
  # The standard error is that of the draws.
  np.testing.assert_allclose(found.total.std(1, ddof=1), error, rtol=0.2)
  total = found.prior + found.diffusion + found.reconstruction
  np.testing.assert_allclose(found.total, total, 1e-5)
  # Near ratio 0 it is the log-density of the data itself.
  near = [_expected(x, 0.005) + _log_prob(x, 0.0) for x in POINTS]
  np.testing.assert_allclose(near, 0, atol=1e-3)


def test_discrete_converges_from_above():
  path = paths.edm()
  sizes = 16, 32, 64

  @jax.jit
  @functools.partial(jax.vmap, in_axes=(0, 0, None))
  def run(data, key, times):
    field = MIXTURE.field(path)
    return diffusion_bound.discrete(
      field, data, times, key, num_draws=64, **_settings(path)
    )

  # Over draws of the data, for which it is a bound whatever the chain. Shorter
  # grids repeat their last time, which adds nothing: one program.
  totals, errors = [], []
  data_key, key = jax.random.split(jax.random.key(1))
  data = jax.jit(jax.vmap(MIXTURE.sample))(jax.random.split(data_key, 32))
  truth = np.mean([_expected(np.asarray(x, "float64")) for x in data])
  grids = [
    np.asarray(samplers.grids.log_snr(path, n, RATIO_MIN, RATIO_MAX))
    for n in sizes
  ]
  for number, grid in enumerate([*grids, grids[-1][::-1]]):
    times = np.pad(grid, (0, sizes[-1] + 1 - len(grid)), mode="edge")
    keys = jax.random.split(jax.random.fold_in(key, number), len(data))
    found = jax.tree.map(np.asarray, run(data, keys, jnp.asarray(times)))
    totals.append(found.total.mean())
    errors.append(np.sqrt((found.standard_error**2).sum()) / len(data))
  gaps, errors = np.array(totals) - truth, np.array(errors)
  assert (gaps[:3] > 3 * errors[:3]).all()
  # First order in the step; either order of the grid.
  np.testing.assert_allclose(gaps[:2] / gaps[1:3], 2, rtol=0.25)
  assert abs(gaps[3] - gaps[2]) < 4 * np.hypot(*errors[2:])


def test_parts_of_a_wide_gaussian_against_quadrature():
  # In 1024 dimensions the draws hardly vary: 1 % shows.
  size, std = 1024, 0.7
  gain = lambda ratio: std**2 / (std**2 + ratio**2)
  path = paths.linear()
  field = fields.Field(
    lambda x, t: fields.Estimate(data=gain(path.ratio(t)) * x / path.alpha(t)),
    path,
  )
  data = np.random.default_rng(0).standard_normal(size) * std
  times = np.asarray(samplers.grids.log_snr(path, 24, RATIO_MIN, RATIO_MAX))

  @jax.jit
  def run(data, key):
    first, second = jax.random.split(key)
    options = _settings(path) | dict(num_draws=48)
    given = field, data, jnp.asarray(times), second
    chain = diffusion_bound.discrete(*given, **options)
    return _continuous(path, data, first, 256, field), chain

  def error(ratio):  # E|data - D|^2
    kept = np.sum(data**2) * (1 - gain(ratio)) ** 2
    return kept + size * (gain(ratio) * ratio) ** 2

  ratios = np.asarray(path.ratio(times), "float64")
  chain = np.abs(np.diff(ratios**-2.0)) / 2 @ error(ratios[:-1])
  logs = np.linspace(np.log(RATIO_MIN), np.log(RATIO_MAX), 4001)
  whole = np.trapezoid(error(np.exp(logs)) * np.exp(-2 * logs), logs)
  found, discrete = run(data.astype("float32"), jax.random.key(6))
  for bound, expected in ((found, whole), (discrete, chain)):
    np.testing.assert_allclose(bound.diffusion, expected, rtol=5e-3)
    assert abs(bound.diffusion - expected) < 4 * bound.standard_error
    entropy = size / 2 * np.log(2 * np.pi * np.e * RATIO_MIN**2)
    np.testing.assert_allclose(bound.reconstruction, entropy, rtol=1e-5)


def test_an_error_of_the_ratio_is_the_log_of_the_ratios():
  """|data - D|^2 = ratio^2: no draw matters; there are 2 num_cells of them."""
  times, path = [], paths.edm()
  seen = lambda t: jax.debug.callback(times.append, t)
  estimate = lambda x, t: seen(t) or fields.Estimate(data=jnp.full_like(x, t))
  given = fields.Field(estimate, path), jnp.zeros(1), jax.random.key(0)
  options = dict(num_cells=3, ratio_min=1.0, ratio_max=1.5) | _settings(path)
  found = diffusion_bound.continuous(*given, **options)
  jax.effects_barrier()
  np.testing.assert_allclose(found.diffusion, np.log(1.5), rtol=1e-5)
  assert found.standard_error < 1e-5 and len(times) == 6


def test_levels_give_the_probabilities_of_atoms():
  weights, levels = np.array([0.1, 0.6, 0.3]), np.array([-1.0, 0.0, 1.0])
  law = oracles.Mixture(weights, levels[:, None], np.zeros(3))
  path = paths.linear()

  @jax.jit
  @jax.vmap
  def run(data, key):
    options = dict(prior_std=1.0, reconstruction=diffusion_bound.levels(3))
    options |= dict(num_cells=4096, ratio_min=0.1)
    given = law.field(path), data[None], key
    return diffusion_bound.continuous(*given, **options)

  keys = jax.random.split(jax.random.key(3), 3)
  found = run(levels.astype("float32"), keys)
  error = np.asarray(found.standard_error)
  assert (error < 0.1).all()
  z = np.abs(np.asarray(found.total) + np.log(weights)) / error
  assert (z < 4).all(), z
  np.testing.assert_allclose(found.reconstruction, 0, atol=1e-6)


def test_reconstruction_of_levels_where_it_is_not_nothing():
  # At ratio .5 of levels 1 apart: E -log P, by quadrature.
  nodes, weights = np.polynomial.hermite_e.hermegauss(64)
  levels, data = np.array([-1.0, 0.0, 1.0]), 0.0
  logits = -((data + 0.5 * nodes[:, None] - levels) ** 2) / (2 * 0.5**2)
  log_p = logits[:, 1] - special.logsumexp(logits, 1)
  expected = -weights @ log_p / weights.sum()
  path = paths.linear()
  draws = jax.jit(
    lambda key: diffusion_bound.levels(3, 20_000)(
      key, jnp.zeros(1), path, path.time(jnp.asarray(0.5))
    )
  )(jax.random.key(0))
  error = draws.std() / np.sqrt(len(draws))
  assert abs(draws.mean() - expected) < 4 * error


def test_prior_in_closed_form():
  data, alpha, sigma, std = np.array([0.5, -2.0]), 0.3, 0.8, 1.1
  expected = sum(
    np.log(std / sigma) + (sigma**2 + (alpha * x) ** 2) / (2 * std**2) - 0.5
    for x in data
  )
  found = diffusion_bound.prior_kl(jnp.float32(data), alpha, sigma, std)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


TIMES = np.geomspace(0.01, 80, 5, dtype="float32")


def _one(data, key, kind):
  denoise = lambda x, t: fields.Estimate(data=x / (1 + t**2))
  given = fields.Field(denoise, paths.edm()), data
  settings = dict(
    prior_std=80.0, reconstruction=diffusion_bound.levels(17, num_draws=2)
  )
  if kind == "continuous":
    return diffusion_bound.continuous(*given, key, num_cells=4, **settings)
  times = jnp.asarray(TIMES)
  return diffusion_bound.discrete(*given, times, key, **settings)


@pytest.mark.parametrize("kind", ["continuous", "discrete"])
def test_vmap_equals_a_loop_jit_no_jit_and_keys_matter(kind):
  keys = lambda: jax.random.split(jax.random.key(0), len(POINTS))
  points = POINTS.astype("float32")
  traced = []

  def counted(data, key):
    traced.append(kind)
    return _one(data, key, kind)

  one = jax.jit(counted)
  loop = [one(x, key) for x, key in zip(points, keys(), strict=True)]
  other = one(points[0], jax.random.key(5))
  assert len(traced) == 1
  many = jax.vmap(lambda data, key: _one(data, key, kind))
  many = jax.jit(many) if kind == "continuous" else many
  stacked = jax.tree.map(lambda *rows: np.stack(rows), *loop)
  expect.close(many(points, keys()), stacked, 2e-4, 1e-5)
  assert abs(other.diffusion - loop[0].diffusion) > 1e-4


@pytest.mark.parametrize("kind", ["continuous", "discrete"])
def test_noise_in_half_precision_is_that_of_float32(kind):
  """Drawn in bfloat16, normal noise takes 128 values."""
  path, times = paths.edm(), jnp.array([0.1, 1.0])
  key, more = lambda: jax.random.key(0), _settings(path)
  bounds = dict(
    continuous=lambda x: _continuous(path, x, key(), 4),
    discrete=lambda x: diffusion_bound.discrete(
      MIXTURE.field(path), x, times, key(), **more
    ),
  )
  run, x = jax.jit(bounds[kind]), jnp.asarray(POINTS[0], "bfloat16")
  trees.assert_equal(run(x), run(x.astype("float32")))


def test_bad_input():
  full = MIXTURE.field(paths.edm())
  settings = dict(prior_std=80.0, reconstruction=diffusion_bound.density())
  times = jnp.array([0.01, 80.0])

  def fails(pattern, field=full, discrete=False, times=times, **changed):
    key = changed.pop("key", None)
    key = jax.random.key(0) if key is None else key
    given = (times, key) if discrete else (key,)
    name = "discrete" if discrete else "continuous"
    call, options = getattr(diffusion_bound, name), settings | changed
    expect.error(pattern, call, field, jnp.ones(2), *given, **options)

  bare = fields.Field(full.estimate)
  no_data = fields.Field(lambda x, t: fields.Estimate(x), paths.edm())
  for discrete, name in ((False, "continuous"), (True, "discrete")):
    fails(f"expected path, which {name} needs", bare, discrete)
    fails(f"expected data, which {name} needs", no_data, discrete)
    positive = f"{name}: expected a positive prior_std"
    for std in (0.0, -1.0, np.inf, np.nan):
      fails(positive, full, discrete, prior_std=std)
    legacy = jax.random.PRNGKey(0)
    fails("key: expected a typed key", full, discrete, key=legacy)
  for number in (0, -1):
    fails("continuous: expected num_cells at least 1", num_cells=number)
  fails("ratio_min, ratio_max: expected", ratio_min=2.0, ratio_max=1.0)
  fails("discrete: expected num_draws at least 2", discrete=True, num_draws=1)
  fails("times: expected shape", discrete=True, times=jnp.ones(1))
  for bad in (dict(num_levels=1), dict(num_levels=17, num_draws=1)):
    said = r"^num_\w+: expected at least 2"
    expect.error(said, diffusion_bound.levels, **bad)
