"""Distances of clouds: Gaussians in closed form, Sinkhorn in NumPy, SciPy."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special, stats
from scipy.spatial import distance

from jaxgen import costs
from jaxgen.losses import clouds
from tests import expect

TIGHT = dict(threshold=1e-11, max_iterations=20_000)


def draws(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape)


def gaussian(mean, std, number=141):
  """Points and weights that integrate smooth functions over N(mean, std^2)."""
  nodes = np.linspace(-7, 7, number)
  weights = stats.norm.pdf(nodes)
  points = (mean + std * nodes)[:, None]
  return jnp.asarray(points), jnp.asarray(weights / weights.sum())


def of_gaussians(apart, first, second, epsilon):
  """OT_epsilon of two variances and the square between the means."""
  s = epsilon / 2
  root = np.sqrt(4 * first * second + s**2)
  value = apart + first + second - root
  return value + s * (1 - np.log(2 * s)) + s * np.log(root + s)


@pytest.mark.parametrize("epsilon", [0.4, 5.0])
def test_sinkhorn_between_gaussians_is_the_closed_form(epsilon):
  with jax.enable_x64(True):
    (x, a), (y, b) = gaussian(0.4, 0.8), gaussian(-0.5, 1.1)
    options = dict(epsilon=epsilon, a=a, b=b, **TIGHT)
    found = jax.jit(lambda x, y: clouds.entropic(x, y, **options))(x, y)
    truth = of_gaussians(0.81, 0.64, 1.21, epsilon)
    np.testing.assert_allclose(found.value, truth, rtol=1e-9)
    assert found.error < 1e-10
    # u is quadratic, of the curvature that the Gaussian plan has.
    s = epsilon / 2
    root = np.sqrt(4 * 0.64 * 1.21 + s**2)
    curvature = 1 - (root - s) / (2 * 0.64)
    fitted = np.polyfit(x[40:-40, 0], found.first[40:-40], 2)[0]
    np.testing.assert_allclose(fitted, curvature, rtol=1e-6)


def by_sinkhorn(cost, a, b, epsilon, number=1000):
  """(OT_epsilon, plan, potentials) by iterations in the log domain."""
  v = np.zeros(len(b))
  for _ in range(number):
    u = -epsilon * special.logsumexp((v - cost) / epsilon + np.log(b), 1)
    v = -epsilon * special.logsumexp((u - cost.T) / epsilon + np.log(a), 1)
  plan = a[:, None] * b * np.exp((u[:, None] + v - cost) / epsilon)
  entropy = special.rel_entr(plan, np.outer(a, b)).sum()
  return (plan * cost).sum() + epsilon * entropy, plan, (u, v)


@pytest.mark.parametrize(
  "name, cost", [("sqeuclidean", costs.square), ("euclidean", costs.distance)]
)
def test_sinkhorn_of_clouds_is_numpys(name, cost):
  """Value, potentials and slopes, of uniform weights and of others."""
  x, y = draws(7, 2), 0.5 * draws(5, 2, seed=1) + 1
  epsilon, table = 0.5, distance.cdist(x, y, name)
  for a, b in (
    (np.full(7, 1 / 7), np.full(5, 0.2)),
    (stats.dirichlet(np.full(7, 3.0)).rvs(1, 0)[0], np.arange(1, 6) / 15),
  ):
    truth, plan, _ = by_sinkhorn(table, a, b, epsilon)
    with jax.enable_x64(True):
      weights = dict(a=jnp.asarray(a), b=jnp.asarray(b))
      if a[0] == 1 / 7:
        weights = {}

      @jax.jit
      def run(x, y, weights=weights):
        value = lambda x: clouds.entropic(
          x, y, epsilon=epsilon, cost=cost, **weights, **TIGHT
        )
        return value(x), jax.grad(lambda x: value(x).value)(x)

      found, slope = jax.device_get(run(jnp.asarray(x), jnp.asarray(y)))
    np.testing.assert_allclose(found.value, truth, rtol=1e-10)
    density = np.exp((found.first[:, None] + found.second - table) / epsilon)
    np.testing.assert_allclose(np.outer(a, b) * density, plan, rtol=1e-8)
    gap = x[:, None] - y  # the slope of the cost, on the plan
    gap = 2 * gap if name == "sqeuclidean" else gap / table[..., None]
    truth = (plan[..., None] * gap).sum(1)
    np.testing.assert_allclose(slope, truth, rtol=1e-7, atol=1e-10)


def test_divergence_of_weighted_clouds_and_its_slopes():
  """NumPy's three values, and finite differences."""
  x, y, move = draws(6, 2), draws(4, 2, seed=1), draws(6, 2, seed=2)
  a, b = np.arange(1, 7) / 21, np.arange(4, 0, -1) / 10
  between = lambda x, y, a, b: by_sinkhorn(
    distance.cdist(x, y, "sqeuclidean"), a, b, 1.0
  )[0]
  own = between(x, x, a, a) + between(y, y, b, b)
  with jax.enable_x64(True):
    options = dict(a=jnp.asarray(a), b=jnp.asarray(b), epsilon=1.0, **TIGHT)
    run = jax.jit(
      jax.value_and_grad(
        lambda x: clouds.sinkhorn_divergence(x, jnp.asarray(y), **options).value
      )
    )
    value, slope = run(jnp.asarray(x))
    np.testing.assert_allclose(value, between(x, y, a, b) - own / 2, rtol=1e-9)
    more, less = (run(jnp.asarray(x + h * move))[0] for h in (1e-4, -1e-4))
    along = np.sum(slope * move)
    np.testing.assert_allclose(along, (more - less) / 2e-4, rtol=1e-6)


