"""The stochastic solvers' exact affine recursion, and its limit.

Data N(MEAN, STD^2) has the denoiser written below, so that every step maps
x -> a x + b + k z. a, b and k are probed from outside (x = 0, 1 and two keys
with known draws), never read off the step's formula, and the mean and variance
that they give converge to the exact alpha MEAN and alpha^2 STD^2 + sigma^2.
No Monte Carlo. Float64; noise ratios 10 to .05, uniform in log ratio.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import mixture
from jaxgen import fields, predictions, samplers

MEAN, STD = 0.8, 0.5
RATIO_MIN, RATIO_MAX = 0.05, 10.0
NUM_STEPS = (64, 128, 256)
NAMES = ("edm", "vp", "linear")
LEAST = {"euler_maruyama": 0.9, "ancestral": 0.9, "churn": 1.9}


def _solvers():
  return samplers.euler_maruyama(), samplers.ancestral(), samplers.churn(8.0)


def _field(path):
  def denoise(x, t):
    alpha, sigma = path.alpha(t), path.sigma(t)
    gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
    return MEAN + gain * (x - alpha * MEAN)

  return fields.from_prediction(denoise, path, predictions.data)


def _probe(solver, field, times):
  """a, b, k of every step, [N] each, and the step's error at x = 2."""
  plan = solver.plan(field.path, times)
  memory = solver.init(field, jax.random.key(9), jnp.zeros(()), times)

  def one(c):
    def step(x, seed):
      key = jax.random.key(seed)
      return solver.step(field, key, x, c, memory)[0]

    draw = lambda seed: jax.random.normal(jax.random.key(seed), (), times.dtype)
    first, second = jax.vmap(draw)(jnp.arange(2))
    at_zero, at_one, other, far = jax.vmap(step)(
      jnp.array([0.0, 1.0, 0.0, 2.0], times.dtype), jnp.array([0, 0, 1, 1])
    )
    a = at_one - at_zero
    k = (other - at_zero) / (second - first)
    b = at_zero - k * first
    return a, b, k, far - (2 * a + b + k * second)

  return jax.vmap(one)(plan)


def _moments(coefficients, mean, variance):
  a, b, k, wrong = (np.asarray(v) for v in coefficients)
  assert np.abs(wrong).max() < 1e-10  # it is affine
  for n in range(len(a)):
    mean = a[n] * mean + b[n]
    variance = a[n] ** 2 * variance + k[n] ** 2
  return mean, variance


def _exact(name, ratio):
  s, t = mixture.scales(name), mixture.time(name, ratio)
  return s.alpha(t) * MEAN, (s.alpha(t) * STD) ** 2 + s.sigma(t) ** 2


def _errors(name, solvers, encode):
  """Errors of the final mean and variance, [len(NUM_STEPS), 2], by solver."""
  path = mixture.jaxgen_path(name)
  field = _field(path)
  ends = (RATIO_MIN, RATIO_MAX) if encode else (RATIO_MAX, RATIO_MIN)
  start, truth = (_exact(name, ratio) for ratio in ends)
  errors = {solver.name: [] for solver in solvers}
  for n in NUM_STEPS:
    times = samplers.grids.log_snr(path, n, RATIO_MIN, RATIO_MAX)
    times = jnp.flip(times) if encode else times
    probe = jax.jit(lambda times: [_probe(s, field, times) for s in solvers])
    for solver, coefficients in zip(solvers, probe(times), strict=True):
      moments = _moments(coefficients, *start)
      errors[solver.name].append(np.subtract(moments, truth))
  return {name: np.abs(value) for name, value in errors.items()}, truth[1]


@pytest.mark.parametrize("name", NAMES)
def test_variance_recursion_converges_to_the_marginal(name):
  with jax.enable_x64(True):
    errors, variance = _errors(name, _solvers(), encode=False)
  for solver, value in errors.items():
    order = mixture.order(NUM_STEPS, value[:, 1])
    print(name, solver, round(float(order), 3), value[-1])
    assert order >= LEAST[solver], (solver, order)
    if value[:, 0].max() > 1e-12:  # elsewhere the mean is exact
      assert mixture.order(NUM_STEPS, value[:, 0]) >= LEAST[solver], solver
    assert (value[-1] < 0.05 * LEAST[solver] ** -2 * variance).all(), solver
    # The limit itself, by Richardson's extrapolation of the stated order.
    factor = 2 ** round(LEAST[solver] + 0.1)
    limit = (factor * value[-1] - value[-2]) / (factor - 1)
    assert np.abs(limit).max() < 0.005 * variance, (solver, limit)


@pytest.mark.parametrize("name", ["edm", "linear"])
def test_euler_maruyama_keeps_the_marginals_upward_too(name):
  with jax.enable_x64(True):
    solver = samplers.euler_maruyama()
    errors, variance = _errors(name, (solver,), encode=True)
  value = errors[solver.name]
  assert mixture.order(NUM_STEPS, value[:, 1]) >= 0.9
  assert value[-1, 1] < 0.1 * variance


def test_euler_maruyama_with_a_rate_of_ones_own():
  # Half the noise of the default: another SDE of the same marginals.
  path = mixture.jaxgen_path("linear")
  solver = samplers.euler_maruyama(lambda t: path.diffusion(t) / 4)
  with jax.enable_x64(True):
    errors, variance = _errors("linear", (solver,), encode=False)
  value = errors[solver.name]
  assert mixture.order(NUM_STEPS, value[:, 1]) >= 0.9
  assert value[-1, 1] < 0.05 * variance


@pytest.mark.parametrize("h", [0.1, 0.5])
def test_stationary_density_gives_unadjusted_langevin(h):
  # x += h score + sqrt(2 h) z on N(0, 1): variance 1 / (1 - h / 2).
  field = fields.from_log_density(lambda x: -(x**2) / 2)
  solver = samplers.euler_maruyama(jnp.ones_like)
  with jax.enable_x64(True):
    times = jnp.arange(401) * h
    coefficients = jax.jit(lambda times: _probe(solver, field, times))(times)
    mean, variance = _moments(coefficients, 3.0, 0.2)
    np.testing.assert_allclose(coefficients[0], 1 - h, rtol=1e-12)
  np.testing.assert_allclose(mean, 0, atol=1e-12)
  np.testing.assert_allclose(variance, 1 / (1 - h / 2), rtol=1e-12)


def test_eps_zero_is_euler():
  path = mixture.jaxgen_path("vp")
  field = mixture.field(path)
  with jax.enable_x64(True):
    times = samplers.grids.log_snr(path, 8)
    x = jnp.asarray(mixture.POINTS[0])

    @jax.jit
    def run(x, times):
      return [
        samplers.integrate(solver, field, x, times, jax.random.key(seed))
        for seed, solver in enumerate(
          (samplers.euler_maruyama(jnp.zeros_like), samplers.euler())
        )
      ]

    langevin, euler = run(x, times)
  np.testing.assert_allclose(langevin, euler, rtol=1e-12)
