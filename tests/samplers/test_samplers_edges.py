"""Samplers and grids of settings at their edges, in closed form."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import fields, paths, samplers
from jaxgen.samplers import fitting, grids

GRIDS = (
  grids.karras,
  grids.log_snr,
  grids.uniform,
  grids.cosine,
  grids.sigmoid,
  grids.shifted,
)


def refused(match, call, *args, **kwargs):
  with pytest.raises(ValueError, match=match) as caught:
    call(*args, **kwargs)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: grid.__name__)
def test_a_grid_of_one_step_is_its_two_ends(grid):
  found = grid(paths.edm(), 1, ratio_min=0.25, ratio_max=0.75)
  np.testing.assert_array_equal(found, np.float32([0.75, 0.25]))
  for number in (0, -1):
    refused("num_steps: expected at least 1", grid, paths.edm(), number)


def test_middles_of_grids_at_their_edges():
  """Ratios at the middle of two steps between ratios 4 and 1 / 4."""
  ends = dict(ratio_min=0.25, ratio_max=4.0)
  middle = lambda grid, **settings: grid(paths.edm(), 2, **ends, **settings)[1]
  close = lambda found, truth: np.testing.assert_allclose(
    found, truth, rtol=2e-6
  )
  close(middle(grids.karras, rho=1.0), 2.125)
  close(middle(grids.karras, rho=0.5), math.sqrt((16 + 1 / 16) / 2))
  close(middle(grids.log_snr), 1.0)
  close(middle(grids.uniform), 2.125)  # of EDM's time, which is the ratio
  angle = (math.atan(4) + math.atan(0.25)) / 2
  close(middle(grids.cosine, offset=0.0), math.tan(angle))
  refused("offset", middle, grids.cosine, offset=-1e-3)
  refused("offset", middle, grids.cosine, offset=math.inf)
  # alpha^2 falls as 1 - sigmoid: its middle is where all are symmetric.
  for settings in (dict(tau=0.5), dict(start=-0.5, end=0.5)):
    close(middle(grids.sigmoid, **settings), 1.0)
  for bad in (0.0, -1.0, math.inf, math.nan):
    refused("tau: expected", middle, grids.sigmoid, tau=bad)
    refused("shift: expected", middle, grids.shifted, shift=bad)
  for bad in ((1.0, 1.0), (1.0, 0.0), (-math.inf, 1.0), (0.0, math.nan)):
    settings = dict(zip(("start", "end"), bad, strict=True))
    refused("start, end: expected", middle, grids.sigmoid, **settings)


def test_edges_of_a_fitted_grid():
  path, key = paths.edm(), lambda: jax.random.key(0)
  field = fields.Field(lambda x, t: fields.Estimate(x, data=x), path)
  check = lambda field, shape, *numbers: grids._check_fitted(
    field, jnp.ones(shape), numbers[0], key(), *numbers[1:]
  )
  check(field, (2, 1), 4, 4, 0)
  refused("x: expected shape", check, field, (1, 1), 4, 4, 0)
  refused("x: expected shape", check, field, (3,), 4, 4, 0)
  refused("num_candidates: expected at least", check, field, (2, 1), 4, 3, 0)
  refused("num_refinements: expected", check, field, (2, 1), 4, 4, -1)
  for name in ("velocity", "data"):
    lacks = lambda x, t, name=name: field(x, t)._replace(**{name: None})
    call = fields.Field(lacks, path), (2, 1), 4, 4, 0
    refused(f"field: expected {name}", check, *call)


def test_settings_of_solvers_at_their_edges():
  for make, low, high in (
    (samplers.adams_bashforth, 2, 4),
    (samplers.deis, 2, 4),
    (samplers.unipc, 2, 5),
  ):
    for order in range(low, high + 1):
      make(order)
    for order in (low - 1, high + 1, 0, -1):
      refused("expected order", make, order)
  for eta in (0.0, 0.5, 1.0):
    assert samplers.ddim(eta).num_calls(5) == 5
  for make in (samplers.dpmpp_sde, samplers.dpmpp_2m_sde):
    for eta in (0.0, 0.5, 2.0):
      make(eta)
    for bad in (-0.1, math.nan):
      refused("expected eta", make, bad)
  for bad in (-0.1, 1.001, math.nan):
    refused("expected eta", samplers.ddim, bad)
  samplers.churn(0.0)
  samplers.churn(0.5, 0.0, 0.5)
  samplers.churn(0.5, 1.0, 1.0)
  for bad in ((1.0, 0.99), (-0.1, 1.0), (math.nan, 1.0)):
    refused("ratio_min, ratio_max", samplers.churn, 1.0, *bad)
  refused("amount", samplers.churn, -1e-3)
  for snr in (1e-3, 0.5, 2.0):
    samplers.annealed(1, snr)
    samplers.predictor_corrector(samplers.ddim(), 1, snr)
  for bad in (0.0, -0.1, math.nan):
    refused("snr", samplers.annealed, 1, bad)
    refused("friction", samplers.baoab, bad)
  samplers.baoab(1e-3)


def test_churn_stays_within_its_ratios_and_below_its_limit():
  """On EDM's path: to (1 + gamma) t, by noise t sqrt(gamma (2 + gamma))."""
  times = jnp.array([4.0, 2.0, 1.0, 0.5])
  plan = samplers.churn(0.3, 1.0, 2.0, 1.5).plan(paths.edm(), times)
  close = lambda found, truth: np.testing.assert_allclose(
    found, truth, rtol=2e-6
  )
  close(plan["t"], [4, 2.2, 1.1])
  close(plan["dt"], [-2, -1.2, -0.6])
  close(plan["std"], 1.5 * math.sqrt(0.21) * np.array([0, 2, 1]))
  # At most gamma = sqrt(2) - 1, where the variance doubles.
  plan = samplers.churn(100.0).plan(paths.edm(), times)
  close(plan["t"], math.sqrt(2) * times[:-1])
  close(plan["std"], times[:-1])


