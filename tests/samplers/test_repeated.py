"""Repeated times are steps of length zero, for every solver, up and down."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from jaxgen import fields, paths, samplers
from tests import expect
from tests.samplers.menu import DETERMINISTIC, NORMAL, SOLVERS
from tests.truth import mixture

PATH = mixture.jaxgen_path("linear")
X = np.array([0.9, -1.4])
DOWN = mixture.time("linear", 8.0), mixture.time("linear", 0.05)


def _grid(up=False):
  """36 steps, of which one at the start, two inside and one at the end stay."""
  ratios = jnp.geomspace(8.0, 0.05, 33)[jnp.array(_REPEATS)]
  times = np.asarray(PATH.time(ratios))
  return times[::-1] if up else times


_REPEATS = sorted([*range(33), 0, 10, 10, 32])


@functools.cache
def _run(name):
  """The states at every time, one program a solver."""

  @jax.jit
  def run(x, times, key):
    field = mixture.field(PATH)
    return samplers.trajectory(SOLVERS[name], field, x, times, key)

  return lambda times: np.asarray(
    run(jnp.asarray(X, "float32"), jnp.asarray(times), jax.random.key(1))
  )


@pytest.mark.parametrize("name", SOLVERS)
def test_a_repeated_time_changes_nothing(name):
  times = _grid()
  states = _run(name)(times)
  assert states.shape == (37, 2) and states.dtype == np.float32
  assert np.isfinite(states).all()
  still = np.diff(times) == 0
  assert still.sum() == 4
  moved = np.abs(np.diff(states, axis=0)).max(1)
  if "annealed" in name or "corrector" in name or name == "churn":
    return  # which draw at a level, and not along the step
  # UniPC's second visit of a time corrects the state that it predicted there.
  assert moved[still].max() < (1e-2 if "unipc" in name else 1e-6)
  if name in DETERMINISTIC:
    limit = {"euler": 0.3, "ddim": 0.1}.get(name, 0.03)
    upward = _run(name)(_grid(up=True))
    assert np.isfinite(upward).all()
    for way, end in ((DOWN, states[-1]), (DOWN[::-1], upward[-1])):
      truth = mixture.flow("linear", X, *way)
      np.testing.assert_allclose(end, truth, atol=limit * np.abs(truth).max())


def _weights(nodes, start, end, rate):
  """int exp(-rate (end - tau)) l_j(tau) dtau by SciPy's quad."""
  found = []
  for j, node in enumerate(nodes):
    others = np.delete(nodes, j)
    line = lambda tau, o=others, node=node: np.prod((tau - o) / (node - o))
    value = lambda tau, line=line: np.exp(-rate * (end - tau)) * line(tau)
    found.append(integrate.quad(value, start, end, epsabs=1e-13)[0])
  return found


# name: estimate, order, rate, and (t, end) -> keep, gain on alpha = 1 - t.
SCALES = {
  "adams_bashforth(3)": ("velocity", 3, 0.0, lambda t, end: (1, 1)),
  "deis(3)": ("noise", 3, -1.0, lambda t, end: ((1 - end) / (1 - t), -end)),
  "dpmpp_2m": ("data", 2, 1.0, lambda t, end: (end / t, 1 - end)),
}


