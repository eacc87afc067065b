"""Duals against linear programmes, Sinkhorn and quadratic programmes.

Points of a cloud are its indices, so that a potential is any table of values
and the cost any matrix.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from scipy import optimize, stats

from jaxgen import costs
from jaxgen.losses import wasserstein
from tests import expect, trees
from tests.losses.test_clouds import by_sinkhorn

N, M, EPSILON = 5, 4, 0.1
RNG = np.random.default_rng(0)
COST = ((RNG.random((N, 1, 2)) - RNG.random((M, 2))) ** 2).sum(-1)
# Sums of a plan over its rows and its columns.
MARGINS = np.concatenate(
  [np.kron(np.eye(N), np.ones(M)), np.kron(np.ones(N), np.eye(M))]
)
A, B = RNG.dirichlet(np.full(N, 5.0)), RNG.dirichlet(np.full(M, 5.0))


def lookup(table):
  """The potential with these values at the points 0, 1, ..."""
  return lambda x: table[x[0].astype(int)]


def cloud(number):
  return jnp.arange(float(number))[:, None]


def pairwise(x, y):
  return jnp.asarray(COST)[x[0].astype(int), y[0].astype(int)]


def evaluate(name):
  """(u, v) in one vector -> (loss, slope, densities), compiled.

  The loss is E over independent x ~ A and y ~ B; a density is of every pair.
  """
  loss = getattr(wasserstein, name)
  density = getattr(wasserstein, f"{name}_density")

  def mean(both):
    u, v = lookup(both[:N]), lookup(both[N:])

    def one(x, y):
      found = loss(u, v, x, y, cost=pairwise, epsilon=EPSILON)
      return found, density(u(x) + v(y) - pairwise(x, y), EPSILON)

    pairs = jax.vmap(jax.vmap(one, (None, 0)), (0, None))
    table, densities = pairs(cloud(N), cloud(M))
    return jnp.asarray(A) @ table @ jnp.asarray(B), densities

  run = jax.jit(jax.value_and_grad(mean, has_aux=True))

  def at(both):
    (value, densities), slope = jax.device_get(run(jnp.asarray(both)))
    return float(value), np.asarray(slope), densities

  return at


def test_entropic_is_stationary_at_sinkhorns_potentials():
  """Where its value is epsilon less the transport cost, KL to the product."""
  transport, plan, potentials = by_sinkhorn(COST, A, B, EPSILON)
  np.testing.assert_allclose([*plan.sum(1), *plan.sum(0)], [*A, *B], 1e-12)
  with jax.enable_x64(True):
    at, both = evaluate("entropic"), np.concatenate(potentials)
    value, slope, densities = at(both)
    np.testing.assert_allclose(value, EPSILON - transport, rtol=1e-12)
    np.testing.assert_allclose(slope, 0, atol=1e-14)
    np.testing.assert_allclose(densities, plan / np.outer(A, B), rtol=1e-10)
    for size in (1e-3, 0.1, 1.0):
      assert at(both + size * RNG.standard_normal(N + M))[0] > value


def test_regularised_has_the_value_and_plan_of_the_quadratic_programme():
  """min sum plan c + epsilon sum plan^2 / (a b), solved as it stands."""
  product = np.outer(A, B).ravel()
  margins = MARGINS[:-1]  # the last follows from the others
  target = np.concatenate([A, B[:-1]])
  primal = optimize.minimize(
    lambda p: p @ COST.ravel() + EPSILON * p**2 @ (1 / product),
    product,
    jac=lambda p: COST.ravel() + 2 * EPSILON * p / product,
    bounds=[(0, None)] * len(product),
    constraints=dict(
      type="eq", fun=lambda p: margins @ p - target, jac=lambda p: margins
    ),
    options=dict(ftol=1e-15, maxiter=500),
    method="SLSQP",
  )
  with jax.enable_x64(True):
    at = evaluate("regularised")
    value_and_slope = lambda both: at(both)[:2]
    tight = dict(jac=True, options=dict(gtol=1e-10))
    dual = optimize.minimize(value_and_slope, np.zeros(N + M), **tight)
    value, _, densities = at(dual.x)
  plan = densities * np.outer(A, B)
  np.testing.assert_allclose(value, -primal.fun, rtol=1e-8)
  np.testing.assert_allclose(plan, primal.x.reshape(N, M), atol=1e-6)
  np.testing.assert_allclose([*plan.sum(1), *plan.sum(0)], [*A, *B], atol=1e-8)
  assert (plan == 0).any()  # sparse, as an entropic plan is not


def test_semi_dual_is_at_most_the_transport_cost():
  target = np.concatenate([np.full(N, 1 / N), np.full(M, 1 / M)])
  best = optimize.linprog(COST.ravel(), A_eq=MARGINS, b_eq=target)

  points = cloud(N), cloud(M)
  run = jax.jit(
    lambda f: -wasserstein.semi_dual(lookup(f), *points, cost=pairwise)
  )
  with jax.enable_x64(True):
    potential = jnp.asarray(best.eqlin.marginals[:N])
    np.testing.assert_allclose(run(potential), best.fun, rtol=1e-12)
    np.testing.assert_allclose(run(potential + 3.7), best.fun, rtol=1e-12)
    for size in (0.01, 0.1, 1.0):
      off = size * RNG.standard_normal(N)
      assert run(potential + off) <= best.fun + 1e-12
      assert run(off) < best.fun


def test_dual_of_the_best_critic_on_a_line_is_w1():
  """f rises where the data's distribution function is the smaller one."""
  data, generated = RNG.standard_normal(30), RNG.standard_normal(40) ** 2
  nodes = np.sort([*data, *generated])
  below = lambda x: np.searchsorted(np.sort(x), nodes[:-1], "right") / len(x)
  rises = np.sign(below(generated) - below(data)) * np.diff(nodes)
  values = jnp.asarray(np.append(0, np.cumsum(rises)), jnp.float32)
  critic = lambda x: jnp.interp(x[0], jnp.float32(nodes), values)
  pairs = jax.vmap(
    jax.vmap(lambda x, y: wasserstein.dual(critic, x, y), (None, 0)), (0, None)
  )
  found = jax.jit(pairs)(*(jnp.float32(a)[:, None] for a in (data, generated)))
  truth = stats.wasserstein_distance(data, generated)
  np.testing.assert_allclose(found.mean(), -truth, rtol=1e-5)


