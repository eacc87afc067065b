"""Fitted grids: each part against a truth of its own, then the whole.

One Gaussian has a closed flow map, and with it the reference, the adjoints and
the local errors; paths through a small table are counted out; the whole beats
the best of a list of grids on particles that it has not seen.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import fields, paths, samplers
from jaxgen.samplers import fitting
from tests import expect
from tests.samplers import menu
from tests.truth import mixture, recursion

MEAN, STD = 0.8, 0.5
LOW, HIGH = 0.01, 20.0


def _truth(name, x, ratios):
  """States, adjoints of v = 1, and the local errors of dpmpp_2m."""
  s = mixture.scales(name)
  times = np.array([mixture.time(name, ratio) for ratio in ratios])
  alpha, sigma = s.alpha(times), s.sigma(times)
  width = np.hypot(alpha * STD, sigma)
  states = alpha * MEAN + width / width[0] * (x - alpha[0] * MEAN)
  data = MEAN + alpha * STD**2 / width**2 * (states - alpha * MEAN)
  slope, clock = alpha * STD**2 / width**2, np.log(alpha / sigma)
  # One step of ddim between candidates, back from the denoiser at the end.
  h = np.diff(clock)
  ddim = sigma[1:] / sigma[:-1] - alpha[1:] * np.expm1(-h) * slope[:-1]
  slopes = slope[-1] * np.append(np.cumprod(ddim[::-1])[::-1], 1)

  def error(i, j):
    h, guess = clock[j] - clock[i], data[i]
    if i:
      before = max(0, i - (j - i))
      ratio = h / (clock[i] - clock[before]) / 2
      guess = data[i] + ratio * (data[i] - data[before])
    reached = sigma[j] / sigma[i] * states[i] - alpha[j] * np.expm1(-h) * guess
    return reached - states[j]

  num = len(ratios)
  errors = np.zeros((num, num))
  for i, j in itertools.combinations(range(num), 2):
    errors[i, j] = error(i, j)
  return states, slopes, errors


@pytest.mark.parametrize("name", ["edm", "linear"])
def test_reference_and_local_errors_of_a_gaussian(name):
  path, solver, num = mixture.jaxgen_path(name), samplers.dpmpp_2m(), 12
  with jax.enable_x64(True):
    fine = np.geomspace(HIGH, LOW, fitting.SUBSTEPS * num + 1)
    x = 0.7 * mixture.scales(name).sigma(mixture.time(name, HIGH))

    @jax.jit
    def measure(x, key):
      times = path.time(jnp.asarray(fine))
      field = recursion.gaussian_field(path, MEAN, STD)
      found = fitting.reference(field, x, times, key)
      given = field, solver, times[:: fitting.SUBSTEPS], found, key
      return found, fitting.local_errors(*given)

    found, squares = measure(jnp.asarray([x]), jax.random.key(0))
  found = jax.tree.map(np.asarray, found)
  squares, ratios = np.asarray(squares), fine[:: fitting.SUBSTEPS]
  states, slopes, errors = _truth(name, x, ratios)
  np.testing.assert_allclose(found.states[:, 0], states, rtol=1e-4)
  direction = found.adjoints[0, 0] / slopes[0]  # v, the same all along
  expect.close(found.adjoints[:, 0], direction * slopes, rtol=1e-9)
  expected = np.abs(direction * slopes * errors)
  atol = 1e-3 * expected.max()
  np.testing.assert_allclose(np.sqrt(squares), expected, 0.02, atol)


def test_windows_hold_every_step_once():
  num = 9
  steps = np.concatenate([rows[:, -2:] for rows in fitting.windows(num)])
  assert sorted(map(tuple, steps)) == list(
    itertools.combinations(range(num + 1), 2)
  )
  for n, rows in enumerate(fitting.windows(num)):
    lengths = np.diff(rows, axis=1)
    assert rows.shape[1] == n + 2 and (lengths > 0).all()
    assert (lengths[:, 1:] == lengths[:, -1:]).all()  # all but the first
    assert (lengths[:, 0] <= lengths[:, -1]).all() or n == 0
    full = rows[lengths[:, 0] < lengths[:, -1]] if n else rows
    assert (full[:, 0] == 0).all()


@pytest.mark.parametrize("num_steps", [1, 3, 6])
def test_shortest_is_the_best_of_all(num_steps):
  cost = np.random.default_rng(num_steps).uniform(size=(7, 7)) ** 3
  cost[1, 3] = np.nan
  nodes, total = fitting.shortest(jnp.asarray(cost), num_steps)

  def length(inner):
    path = (0, *inner, 6)
    return sum(cost[i, j] for i, j in itertools.pairwise(path))

  every = list(itertools.combinations(range(1, 6), num_steps - 1))
  lengths = [length(inner) for inner in every]
  best = int(np.nanargmin(lengths))
  assert tuple(nodes) == (0, *every[best], 6)
  np.testing.assert_allclose(total, lengths[best], rtol=1e-6)


def test_shortest_says_where_there_is_no_path():
  assert np.isinf(fitting.shortest(jnp.full((4, 4), jnp.nan), 2)[1])
  assert np.isinf(fitting.shortest(jnp.ones((4, 4)), 4)[1])


def test_refine_solves_least_squares_and_heeds_what_is_held_out():
  """Rosenbrock's valley, whose least value 0 is at (1, 1)."""

  def residual(params, offset):
    first, second = params
    return jnp.stack([10 * (second - first**2), 1 - first]) + offset

  def run(offsets, num):
    start, over = jnp.array([-1.2, 1.0]), jax.lax.map
    return fitting.refine(residual, start, offsets, num, over)

  run = jax.jit(run, static_argnums=1)
  with jax.enable_x64(True):
    solved = run(jnp.zeros(2), 60)
    # What is held out has its least value at the start: nothing is kept.
    wanted = jnp.array([[0.0, 0.0], [4.4, -2.2]])
    kept = run(wanted, 60)
  np.testing.assert_allclose(solved, [1, 1], atol=1e-8)
  np.testing.assert_allclose(kept, [-1.2, 1.0])


