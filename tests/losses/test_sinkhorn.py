"""The Sinkhorn divergence at small epsilon, and what it says of its error."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special
from scipy.spatial import distance

from jaxgen.losses import clouds, sinkhorn
from tests.losses.test_clouds import (
  by_sinkhorn,
  draws,
  gaussian,
  of_gaussians,
)


def pair(number, dim=2, offset=0.0):
  x, y = draws(number, dim), 0.7 * draws(number, dim, seed=1) + 0.5
  return x + offset, y + offset


def transport(x, y):
  """W2^2 and its slope in x, by SciPy's assignment."""
  table = distance.cdist(x, y, "sqeuclidean")
  order = optimize.linear_sum_assignment(table)[1]
  return table[np.arange(len(x)), order].mean(), 2 * (x - y[order]) / len(x)


@jax.jit
def at_small(x, y):
  """At 1e-3 with little time, at 1e-4 with its slope."""

  def run(x, **options):
    found = clouds.sinkhorn_divergence(x, y, **options)
    return found.value, found

  (_, found), slope = jax.value_and_grad(run, has_aux=True)(x, epsilon=1e-4)
  short = run(x, epsilon=1e-3, max_iterations=30)[1]
  return run(x, epsilon=1e-3)[1], found, slope, short


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_small_epsilon_is_the_transport_of_scipys_assignment(dtype):
  """Within epsilon log N: that far entropy can move each of the plans."""
  x, y = pair(24)
  truth, pull = transport(x, y)
  with jax.enable_x64(dtype == np.float64):
    *found, slope, short = jax.device_get(
      at_small(jnp.asarray(x, dtype), jnp.asarray(y, dtype))
    )
  for result, epsilon in zip(found, (1e-3, 1e-4), strict=True):
    assert result.value.shape == result.error.shape == ()
    assert result.value.dtype == result.error.dtype == dtype
    np.testing.assert_allclose(result.value, truth, atol=epsilon * np.log(24))
    assert result.error < 0.02
  np.testing.assert_allclose(found[1].value, truth, rtol=3e-4)
  np.testing.assert_allclose(slope, pull, atol=0.05 * abs(pull).max())
  assert short.error > 0.1


def test_a_small_epsilon_is_numpys():
  x, y, epsilon = draws(6, 2), 0.5 * draws(5, 2, seed=1) + 1, 0.06

  def between(x, y):
    table = distance.cdist(x, y, "sqeuclidean")
    a, b = (np.full(len(z), 1 / len(z)) for z in (x, y))
    value, plan, _ = by_sinkhorn(table, a, b, epsilon, number=4000)
    np.testing.assert_allclose(plan.sum(1), a, rtol=1e-5)  # converged
    return value

  truth = between(x, y) - (between(x, x) + between(y, y)) / 2
  found = jax.jit(
    lambda x, y: clouds.sinkhorn_divergence(x, y, epsilon=epsilon)
  )(jnp.float32(x), jnp.float32(y))
  np.testing.assert_allclose(found.value, truth, rtol=2e-5)
  assert found.error < 3e-4


def test_divergence_between_gaussians_is_the_closed_form():
  @jax.jit
  def run(x, y, a, b):
    value = lambda epsilon: clouds.sinkhorn_divergence(
      x, y, epsilon=epsilon, a=a, b=b
    )
    return value(0.05), value(1.0)

  with jax.enable_x64(True):
    (x, a), (y, b) = gaussian(0.4, 0.8), gaussian(-0.5, 1.1)
    both = jax.device_get(run(x, y, a, b))
  for found, epsilon in zip(both, (0.05, 1.0), strict=True):
    of = lambda *law, epsilon=epsilon: of_gaussians(*law, epsilon)
    truth = of(0.81, 0.64, 1.21) - (of(0, 0.64, 0.64) + of(0, 1.21, 1.21)) / 2
    np.testing.assert_allclose(found.value, truth, rtol=1e-4)
    assert found.error < 3e-4


def test_an_error_says_what_did_not_converge():
  """In whichever of the three plans; the margins of NumPy's plan."""

  @jax.jit
  def run(x, y, far):
    few = dict(epsilon=0.01, max_iterations=3)
    plans = [clouds.entropic(x, z, **few) for z in (y, far)]
    return *plans, clouds.sinkhorn_divergence(x, far, **few)

  x, y = (np.float32(z) for z in pair(24))
  # Points all at one place are easily reached: only x's own plan is hard.
  plan, easy, found = jax.device_get(run(x, y, 0 * x + 20))
  paid = distance.cdist(x, y, "sqeuclidean")
  p = np.exp((plan.first[:, None] + plan.second - paid) / 0.01) / 576
  error = abs(p.sum(0) - 1 / 24).sum() + abs(p.sum(1) - 1 / 24).sum()
  np.testing.assert_allclose(plan.error, error, rtol=0.01)
  assert easy.error < 0.02 < 0.2 < found.error


def test_far_from_the_origin_in_float32_and_strict_promotion():
  """The values of the same points moved back; no dtype is promoted."""

  def everything(x, y):
    values = dict(
      sinkhorn=clouds.sinkhorn_divergence(x, y, epsilon=0.5).value,
      entropic=clouds.entropic(x, y, epsilon=0.5).value,
      sliced=clouds.sliced_wasserstein(jax.random.key(0), x, y, 5),
      energy=clouds.energy_distance(x, y),
    )
    return sum(values.values()), values

  both = jax.jit(jax.value_and_grad(everything, has_aux=True))
  x, y = (jnp.float32(z) for z in pair(9, 3, 1e4))
  with jax.numpy_dtype_promotion("strict"):
    (_, far), slope = both(x, y)
    (_, near), truth = both(x - 1e4, y - 1e4)
  for name, value in far.items():
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, near[name], rtol=1e-5, err_msg=name)
  np.testing.assert_allclose(slope, truth, rtol=1e-4, atol=1e-5)


def test_points_of_no_weight_change_nothing():
  """Of either cloud: neither the value nor when the iterations stop."""
  x, y = (np.float32(z) for z in pair(6))
  a, again = np.float32([*[1 / 6] * 6, 0]), [*range(6), 0]
  run = jax.jit(
    lambda x, y, a: clouds.sinkhorn_divergence(
      x, y, epsilon=0.1, a=a, b=a, threshold=0.1
    )
  )
  found, truth = run(x[again], y[again], a), run(x, y, a[:6])
  assert truth.error > 1e-3
  np.testing.assert_allclose(found, truth, rtol=1e-3)


def test_overrelaxation_leaves_less_error_than_plain_iterations():
  """After the same number of them, with the same decrease of epsilon."""
  cost = distance.cdist(*pair(24), "sqeuclidean")
  epsilon, number, weights = 0.3, 120, np.full(24, 1 / 24)
  best = lambda cost, v, smoothing: (
    -smoothing * special.logsumexp((v - cost) / smoothing, 1, weights)
  )
  u = v = np.zeros(24)
  smoothing = np.ptp(cost) / 0.95
  for _ in range(number):
    smoothing = max(0.95 * smoothing, epsilon)
    u = best(cost, v, smoothing)
    v = best(cost.T, u, smoothing)

  def error(u, v):
    rows = np.exp((np.add.outer(u, v) - cost) / epsilon).mean(1)
    return np.abs(rows - 1).mean()

  with jax.enable_x64(True):
    limits = dict(epsilon=epsilon, threshold=0.0, max_iterations=number)
    found = sinkhorn.between(
      *map(jnp.asarray, (cost, weights, weights)), **limits
    )
  assert error(*map(np.asarray, found)) < 1e-3 * error(u, v)