def test_quadratic_is_least_where_the_gain_is_scale_times_distance():
  x, y, scale = jnp.array([1.0, -2.0, 0.5]), jnp.array([0.0, 1.5, 3.0]), 4.0
  apart = (1 + 3.5 + 2.5) / 3

  def loss(gain):
    critic = lambda z: 7 + gain * (z[0] == 1.0)
    return wasserstein.quadratic(critic, x, y, scale)

  run = jax.jit(jax.value_and_grad(loss))
  value, slope = run(jnp.float32(scale * apart))
  np.testing.assert_allclose(value, -scale * apart / 2, rtol=1e-5)
  np.testing.assert_allclose(slope, 0, atol=1e-6)
  value, slope = run(jnp.float32(2.0))
  np.testing.assert_allclose(value, -2 + 4 / (2 * scale * apart), rtol=1e-5)
  np.testing.assert_allclose(slope, -1 + 2 / (scale * apart), rtol=1e-5)


def test_clip_weights_is_the_projection():
  params = {"a": jnp.array([-0.3, 0.005]), "b": (jnp.array([[2.0]]),)}
  found = wasserstein.clip_weights(params, 0.01)
  truth = {"a": np.float32([-0.01, 0.005]), "b": (np.float32([[0.01]]),)}
  trees.assert_close(found, truth)


def test_between_lies_on_the_segment():
  x, y = jnp.array([[1.0, 2.0]]), jnp.array([[3.0, -2.0]])
  between = jax.jit(wasserstein.between)
  for mix in (0.0, 0.25, 1.0):
    truth = mix * np.asarray(x) + (1 - mix) * np.asarray(y)
    np.testing.assert_allclose(between(x, y, jnp.float32(mix)), truth, 1e-6)


