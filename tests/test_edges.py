"""Arguments at their edges: the last valid value and the first beyond."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import (
  couplings,
  dequantisation,
  diffusion_bound,
  fields,
  levels,
  likelihood,
  paths,
  predictions,
)
from tests import expect


def test_constants_of_paths():
  assert paths.edm(1e-6, 2e-6).t_max == 2e-6
  bad = ((0.0, 1.0), (-1.0, 1.0), (2.0, 1.0), (math.nan, 1.0))
  for ends in (*bad, (1.0, 1.0), (1.0, math.nan)):
    expect.error("0 < t_min < t_max", paths.edm, *ends)
  # beta constant, b: log alpha = -b t / 2.
  constant = paths.vp(0.5, 0.5)
  np.testing.assert_allclose(constant.alpha(0.8), np.exp(-0.2), rtol=1e-6)
  for betas in (*bad, (1.0, 0.999)):
    expect.error("0 < beta_min <= beta_max", paths.vp, *betas)
  # Offset 0: alpha = cos(pi t / 2).
  plain = paths.cosine(0.0)
  np.testing.assert_allclose(plain.alpha(0.3), np.cos(0.15 * np.pi), rtol=1e-6)
  assert paths.cosine(2.0).t_min < paths.cosine(2.0).t_max
  for offset in (-1.0, -1e-6, math.inf, math.nan):
    expect.error("offset", paths.cosine, offset)


def test_ratios_within_rounding_of_a_path_are_its_ends():
  path, near, far = paths.edm(), 5e-6, 2e-5
  for low, high in ((0.002, 80.0), (0.002 * (1 - near), 80 * (1 + near))):
    found = path.ends(low, high)
    np.testing.assert_array_equal(found, np.float32([0.002, 80]))
  outside = ((0.002 * (1 - far), 80.0), (0.002, 80 * (1 + far)))
  no_range = ((1.0, 1.0), (2.0, 1.0), (0.0, 1.0), (-1.0, 1.0))
  for ends in (*outside, *no_range, (math.nan, 1.0), (1.0, math.inf)):
    expect.error("ratio_min, ratio_max: expected", path.ends, *ends)
  np.testing.assert_array_equal(path.ends(0.5, 0.75), np.float32([0.5, 0.75]))
  for end, sign in ((0.002, -1), (80, 1)):
    path.require_inside(end * (1 + sign * 5e-7))
    beyond = end * (1 + sign * 2e-6)
    expect.error("t: expected a time in", path.require_inside, beyond)


def test_levels_of_one_and_of_few():
  key, path = jax.random.key(0), paths.linear()
  one = levels.stratified(key, path, (1,))
  low, high = path.ends(0.002, 80.0)
  assert one.shape == (1,) and low <= one[0] <= high
  for shape in ((), (2, 1)):
    expect.error(
      "stratified: expected a shape", levels.stratified, key, path, shape
    )
  for bad in (0.0, -1.0, math.nan):
    expect.error("sigma_data: expected", levels.edm_weight, path, bad)
    expect.error("gamma: expected", levels.min_snr_weight, path, bad)
    expect.error("sigma_data", predictions.edm, bad)
    expect.error("sigma_data", predictions.preconditioned, jnp.add, path, bad)
  t = path.time(0.5)  # SNR 4
  np.testing.assert_allclose(levels.min_snr_weight(path, 0.5)(t), 0.5)
  np.testing.assert_allclose(levels.min_snr_weight(path, 5.0)(t), 4, rtol=1e-6)
  weight = levels.edm_weight(path, 0.25)(t)
  np.testing.assert_allclose(weight, 4 + 16, rtol=1e-6)
  weight = levels.sigmoid_weight(path, 1.0)(t)
  np.testing.assert_allclose(weight, 1 / (1 + 4 / math.e), rtol=1e-6)


def test_couplings_of_one_and_of_every_ratio():
  x, y = np.array([[1.0]]), np.array([[5.0]])
  assert couplings.exact(x, y).tolist() == [0]
  for condition in (np.array([3]), np.array([0.5]), np.array([[0.5, 1.0]])):
    for ratio in (1e-6, 1.0):
      found = couplings.conditional(x, y, condition, ratio=ratio)
      assert found.tolist() == [0]
  # Crossing is nearer; classes or a strong condition forbid it.
  x, y = np.array([[0.0], [1.0]]), np.array([[1.0], [0.0]])
  assert couplings.exact(x, y).tolist() == [1, 0]
  for condition, order in (
    (np.array([True, False]), [0, 1]),
    (np.array([True, True]), [1, 0]),
    (np.array([2, 7], np.uint8), [0, 1]),
  ):
    found = couplings.conditional(x, y, condition)
    assert found.tolist() == order
  for bad in (np.array([0.0, math.inf]), np.array([[0.0, 1], [math.nan, 1]])):
    expect.error("condition: expected finite", couplings.conditional, x, y, bad)
  for bad in (math.nan, math.inf):
    wrong = np.array([[0.0], [bad]])
    expect.error("data, source: expected finite", couplings.exact, x, wrong)
    expect.error("data, source: expected finite", couplings.exact, wrong, y)


def test_two_levels_are_two_bins_of_width_two():
  data, key = jnp.array([-1.0, 1.0, 1.0]), jax.random.key(0)
  draw = dequantisation.uniform(key, data, 2)
  assert np.abs(draw.x - data).max() <= 1
  np.testing.assert_allclose(draw.correction, 3 * np.log(2), rtol=1e-6)
  # P(level | x_t) of two levels: a logistic of 2 x / ratio^2, alpha 1.
  x, path = jnp.array([0.3, -0.2, 0.5]), paths.edm()
  found = dequantisation.level_log_prob(data, x, 2, path, 0.8)
  odds = 2 * np.array([-0.3, -0.2, 0.5]) / 0.64
  np.testing.assert_allclose(found, -np.log1p(np.exp(-odds)).sum(), rtol=1e-5)


def test_bounds_of_the_fewest_draws():
  path = paths.edm()
  field = fields.Field(lambda x, t: fields.Estimate(data=0 * x), path)
  data, key = jnp.array([0.5, -1.0]), lambda: jax.random.key(0)
  settings = dict(prior_std=0.5, reconstruction=diffusion_bound.density())
  found = diffusion_bound.continuous(
    field, data, key(), num_cells=1, ratio_min=0.5, ratio_max=2.0, **settings
  )
  # |data - 0|^2 int d ratio / ratio^3 by two draws, log ratio uniform.
  ratios = found.diffusion / (1.25 * math.log(4))
  assert 0.25 < ratios < 4 and np.isfinite(found.standard_error)
  times = jnp.array([0.5, 2.0])
  found = diffusion_bound.discrete(field, data, times, key(), **settings)
  # (snr(.5) - snr(2)) / 2 |data|^2: no draw decides it.
  np.testing.assert_allclose(found.diffusion, 3.75 / 2 * 1.25, rtol=1e-6)
  for std in (0.0, -1.0, math.inf, math.nan):
    expect.error("normal: expected a positive std", likelihood.normal, std)
  draws = diffusion_bound.levels(2, 2)(key(), jnp.sign(data), path, 0.5)
  assert draws.shape == (2,) and np.all(draws > 0)
  prior = likelihood.normal(0.5)
  truth = -(5 + 2 * math.log(math.pi / 2)) / 2
  np.testing.assert_allclose(prior(data), truth, rtol=1e-6)
