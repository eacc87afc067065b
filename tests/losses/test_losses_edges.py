"""Losses of the smallest input and of settings at their edges, by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import costs, paths
from jaxgen.losses import clouds, flow_matching, transport_maps, wasserstein
from tests import expect


@jax.jit
def by_hand():
  """{name: (found, truth)}."""
  ramp = lambda x: 0.25 * jnp.sum(x)  # of slope .25 sqrt(D)
  x, y = jnp.array([1.0, 0.0, 2.0, 0.0]), jnp.array([0.5, 0.5, 1.5, 0.0])
  one, three = x[None], jnp.stack([x, 0 * x, -x])
  line = lambda *values: jnp.array(values)[:, None]
  key, other = jax.random.split(jax.random.key(0))
  half = lambda x, y: costs.square(x, y) / 2
  drawn = ramp, lambda x, z: x + z, x, jnp.array([0.0, 1.0])
  mover = lambda cost, diversity: transport_maps.weak_mover(
    *drawn, cost=cost, diversity=diversity
  )
  return dict(
    power=(wasserstein.divergence_penalty(ramp, x, 1.5), 0.5**1.5),
    # T = .75 - .625 and d = .375.
    scale=(wasserstein.quadratic(ramp, x, y, 0.5), -0.125 + 0.125**2 / 0.375),
    met=(wasserstein.quadratic(ramp, x, x, 0.5), 0.0),
    # min over one point: c(x, y) - f(x), for each y.
    semi_dual=(
      wasserstein.semi_dual(ramp, one, three, cost=costs.square),
      -0.75 - ((0 + 5 + 20) / 3 - 0.75),
    ),
    swapped=(
      wasserstein.semi_dual(ramp, three, one, cost=costs.square),
      0.0 - min(0 - 0.75, 5 - 0, 20 + 0.75),
    ),
    # Of 1 against 0, 2, 5: mean of squares 1, 1, 16.
    sliced=(
      clouds.sliced_wasserstein(key, line(1.0), line(0.0, 2.0, 5.0), 1),
      6.0,
    ),
    sliced_of_two=(
      clouds.sliced_wasserstein(other, line(3.0, 0.0), line(0.0, 2.0, 5.0), 2),
      # By sixths: 0 0 0 3 3 3 against 0 0 2 2 5 5.
      (0 + 0 + 4 + 1 + 4 + 4) / 6,
    ),
    # 2 (1 + 1 + 4) / 3 - 0 - 2 (2 + 3 + 5) / 9.
    energy=(clouds.energy_distance(line(1.0), line(0.0, 2.0, 5.0)), 4 - 20 / 9),
    # T(x, z) = x + z for z = 0 and 1: c 0 and 2, f .75 and 1.75; variance 2.
    weak=(mover(half, 0.25), (2 - 0.75 - 1.75) / 2 - 0.25 * 2),
    strong=(mover(costs.square, 0.0), (4 - 0.75 - 1.75) / 2),
    constant=(flow_matching.constant(0.0)(0.3), 0.0),
    # .3 .6 (1 - .3), a bridge that ends at 2: sqrt(.6 (1 - .3)).
    brownian=(flow_matching.brownian(0.5, 2.0)(0.6), 0.5 * 0.42**0.5),
    density=(
      wasserstein.entropic_density(jnp.float32(0.3) * x[0], 0.6),
      math.exp(0.5),
    ),
    sparse=(
      wasserstein.regularised_density(jnp.float32(0.3) * x[0], 0.6),
      0.25,
    ),
    none=(wasserstein.regularised_density(jnp.float32(-0.3) * x[0], 0.6), 0.0),
  )


def test_values_by_hand():
  for name, (found, truth) in by_hand().items():
    np.testing.assert_allclose(found, truth, rtol=2e-6, atol=1e-6, err_msg=name)
    assert found.shape == (), name


def test_one_step_of_newton_ends_in_a_quadratic_bowl():
  scales, y = jnp.array([0.5, 4.0]), jnp.array([1.0, -2.0])
  bowl = lambda x: jnp.sum(scales * x**2) / 2
  point = lambda y: transport_maps.conjugate_point(bowl, y, 3 * y, num_steps=1)
  np.testing.assert_allclose(jax.jit(point)(y), [2.0, -0.5], rtol=1e-5)


def test_one_step_of_newton_takes_the_best_of_its_lengths():
  """Toward the minimum of sqrt(1 + x^2), which Newton overshoots from 1 on."""
  bowl = lambda x: jnp.sqrt(1 + jnp.sum(x**2))
  point = lambda x: transport_maps.conjugate_point(bowl, 0 * x, x, num_steps=1)
  ends = {
    0.5: -0.125,  # all of Newton's -x (1 + x^2)
    1.2: 1.2 - 2.928 / 2,
    1.5: 1.5 - 4.875 / 5,
    3.0: 3.0 - 30 / 20,
    9.0: 9.0 - 9 / math.sqrt(82),  # none goes down: along the gradient
  }
  found = jax.jit(jax.vmap(point))(jnp.array([*ends])[:, None])[:, 0]
  np.testing.assert_allclose(found, [*ends.values()], rtol=1e-4, atol=1e-5)


def test_where_newton_would_climb_the_gradient_goes_down():
  """x^4 / 4 - x^2 / 2 curves down at .1, where its slope is -.099."""
  well = lambda x: jnp.sum(x**4) / 4 - jnp.sum(x**2) / 2
  point = lambda x: transport_maps.conjugate_point(well, 0 * x, x, num_steps=1)
  found = jax.jit(point)(jnp.array([0.1]))
  np.testing.assert_allclose(found, [0.199], rtol=1e-5)


def test_a_cycle_weight_of_less_than_one():
  f = lambda x: jnp.sum(x**2)  # T(x) = 2 x, back the same: y -> 4 y
  x, y = jnp.array([1.0, 2.0]), jnp.array([0.5, 0.0])
  call = lambda weight: transport_maps.non_minimax(
    f, f, x, y, cycle_weight=weight
  )
  cycle = transport_maps.cycle(jax.grad(f), jax.grad(f), y)
  np.testing.assert_allclose(cycle, 9 * 0.25, rtol=1e-6)
  # f(x) - f(2 y), and .5 |4 y - y|^2.
  np.testing.assert_allclose(call(0.5), 5 - 1 + 0.5 * 2.25, rtol=1e-6)
  for bad in (0.0, -0.5):
    expect.error("cycle_weight: expected a positive number", call, bad)


def test_settings_beyond_their_edges():
  x = jnp.ones((4, 2))
  quadratic = wasserstein.quadratic, jnp.sum, x, 2 * x
  for bad in (0.0, -1.0, math.nan):
    expect.error("scale: expected a positive", *quadratic, bad)
    expect.error("bound: expected a", wasserstein.clip_weights, {}, bad)


def test_weights_sum_to_one_within_their_slack():
  checked = lambda weights: clouds._weights("a", weights, jnp.ones((2, 3)))
  for sign in (1, -1):
    weights = jnp.array([0.5, 0.5 + sign * 9.96e-5])
    np.testing.assert_array_equal(checked(weights), weights)
    wrong = jnp.array([0.5, 0.5 + sign * 1.004e-4])
    expect.error("a: expected weights", checked, wrong)
  np.testing.assert_array_equal(checked(jnp.array([0, 1.0])), [0, 1])
  np.testing.assert_array_equal(checked(None), [0.5, 0.5])


def test_a_bridge_of_nothing_fits_every_path():
  data, source = jnp.array([1.0, 2.0]), jnp.array([3.0, -2.0])
  options = dict(path=paths.linear(), bridge=flow_matching.constant(0.0))
  found = flow_matching.problem(data, source, 0 * data, 0.25, **options)
  x_t, velocity = found
  np.testing.assert_allclose(x_t, [1.5, 1.0], rtol=1e-6)
  np.testing.assert_allclose(velocity, [2.0, -4.0], rtol=1e-6)
