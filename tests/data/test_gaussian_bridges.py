"""The bridge between Gaussians, by other ways to the same numbers."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from jaxgen.data import bridges
from tests import expect

RNG = np.random.default_rng(0)
ROOTS = RNG.normal(size=(2, 3, 3))
DATA, SOURCE = (root @ root.T + 0.3 * np.eye(3) for root in ROOTS)
MEANS = RNG.normal(size=(2, 3))
STD = 0.8
ONE = np.ones((1, 1))


@functools.cache
def exact():
  return bridges.schrodinger(MEANS[0], DATA, MEANS[1], SOURCE, std=STD)


def line(data_mean, data_variance, source_mean, source_variance, std):
  """Of two Gaussians on the line."""
  data = np.array([data_mean]), np.array([[data_variance]])
  source = np.array([source_mean]), np.array([[source_variance]])
  return bridges.schrodinger(*data, *source, std=std)


def unit(std=1.0):
  """Shi et al.'s example in one dimension."""
  return line(-0.1, 1.0, 0.1, 1.0, std)


def test_the_released_example():
  """Shi et al. 2023: the covariance of the ends is (sqrt 5 - 1) / 2."""
  with jax.enable_x64(True):
    law, golden = unit(), (np.sqrt(5) - 1) / 2
    np.testing.assert_allclose(law.cross, [[golden]], rtol=1e-14)
    for t in (0.0, 0.25, 0.5, 0.9, 1.0):
      variance = (1 - t) ** 2 + t**2 + 2 * t * (1 - t) * golden + t * (1 - t)
      np.testing.assert_allclose(law.covariance(t), [[variance]], rtol=1e-14)
      np.testing.assert_allclose(law.mean(t), [0.2 * t - 0.1], atol=1e-15)


def test_the_plan_is_sinkhorns_on_a_grid():
  """Of two Gaussians on the line with unequal variances."""
  law = line(0.3, 0.5, -0.2, 2.0, 0.7)
  x, y = np.linspace(-4, 4.6, 300), np.linspace(-8, 8, 400)
  density = lambda z, m, v: np.exp(-((z - m) ** 2) / (2 * v))
  a, b = density(x, 0.3, 0.5), density(y, -0.2, 2.0)
  a, b = a / a.sum(), b / b.sum()
  kernel = np.exp(-((x[:, None] - y) ** 2) / (2 * 0.7**2))
  v = np.ones(len(y))
  for _ in range(300):
    u = a / (kernel @ v)
    v = b / (kernel.T @ u)
  plan = u[:, None] * kernel * v
  cross = x @ plan @ y - (x @ a) * (y @ b)
  np.testing.assert_allclose(law.cross, [[cross]], rtol=1e-6)


def conditional(t, law):
  """(drift to the source, to the data, velocity, score): at x, by regression
  of the ends on x_t from their joint covariance.
  """
  a, b, c = (np.float64(m) for m in (DATA, SOURCE, law.cross))
  m, n = MEANS
  middle = (1 - t) * m + t * n
  total = (1 - t) ** 2 * a + t**2 * b + t * (1 - t) * (c + c.T)
  total += t * (1 - t) * STD**2 * np.eye(3)
  inverse = np.linalg.inv(total)

  def at(x):
    source = n + ((1 - t) * c.T + t * b) @ inverse @ (x - middle)
    data = m + ((1 - t) * a + t * c) @ inverse @ (x - middle)
    rate = STD * (1 - 2 * t) / (2 * np.sqrt(t * (1 - t)))
    noise = STD * np.sqrt(t * (1 - t)) * inverse @ (x - middle)
    velocity = source - data + rate * noise
    score = -inverse @ (x - middle)
    return (source - x) / (1 - t), (data - x) / t, velocity, score

  return at


@pytest.mark.parametrize("cross", ["independent", "own"])
def test_drifts_velocity_and_score_are_regressions(cross):
  law = exact()
  if cross == "independent":
    law = law._replace(cross=np.zeros((3, 3)))
  with jax.enable_x64(True):
    estimate = jax.jit(lambda x, t: law.estimate(x, t))
    for t in (0.02, 0.4, 0.97):
      x = jnp.asarray([0.4, -1.3, 0.8])
      found, up, down = estimate(x, t)
      truth = conditional(t, law)(np.asarray(x))
      given = up, down, found.velocity, found.score
      for value, expected in zip(given, truth, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-10)
      np.testing.assert_allclose(up, law.to_source(x, t), rtol=1e-12)
      np.testing.assert_allclose(down, law.to_data(x, t), rtol=1e-12)
      slope = jax.grad(lambda x, t=t: estimate(x, t)[0].log_prob)(x)
      np.testing.assert_allclose(slope, found.score, rtol=1e-10)


