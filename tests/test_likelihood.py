"""Log-densities against oracles, in every direction; intervals that cover."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxgen import fields, likelihood, paths, samplers, traces
from jaxgen.data import oracles
from tests.truth import mixture

EXACT = traces.exact()
MIXTURE = oracles.Mixture(mixture.WEIGHTS, mixture.MEANS, np.full(3, 0.3))
LINEAR = paths.linear()


def _gaussian(dim, low=0.1, high=2.0):
  """N(m, C), C with eigenvalues low to high in a random basis."""
  rng = np.random.default_rng(dim)
  basis = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
  covariance = basis * np.geomspace(low, high, dim) @ basis.T
  return oracles.gaussian(rng.standard_normal(dim) / 2, covariance)


def _density(
  law, path, x, times, key, trace=EXACT, solver=None, fn=likelihood.log_prob
):
  """With the law's own density at the last time, or at the first."""
  solver = samplers.rk4() if solver is None else solver
  known = times[-1] if fn is likelihood.log_prob else times[0]
  given = likelihood.along(solver, times), law.field(path), x, key
  return fn(*given, prior=lambda x: law.log_prob(path, x, known), trace=trace)


@pytest.mark.parametrize("name", ["edm", "vp"])
def test_mixture_on_paths_in_both_directions(name):
  path = mixture.jaxgen_path(name)
  key = lambda: jax.random.key(0)  # not drawn from

  def one(fn, x, times, key):
    found = _density(MIXTURE, path, x, times, key, fn=fn)
    start, end = (
      MIXTURE.log_prob(path, *at)
      for at in ((x, times[0]), (found.end, times[-1]))
    )
    return found, start, end

  log_prob, generate = (
    jax.jit(jax.vmap(functools.partial(one, fn), (0, None, None)))
    for fn in (likelihood.log_prob, likelihood.generate)
  )
  with jax.enable_x64(True):
    times = samplers.grids.karras(path, 128)
    points = jnp.asarray(mixture.POINTS)
    low = path.alpha(times[-1]) * points
    high = jnp.hypot(path.alpha(times[0]), path.sigma(times[0])) * points
    up, at_low, _ = log_prob(low, times[::-1], key())
    down, at_high, _ = log_prob(high, times, key())
    sample, _, at_end = generate(high, times, key())
  np.testing.assert_allclose(up.log_prob, at_low, atol=1e-5)
  np.testing.assert_allclose(down.log_prob, at_high, atol=1e-5)
  np.testing.assert_allclose(sample.log_prob, at_end, atol=1e-5)
  np.testing.assert_allclose(up.log_prob, up.prior + up.divergence)
  np.testing.assert_allclose(sample.log_prob, sample.prior - sample.divergence)
  np.testing.assert_allclose(down.end, sample.end)
  assert (np.asarray(up.standard_error) == 0).all()


def test_gaussian_in_64_dimensions():
  path = paths.edm()
  with jax.enable_x64(True):
    law = _gaussian(64)
    times = samplers.grids.karras(path, 96)[::-1]
    x = law.sample(jax.random.key(1))
    run = jax.jit(lambda x, key: _density(law, path, x, times, key))
    found = run(x, jax.random.key(0))
    expected = law.log_prob(path, x, times[0])
    latent = law.flow_map(path, x, times[0], times[-1])
  np.testing.assert_allclose(found.log_prob, expected, atol=1e-4)
  np.testing.assert_allclose(found.end, latent, atol=2e-3)  # of 160


def test_adaptive_in_both_directions():
  with jax.enable_x64(True):
    path = LINEAR
    low, high = path.ends(0.002, 80.0)

    @jax.jit
    def run(x, start, end):
      solve = likelihood.adaptively(start, end, rtol=1e-8, atol=1e-8)
      prior = lambda x: MIXTURE.log_prob(path, x, end)
      given = solve, MIXTURE.field(path), x, jax.random.key(0)
      found = likelihood.log_prob(*given, prior=prior, trace=EXACT)
      return found.log_prob - MIXTURE.log_prob(path, x, start)

    x = jnp.asarray(mixture.POINTS[0])
    errors = run(x, low, high), run(x, high, low)
  np.testing.assert_allclose(errors, 0, atol=1e-5)