def test_divergence_goes_from_transport_to_a_kernel_distance():
  """At small epsilon SciPy's assignment; at large the means, the energy."""
  with jax.enable_x64(True):
    x, y = draws(12, 2), 0.7 * draws(12, 2, seed=1) + 0.5
    run = lambda epsilon, cost: jax.jit(
      lambda x, y: (
        clouds.sinkhorn_divergence(x, y, epsilon=epsilon, cost=cost).value
      )
    )(jnp.asarray(x), jnp.asarray(y))
    table = distance.cdist(x, y, "sqeuclidean")
    best = table[optimize.linear_sum_assignment(table)].mean()
    np.testing.assert_allclose(run(0.002, costs.square), best, rtol=1e-3)
    means = ((x.mean(0) - y.mean(0)) ** 2).sum()
    np.testing.assert_allclose(run(1e5, costs.square), means, rtol=1e-4)
    energy = jax.jit(clouds.energy_distance)(jnp.asarray(x), jnp.asarray(y))
    np.testing.assert_allclose(run(1e5, costs.distance), energy / 2, rtol=1e-4)


def test_what_has_no_weight_does_not_matter():
  x, y = jnp.float32(draws(6, 2)), jnp.float32(draws(4, 2, seed=1))
  run = jax.jit(lambda x, a: clouds.entropic(x, y, epsilon=0.5, a=a))
  slope = jax.jit(jax.grad(lambda x, a: run(x, a).value))
  some = jnp.array([0.25, 0.25, 0.25, 0.25, 0.0, 0.0])
  found = run(x, some)
  far = run(x.at[4:].add(3.0), some)
  np.testing.assert_allclose(found.value, far.value, rtol=1e-6)
  np.testing.assert_array_equal(found.first[4:], 0)
  table, quarter = distance.cdist(x[:4], y, "sqeuclidean"), np.full(4, 0.25)
  truth = by_sinkhorn(table, quarter, quarter, 0.5)[0]
  np.testing.assert_allclose(found.value, truth, rtol=1e-5)
  slope = slope(x, some)
  assert np.isfinite(slope).all() and not slope[4:].any()


def test_an_iteration_cut_short_says_so_and_is_never_too_large():
  x, y = jnp.float32(draws(20, 2)), jnp.float32(draws(30, 2, seed=1))
  best, short = (
    jax.jit(
      lambda x, y: clouds.entropic(x, y, epsilon=0.05, max_iterations=number)
    )(x, y)
    for number in (2000, 10)
  )
  assert best.error < 1e-3 < 1e-2 < short.error and short.value < best.value


