"""Solvers equal the published algorithms, transcribed in NumPy, float64.

Karras et al. 2022, arXiv:2206.00364: algorithms 1 and 2, eq. 5.
Song et al. 2021, arXiv:2010.02502: eq. 12. Ho et al. 2020, arXiv:2006.11239:
eq. 6-7. The model is the exact denoiser of a mixture with width; random draws
are those of the driver: fold_in(step_key, n), n = 0, 1, ...
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import fields, paths, predictions, samplers
from tests.samplers import mixture_runs
from tests.truth import mixture

X = np.array([0.7, -0.4])
NUM_STEPS = 17  # with the final denoise, the paper's N = 18


def _karras_times(num, low=0.002, high=80.0, rho=7.0):
  """Eq. 5, and t_N = 0 appended."""
  i = np.arange(num)
  times = high ** (1 / rho) + i / (num - 1) * (
    low ** (1 / rho) - high ** (1 / rho)
  )
  return np.append(times**rho, 0.0)


def _karras_sampler(
  x, times, draws, churn=0.0, low=0.0, high=np.inf, noise_scale=1.0
):
  """Algorithm 2 with sigma(t) = t, s(t) = 1; algorithm 1 where churn = 0."""
  num = len(times) - 1
  for i in range(num):
    t, end = times[i], times[i + 1]
    inside = low <= t <= high
    gamma = min(churn / num, np.sqrt(2) - 1) if inside else 0.0
    hat = t + gamma * t
    if gamma > 0:
      x = x + np.sqrt(hat**2 - t**2) * noise_scale * draws[i]
    slope = (x - mixture.denoise(x, 1.0, hat)) / hat
    ahead = x + (end - hat) * slope
    if end != 0:
      other = (ahead - mixture.denoise(ahead, 1.0, end)) / end
      ahead = x + (end - hat) * (slope / 2 + other / 2)
    x = ahead
  return x


def test_karras_grid_is_eq_5():
  with jax.enable_x64(True):
    for num, low, high, rho in ((18, 0.002, 80.0, 7.0), (6, 0.1, 9.0, 3.0)):
      times = samplers.grids.karras(paths.edm(), num - 1, low, high, rho)
      expected = _karras_times(num, low, high, rho)[:-1]
      np.testing.assert_allclose(times, expected, rtol=1e-12)


def test_heun_is_algorithm_1():
  times = _karras_times(NUM_STEPS + 1)
  expected = _karras_sampler(80.0 * X, times, None)
  with jax.enable_x64(True):
    path = paths.edm()
    grid = samplers.grids.karras(path, NUM_STEPS)
    _, data = mixture_runs.run(samplers.heun(), path, grid, 80.0 * X)
  np.testing.assert_allclose(data, expected, rtol=0, atol=1e-12)


# The paper's gamma divides S_churn by N, the final step to zero included; the
# grid here has one step fewer, so S_churn 40 of 18 is amount 40 * 17 / 18.
# S_tmin keeps the noise out of that last step, as it does in the paper.
@pytest.mark.parametrize(
  "churn, low, high", [(40, 0.05, 50.0), (3, 0.01, 90.0)]
)
def test_churn_is_algorithm_2(churn, low, high):
  times = _karras_times(NUM_STEPS + 1)
  with jax.enable_x64(True):
    draws = mixture_runs.draws(NUM_STEPS)
    expected = _karras_sampler(80.0 * X, times, draws, churn, low, high, 1.003)
    still = _karras_sampler(80.0 * X, times, draws)
    path = paths.edm()
    amount = churn * NUM_STEPS / (NUM_STEPS + 1)
    solver = samplers.churn(amount, low, high, noise_scale=1.003)
    grid = samplers.grids.karras(path, NUM_STEPS)
    _, data = mixture_runs.run(solver, path, grid, 80.0 * X)
  assert np.abs(expected - still).max() > 0.01  # the noise matters
  np.testing.assert_allclose(data, expected, rtol=0, atol=1e-12)


def _alpha_bars(num=12):
  """DDPM's betas and alpha-bars, few and large, for t = 1 ... num."""
  betas = np.linspace(0.02, 0.5, num)
  return betas, np.cumprod(1 - betas)


def _discrete_times(bars):
  ratios = np.sqrt((1 - bars) / bars)[::-1]
  return np.array([mixture.time("vp", ratio) for ratio in ratios])


