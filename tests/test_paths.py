"""Paths against closed forms derived by hand, in NumPy's float64."""

import dataclasses
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import paths
from tests import expect, trees
from tests.cases import PATHS
from tests.truth import mixture

RATIOS = np.geomspace(0.002, 80.0, 101)


def slope(t):
  """-alpha' / alpha of the cosine path."""
  turn = np.pi / 2 / 1.008
  return turn * np.tan(turn * (t + 0.008))


SDES = {  # drift and diffusion by hand; tests/truth/mixture.py has the scales
  "edm": lambda t: (0 * t, 2 * t),
  "vp": lambda t: (-(0.1 + 19.9 * t) / 2, 0.1 + 19.9 * t),
  "cosine": lambda t: (-slope(t), 2 * slope(t)),
  "linear": lambda t: (-1 / (1 - t), 2 * t / (1 - t)),
  "trigonometric": lambda t: (-np.tan(t), 2 * np.tan(t)),
}
by_name = pytest.mark.parametrize("name", PATHS)


@by_name
def test_time_is_the_inverse_of_ratio(name):
  path = PATHS[name]

  @jax.jit
  def both_ways(ratio):
    t = path.time(ratio)
    return t, path.ratio(t), path.time(path.ratio(t)), path.log_ratio(t)

  with jax.enable_x64(True):
    t, ratio, again, log_ratio = both_ways(jnp.asarray(RATIOS))
  np.testing.assert_allclose(ratio, RATIOS, rtol=1e-10)
  np.testing.assert_allclose(again, t, rtol=1e-10)
  np.testing.assert_allclose(log_ratio, np.log(RATIOS), atol=1e-10)
  assert np.all(np.diff(t) > 0)
  # The inverse of the formulas by hand, not only of the code's own ratio.
  by_hand, t = mixture.scales(name), np.asarray(t)
  ratio = by_hand.sigma(t) / by_hand.alpha(t)
  np.testing.assert_allclose(ratio, RATIOS, rtol=1e-9)


@by_name
def test_scales_rates_drift_and_diffusion_match_their_closed_forms(name):
  path = PATHS[name]
  scales = lambda t: (path.alpha(t), path.sigma(t), *path.rates(t))
  sde = lambda t: (path.drift(t), path.diffusion(t))
  with jax.enable_x64(True):
    t = path.time(jnp.asarray(RATIOS))
    values = jax.jit(lambda t: (*scales(t), *sde(t)))(t)
  # 1 - alpha loses digits by hand at small t, not in the code: 1e-9.
  t = np.asarray(t)
  truths = *(scale(t) for scale in mixture.scales(name)[:4]), *SDES[name](t)
  for value, truth in zip(values, truths, strict=True):
    np.testing.assert_allclose(value, truth, rtol=1e-9, atol=1e-14)


