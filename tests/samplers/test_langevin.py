"""Langevin solvers against closed forms: Gaussians' affine recursions exactly,
other densities by quadrature.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from jaxgen import fields, samplers
from tests.samplers.menu import NORMAL
from tests.truth import mixture, orders, recursion

DOWN = orders.RATIO_MAX, orders.RATIO_MIN


def _errors(name, solver, num_steps):
  with jax.enable_x64(True):
    errors, truth = recursion.moment_errors(name, solver, DOWN, num_steps)
  return errors[0], truth


@pytest.mark.parametrize("snr", [0.1, 0.4])
@pytest.mark.parametrize("name", ["vp", "linear"])
def test_predictor_corrector_adds_what_langevin_does_at_each_level(name, snr):
  """With an exact predictor the variance over that of the marginal, V, goes as

  r -> (1 - p / V)^2 r + 2 p / V,   p = 2 (snr sigma)^2
  """
  num_steps = 400
  solver = samplers.predictor_corrector(samplers.heun(), snr=snr)
  errors, (mean, variance) = _errors(name, solver, (num_steps,))
  expected = 1.0
  for ratio in np.geomspace(*DOWN, num_steps + 1)[1:]:
    sigma = mixture.scales(name).sigma(mixture.time(name, ratio))
    push = 2 * (snr * sigma) ** 2 / recursion.marginal(name, ratio)[1]
    expected = (1 - push) ** 2 * expected + 2 * push
  assert expected - 1 > 0.1 * snr**2  # there is something to see
  assert errors[0, 1] / variance == pytest.approx(expected - 1, abs=1e-4)
  assert abs(errors[0, 0]) < 1e-4 * mean


def test_annealed_follows_the_levels():
  """Every level's law is reached; what is left is Langevin's own bias."""
  errors, (mean, variance) = _errors("vp", samplers.annealed(1, 0.3), (2000,))
  assert abs(errors[0, 0]) < 0.02 * mean
  assert abs(errors[0, 1]) < 0.1 * variance
  few, _ = _errors("vp", samplers.annealed(1, 0.3), (10,))
  assert abs(few[0, 1]) > 5 * variance  # ten levels are not enough


def test_annealed_is_the_same_on_every_path():
  ends = []
  with jax.enable_x64(True):
    for name in ("edm", "vp", "linear"):
      path = mixture.jaxgen_path(name)
      field, solver = mixture.field(path), samplers.annealed(2)

      @jax.jit
      def run(times, field=field, path=path, solver=solver):
        x = path.alpha(times[0]) * jnp.array([3.0, -2.0])
        x = samplers.integrate(solver, field, x, times, jax.random.key(1))
        return x / path.alpha(times[-1])

      ends.append(np.asarray(run(samplers.grids.log_snr(path, 6, 0.1, 5.0))))
  np.testing.assert_allclose(ends[1], ends[0], rtol=1e-9)
  np.testing.assert_allclose(ends[2], ends[0], rtol=1e-9)


@pytest.mark.parametrize("dt", [0.1, 0.9])
def test_baoab_has_the_exact_variance_of_a_gaussian(dt):
  solver = samplers.baoab(friction=0.7)
  with jax.enable_x64(True):
    times = dt * jnp.arange(801)
    run = jax.jit(lambda times: recursion.affine(solver, NORMAL, times))
    mean, variance = recursion.moments(run(times), 3.0, 0.2)
  np.testing.assert_allclose(mean, 0, atol=1e-9)
  np.testing.assert_allclose(variance, 1, rtol=1e-9)


def test_baoab_without_much_friction_keeps_the_energy():
  with jax.enable_x64(True):
    solver, times = samplers.baoab(1e-9), jnp.linspace(0.0, 10.0, 2001)

    run = functools.partial(samplers.trajectory, solver, NORMAL)
    found = jax.jit(run)(jnp.array([1.0]), times, jax.random.key(5))
    states = np.asarray(found)[:, 0]
  momenta = np.gradient(states, 0.005, edge_order=2)
  energy = (states**2 + momenta**2) / 2
  assert np.ptp(energy[5:-5]) < 1e-3 * energy.mean()


def _two_hills(x, xp=jnp):
  hill = lambda center: -((x - center) ** 2) / 0.72
  return xp.sum(xp.logaddexp(hill(1.5), hill(-1.5)))


def _chains(solver, dt, num_steps=60, num_chains=4000):
  """States of chains of two coordinates each, from normal starts."""
  times = dt * jnp.arange(num_steps + 1.0)
  field = fields.from_log_density(_two_hills)

  @jax.jit
  @jax.vmap
  def run(key):
    start_key, key = jax.random.split(key)
    x = jax.random.normal(start_key, (2,))
    return samplers.integrate(solver, field, x, times, key)

  return np.asarray(run(jax.random.split(jax.random.key(0), num_chains)))


def test_mala_samples_a_density_exactly_where_ula_does_not():
  """E x^2 by quadrature, at a large step."""
  density = lambda x: np.exp(-((x - 1.5) ** 2) / 0.72)
  moment = lambda k: integrate.quad(lambda x: x**k * density(x), -4, 7)[0]
  second, fourth = moment(2) / moment(0), moment(4) / moment(0)
  error = np.sqrt((fourth - second**2) / 8000)
  mala = (_chains(samplers.mala(), 0.25) ** 2).mean()
  ula = (_chains(samplers.euler_maruyama(jnp.ones_like), 0.25) ** 2).mean()
  assert abs(mala - second) < 4 * error, (mala, second, error)
  assert abs(ula - second) > 6 * error


def test_mala_takes_what_metropolis_and_hastings_take():
  """The published acceptance in NumPy, on the same draws: 1500 decisions."""
  dt, num_steps, start = 0.4, 1500, np.array([0.7, -1.2])
  with jax.enable_x64(True):
    times, key = dt * jnp.arange(num_steps + 1.0), jax.random.key(8)
    field = fields.from_log_density(_two_hills)
    chain = functools.partial(samplers.trajectory, samplers.mala(), field)
    run = jax.jit(lambda x: chain(x, times, key))
    with jax.debug_key_reuse(False):  # the solver's draws, on purpose
      _, step_key = jax.random.split(key)

      @jax.jit
      @jax.vmap
      def draws(n):
        draw_key, accept_key = jax.random.split(jax.random.fold_in(step_key, n))
        return (
          jax.random.normal(draw_key, (2,), "float64"),
          jax.random.uniform(accept_key, (), "float64"),
        )

      normal, uniform = map(np.asarray, draws(jnp.arange(num_steps)))
    states = np.asarray(run(jnp.asarray(start)))
  log_p = lambda x: _two_hills(x, np)
  score = lambda x: (1.5 * np.tanh(1.5 * x / 0.36) - x) / 0.36
  log_q = lambda y, x: -((y - x - dt * score(x)) ** 2).sum() / (4 * dt)
  x, taken = start, 0
  for n in range(num_steps):
    y = x + dt * score(x) + np.sqrt(2 * dt) * normal[n]
    ratio = log_p(y) + log_q(x, y) - log_p(x) - log_q(y, x)
    if 1 - uniform[n] < np.exp(min(ratio, 0.0)):
      x, taken = y, taken + 1
    np.testing.assert_allclose(states[n + 1], x, rtol=1e-6, atol=1e-9)
  assert 0.2 < taken / num_steps < 0.9


def test_mala_stays_where_it_is_when_every_proposal_is_refused():
  x, times, key = (
    jnp.array([0.5, -0.2]),
    1e4 * jnp.arange(4.0),
    jax.random.key(0),
  )
  run = functools.partial(samplers.trajectory, samplers.mala(), NORMAL)
  np.testing.assert_array_equal(jax.jit(run)(x, times, key), np.tile(x, (4, 1)))


@pytest.mark.parametrize("solver", [samplers.mala(), samplers.baoab()])
def test_the_direction_of_a_stationary_grid_does_not_matter(solver):
  run = jax.jit(functools.partial(samplers.integrate, solver, NORMAL))
  times = 0.1 * jnp.arange(5.0)
  ends = [run(jnp.ones(2), t, jax.random.key(0)) for t in (times, -times)]
  np.testing.assert_allclose(*ends, rtol=1e-6)