def _noise_field(path):
  """The same model, as the noise network of DDPM."""

  def predict_fn(x, t):
    alpha, sigma = path.alpha(t), path.sigma(t)
    return (x - alpha * mixture.denoise(x, alpha, sigma, jnp)) / sigma

  return fields.from_prediction(predict_fn, path, predictions.noise)


def test_ddim_is_eq_12_of_ddim():
  _, bars = _alpha_bars()
  x = X
  for now, then in zip(bars[:0:-1], bars[-2::-1], strict=True):
    data = mixture.denoise(x, np.sqrt(now), np.sqrt(1 - now))
    eps = (x - np.sqrt(now) * data) / np.sqrt(1 - now)
    predicted = (x - np.sqrt(1 - now) * eps) / np.sqrt(now)
    x = np.sqrt(then) * predicted + np.sqrt(1 - then) * eps
  with jax.enable_x64(True):
    times, path = _discrete_times(bars), paths.vp()
    given = samplers.ddim(), path, times, X, _noise_field(path)
    end, _ = mixture_runs.run(*given)
  np.testing.assert_allclose(end, x, rtol=0, atol=1e-11)


def test_ancestral_is_the_posterior_of_ddpm():
  betas, bars = _alpha_bars()
  with jax.enable_x64(True):
    draws = mixture_runs.draws(len(bars) - 1)
    times, path = _discrete_times(bars), paths.vp()
    given = samplers.ancestral(), path, times, X, _noise_field(path)
    end, _ = mixture_runs.run(*given)
  x = X
  for n, i in enumerate(range(len(bars) - 1, 0, -1)):
    beta, bar, prev = betas[i], bars[i], bars[i - 1]
    data = mixture.denoise(x, np.sqrt(bar), np.sqrt(1 - bar))
    mean = np.sqrt(prev) * beta / (1 - bar) * data
    mean = mean + np.sqrt(1 - beta) * (1 - prev) / (1 - bar) * x
    x = mean + np.sqrt((1 - prev) / (1 - bar) * beta) * draws[n]
  np.testing.assert_allclose(end, x, rtol=0, atol=1e-11)


@pytest.fixture(scope="module")
def ends():
  """x / alpha at the end of 9 steps, by path and solver, and NumPy's ddim."""
  solvers = samplers.ddim(), samplers.ancestral(), samplers.euler()
  found = {}
  ratios = np.geomspace(20.0, 0.03, 10)
  with jax.enable_x64(True):
    for name in mixture.NAMES:
      path, s = mixture.jaxgen_path(name), mixture.scales(name)
      field = mixture.field(path)
      times = np.array([mixture.time(name, ratio) for ratio in ratios])
      alpha, sigma = s.alpha(times), s.sigma(times)
      x = 20.0 * X * alpha[0]

      @jax.jit
      def run(x, times, field=field):
        key = jax.random.key(mixture_runs.SEED)
        return [
          samplers.integrate(solver, field, x, times, key) for solver in solvers
        ]

      with jax.debug_key_reuse(False):  # the same draws, on purpose
        values = run(jnp.asarray(x), jnp.asarray(times))
      for solver, value in zip(solvers, values, strict=True):
        found[name, solver.name] = np.asarray(value) / alpha[-1]
      for n in range(9):
        data = mixture.denoise(x, alpha[n], sigma[n])
        noise = (x - alpha[n] * data) / sigma[n]
        x = alpha[n + 1] * data + sigma[n + 1] * noise
      found[name, "numpy"] = x / alpha[-1]
  return found


@pytest.mark.parametrize("name", mixture.NAMES)
def test_ddim_is_next_alpha_data_plus_next_sigma_noise(ends, name):
  found, truth = ends[name, "ddim"], ends[name, "numpy"]
  np.testing.assert_allclose(found, truth, rtol=0, atol=1e-11)


@pytest.mark.parametrize("solver", ["ddim", "ancestral"])
@pytest.mark.parametrize("name", mixture.NAMES[1:])
def test_same_end_on_every_path(ends, solver, name):
  found, truth = ends[name, solver], ends["edm", solver]
  np.testing.assert_allclose(found, truth, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["edm", "linear"])
def test_euler_on_edm_and_linear_is_ddim(ends, name):
  found, truth = ends[name, "euler"], ends[name, "ddim"]
  np.testing.assert_allclose(found, truth, rtol=0, atol=1e-10)
  assert np.abs(ends["vp", "euler"] - ends["vp", "ddim"]).max() > 1e-3