@by_name
def test_rates_of_one_python_float_match_central_differences(name):
  path = PATHS[name]
  with jax.enable_x64(True):
    t, h = float(path.time(0.7)), 1e-5
    rates = path.rates(t)
    for rate, scale in zip(rates, (path.alpha, path.sigma), strict=True):
      slope = (scale(jnp.float64(t + h)) - scale(jnp.float64(t - h))) / (2 * h)
      np.testing.assert_allclose(rate, slope, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", ["vp", "cosine", "trigonometric"])
def test_variance_preserving(name):
  path = PATHS[name]
  with jax.enable_x64(True):
    t = jnp.linspace(path.t_min, path.t_max, 1001)
    power = path.alpha(t) ** 2 + path.sigma(t) ** 2
  np.testing.assert_allclose(power, 1, atol=1e-14)


@by_name
def test_ends_of_the_domain(name):
  path = PATHS[name]
  ends = np.array([path.t_min, path.t_max], np.float32)
  alpha, sigma = np.asarray(path.alpha(ends)), np.asarray(path.sigma(ends))
  if name == "edm":
    np.testing.assert_allclose(sigma, [0.002, 80.0])
  else:
    assert (alpha[0], sigma[0]) == (1, 0)
    assert abs(alpha[1]) < 0.007
    assert sigma[1] == pytest.approx(1, abs=1e-4)
  inside = path.time(jnp.asarray(RATIOS, jnp.float32))
  assert np.all((inside >= ends[0]) & (inside <= ends[1]))


@by_name
def test_a_grid_is_its_times_one_by_one(name):
  path = PATHS[name]
  functions = "alpha sigma ratio log_ratio drift diffusion conditioning rates"

  @jax.jit
  def everything(t):
    return [getattr(path, function)(t) for function in functions.split()]

  t = path.time(jnp.geomspace(0.01, 50.0, 6))
  loop = [everything(one) for one in t]
  stacked = lambda *values: np.array(values).reshape(2, 3)
  expected = jax.tree.map(stacked, *loop)
  trees.assert_close(everything(t.reshape(2, 3)), expected, rtol=1e-6)


@by_name
def test_conditioning_is_finite_and_increasing_on_the_domain(name):
  path = PATHS[name]
  t = jnp.linspace(path.t_min, path.t_max, 1001)
  seen = path.conditioning(t)
  assert np.all(np.isfinite(seen)) and np.all(np.diff(seen) > 0)
  assert np.max(np.abs(seen)) < 2
  truth = np.log(t) / 4 if name == "edm" else t
  np.testing.assert_allclose(seen, truth, rtol=1e-6, atol=1e-7)


@by_name
def test_constructors_return_one_object_and_do_not_retrace(name):
  constructor = getattr(paths, name)
  assert constructor() is constructor() is PATHS[name]
  chex.clear_trace_counter()

  @jax.jit
  @chex.assert_max_traces(n=1)
  def scale(path, t):
    return path.alpha(t)

  for t in (0.3, 0.4, 0.5):
    scale(constructor(), t)
  assert jax.tree.leaves(constructor()) == []


def test_other_constants_give_other_paths():
  assert paths.edm(0.01, 10.0) is paths.edm(0.01, 10.0)
  assert paths.edm(0.01, 10.0) is not paths.edm()
  with jax.enable_x64(True):
    t = np.array([0.1, 0.6])
    for path, truth in (
      (paths.vp(0.2, 10.0), mixture.vp(0.2, 10.0)),
      (paths.cosine(0.02), mixture.cosine(0.02)),
    ):
      np.testing.assert_allclose(path.alpha(t), truth.alpha(t), rtol=1e-12)
      np.testing.assert_allclose(path.sigma(t), truth.sigma(t), rtol=1e-12)
      np.testing.assert_allclose(path.time(path.ratio(t)), t, rtol=1e-12)


def test_a_learned_schedule_is_a_path_of_its_own():
  def build(speed):
    return paths.Path(
      lambda t: 1 - t**speed,
      lambda t: t**speed,
      lambda ratio: (ratio / (1 + ratio)) ** (1 / speed),
    )

  rate = jax.grad(lambda speed: build(speed).rates(0.5)[1])(2.0)
  # d/ds (s t^(s - 1)) = t^(s - 1) (1 + s log t)
  np.testing.assert_allclose(rate, 0.5 * (1 + 2 * np.log(0.5)), rtol=1e-5)


def test_ends_off_by_the_rounding_are_those_of_the_domain():
  """At most a relative 1e-5 outside: either end, that far exactly or more."""
  low, high = (float(np.float32(ratio)) for ratio in (0.01, 10.0))
  rounding = 1 + 1e-5
  ends = dict(t_min=low * rounding, t_max=high / rounding)
  path = dataclasses.replace(paths.edm(), **ends)
  assert path.t_max * rounding == high
  found = path.ends(0.01, 10.0)
  np.testing.assert_array_equal(found, np.float32([path.t_min, path.t_max]))
  for change in (dict(t_min=low * (rounding + 1e-9)), dict(t_max=0.99 * high)):
    narrower = dataclasses.replace(path, **change)
    said = "ratio_min, ratio_max: expected ratios"
    expect.error(said, narrower.ends, 0.01, 10.0)


def test_ends_under_jit_are_those_outside():
  path = paths.cosine()
  low, high = jax.jit(lambda: path.ends(0.1, 10.0))()
  np.testing.assert_allclose(path.ratio(low), 0.1, rtol=1e-5)
  np.testing.assert_allclose(path.ratio(high), 10.0, rtol=1e-5)


@by_name
def test_require_inside_refuses_times_outside_the_domain(name):
  path = PATHS[name]
  inside = (path.t_min, path.t_max, float(path.time(0.7)))
  for kind in (float, np.float32, jnp.float32, np.asarray, jnp.asarray):
    for t in inside:
      path.require_inside(kind(t))  # an end that float32 rounded too
    for t in (path.t_min - 0.1, 1.01 * path.t_max, math.nan):
      expect.error("t: expected a time in", path.require_inside, kind(t))
  beyond = 1.005e-6  # rounding goes up to 1e-6
  for t in (path.t_min * (1 - beyond), path.t_max * (1 + beyond)):
    if t:
      expect.error("t: expected a time in", path.require_inside, t)
  for t in (np.ones(3), jnp.ones(())[None]):
    expect.error(r"t: expected shape \(\)", path.require_inside, t)

  @jax.jit
  def traced(t):  # is not checked; a constant under jit is
    path.require_inside(t)
    path.require_inside(inside[2])
    return t

  assert traced(1e9) == 1e9
