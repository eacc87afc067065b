"""The average against closed forms and NumPy recursions."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.training import ema
from tests import expect


class UpdateTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_a_constant_value_is_approached_geometrically(self):
    """From m toward p: p + decay^n (m - p)."""
    update = self.variant(ema.update)
    mean, params = {"w": jnp.array([1.0, -2.0])}, {"w": jnp.array([3.0, 0.5])}
    for _ in range(20):
      mean = update(mean, params, 0.1)
    expected = params["w"] + 0.9**20 * (jnp.array([1.0, -2.0]) - params["w"])
    np.testing.assert_allclose(mean["w"], expected, rtol=1e-6)


def test_a_constant_gradient_lags_by_the_averaging_time():
  """params = n g: the mean lags by decay (1 - decay^n) / (1 - decay) g."""
  mean, decay, n = jnp.zeros(()), 0.8, 30
  for i in range(1, n + 1):
    mean = ema.update(mean, jnp.float32(i * 0.25), 1 - decay)
  lag = decay * (1 - decay**n) / (1 - decay) * 0.25
  np.testing.assert_allclose(mean, n * 0.25 - lag, rtol=1e-6)


def test_rules():
  steps = [0, 5, 80, 10**6]
  warm = [float(ema.warmup(0.9)(jnp.int32(i))) for i in steps]
  np.testing.assert_allclose(warm, [0.9, 0.6, 0.1, 0.1], rtol=1e-6)
  assert ema.constant(0.5)(jnp.int32(7)) == 0.5


def test_half_precision_parameters_are_averaged_in_float32():
  params = jnp.ones((), jnp.bfloat16)
  mean = ema.init(params)
  assert mean.dtype == jnp.float32
  for _ in range(10):
    mean = ema.update(mean, jnp.array(2.0, jnp.bfloat16), 1e-3)
  np.testing.assert_allclose(mean, 2 - 0.999**10, rtol=1e-6)


@pytest.mark.parametrize("scalar", [np.float32, np.float64, jnp.float32])
@pytest.mark.parametrize("make", [ema.constant, ema.warmup, ema.power])
def test_a_scalar_of_an_array_library_is_the_number_that_it_holds(make, scalar):
  value = scalar(0.07)
  found, truth = (make(v)(jnp.int32(50)) for v in (value, float(value)))
  assert found == truth and type(found) is type(truth)


@pytest.mark.parametrize("length", [0.02, 0.1, 0.25])
def test_the_length_is_the_deviation_of_the_profile(length):
  """By quadrature of p(tau) = (gamma + 1) tau^gamma on [0, 1]."""
  gamma = ema.exponent(length)
  tau = (np.arange(200000) + 0.5) / 200000
  p = (gamma + 1) * tau**gamma / 200000
  mean = (p * tau).sum()
  np.testing.assert_allclose((p * (tau - mean) ** 2).sum() ** 0.5, length, 1e-6)


def _profile(length, n, total):
  """What each step's parameters weigh in the average after n of total."""
  gamma = ema.exponent(length)
  ends = np.minimum(np.arange(total + 1) / n, 1.0) ** (gamma + 1)
  return np.diff(ends)


def test_the_recursion_integrates_the_profile():
  params = np.random.RandomState(0).randn(60).astype(np.float32)
  rule, mean = jax.jit(ema.power(0.1)), jnp.float32(7.0)
  for i, value in enumerate(params):
    mean = ema.update(mean, jnp.float32(value), rule(jnp.int32(i)))
  np.testing.assert_allclose(mean, params @ _profile(0.1, 60, 60), rtol=1e-5)


def test_the_rate_keeps_its_digits_late_in_training():
  rate = float(ema.power(0.1)(jnp.int32(10**7 - 1)))
  exact = -np.expm1((ema.exponent(0.1) + 1) * np.log1p(-1e-7))
  np.testing.assert_allclose(rate, exact, rtol=1e-6)


STEPS = [n for n in range(50, 1001, 50) for _ in range(2)]
LENGTHS = [0.05, 0.1] * 20
STORED = list(zip(STEPS, LENGTHS, strict=True))


@pytest.mark.parametrize("step, length", [(1000, 0.1), (450, 0.05)])
def test_what_is_stored_is_recombined_exactly(step, length):
  weights = ema.recombination(STEPS, LENGTHS, step, length)
  mine = [at == (step, length) for at in STORED]
  np.testing.assert_allclose(weights, np.array(mine, float), atol=1e-6)


@pytest.mark.parametrize(
  "step, length, error",
  [(1000, 0.03, 0.12), (1000, 0.07, 5e-3), (1000, 0.2, 0.02), (730, 0.1, 0.12)],
)
def test_other_lengths_are_as_near_as_least_squares_can(step, length, error):
  """Against NumPy's least squares over the profiles as vectors of steps."""
  profiles = np.array([_profile(value, n, 1000) for n, value in STORED])
  wanted = _profile(length, step, 1000)
  weights = ema.recombination(STEPS, LENGTHS, step, length)
  np.testing.assert_allclose(weights.sum(), 1, rtol=1e-9)
  rest = (profiles[:-1] - profiles[-1]).T  # the constraint eliminated
  best = np.linalg.lstsq(rest, wanted - profiles[-1], rcond=1e-14)[0]
  best = np.append(best, 1 - best.sum())
  assert np.abs(weights @ profiles - wanted).sum() < error  # of 1 in all
  miss = lambda w: np.linalg.norm(w @ profiles - wanted)
  assert miss(weights) < (1 + 1e-5) * miss(best)


def test_averages_are_combined_on_the_host_in_their_own_dtype():
  averages = ({"w": jnp.full(2, value)} for value in (1.0, 10.0))
  total = ema.combine([2.0, -0.25], averages)
  np.testing.assert_array_equal(total["w"], np.full(2, -0.5, np.float32))
  assert total["w"].dtype == np.float32
  expect.error("shorter", ema.combine, [1.0, 2.0], [jnp.ones(2)])
  expect.error("averages: expected at least one", ema.combine, [], [])


def test_nothing_stored_is_refused():
  for steps, lengths in (([], []), ([1, 2], [0.1])):
    said = "steps: expected one for each"
    expect.error(said, ema.recombination, steps, lengths, 10, 0.1)
