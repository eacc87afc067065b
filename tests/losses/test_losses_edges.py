"""Losses of the smallest input and of settings at their edges, by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import costs, paths
from jaxgen.losses import clouds, flow_matching, transport, wasserstein


def refused(match, call, *args, **kwargs):
  with pytest.raises(ValueError, match=match) as caught:
    call(*args, **kwargs)
  assert "\n" not in str(caught.value)


@jax.jit
def by_hand():
  """{name: (found, truth)}."""
  ramp = lambda x: 0.25 * jnp.sum(x)  # of slope .25 sqrt(D)
  x, y = jnp.array([1.0, 0.0, 2.0, 0.0]), jnp.array([0.5, 0.5, 1.5, 0.0])
  one, three = x[None], jnp.stack([x, 0 * x, -x])
  line = lambda *values: jnp.array(values)[:, None]
  key, other = jax.random.split(jax.random.key(0))
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
    weak=(
      transport.weak_mover(
        ramp,
        lambda x, z: x + z,
        x,
        jnp.array([0.0, 1.0]),
        cost=lambda x, y: costs.square(x, y) / 2,
        diversity=0.25,
      ),
      (2 - 0.75 - 1.75) / 2 - 0.25 * 2,
    ),
    strong=(
      transport.weak_mover(
        ramp,
        lambda x, z: x + z,
        x,
        jnp.array([0.0, 1.0]),
        cost=costs.square,
        diversity=0.0,
      ),
      (4 - 0.75 - 1.75) / 2,
    ),
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
  point = lambda y: transport.conjugate_point(bowl, y, 3 * y, num_steps=1)
  np.testing.assert_allclose(jax.jit(point)(y), [2.0, -0.5], rtol=1e-5)


@pytest.mark.parametrize(
  "start, end",
  [
    (0.5, -0.125),  # all of Newton's -x (1 + x^2)
    (1.2, 1.2 - 2.928 / 2),
    (1.5, 1.5 - 4.875 / 5),
    (3.0, 3.0 - 30 / 20),
    (9.0, 9.0 - 9 / math.sqrt(82)),  # none goes down: along the gradient
  ],
)
def test_one_step_of_newton_takes_the_best_of_its_lengths(start, end):
  """Toward the minimum of sqrt(1 + x^2), which Newton overshoots from 1 on."""
  bowl = lambda x: jnp.sqrt(1 + jnp.sum(x**2))
  point = lambda x: transport.conjugate_point(bowl, 0 * x, x, num_steps=1)
  found = jax.jit(point)(jnp.array([start]))
  np.testing.assert_allclose(found, [end], rtol=1e-4, atol=1e-5)


def test_where_newton_would_climb_the_gradient_goes_down():
  """x^4 / 4 - x^2 / 2 curves down at .1, where its slope is -.099."""
  well = lambda x: jnp.sum(x**4) / 4 - jnp.sum(x**2) / 2
  point = lambda x: transport.conjugate_point(well, 0 * x, x, num_steps=1)
  found = jax.jit(point)(jnp.array([0.1]))
  np.testing.assert_allclose(found, [0.199], rtol=1e-5)


def test_a_cycle_weight_of_less_than_one():
  f = lambda x: jnp.sum(x**2)  # T(x) = 2 x, back the same: y -> 4 y
  x, y = jnp.array([1.0, 2.0]), jnp.array([0.5, 0.0])
  call = lambda weight: transport.non_minimax(f, f, x, y, cycle_weight=weight)
  cycle = transport.cycle(jax.grad(f), jax.grad(f), y)
  np.testing.assert_allclose(cycle, 9 * 0.25, rtol=1e-6)
  # f(x) - f(2 y), and .5 |4 y - y|^2.
  np.testing.assert_allclose(call(0.5), 5 - 1 + 0.5 * 2.25, rtol=1e-6)
  for bad in (0.0, -0.5):
    refused("cycle_weight: expected positive", call, bad)


def test_settings_beyond_their_edges():
  x = jnp.ones((4, 2))
  for bad in (0.0, -1.0, math.nan):
    refused("scale: expected", wasserstein.quadratic, jnp.sum, x, 2 * x, bad)
    refused("bound: expected", wasserstein.clip_weights, {}, bad)
  for bad in (0.0, 0.5, 1.0):
    refused("power: exp", wasserstein.divergence_penalty, jnp.sum, x[0], bad)
  refused(
    "num_directions", clouds.sliced_wasserstein, jax.random.key(0), x, x, -1
  )
  for bad in (0, -1):
    settings = dict(epsilon=0.5, max_iterations=bad)
    refused("max_iterations: expected", clouds.entropic, x, x, **settings)


def test_weights_sum_to_one_within_their_slack():
  x = jnp.ones((2, 3))
  for gap, fits in (
    (9.96e-5, True),
    (-9.96e-5, True),
    (1.004e-4, False),
    (-1.004e-4, False),
  ):
    weights = jnp.array([0.5, 0.5 + gap])
    if fits:
      np.testing.assert_array_equal(clouds._weights("a", weights, x), weights)
    else:
      refused("a: expected weights", clouds._weights, "a", weights, x)
  np.testing.assert_array_equal(
    clouds._weights("a", jnp.array([0, 1.0]), x), [0, 1]
  )
  np.testing.assert_array_equal(clouds._weights("a", None, x), [0.5, 0.5])


def test_a_bridge_of_nothing_fits_every_path():
  data, source = jnp.array([1.0, 2.0]), jnp.array([3.0, -2.0])
  x_t, velocity = flow_matching.problem(
    data,
    source,
    0 * data,
    0.25,
    path=paths.linear(),
    bridge=flow_matching.constant(0.0),
  )
  np.testing.assert_allclose(x_t, [1.5, 1.0], rtol=1e-6)
  np.testing.assert_allclose(velocity, [2.0, -4.0], rtol=1e-6)
