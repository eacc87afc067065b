"""The stochastic solvers' exact affine recursion, and its limit.

tests/truth/recursion.py says how the maps of the steps are probed and what they
converge to; docs/results/orders.md has the same figures. No Monte Carlo.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import samplers
from tests.samplers.menu import NORMAL
from tests.truth import mixture, orders, recursion

DOWN = orders.RATIO_MAX, orders.RATIO_MIN
claims = orders.stochastic()
every_solver = pytest.mark.parametrize(
  "claim", claims, ids=[claim.solver.name for claim in claims]
)


def _errors(name, solver, ratios=DOWN):
  given = name, solver, ratios, orders.NUM_STEPS
  with jax.enable_x64(True):
    errors, truth = recursion.moment_errors(*given)
  return errors[0], truth


def _order(values):
  return mixture.order(orders.NUM_STEPS, np.abs(values))


@every_solver
@pytest.mark.parametrize("name", orders.STOCHASTIC_PATHS)
def test_moments_converge_to_the_marginal(name, claim):
  solver, order = claim.solver, claim.order
  errors, (mean, variance) = _errors(name, solver)
  assert order - 0.15 <= _order(errors[:, 1]) <= order + 0.15
  if np.abs(errors[:, 0]).max() > 1e-11:  # elsewhere the mean is exact
    assert _order(errors[:, 0]) >= order - 0.15
  assert (np.abs(errors[-1]) < 0.02 * np.array([mean, variance])).all()
  # The limit itself, by Richardson's extrapolation of the stated order.
  factor = 2.0**order
  limit = (factor * errors[-1] - errors[-2]) / (factor - 1)
  assert np.abs(limit).max() < 2e-4 * variance


@every_solver
def test_one_percent_in_any_coefficient_is_seen(claim):
  solver, order = claim.solver, claim.order
  few = (192, 384)
  with jax.enable_x64(True):
    plan_of = lambda times: solver.plan(mixture.jaxgen_path("vp"), times)
    plan = jax.eval_shape(plan_of, np.linspace(0.9, 0.1, 5))
    leaves, _ = jax.tree.flatten_with_path(plan)
    scales = 1 + 0.01 * np.eye(len(leaves))
    found, _ = recursion.moment_errors("vp", solver, DOWN, few, scales)
  for (place, _), errors in zip(leaves, found, strict=True):
    # By the mean, where the variance does not see it, or the other way round.
    sizes = [np.abs(e) for e in errors.T if np.abs(e).max() > 1e-9]
    seen = [mixture.order(few, e) < order - 0.15 for e in sizes]
    assert any(seen), (jax.tree_util.keystr(place), errors)


@pytest.mark.parametrize("name", ["edm", "linear"])
def test_euler_maruyama_keeps_the_marginals_upward_too(name):
  errors, (_, variance) = _errors(name, samplers.euler_maruyama(), DOWN[::-1])
  assert _order(errors[:, 1]) >= 0.85
  assert abs(errors[-1, 1]) < 0.05 * variance


def test_euler_maruyama_with_a_rate_of_ones_own():
  # Half the noise of the default: another SDE of the same marginals.
  path = mixture.jaxgen_path("linear")
  solver = samplers.euler_maruyama(lambda t: path.diffusion(t) / 4)
  errors, (_, variance) = _errors("linear", solver)
  assert _order(errors[:, 1]) >= 0.85
  assert abs(errors[-1, 1]) < 0.02 * variance


@pytest.mark.parametrize("h", [0.1, 0.5])
def test_stationary_density_gives_unadjusted_langevin(h):
  # x += h score + sqrt(2 h) z on N(0, 1): variance 1 / (1 - h / 2).
  solver = samplers.euler_maruyama(jnp.ones_like)
  with jax.enable_x64(True):
    times = jnp.arange(401) * h
    run = jax.jit(lambda times: recursion.affine(solver, NORMAL, times))
    maps = run(times)
    mean, variance = recursion.moments(maps, 3.0, 0.2)
  np.testing.assert_allclose(maps[0][:, 0, 0], 1 - h, rtol=1e-12)
  np.testing.assert_allclose(mean, 0, atol=1e-12)
  np.testing.assert_allclose(variance, 1 / (1 - h / 2), rtol=1e-12)


@pytest.mark.parametrize(
  "one, other",
  [
    (samplers.euler_maruyama(jnp.zeros_like), samplers.euler()),
    (samplers.churn(0.0), samplers.heun()),
    (samplers.ddim(1.0), samplers.ancestral()),
    (samplers.dpmpp_sde(0.0), samplers.dpmpp_2s()),
    (samplers.dpmpp_2m_sde(0.0), samplers.dpmpp_2m()),
  ],
  ids=lambda solver: solver.name,
)
def test_what_they_are_at_the_ends_of_their_settings(one, other):
  """Of the same draws, on the mixture, in float64."""
  path = mixture.jaxgen_path("vp")
  field = mixture.field(path)

  @jax.jit
  def run(x, times):
    key = jax.random.key(3)
    both = (one, other)
    return [samplers.integrate(s, field, x, times, key) for s in both]

  with jax.enable_x64(True), jax.debug_key_reuse(False):
    times = samplers.grids.log_snr(path, 8)
    ends = run(jnp.asarray(mixture.POINTS[0]), times)
  np.testing.assert_allclose(*ends, rtol=1e-10)