def on_a_line(x, y):
  """W2^2 of two sorted samples, every point repeated to as many."""
  number = np.lcm(len(x), len(y))
  repeated = (np.repeat(np.sort(z), number // len(z)) for z in (x, y))
  return np.mean((next(repeated) - next(repeated)) ** 2)


@pytest.mark.parametrize("n, m", [(8, 8), (6, 4), (7, 5), (1, 3), (9, 3)])
def test_sliced_on_a_line_is_exact_for_any_sizes(n, m):
  x, y = draws(n), 2 * draws(m, seed=1) + 1
  found = jax.jit(clouds.sliced_wasserstein, static_argnums=3)(
    jax.random.key(0), jnp.float32(x)[:, None], jnp.float32(y)[:, None], 3
  )
  np.testing.assert_allclose(found, on_a_line(x, y), rtol=1e-5)


def test_sliced_is_the_mean_over_directions():
  """On the plane, by quadrature over the angle; a shift by m is |m|^2 / D."""
  x, y = draws(9, 2), draws(6, 2, seed=1) * [2, 0.5]
  angles = np.linspace(0, np.pi, 600, endpoint=False)
  along = np.stack([np.cos(angles), np.sin(angles)])
  values = [on_a_line(x @ e, y @ e) for e in along.T]
  number = 4000
  run = jax.jit(clouds.sliced_wasserstein, static_argnums=3)
  one, two = (
    run(jax.random.key(k), jnp.float32(x), jnp.float32(y), number)
    for k in (0, 1)
  )
  assert one != two
  error = 4 * np.std(values) / np.sqrt(number)
  np.testing.assert_allclose([one, two], np.mean(values), atol=error)
  x, shift = draws(5, 2, 2, 1), np.array([1.0, -2.0, 0.5, 3.0]).reshape(2, 2, 1)
  found = run(jax.random.key(2), jnp.float32(x), jnp.float32(x + shift), number)
  truth = (shift**2).sum() / 4
  np.testing.assert_allclose(found, truth, rtol=0.1)


def test_energy_is_the_square_of_scipys():
  run = jax.jit(clouds.energy_distance)
  x, y = draws(9), 2 * draws(14, seed=1) + 0.3
  found = run(jnp.float32(x)[:, None], jnp.float32(y)[:, None])
  np.testing.assert_allclose(found, stats.energy_distance(x, y) ** 2, rtol=1e-5)
  x, y = draws(9, 2, 2, 1), 2 * draws(14, 2, 2, 1, seed=1)
  flat = [z.reshape(len(z), -1) for z in (x, y)]
  between = lambda i, j: distance.cdist(flat[i], flat[j]).mean()
  truth = 2 * between(0, 1) - between(0, 0) - between(1, 1)
  found = run(jnp.float32(x), jnp.float32(y))
  np.testing.assert_allclose(found, truth, rtol=1e-5)


def everything(x, y):
  return dict(
    sinkhorn=clouds.sinkhorn_divergence(x, y, epsilon=0.5).value,
    sliced=clouds.sliced_wasserstein(jax.random.key(0), x, y, 5),
    energy=clouds.energy_distance(x, y),
  )


class Variants(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_equal_clouds_are_at_distance_zero(self):
    x = jnp.float32(draws(8, 2, 2))
    for value in self.variant(everything)(x, x[::-1]).values():
      np.testing.assert_allclose(value, 0, atol=2e-6)


def test_equal_clouds_are_at_rest():
  """Slopes are finite where points meet, as they do twice."""
  x = jnp.float32(draws(8, 2, 2))
  x = jnp.concatenate([x, x[:1]])
  slopes = jax.jit(jax.jacrev(everything))(x, x[::-1])
  for slope in slopes.values():
    np.testing.assert_allclose(slope, 0 * x, atol=1e-4)


def test_one_trace_and_vmap_is_a_loop():
  x, y = jnp.float32(draws(3, 6, 2)), jnp.float32(draws(3, 4, 2, seed=1))
  for values in expect.a_loop(everything, x, y, rtol=1e-4).values():
    assert values.shape == (3,) and values.dtype == jnp.float32


def test_bad_input():
  x, key = jnp.ones((4, 2)), jax.random.key(0)
  calls = (
    lambda x, y: clouds.entropic(x, y, epsilon=0.5),
    lambda x, y: clouds.sinkhorn_divergence(x, y, epsilon=0.5),
    lambda x, y: clouds.sliced_wasserstein(key, x, y, 5),
    clouds.energy_distance,
  )
  for call in calls:
    for bad in (x[:, :1], x[:0], x[..., None]):
      for pair in ((x, bad), (bad, x)):
        expect.error("y: expected points of the same", call, *pair)
  sliced, legacy = clouds.sliced_wasserstein, jax.random.PRNGKey(0)
  expect.error("key: expected a typed key", sliced, legacy, x, x, 5)
  for bad in (0, -1):
    expect.error("num_directions: expected at least 1", sliced, key, x, x, bad)
  for loss in (clouds.entropic, clouds.sinkhorn_divergence):
    refuses = lambda said, epsilon=0.5, loss=loss, **settings: expect.error(
      said, loss, x, x, epsilon=epsilon, **settings
    )
    for bad in (0, -1):
      refuses("max_iterations: expected at least 1", max_iterations=bad)
    for bad in (0.0, -1.0, float("nan")):
      refuses("epsilon: expected a positive", bad)
    for bad in ([0.5, 0.5, 0.5, 0.5], [1.5, -0.5, 0, 0], [np.nan, 1, 0, 0]):
      for name in "ab":
        weights = {name: jnp.array(bad, jnp.float32)}
        said = f"{name}: expected weights of at least 0 that sum to one"
        refuses(said, **weights)
    refuses("b: expected one weight for each", b=jnp.ones(1))