def test_the_error_at_the_end_is_that_of_the_last_denoise():
  """Nothing moves and the denoise is t x: last t times x, less the data."""
  at = lambda x, t: fields.Estimate(velocity=0 * x, data=t * x)
  field = fields.Field(at, paths.edm())
  error = fitting.error_at_end(
    field, samplers.euler(), lambda share: 5 - 4 * share
  )
  x, data = jnp.array([1.0, -2.0]), jnp.array([0.5, 0.5])
  logits = jnp.zeros(4)
  found = jax.jit(error)(logits, (x, data, jax.random.key(0)))
  np.testing.assert_allclose(found, [0.5, -2.5], rtol=1e-5)


def test_calls_of_the_solvers_of_a_stationary_density():
  """Each is run and its evaluations counted: some begin with one more."""
  normal = fields.from_log_density(lambda x: -jnp.sum(x**2) / 2)
  solvers = (
    samplers.mala(),
    samplers.baoab(),
    samplers.annealed(3),
    samplers.predictor_corrector(samplers.ancestral(), 2),
  )
  calls = []

  def counted(n):
    def estimate(x, t):
      jax.debug.callback(lambda t: calls.append(n), t)
      return normal(x, t)._replace(data=0 * x)

    return fields.Field(estimate, paths.edm())

  @jax.jit
  def run(x, times):
    keys = jax.random.split(jax.random.key(0), len(solvers))
    return [
      samplers.integrate(solver, counted(n), x, times, keys[n])
      for n, solver in enumerate(solvers)
    ]

  jax.block_until_ready(run(jnp.ones(1), jnp.array([2.0, 1.5, 1.0, 0.5])))
  jax.effects_barrier()
  found = [calls.count(n) for n in range(len(solvers))]
  assert found == [solver.num_calls(3) for solver in solvers] == [4, 4, 9, 9]
