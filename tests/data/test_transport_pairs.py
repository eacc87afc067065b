"""data.transport_pairs: pairs of laws with known potential, map and cost."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxgen import couplings
from jaxgen.data import transport_pairs
from jaxgen.metrics import frechet
from tests.metrics.test_frechet import by_scipy


def _key():
  return jax.random.key(3)


DISTANCES = {
  "funnels": lambda: transport_pairs.funnels(_key(), 16, 64),
  "one funnel on a line": lambda: transport_pairs.funnels(_key(), 1, 1),
  "swapped": lambda: transport_pairs.swapped(
    transport_pairs.funnels(_key(), 2, 4)
  ),
  "shifted": lambda: transport_pairs.shifted(8, -1.5),
  "scaled": lambda: transport_pairs.scaled(8, 0.5),
  "stretched": lambda: transport_pairs.scaled(8, num_axes=3),
}
SQUARES = {
  "gaussians": lambda: transport_pairs.gaussians(_key(), 8),
  "log_sum_exp": lambda: transport_pairs.log_sum_exp(_key(), 8),
  "hard": lambda: transport_pairs.log_sum_exp(
    _key(), 8, temperature=0.5, convexity=0.1
  ),
  "exponential": transport_pairs.exponential,
}


def _draws(pair, number, seed=0):
  """[N, D] of each law; compiled whole, the keys too."""
  keys = lambda key: jax.random.split(key, number)
  return jax.jit(lambda key: jax.vmap(pair.sample)(keys(key)))(
    jax.random.key(seed)
  )


@pytest.mark.parametrize("name", DISTANCES)
def test_distances_have_no_duality_gap_and_unit_slopes(name):
  pair = DISTANCES[name]()
  x, y = _draws(pair, 500)

  @jax.jit
  def measured(x, y):
    other, value = jnp.roll(y, 1, 0), jax.vmap(pair.potential)
    cost, f = jax.vmap(pair.cost), value(x)
    slope = jnp.linalg.norm(jax.vmap(jax.grad(pair.potential))(y), axis=1)
    return cost(x, y), f - value(y), slope, cost(x, other), f - value(other)

  cost, gap, slope, apart, apart_gap = jax.device_get(measured(x, y))
  np.testing.assert_allclose(cost, gap, atol=1e-5)
  # One in a hundred x of funnels is its anchor in float32, where it is 0.
  assert slope.max() < 1 + 1e-5 and np.mean(slope > 1 - 1e-5) > 0.97
  # 1-Lipschitz between any two points, not only along the rays.
  assert np.all(np.abs(apart_gap) < apart + 1e-5)


def test_funnels_send_a_box_toward_their_anchors():
  pair = transport_pairs.funnels(_key(), 2, 4)
  x, y = _draws(pair, 2000)
  assert np.abs(x).max() <= 2.5 + 1e-5
  for column in np.asarray(y).T:  # y ~ U[-2.5, 2.5]^2
    assert stats.kstest(column, stats.uniform(-2.5, 5).cdf).pvalue > 1e-3
  # s -> s^8 of a place in (0, 1): all move toward the anchor, where f is high.
  value = jax.jit(jax.vmap(pair.potential))
  assert np.all(value(x) >= value(y))


def test_on_a_line_rays_end_where_the_potential_turns():
  pair = transport_pairs.funnels(_key(), 1, 4)
  x, y = (np.asarray(a, np.float64)[:, 0] for a in _draws(pair, 500))
  grid = np.linspace(-2.5, 2.5, 100_001)
  value = jax.jit(jax.vmap(pair.potential))(np.float32(grid)[:, None])
  value = np.asarray(value)
  turns = np.flatnonzero(np.diff(np.sign(np.diff(value)))) + 1
  tops = [k for k in turns if value[k] > value[k - 1]]
  assert len(tops) > 1
  # Between two anchors lies one valley: the rays of both end there.
  ends = np.sort(np.concatenate([grid[turns], [-2.5, 2.5]]))
  place = np.searchsorted(ends, y)
  low, high = ends[place - 1], ends[place]
  anchor = np.where(np.isin(low, grid[tops]), low, high)
  end = np.where(anchor == low, high, low)
  share = (y - anchor) / (end - anchor)
  np.testing.assert_allclose(x, anchor + share**8 * (end - anchor), atol=2e-3)


@pytest.mark.parametrize("name", SQUARES)
def test_squares_move_along_the_gradient_of_a_convex_function(name):
  pair = SQUARES[name]()
  x, y = _draws(pair, 100)
  slopes = lambda x: (
    jax.grad(pair.potential)(x),
    jax.hessian(pair.potential)(x),
  )
  moved, curvature = jax.device_get(jax.jit(jax.vmap(slopes))(x))
  np.testing.assert_allclose(moved, y, rtol=1e-4, atol=1e-4)
  assert np.linalg.eigvalsh(curvature).min() > 0.05
  # The pairing is already the least costly one of these points.
  order = couplings.exact(np.asarray(x), np.asarray(y))
  np.testing.assert_array_equal(order, np.arange(100))


def test_gaussians_have_the_cost_of_bures():
  pair = transport_pairs.gaussians(_key(), 6)
  x, y = _draws(pair, 50_000)
  laws = [frechet.Gaussian(np.zeros(6), np.cov(z.T)) for z in (x, y)]
  cost = jax.jit(jax.vmap(pair.cost))(x, y).mean()
  np.testing.assert_allclose(cost, by_scipy(*laws), rtol=0.01)
  for law in laws:
    stds = np.sqrt(np.linalg.eigvalsh(law.covariance))
    np.testing.assert_allclose(stds, np.geomspace(0.5, 2, 6), rtol=0.02)


def test_known_costs():
  for pair, cost in (
    (transport_pairs.shifted(8, -1.5), 1.5),
    (transport_pairs.scaled(8, 3.0), 2 * stats.chi(8).mean()),
    (transport_pairs.scaled(8, num_axes=3), stats.chi(3).mean()),
  ):
    found = jax.jit(jax.vmap(pair.cost))(*_draws(pair, 20_000)).mean()
    np.testing.assert_allclose(found, cost, rtol=0.01)


def test_equal_quantiles_on_a_line():
  pair = transport_pairs.exponential()
  x, y = (np.asarray(z)[:, 0] for z in _draws(pair, 5000))
  assert stats.kstest(x, "uniform").pvalue > 0.01
  assert stats.kstest(y, "expon").pvalue > 0.01
  grid = (jnp.arange(100_000, dtype=jnp.float32)[:, None] + 0.5) / 100_000
  cost = jax.vmap(lambda x: pair.cost(x, pair.transport(x)))(grid).mean()
  np.testing.assert_allclose(cost, 5 / 6, rtol=1e-3)


class Variants(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_draws_are_of_the_key(self):
    pair = transport_pairs.funnels(_key(), 3, 5)
    sample = self.variant(pair.sample)
    x, y = sample(jax.random.key(0))
    chex.assert_shape((x, y), (3,))
    assert not np.allclose(y, sample(jax.random.key(1))[1])