def test_the_density_and_the_ends():
  """The drifts are finite at both ends; log_prob is SciPy's."""
  from scipy import stats

  law, x = exact(), jnp.asarray([0.4, -1.3, 0.8])
  for t, mean, covariance in ((0.0, MEANS[0], DATA), (1.0, MEANS[1], SOURCE)):
    found = law.field()(x, t)
    expected = stats.multivariate_normal(mean, covariance).logpdf(x)
    np.testing.assert_allclose(found.log_prob, expected, rtol=1e-5)
    assert found.velocity.dtype == jnp.float32
    for drift in (law.to_source, law.to_data):
      assert np.isfinite(drift(x, t)).all()


@pytest.mark.parametrize("own", [True, False])
def test_what_the_diffusion_transports(own):
  """By SciPy's solver, and by the module's; of the bridge it is its own."""
  law = exact()
  if not own:
    law = law._replace(cross=0.3 * np.triu(np.ones((3, 3))))
  with jax.enable_x64(True):
    slope = jax.jit(jax.jacfwd(law.to_source))
    start = jnp.zeros(3)
    rate = lambda t, p: np.asarray(slope(start, t)) @ p.reshape(3, 3)
    flat = lambda t, p: rate(t, p).ravel()
    tight = dict(rtol=1e-8, atol=1e-9)
    end = integrate.solve_ivp(flat, (0, 1), np.eye(3).ravel(), **tight).y[:, -1]
    expected = DATA @ end.reshape(3, 3).T
    moved = jax.jit(law.transported)()
  np.testing.assert_allclose(moved, expected, rtol=1e-6)
  assert np.allclose(moved, law.cross, rtol=1e-6) == own


def test_markovian_fitting_converges_to_the_bridge():
  """From independent ends, nearer in every iteration."""
  with jax.enable_x64(True):
    law = bridges.schrodinger(MEANS[0], DATA, MEANS[1], SOURCE, std=2.0)
    fit = jax.jit(lambda c: law._replace(cross=c).transported(50))
    cross, errors = jnp.zeros((3, 3)), []
    for _ in range(8):
      cross = fit(cross)
      errors.append(float(np.abs(cross - law.cross).max()))
  assert errors[0] > 0.01 and errors[-1] < 0.01 * errors[0]
  assert all(b < a for a, b in itertools.pairwise(errors))


def test_samples_have_the_moments():
  law, keys = exact(), jax.random.split(jax.random.key(0), 40_000)
  data, source = map(np.asarray, jax.jit(jax.vmap(law.sample))(keys))
  joint = np.cov(np.concatenate([data, source], 1).T)
  truth = np.block([[DATA, law.cross], [law.cross.T, SOURCE]])
  np.testing.assert_allclose(joint, truth, atol=0.15)
  np.testing.assert_allclose(data.mean(0), MEANS[0], atol=0.05)
  np.testing.assert_allclose(source.mean(0), MEANS[1], atol=0.05)
  other = law.sample(jax.random.key(1))[0]
  assert not np.array_equal(data[0], other)


def test_wide_and_narrow_noise():
  """To optimal transport and to independent ends."""
  np.testing.assert_allclose(unit(1e-4).cross, [[1.0]], atol=1e-7)
  np.testing.assert_allclose(unit(1e3).cross, [[0.0]], atol=2e-6)


@pytest.mark.parametrize(
  "said, changes",
  [
    ("^std: expected a positive number, got 0", dict(std=0.0)),
    ("^std: expected a positive number, got nan", dict(std=float("nan"))),
    (r"^source_mean: expected shape \[1\]", dict(source_mean=np.ones(2))),
    ("^data_mean: expected shape", dict(data_mean=np.zeros(()))),
    (r"^data_covariance: expected shape", dict(data_covariance=np.ones(1))),
    ("^data_covariance: .*positive definite", dict(data_covariance=-ONE)),
    ("^source_covariance: .*positive def", dict(source_covariance=0 * ONE)),
  ],
)
def test_bad_input(said, changes):
  good = dict(data_mean=np.zeros(1), source_mean=np.ones(1), std=1.0)
  good |= dict(data_covariance=ONE, source_covariance=ONE)
  make = lambda **given: bridges.schrodinger(**good | given)
  assert make().cross.shape == (1, 1)
  expect.error(said, make, **changes)


def test_an_asymmetric_covariance_is_rejected():
  skew = np.float64([[1.0, 0.5], [0.0, 1.0]])
  args = np.zeros(2), skew, np.zeros(2), np.eye(2)
  expect.error("symmetric", bridges.schrodinger, *args, std=1.0)
