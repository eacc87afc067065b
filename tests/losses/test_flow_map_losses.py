"""Losses of flow maps: they vanish on the exact map of a Gaussian.

The exact map of a Gaussian and its velocity are closed forms (tests/truth), so
that each residual is 0 up to rounding, on every path; other maps have the
residual that finite differences give.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import flow_maps, paths
from jaxgen.losses import flow_maps as losses
from tests import expect
from tests.cases import by_path
from tests.truth import gaussian_maps

MARKS = (0.7, 0.5, 0.2)  # t, r, s: fractions of log(sigma / alpha)
STEP = 1e-5  # of finite differences, in float64


def times_on(path):
  return path.time(80 ** (2 * jnp.array(MARKS) - 1))


def truth(path, dtype=jnp.float64):
  """(u, v, x_t, x_r, t, r, s) of one trajectory of the Gaussian."""
  t, r, s = times_on(path)
  x_t, x_r = (gaussian_maps.state(path, when, dtype) for when in (t, r))
  velocity_fn = lambda x, t: gaussian_maps.velocity(path, x, t)
  return gaussian_maps.mean_velocity(path), velocity_fn, x_t, x_r, t, r, s


def problems(path, map_fn):
  """Each loss of a map, with the exact velocity as its teacher."""
  _, velocity_fn, x_t, x_r, t, r, s = truth(path)
  return {
    "eulerian": losses.eulerian(map_fn, x_t, t, s, velocity_fn(x_t, t)),
    "lagrangian": losses.lagrangian(map_fn, x_t, t, s, velocity_fn),
    "semigroup": losses.semigroup(map_fn, x_t, x_r, t, r, s),
    "chord": losses.chord(
      map_fn, x_t, gaussian_maps.state(path, s, jnp.float64), t, s
    ),
  }


@by_path
def test_losses_and_gradients_vanish_on_the_exact_map(path):
  with jax.enable_x64(True):
    exact = gaussian_maps.mean_velocity(path)

    def loss(theta):  # a family of maps, the exact one at theta = (1, 0)
      map_fn = lambda x, t, s: theta[0] * exact(x, t, s) + theta[1] * (t - s)
      found = problems(path, map_fn)
      scales = {k: jnp.mean(p.target**2) for k, p in found.items()}
      return {k: losses.regression(p) / scales[k] for k, p in found.items()}

    at = jnp.array([1.0, 0.0])
    values, slopes = jax.jit(lambda at: (loss(at), jax.jacrev(loss)(at)))(at)
    off = jax.jit(loss)(jnp.array([1.1, 0.0]))
    for name, value in values.items():
      assert value < 1e-16, name
      np.testing.assert_allclose(slopes[name], 0, atol=1e-7, err_msg=name)
      assert off[name] > 1e-7, name


def bent(x, t, s):
  """A map that is not exact, smooth in all of its arguments."""
  return jnp.sin(x) * (1 + t) + jnp.cos(s * x) - 0.3 * t * s


def central(fn, at):
  return (fn(at + STEP) - fn(at - STEP)) / (2 * STEP)


def test_derivatives_are_those_of_finite_differences():
  path = paths.linear()
  with jax.enable_x64(True):
    _, velocity_fn, x_t, _, t, _, s = truth(path)
    velocity = velocity_fn(x_t, t)
    found = losses.eulerian(bent, x_t, t, s, velocity)
    rate = central(lambda h: bent(x_t + h * velocity, t + h, s), 0.0)
    np.testing.assert_allclose(found.value, bent(x_t, t, s))
    np.testing.assert_allclose(
      found.target, velocity - (t - s) * rate, rtol=1e-8
    )
    half = losses.eulerian(
      bent, x_t, t, s, velocity, tangent=2 * x_t, warmup=0.25
    )
    rate = central(lambda h: bent(x_t + 2 * h * x_t, t + h, s), 0.0)
    np.testing.assert_allclose(
      half.target, velocity - 0.25 * (t - s) * rate, rtol=1e-8
    )
    found = losses.lagrangian(bent, x_t, t, s, velocity_fn)
    rate = central(lambda s: x_t + (s - t) * bent(x_t, t, s), s)
    np.testing.assert_allclose(found.value, rate, rtol=1e-8)
    place = x_t + (s - t) * bent(x_t, t, s)
    np.testing.assert_allclose(found.target, velocity_fn(place, s))


def test_at_equal_times_it_is_flow_matching():
  x, velocity, t = jnp.array([0.3, -1.0]), jnp.array([1.0, 2.0]), 0.4
  found = losses.eulerian(bent, x, t, t, velocity)
  np.testing.assert_allclose(found.target, velocity)
  np.testing.assert_allclose(found.value, bent(x, t, t), rtol=1e-6)


@by_path
def test_the_discrete_gradient_tends_to_the_continuous_one(path):
  """Consistency with steps t - r, over them, against the Eulerian gradient."""
  with jax.enable_x64(True):
    _, velocity_fn, x_t, _, t, _, s = truth(path)
    velocity = velocity_fn(x_t, t)

    def gradient(problem_of):
      def loss(theta):
        map_fn = lambda x, t, s: theta * bent(x, t / path.t_max, s)
        return losses.regression(problem_of(map_fn))

      return jax.jit(jax.grad(loss))(1.0)

    smooth = gradient(lambda u: losses.eulerian(u, x_t, t, s, velocity))
    errors = []
    for step in (1e-3, 1e-4):
      r = t - step * (t - s)
      x_r = gaussian_maps.state(path, r, jnp.float64)
      rough = gradient(
        lambda u, x_r=x_r, r=r: losses.semigroup(u, x_t, x_r, t, r, s)
      )
      errors.append(abs(rough * (t - s) / (t - r) / smooth - 1))
    assert errors[1] < 1e-3 and errors[1] < errors[0] / 5


def test_the_mean_over_pairs_is_the_problem_of_the_velocity():
  """MeanFlow's target is linear in the conditional velocity."""
  x, t, s = jnp.array([0.3, -1.0]), 0.7, 0.2
  many = jnp.array([[1.0, 2.0], [-3.0, 0.5], [0.2, 0.1]])
  of = lambda v: losses.eulerian(bent, x, t, s, v).target
  np.testing.assert_allclose(
    jax.vmap(of)(many).mean(0), of(many.mean(0)), rtol=1e-5
  )


