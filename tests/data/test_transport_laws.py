"""Heights, slopes and rays of transport pairs against NumPy float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxgen import costs
from jaxgen.data import transport_pairs
from tests import expect


def _key():
  return jax.random.key(7)


def float64(*arrays):
  return [np.asarray(array, np.float64) for array in arrays]


def draws(pair, number):
  """(x, y), [N, D], float64, and f or phi at x."""

  @jax.jit
  def found(key):
    x, y = jax.vmap(pair.sample)(jax.random.split(key, number))
    return x, y, jax.vmap(pair.potential)(x)

  return float64(*found(jax.random.key(1)))


def ray_end(u, y, direction, half_width):
  """The largest r with u(y + r v) = u(y) + r in the box, by bisection.

  u - r never rises along the ray, so what holds at r holds before it.
  """
  low, high = np.zeros(len(y)), np.full(len(y), 2 * half_width * y.shape[1])
  start = u(y)
  for _ in range(60):
    r = (low + high) / 2
    point = y + r[:, None] * direction
    rises = np.abs(u(point) - start - r) < 1e-9
    rises &= np.abs(point).max(1) <= half_width
    low, high = np.where(rises, r, low), np.where(rises, high, r)
  return low


@pytest.mark.parametrize(
  "dim, number, settings",
  [
    (3, 6, {}),
    (2, 12, dict(half_width=1.5, power=2.0)),
    (5, 1, dict(half_width=4.0, power=1.0)),
  ],
)
def test_funnels_end_their_rays_where_the_potential_stops_rising(
  dim, number, settings
):
  half_width = settings.get("half_width", 2.5)
  anchor_key, height_key = jax.random.split(_key())
  unit = jax.random.uniform(anchor_key, (number, dim))
  anchors, heights = float64(unit, jax.random.normal(height_key, (number,)))
  anchors, heights = half_width * (2 * anchors - 1), heights / 10
  far = lambda x: np.linalg.norm(x[:, None] - anchors, axis=2)
  u = lambda x: (far(x) + heights).min(1)
  pair = transport_pairs.funnels(_key(), dim, number, **settings)
  assert pair.dim == dim and pair.cost is costs.distance
  x, y, value = draws(pair, 400)
  assert 0.97 * half_width < np.abs(y).max() <= half_width
  np.testing.assert_allclose(value, -u(x), rtol=1e-5, atol=1e-5)
  anchor = anchors[(far(y) + heights).argmin(1)]
  reached = np.linalg.norm(y - anchor, axis=1)
  direction = (y - anchor) / reached[:, None]
  length = reached + ray_end(u, y, direction, half_width)
  near = length * (reached / length) ** settings.get("power", 8.0)
  truth = anchor + near[:, None] * direction
  # Both ends occur: at another funnel, and at the box.
  inside = np.abs(anchor + length[:, None] * direction).max(1)
  at_box = np.isclose(inside, half_width, atol=1e-6)
  assert 0 < at_box.sum() and (number == 1 or at_box.mean() < 1)
  # Single precision: a meeting at a small angle is known less well.
  gaps = np.abs(x - truth).max(1)
  assert np.quantile(gaps, 0.9) < 1e-5 and gaps.max() < 2e-3


@pytest.mark.parametrize(
  "dim, settings",
  [
    (1, dict(num_planes=1)),
    (5, {}),
    (64, dict(num_planes=3, temperature=0.5, convexity=0.1)),
  ],
)
def test_log_sum_exp_has_the_slopes_and_heights_of_its_laws(dim, settings):
  planes = settings.get("num_planes", 8)
  temperature = settings.get("temperature", 1.0)
  convexity = settings.get("convexity", 0.5)
  slope_key, height_key = jax.random.split(_key())
  sizes = (slope_key, (planes, dim)), (height_key, (planes,))
  slopes, heights = float64(*(jax.random.normal(*size) for size in sizes))
  slopes = slopes * np.sqrt(9 / dim)
  pair = transport_pairs.log_sum_exp(_key(), dim, **settings)
  assert pair.dim == dim and pair.cost is costs.square
  x, y, value = draws(pair, 50)
  above = (x @ slopes.T + heights) / temperature
  truth = temperature * special.logsumexp(above, axis=1)
  truth += convexity / 2 * (x**2).sum(1)
  np.testing.assert_allclose(value, truth, rtol=1e-5, atol=1e-5)
  moved = convexity * x + special.softmax(above, axis=1) @ slopes
  np.testing.assert_allclose(y, moved, rtol=1e-4, atol=1e-4)


def test_shifts_and_scales_by_default_and_their_plans():
  """W1 of N(0, I) to N(2 e, I) and to N(0, 4 I), and the pairs themselves."""
  x, y, value = draws(transport_pairs.shifted(4), 50)
  np.testing.assert_allclose(y - x, np.ones((50, 4)), rtol=1e-6)  # 2 / sqrt(4)
  np.testing.assert_allclose(value, -x.sum(1) / 2, rtol=1e-5, atol=1e-6)
  x, y, value = draws(transport_pairs.scaled(4), 50)
  np.testing.assert_allclose(y, 2 * x, rtol=1e-6)
  np.testing.assert_allclose(value, -np.linalg.norm(x, axis=1), rtol=1e-6)
  x, y, value = draws(transport_pairs.scaled(3, 0.25, num_axes=2), 50)
  np.testing.assert_allclose(y, x * [0.25, 0.25, 1], rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(value, np.hypot(*x.T[:2]), rtol=1e-6)


def test_exponential_is_its_quantile_and_its_integral():
  x, y, value = draws(transport_pairs.exponential(), 50)
  np.testing.assert_allclose(y, -np.log1p(-x), rtol=1e-6)
  truth = (x + (1 - x) * np.log1p(-x))[:, 0]
  np.testing.assert_allclose(value, truth, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dim", [1, 3])
def test_gaussians_are_mapped_by_the_mean_of_their_covariances(dim):
  """A is the symmetric positive solution of A C A = S (Riccati)."""
  pair = transport_pairs.gaussians(_key(), dim)
  x, y, value = draws(pair, 60)
  matrix = np.linalg.lstsq(x, y, rcond=None)[0]
  np.testing.assert_allclose(matrix, matrix.T, atol=1e-5)
  np.testing.assert_allclose(x @ matrix, y, atol=1e-4)
  np.testing.assert_allclose(value, (x * y).sum(1) / 2, rtol=1e-4, atol=1e-5)
  roots = []
  for key in jax.random.split(_key()):
    (turn,) = float64(jax.random.orthogonal(key, dim))
    spread = np.exp(np.linspace(np.log(0.5), np.log(2.0), dim))
    roots.append(turn * spread)
  first, second = (root @ root.T for root in roots)
  np.testing.assert_allclose(matrix @ first @ matrix, second, atol=1e-4)


def test_the_edges_of_valid_settings():
  for make in (
    lambda: transport_pairs.funnels(_key(), 1, 1, power=1.0, half_width=1e-3),
    lambda: transport_pairs.scaled(1, 1e-3, num_axes=1),
    lambda: transport_pairs.shifted(1),
    lambda: transport_pairs.gaussians(_key(), 1),
    lambda: transport_pairs.log_sum_exp(_key(), 1, num_planes=1),
  ):
    assert make().dim == 1


def test_settings_beyond_their_edges():
  funnels, scaled = transport_pairs.funnels, transport_pairs.scaled
  log_sum_exp = transport_pairs.log_sum_exp
  for make, args, name, values, said in (
    (funnels, (_key(), 2, 4), "power", (0.5, 0.99), "power: expected"),
    (funnels, (_key(), 2, 4), "half_width", (0.0, -1.0), "half_width"),
    (scaled, (2,), "scale", (0.0, -1.0), "scale: expected above 0"),
    (scaled, (2,), "num_axes", (0, -1), "num_axes: expected at least 1"),
    (scaled, (2,), "num_axes", (3,), "dim: expected at least 3"),
    (log_sum_exp, (_key(), 2), "num_planes", (0,), "num_planes"),
    (log_sum_exp, (_key(), 2), "temperature", (0.0, -1.0), "positive temp"),
    (log_sum_exp, (_key(), 2), "convexity", (0.0, -1.0), "convexity"),
  ):
    for value in values:
      expect.error(said, make, *args, **{name: value})
  for make, *more in (
    (funnels, 4),
    (transport_pairs.gaussians,),
    (log_sum_exp,),
  ):
    expect.error("dim: expected at least 1", make, _key(), 0, *more)
    for key in (jax.random.PRNGKey(0), jax.random.split(_key())):
      expect.error("key", make, key, 2, *more)
  expect.error("dim: expected at least 1", transport_pairs.shifted, 0)
  expect.error("num_funnels: expected at least 1", funnels, _key(), 2, 0)
  pair = transport_pairs.gaussians(_key(), 2)
  expect.error("got one for W2", transport_pairs.swapped, pair)


def test_a_ray_meets_a_funnel_where_both_are_equal():
  """By hand: y = 0, u(y) = 1 of the anchor (-1, 0), direction (1, 0)."""
  funnels = (
    ((-1.0, 0.0), 0.0, np.inf),  # its own: equal all along
    ((0.5, 0.0), 1.0, 0.25),  # |.25 - .5| + 1 = 1.25
    ((0.0, 3.0), -2.5, np.inf),  # below u already
    ((0.0, 3.0), 0.0, 4.0),  # hypot(4, 3) = 5
    ((0.0, 1.0), 0.0, np.inf),  # met at y itself: r is 0
    ((0.0, 1.0), 3.0, np.inf),  # too high: met only behind y
    ((1.5, 2.0), -0.5, 2 / 3),  # hypot(5 / 6, 2) = 13 / 6
  )
  anchors, heights, truth = (
    np.float32(part) for part in zip(*funnels, strict=True)
  )
  ray = jnp.zeros(2), jnp.array([1.0, 0.0]), jnp.ones(())
  with jax.debug_nans(True):
    found = transport_pairs._meetings(
      *ray, *map(jnp.asarray, (anchors, heights))
    )
  np.testing.assert_allclose(found, truth, rtol=1e-6)
