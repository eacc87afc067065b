"""Fitted orders of the deterministic solvers against SciPy's flow.

Data: the mixture of width .3. Noise ratios 10 to .05, uniform in log ratio,
N = 32 to 256, float64, all five paths, both directions of time. Truth: DOP853
on velocities coded by hand. Every N runs in one program: shorter grids repeat
their last time, and a step of length zero changes nothing.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import mixture
from jaxgen import samplers

NUM_STEPS = (32, 64, 128, 256)
RATIO_MIN, RATIO_MAX = 0.05, 10.0
LEAST = {"euler": 0.9, "ddim": 0.9, "heun": 1.9}


def _grids(path, encode):
  grids = []
  for n in NUM_STEPS:
    times = np.asarray(samplers.grids.log_snr(path, n, RATIO_MIN, RATIO_MAX))
    times = times[::-1] if encode else times
    grids.append(np.pad(times, (0, NUM_STEPS[-1] - n), mode="edge"))
  return jnp.asarray(np.stack(grids))


def _starts_and_truths(name, encode):
  ends = [mixture.time(name, ratio) for ratio in (RATIO_MAX, RATIO_MIN)]
  start, end = ends[::-1] if encode else ends
  s = mixture.scales(name)
  starts = mixture.POINTS * np.hypot(s.alpha(start), s.sigma(start))
  truths = [mixture.flow(name, x, start, end) for x in starts]
  return starts, np.stack(truths)


def fitted(name):
  """Fitted order by (solver, encode) on one path."""
  path = mixture.jaxgen_path(name)
  field = mixture.field(path)

  @jax.jit
  def ends(x, times):
    def one(x, times, solver):
      key = jax.random.key(0)
      return samplers.integrate(solver, field, x, times, key)

    run = {}
    for solver in (samplers.euler(), samplers.ddim(), samplers.heun()):
      over_x = jax.vmap(lambda x, times: one(x, times, solver), (0, None))
      run[solver.name] = jax.vmap(over_x, (None, 0))(x, times)
    return run

  orders = {}
  for encode in (False, True):
    starts, truths = _starts_and_truths(name, encode)
    run = ends(jnp.asarray(starts), _grids(path, encode))
    for solver, values in run.items():
      errors = np.sqrt(np.mean((values - truths[None]) ** 2, (1, 2)))
      assert errors[-1] < 0.02 * np.abs(truths).max(), (solver, errors)
      orders[solver, encode] = mixture.order(NUM_STEPS, errors)
  return orders


@pytest.mark.parametrize("name", mixture.NAMES)
def test_fitted_order_against_scipy(name):
  with jax.enable_x64(True):
    orders = fitted(name)
  print(name, {key: round(float(p), 3) for key, p in orders.items()})
  for (solver, encode), value in orders.items():
    assert value >= LEAST[solver], (solver, encode, value)
    assert value <= LEAST[solver] + 0.3, (solver, encode, value)