def test_a_shortcut_is_two_jumps_of_half_the_way():
  x, t, s = jnp.array([0.3, -1.0]), 0.8, 0.2
  r = 0.5
  x_r = flow_maps.jump(bent, x, t, r)
  other = lambda x, t, s: 2 * bent(x, t, s)
  found = losses.semigroup(bent, x, x_r, t, r, s)
  expected = (bent(x, t, r) + bent(x_r, r, s)) / 2
  np.testing.assert_allclose(found.target, expected, rtol=1e-5)
  found = losses.semigroup(bent, x, x_r, t, r, s, teacher_fn=other)
  expected = (bent(x, t, r) + other(x_r, r, s)) / 2
  np.testing.assert_allclose(found.target, expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["eulerian", "lagrangian", "semigroup"])
def test_targets_have_no_gradient(name):
  x, t, r, s = jnp.array([0.3, -1.0]), 0.8, 0.5, 0.2

  def target(theta):
    map_fn = lambda x, t, s: theta * bent(x, t, s)
    made = {
      "eulerian": lambda: losses.eulerian(map_fn, x, t, s, theta * x),
      "lagrangian": lambda: losses.lagrangian(
        map_fn, x, t, s, flow_maps.velocity(map_fn)
      ),
      "semigroup": lambda: losses.semigroup(map_fn, x, theta * x, t, r, s),
    }[name]()
    return jnp.sum(made.target)


def test_scales_by_hand():
  value, target = jnp.array([1.0, 2.0]), jnp.array([0.0, 4.0])
  problem = losses.Problem(value, target)
  q = (1 + 4) / 2

  def both(scale):
    loss = lambda value: losses.regression(losses.Problem(value, target), scale)
    return losses.regression(problem, scale), jax.grad(loss)(value)

  for scale, w in (
    (jnp.ones_like, 1),
    (losses.adaptive(0.5, 0.1), (q + 0.1) ** -0.5),
    (losses.adaptive(), 1 / (q + 1e-3)),
    (losses.normalised(0.2), 1 / (np.sqrt(q) + 0.2)),
  ):
    loss, gradient = both(scale)
    np.testing.assert_allclose(loss, w * q, rtol=1e-6)
    np.testing.assert_allclose(gradient, w * (value - target), rtol=1e-6)
  # Power 1/2 is the gradient of the pseudo-Huber loss.
  huber = lambda v: jnp.sqrt(jnp.mean((v - target) ** 2) + 0.1)
  np.testing.assert_allclose(
    both(losses.adaptive(0.5, 0.1))[1], 2 * jax.grad(huber)(value), rtol=1e-5
  )
  same = losses.Problem(value, value)
  assert losses.regression(same, losses.normalised()) == 0


def test_bad_input():
  x, t, s = jnp.ones(2), 0.7, 0.2
  said = "s: expected at most t = 0.2, as maps go from noise to data, got 0.7"
  expect.error(said, losses.eulerian, bent, x, s, t, x)
  expect.error(said, losses.chord, bent, x, x, s, t)
  expect.error(r"t: expected shape \(\)", losses.eulerian, bent, x, x, s, x)
  shapes = r"expected shape \(2,\), got \(3,\)"
  three = jnp.ones(3)
  expect.error(f"velocity: {shapes}", losses.eulerian, bent, x, t, s, three)
  expect.error(f"x_r: {shapes}", losses.semigroup, bent, x, three, t, 0.5, s)
  expect.error(f"x_s: {shapes}", losses.chord, bent, x, three, t, s)
  wrong = losses.Problem(x, three)
  expect.error(f"target: {shapes}", losses.regression, wrong)
  said = "power, offset: expected a power of at least 0 and a positive offset"
  expect.error(said, losses.adaptive, 1.0, 0.0)
  expect.error("offset: expected a positive number", losses.normalised, -1.0)