@pytest.mark.parametrize(
  "solver",
  [samplers.euler(), samplers.midpoint(), samplers.adams_bashforth(3)],
  ids=lambda solver: solver.name,
)
def test_a_bare_velocity_by_any_solver(solver):
  # dx/dt = A x: the density falls by tr A, whatever the path of x.
  matrix = np.random.default_rng(3).standard_normal((2, 3, 6)).reshape(6, 6)
  field = fields.from_velocity(
    lambda x, t: (jnp.asarray(matrix, x.dtype) @ x.ravel()).reshape(x.shape)
  )
  prior = likelihood.normal(2.0)
  times = jnp.linspace(1.0, 0.4, 9)
  x = jnp.ones((2, 3))
  run = jax.jit(
    lambda x, key: likelihood.log_prob(
      likelihood.along(solver, times), field, x, key, prior=prior, trace=EXACT
    )
  )
  found = run(x, jax.random.key(0))
  divergence = -0.6 * np.trace(matrix)
  np.testing.assert_allclose(found.divergence, divergence, rtol=1e-5)
  end = np.asarray(found.end).ravel()
  expected = stats.multivariate_normal(np.zeros(6), 4 * np.eye(6)).logpdf(end)
  np.testing.assert_allclose(found.prior, expected, rtol=1e-5)
  assert found.end.shape == (2, 3)


DIM = 12


@functools.cache
def _repeated(kind):
  """100 estimates in float64, and the same solver's exact value.

  The Jacobian is not diagonal: signs would have no variance there.
  """
  trace = dict(
    hutchinson=traces.hutchinson(8), hutchpp=traces.hutchpp(3), exact=EXACT
  )[kind]
  with jax.enable_x64(True):
    law = _gaussian(DIM, 0.01, 2.0)
    times = samplers.grids.karras(LINEAR, 16)[::-1]
    x = law.sample(jax.random.key(1))
    run = jax.jit(
      jax.vmap(lambda key: _density(law, LINEAR, x, times, key, trace))
    )
    found = run(jax.random.split(jax.random.key(4), 100))
    return jax.tree.map(np.asarray, found)


@pytest.mark.parametrize("kind, degrees", [("hutchinson", 7), ("hutchpp", 2)])
def test_intervals_cover(kind, degrees):
  found, truth = _repeated(kind), _repeated("exact").log_prob[0]
  error = found.standard_error
  assert error.min() > 1e-4
  z = np.abs(found.log_prob - truth) / error
  covered = int(np.sum(z < stats.t.ppf(0.975, degrees)))
  assert 89 <= covered <= 99, covered
  # The latent does not depend on the probes, and keys matter.
  np.testing.assert_allclose(np.ptp(found.end, axis=0), 0, atol=1e-12)
  assert len(np.unique(found.log_prob)) == 100


def test_hutchpp_has_less_variance_than_more_probes():
  # 9 products against 8, on a Jacobian with a few large directions.
  ours, plain = (
    np.var(_repeated(k).log_prob) for k in ("hutchpp", "hutchinson")
  )
  assert ours < 0.5 * plain, (ours, plain)


def test_truncation_to_first_order():
  key = jax.random.key(0)
  with jax.enable_x64(True):
    for path in (paths.edm(), paths.vp()):
      x = jnp.asarray(mixture.POINTS[0])

      @jax.jit
      def error(ratio, path=path, x=x):
        t = path.time(ratio)
        x_t = path.alpha(t) * x
        field = MIXTURE.field(path)
        change = likelihood.truncation(field, x_t, t, key, trace=EXACT)
        truth = MIXTURE.log_prob(path, x, 0.0)
        there = MIXTURE.log_prob(path, x_t, t)
        return truth - there - change, change

      (coarse, change), (fine, _) = error(0.02), error(0.01)
      # Second order in the variance is what is left.
      assert abs(coarse) < 0.02 * abs(change)
      np.testing.assert_allclose(coarse / fine, 16, rtol=0.05)


def test_encode_then_decode():
  law, path = _gaussian(64), LINEAR
  field = law.field(path)
  times = samplers.grids.karras(path, 48)

  @jax.jit
  def there_and_back(x, key):
    solver = samplers.rk4()
    latent = samplers.integrate(solver, field, x, times[::-1], key)
    return latent, samplers.integrate(solver, field, latent, times, key)

  data = law.sample(jax.random.key(3))
  with jax.debug_key_reuse(False):  # deterministic solvers draw nothing
    latent, back = there_and_back(data, jax.random.key(0))
  assert back.dtype == jnp.float32
  assert np.abs(latent - data).max() > 0.5
  np.testing.assert_allclose(back, data, atol=1e-3)