@pytest.mark.parametrize("name", SCALES)
def test_multistep_methods_use_the_distinct_times_behind(name):
  """The method in NumPy, of the nodes that are left among the last few."""
  estimate, order, rate, scales = SCALES[name]
  times = np.array([0.9, 0.8, 0.8, 0.6, 0.5, 0.5, 0.5, 0.3, 0.2])
  tau = times if name[0] == "a" else np.log((1 - times) / times)
  wave = lambda x, t, xp: xp.sin(3 * x + t)
  solver = samplers.adams_bashforth(3) if name[0] == "a" else SOLVERS[name]

  @jax.jit
  def run(x, times):
    only = lambda x, t: fields.Estimate(**{estimate: wave(x, t, jnp)})
    field, key = fields.Field(only, paths.linear()), jax.random.key(0)
    return samplers.trajectory(solver, field, x, times, key)

  x, past, truth = X, [], [X]
  for n in range(8):
    past = [(tau[n], wave(x, times[n], np)), *past][:order]
    nodes = {}  # the newest of each time
    for clock, value in past:
      nodes.setdefault(clock, value)
    w = _weights(np.array([*nodes]), tau[n], tau[n + 1], rate)
    if name == "dpmpp_2m" and len(nodes) == 2:  # algorithm 2's slope
      h, behind = tau[n + 1] - tau[n], tau[n] - [*nodes][1]
      slope = -np.expm1(-h) * h / (2 * behind)
      w = [-np.expm1(-h) + slope, -slope]
    keep, gain = scales(times[n], times[n + 1])
    parts = [a * v for a, v in zip(w, nodes.values(), strict=True)]
    x = keep * x + gain * sum(parts)
    truth.append(x)
  with jax.enable_x64(True):
    found = run(jnp.asarray(X), jnp.asarray(times))
  np.testing.assert_allclose(found, truth, rtol=1e-9, atol=1e-11)


def test_stationary_chains_stay_for_a_step_of_length_zero():
  times = jnp.asarray([0.0, 0.2, 0.2, 0.5])
  for solver in (samplers.mala(), samplers.baoab()):
    run = functools.partial(samplers.trajectory, solver, NORMAL)
    states = jax.jit(run)(jnp.asarray(X), times, jax.random.key(0))
    np.testing.assert_array_equal(states[1], states[2])
    assert (np.abs(np.diff(states, axis=0))[[0, 2]] > 1e-3).all()


@pytest.mark.parametrize("num_steps, ratio_max", [(250, 1e6), (100, 3e7)])
def test_grids_that_repeat_in_their_dtype_are_refused(num_steps, ratio_max):
  grid = samplers.grids.karras
  pattern = r"num_steps: expected times that differ in float32, got \d+ repeat"
  expect.error(pattern, grid, PATH, num_steps, ratio_max=ratio_max)
  with jax.enable_x64(True):
    times = grid(PATH, num_steps, ratio_max=ratio_max)
  assert times.shape == (num_steps + 1,) and (np.diff(times) < 0).all()
  expect.error(pattern, samplers.grids.uniform, PATH, 100, 1.0, 1.000001)


NOISE_END = np.linspace(1.0, 0.1, 4, dtype="float32")
DATA_END = np.linspace(0.9, 0.0, 4, dtype="float32")


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("end", ["noise", "data"])
def test_times_without_finite_coefficients(name, end):
  """alpha = 0 at the first time; or sigma = 0 at the last."""
  solver = SOLVERS[name]
  times = jnp.asarray(NOISE_END if end == "noise" else DATA_END)
  given = times, jax.random.key(0)
  run = lambda x: samplers.integrate(solver, mixture.field(PATH), x, *given)
  goes_to_data = "ddim", "ancestral", "churn", "euler_maruyama", "annealed"
  fine = "path" not in solver.needs or (
    end == "data" and any(part in name for part in goes_to_data)
  )
  x = jax.ShapeDtypeStruct((2,), "float32")
  if fine:
    assert jax.eval_shape(run, x).shape == (2,)
    return
  pattern = "times: expected times at which .* has finite coefficients, got"
  # As under jit: x is traced, times are not.
  expect.error(pattern, jax.eval_shape, run, x)


def test_what_reaches_the_ends():
  """ddim to sigma = 0 is the data there; Euler's velocity needs no path."""
  constant = fields.Field(lambda x, t: fields.Estimate(data=0 * x + 0.3), PATH)
  bare = fields.from_velocity(lambda x, t: -x)
  x, times = jnp.asarray(X, "float32"), jnp.asarray(DATA_END)
  key = jax.random.key(0)
  end = samplers.integrate(samplers.ddim(), constant, x, times, key)
  np.testing.assert_allclose(end, [0.3, 0.3], rtol=1e-6)
  times = jnp.linspace(1.0, 0.0, 5)
  end = samplers.integrate(samplers.euler(), bare, x, times, jax.random.key(1))
  np.testing.assert_allclose(end, X * 1.25**4, rtol=1e-6)
