"""Samplers and grids of settings at their edges, in closed form."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import fields, paths, samplers
from jaxgen.samplers import fitting, grids
from tests import expect
from tests.samplers import menu

GRIDS = ("karras", "log_snr", "uniform", "cosine", "sigmoid", "shifted")


def close(found, truth):
  np.testing.assert_allclose(found, truth, rtol=2e-6)


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_of_one_step_is_its_two_ends(name):
  found = getattr(grids, name)(paths.edm(), 1, ratio_min=0.25, ratio_max=0.75)
  np.testing.assert_array_equal(found, np.float32([0.75, 0.25]))


def test_middles_of_grids_at_their_edges():
  """Ratios at the middle of two steps between ratios 4 and 1 / 4."""
  ends = dict(ratio_min=0.25, ratio_max=4.0)
  middle = lambda grid, **settings: grid(paths.edm(), 2, **ends, **settings)[1]
  close(middle(grids.karras, rho=1.0), 2.125)
  close(middle(grids.karras, rho=0.5), math.sqrt((16 + 1 / 16) / 2))
  close(middle(grids.log_snr), 1.0)
  close(middle(grids.uniform), 2.125)  # of EDM's time, which is the ratio
  angle = (math.atan(4) + math.atan(0.25)) / 2
  close(middle(grids.cosine, offset=0.0), math.tan(angle))
  # alpha^2 falls as 1 - sigmoid: its middle is where all are symmetric.
  for settings in (dict(tau=0.5), dict(start=-0.5, end=0.5)):
    close(middle(grids.sigmoid, **settings), 1.0)


def test_edges_of_a_fitted_grid():
  path, key = paths.edm(), lambda: jax.random.key(0)
  field = fields.Field(lambda x, t: fields.Estimate(x, data=x), path)
  check = lambda field, shape, *numbers: grids._check_fitted(
    field, jnp.ones(shape), numbers[0], key(), *numbers[1:]
  )
  check(field, (2, 1), 4, 4, 0)
  for name in ("velocity", "data"):
    lacks = lambda x, t, name=name: field(x, t)._replace(**{name: None})
    call = fields.Field(lacks, path), (2, 1), 4, 4, 0
    expect.error(f"field: expected {name}", check, *call)


def test_settings_of_solvers_at_their_edges():
  for make, low, high in (
    (samplers.adams_bashforth, 2, 4),
    (samplers.deis, 2, 4),
    (samplers.unipc, 2, 5),
  ):
    for order in range(low, high + 1):
      make(order)
    for order in (low - 1, high + 1, 0, -1):
      said = f"{make.__name__}: expected order {low} to {high}, got {order}"
      expect.error(said, make, order)
  for eta in (0.0, 0.5, 1.0):
    assert samplers.ddim(eta).num_calls(5) == 5
  for make in (samplers.dpmpp_sde, samplers.dpmpp_2m_sde):
    for eta in (0.0, 0.5, 2.0):
      make(eta)
    for bad in (-0.1, math.nan):
      expect.error(f"{make.__name__}: expected eta in", make, bad)
  for bad in (-0.1, 1.001, 1.5, math.nan):
    expect.error(rf"expected eta in \[0, 1\], got {bad}", samplers.ddim, bad)
  samplers.churn(0.0)
  samplers.churn(0.5, 0.0, 0.5)
  samplers.churn(0.5, 1.0, 1.0)
  for bad in ((1.0, 0.99), (-0.1, 1.0), (math.nan, 1.0), (0.0, math.nan)):
    expect.error("ratio_min, ratio_max: expected", samplers.churn, 1.0, *bad)
  for bad in (-1.0, -1e-3, math.nan):
    expect.error("amount: expected a number >= 0", samplers.churn, bad)
  for number in (0, -1):
    corrected = samplers.predictor_corrector, samplers.ddim(), number
    expect.error("expected num_corrections of at", *corrected)
    expect.error("expected num_corrections of at", samplers.annealed, number)
  for snr in (1e-3, 0.5, 2.0):
    samplers.annealed(1, snr)
    samplers.predictor_corrector(samplers.ddim(), 1, snr)
  for bad in (0.0, -0.1, math.nan):
    expect.error("annealed: expected a positive snr", samplers.annealed, 1, bad)
    expect.error("baoab: expected a positive friction", samplers.baoab, bad)
  samplers.baoab(1e-3)


def test_churn_stays_within_its_ratios_and_below_its_limit():
  """On EDM's path: to (1 + gamma) t, by noise t sqrt(gamma (2 + gamma))."""
  times = jnp.array([4.0, 2.0, 1.0, 0.5])
  plan = samplers.churn(0.3, 1.0, 2.0, 1.5).plan(paths.edm(), times)
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
  time_fn = lambda share: 5 - 4 * share
  error = fitting.error_at_end(field, samplers.euler(), time_fn)
  x, data = jnp.array([1.0, -2.0]), jnp.array([0.5, 0.5])
  logits = jnp.zeros(4)
  found = jax.jit(error)(logits, (x, data, jax.random.key(0)))
  np.testing.assert_allclose(found, [0.5, -2.5], rtol=1e-5)


def test_calls_of_the_solvers_of_a_stationary_density():
  """Each is run and its evaluations counted: some begin with one more."""
  solvers = (
    samplers.mala(),
    samplers.baoab(),
    samplers.annealed(3),
    samplers.predictor_corrector(samplers.ancestral(), 2),
  )
  estimate = lambda x, t: menu.NORMAL(x, t)._replace(data=0 * x)
  field = fields.Field(estimate, paths.edm())
  pairs = [(solver, *menu.counted(field)) for solver in solvers]

  @jax.jit
  def run(x, times):
    keys = jax.random.split(jax.random.key(0), len(solvers))
    return [
      samplers.integrate(solver, field, x, times, key)
      for (solver, field, _), key in zip(pairs, keys, strict=True)
    ]

  jax.block_until_ready(run(jnp.ones(1), jnp.array([2.0, 1.5, 1.0, 0.5])))
  jax.effects_barrier()
  found = [len(calls) for *_, calls in pairs]
  assert found == [solver.num_calls(3) for solver in solvers] == [4, 4, 9, 9]