def _errors(path, solver, x, grids):
  """RMSE of each grid to the first, a fine one."""

  @jax.jit
  def run(x, times):
    field = mixture.field(path)
    x = samplers.integrate(solver, field, x, times, jax.random.key(0))
    return field(x, times[-1]).data

  ends = [jax.vmap(run, (0, None))(x, times) for times in grids]
  return [float(np.sqrt(np.mean((e - ends[0]) ** 2))) for e in ends[1:]]


def test_beats_the_best_of_karras_on_particles_not_seen():
  path, solver, num = paths.edm(), samplers.dpmpp_2m(), 8
  top = path.sigma(80.0)
  draw = lambda seed: top * jax.random.normal(jax.random.key(seed), (128, 2))

  def fit(x, refinements):
    given = mixture.field(path), solver, x, num, jax.random.key(2)
    search = dict(num_candidates=20, num_refinements=refinements, chunk=64)
    return samplers.grids.fitted(*given, **search)

  x, unseen = draw(0), draw(1)
  placed, refined = (jax.jit(lambda x: fit(x, n))(x) for n in (0, 5))
  karras = samplers.grids.karras
  scan = [karras(path, num, rho=rho) for rho in (3.0, 7.0, 12.0, 20.0)]
  scan.append(samplers.grids.log_snr(path, num))
  fine = samplers.grids.log_snr(path, 400)
  errors = _errors(path, solver, unseen, [fine, placed, refined, *scan])
  assert errors[0] < 0.8 * min(errors[2:])
  assert errors[1] < errors[0]
  ratios = np.geomspace(80.0, 0.002, 21)
  for times in (placed, refined):
    assert times.shape == (num + 1,) and times.dtype == jnp.float32
    assert (np.diff(times) < 0).all()
    np.testing.assert_allclose(times[jnp.array([0, -1])], [80.0, 0.002])
  nearest = np.abs(np.log(placed)[:, None] - np.log(ratios)).min(1)
  assert nearest.max() < 1e-5  # of the candidates


EVERY = [menu.SOLVERS[name] for name in sorted(menu.DETERMINISTIC)]
EVERY.append(samplers.adams_bashforth(4))


@pytest.mark.parametrize("solver", EVERY, ids=lambda solver: solver.name)
def test_any_solver(solver):
  """Traced, not run: fitted knows of no solver."""

  def fit(x, key):
    field = mixture.field(paths.linear())
    settings = dict(num_candidates=2, num_refinements=0)
    return samplers.grids.fitted(field, solver, x, 2, key, **settings)

  x, key = jnp.ones((2, 2)), jax.random.key(0)
  assert jax.eval_shape(fit, x, key).shape == (3,)


def test_a_broken_field_gives_nan():
  broken = lambda x, t: fields.Estimate(velocity=x * jnp.nan, data=x)
  field, search = fields.Field(broken, paths.edm()), dict(num_candidates=3)

  @jax.jit
  def fit(x):
    given = field, samplers.euler(), x, 2, jax.random.key(0)
    return samplers.grids.fitted(*given, num_refinements=0, **search)

  assert np.isnan(fit(jnp.ones((2, 1)))).all()


WITHOUT_NOISE = fields.Field(
  lambda x, t: fields.Estimate(velocity=x, data=x), paths.edm()
)


@pytest.mark.parametrize(
  "bad, word",
  [
    (dict(num_steps=0), "num_steps: expected at least 1"),
    (dict(num_candidates=3), "num_candidates: expected at least num_steps 4"),
    (dict(x=jnp.ones(3)), r"x: expected shape \[P, \*D\], P >= 2, got \(3,\)"),
    (dict(x=jnp.ones((1, 3))), "x: expected shape"),
    (dict(num_refinements=-1), "num_refinements: expected at least 0"),
    (dict(chunk=0), "chunk: expected a positive number"),
    (dict(ratio_min=0.0), "ratio_min, ratio_max: expected"),
    (dict(key=jnp.zeros(2, jnp.uint32)), "key: expected a typed key"),
    (dict(field=fields.from_velocity(lambda x, t: x)), "expected path"),
    (
      dict(field=fields.Field(lambda x, t: fields.Estimate(x), paths.edm())),
      "field: expected data, which fitted needs, got None",
    ),
    (
      dict(solver=samplers.deis(2), field=WITHOUT_NOISE),
      r"field: expected noise, which deis\(2\) needs, got None",
    ),
  ],
)
def test_refusals(bad, word):
  field, key = mixture.field(paths.edm()), jax.random.key(0)
  settings = dict(field=field, solver=samplers.ddim(), key=key)
  settings |= dict(x=jnp.ones((4, 2)), num_steps=4)
  expect.error(word, samplers.grids.fitted, **settings | bad)


def test_times_have_the_dtype_of_x():
  with jax.enable_x64(True):
    field, solver = mixture.field(paths.linear()), samplers.ddim()
    search = dict(num_candidates=2, num_refinements=1)
    fit = lambda x: samplers.grids.fitted(
      field, solver, x, 2, jax.random.key(0), **search
    )
    for dtype in ("float32", "float64"):
      assert jax.eval_shape(fit, jnp.ones((2, 2), dtype)).dtype == dtype