def critic(x):
  return jnp.sum(jnp.tanh(2 * x)) + 1


def other(x):
  return jnp.sum(x**2) / 3


def losses(x, y):
  options = dict(cost=costs.square, epsilon=0.7)
  return dict(
    dual=wasserstein.dual(critic, x, y),
    quadratic=wasserstein.quadratic(critic, x, y),
    entropic=wasserstein.entropic(critic, other, x, y, **options),
    regularised=wasserstein.regularised(critic, other, x, y, **options),
  )


def by_hand(x, y):
  x, y = np.float64(x).ravel(), np.float64(y).ravel()
  f = lambda x: np.tanh(2 * x).sum() + 1
  gain, apart = f(x) - f(y), np.mean(abs(x - y))
  sums = f(x) + (y**2).sum() / 3
  slack = sums - ((x - y) ** 2).sum()
  return dict(
    dual=-gain,
    quadratic=-gain + gain**2 / (20 * apart),
    entropic=-sums + 0.7 * np.exp(slack / 0.7),
    regularised=-sums + max(slack, 0) ** 2 / 2.8,
  )


def points(*shape):
  """Slack positive at these and negative further apart."""
  rng = np.random.default_rng(1)
  return (0.5 * rng.standard_normal(shape).astype("float32") for _ in range(2))


class Variants(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.parameters((), (3,), (2, 2, 1))
  def test_values(self, *shape):
    for x, y in (points(*shape), [3 * a for a in points(*shape)]):
      found = self.variant(losses)(jnp.asarray(x), jnp.asarray(y))
      expect.scalars(found, by_hand(x, y), rtol=2e-5)

  @chex.variants(with_jit=True, without_jit=True)
  def test_semi_dual_by_hand(self):
    x, y = points(3, 6, 2, 2)  # three pairs of clouds of images
    y = y[:, :4]
    semi_dual = lambda *clouds: wasserstein.semi_dual(
      critic, *clouds, cost=costs.square
    )
    found = self.variant(jax.vmap(semi_dual))(jnp.asarray(x), jnp.asarray(y))
    values = np.tanh(2 * x).sum((2, 3)) + 1
    apart = ((x[:, :, None] - y[:, None]) ** 2).sum((3, 4))
    conjugate = (apart - values[:, :, None]).min(1)
    truth = -values.mean(1) - conjugate.mean(1)
    np.testing.assert_allclose(found, truth, rtol=1e-5)


def test_one_trace_and_vmap_is_a_loop():
  expect.a_loop(losses, *map(jnp.asarray, points(3, 2)), rtol=1e-5)


def test_bad_input():
  x, options = jnp.ones(3), dict(cost=costs.square, epsilon=0.7)
  two = (wasserstein.entropic, wasserstein.regularised)
  pairs = [wasserstein.dual, wasserstein.quadratic]
  pairs += [
    lambda f, x, y, loss=loss: loss(f, f, x, y, **options) for loss in two
  ]
  for loss in pairs:
    expect.error(r"expected shape \[3\], that of", loss, critic, x, x[:2])
    expect.error("potential: expected a scalar", loss, jnp.tanh, x, 2 * x)
  between = wasserstein.between, x, x[:2], jnp.float32(0.5)
  expect.error(r"generated: expected shape \[3\]", *between)
  for loss in two:
    for bad in (0.0, -1.0, float("nan")):
      args, wrong = (loss, critic, critic, x, x), options | dict(epsilon=bad)
      expect.error("epsilon: expected a positive", *args, **wrong)
  cloud = jnp.ones((4, 3))
  for x, y, said in (
    (cloud, cloud[:, :2], r"generated: expected points \[3\]"),
    (cloud[:0], cloud, "expected clouds of at least one"),
    (cloud, cloud[:0], "expected clouds of at least one"),
  ):
    args = wasserstein.semi_dual, critic, x, y
    expect.error(said, *args, cost=costs.square)
