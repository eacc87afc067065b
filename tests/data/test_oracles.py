import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats

from jaxgen import paths
from jaxgen.data import oracles
from tests import expect
from tests.cases import by_path

RATIOS = (0.002, 0.05, 1.0, 7.0, 80.0)


def three():
  """NumPy arrays: float64 where x is float64."""
  return oracles.Mixture(
    weights=np.array([0.2, 0.5, 0.3]),
    means=np.array([[-1.0, 0.5], [1.5, 0.2], [0.3, -2.0]]),
    stds=np.array([0.3, 0.05, 0.8]),
  )


def line():
  return oracles.Mixture(
    np.array([0.35, 0.65]), np.array([[-1.0], [0.7]]), np.array([0.3, 0.5])
  )


def skewed():
  """The mean and covariance of one Gaussian."""
  root = np.array([[1.0, 0.4, -0.3], [0.0, 0.5, 0.2], [0.0, 0.0, 0.1]])
  return np.array([0.5, -1.0, 2.0]), root @ root.T


def law_of(mean, covariance, alpha, sigma):
  size = len(mean)
  return stats.multivariate_normal(
    alpha * mean, alpha**2 * covariance + sigma**2 * np.eye(size)
  )


def draw(mixture, path, ratio, seed):
  """x_t as NumPy: data from the mixture, noise, and their t."""
  random = np.random.default_rng(seed)
  k = random.choice(len(mixture.weights), p=mixture.weights)
  data = random.normal(mixture.means[k], mixture.stds[k])
  t = path.time(jnp.asarray(ratio))
  noise = random.normal(size=data.shape)
  return jnp.asarray(path.alpha(t) * data + path.sigma(t) * noise), t


@by_path
def test_one_dimension_against_quadrature(path):
  """The posterior's normaliser and means by integrating over the data."""
  with jax.enable_x64(True):
    mixture = line()
    estimate = jax.jit(mixture.field(path))
    for ratio in (0.05, 0.6, 9.0):
      x, t = draw(mixture, path, ratio, seed=3)
      alpha, sigma, value = map(float, (path.alpha(t), path.sigma(t), x[0]))

      def joint(y):
        each = stats.norm.pdf(y, mixture.means[:, 0], mixture.stds)
        return mixture.weights @ each * stats.norm.pdf(value, alpha * y, sigma)

      places = [value / alpha] if abs(value / alpha) < 9 else None
      moment = lambda f: integrate.quad(
        f, -9, 9, points=places, epsabs=0, epsrel=1e-10, limit=500
      )[0]
      density = moment(joint)
      data = moment(lambda y: y * joint(y)) / density
      noise = moment(lambda y: (value - alpha * y) / sigma * joint(y)) / density
      rates = [float(rate) for rate in path.rates(t)]
      velocity = rates[0] * data + rates[1] * noise
      truth = velocity, -noise / sigma, data, noise, np.log(density)
      found = [np.ravel(value)[0] for value in estimate(x, t)]
      np.testing.assert_allclose(found, truth, rtol=1e-7, atol=1e-9)


@by_path
def test_density_and_score_against_scipy(path):
  with jax.enable_x64(True):
    mixture = three()
    log_prob = lambda x, t: mixture.log_prob(path, x, t)
    ours = jax.jit(lambda x, t: (log_prob(x, t), mixture.score(path, x, t)))
    slope = jax.jit(jax.grad(log_prob))
    for seed, ratio in enumerate(RATIOS):
      x, t = draw(mixture, path, ratio, seed)
      alpha, sigma = float(path.alpha(t)), float(path.sigma(t))
      parts = zip(mixture.weights, mixture.means, mixture.stds, strict=True)
      logs = [
        np.log(w) + law_of(m, s**2 * np.eye(2), alpha, sigma).logpdf(x)
        for w, m, s in parts
      ]
      truth = special.logsumexp(logs)
      density, score = ours(x, t)
      np.testing.assert_allclose(density, truth, rtol=1e-9)
      np.testing.assert_allclose(score, slope(x, t), rtol=1e-6, atol=1e-9)


@by_path
def test_full_covariance_against_linear_algebra(path):
  with jax.enable_x64(True):
    mean, covariance = skewed()
    one = oracles.gaussian(mean, covariance)
    estimate = jax.jit(one.field(path))
    x = jnp.array([0.7, -1.3, 2.4])
    for ratio in RATIOS:
      t = path.time(jnp.asarray(ratio))
      alpha, sigma = float(path.alpha(t)), float(path.sigma(t))
      total = alpha**2 * covariance + sigma**2 * np.eye(3)
      pull = np.linalg.solve(total, np.asarray(x) - alpha * mean)
      got = estimate(x, t)
      truth = law_of(mean, covariance, alpha, sigma).logpdf(x)
      np.testing.assert_allclose(got.log_prob, truth)
      np.testing.assert_allclose(got.score, -pull, rtol=1e-8)
      np.testing.assert_allclose(got.noise, sigma * pull, rtol=1e-8)
      truth = mean + alpha * covariance @ pull
      np.testing.assert_allclose(got.data, truth, rtol=1e-6)


@by_path
def test_float32_at_both_ends(path):
  """Against float64 at the same x and t, for noise ratios .002 to 80."""
  mixture = three()
  mean, covariance = skewed()
  cases = []
  for law, dim in ((mixture, 2), (None, 3)):
    for ratio in (0.002, 80.0):
      t = np.float32(path.time(jnp.float32(ratio)))
      data = np.arange(dim, dtype=np.float32) - 0.9
      noise = np.linspace(-1.1, 0.8, dim, dtype=np.float32)
      x = np.asarray(path.alpha(t) * data + path.sigma(t) * noise)
      cases.append((law, x, t))

  def run(dtype):
    one = oracles.gaussian(mean.astype(dtype), covariance.astype(dtype))
    estimate = jax.jit(lambda law, x, t: law.field(path)(x, t))
    of = lambda law, *at: estimate(law or one, *map(jnp.asarray, at))
    wide = lambda x, t: (x.astype(dtype), t.astype(dtype))
    return [jax.device_get(of(law, *wide(x, t))) for law, x, t in cases]

  got = run(np.float32)
  with jax.enable_x64(True):
    truth = run(np.float64)
  for low, high in zip(got, truth, strict=True):
    for name in low._fields:
      value, exact = getattr(low, name), getattr(high, name)
      assert value.dtype == np.float32
      assert np.all(np.isfinite(value)), name
      scale = np.max(np.abs(exact))
      assert np.max(np.abs(value - exact)) < 3e-6 * scale, name


@by_path
def test_flow_map_against_dop853(path):
  with jax.enable_x64(True):
    one = oracles.gaussian(*skewed())
    velocity = jax.jit(lambda t, x: one.velocity(path, x, t))
    flow = jax.jit(lambda x, s, t: one.flow_map(path, x, s, t))
    start, stop = (float(path.time(jnp.asarray(r))) for r in (5.0, 0.02))
    x = jnp.array([2.0, -3.0, 1.0])
    solved = integrate.solve_ivp(
      velocity, (start, stop), x, "DOP853", rtol=1e-10, atol=1e-10
    )
    moved = flow(x, start, stop)
    np.testing.assert_allclose(moved, solved.y[:, -1], atol=1e-7)
    np.testing.assert_allclose(flow(moved, stop, start), x, atol=1e-10)
    np.testing.assert_allclose(flow(x, start, start), x, atol=1e-13)


def test_samples_have_the_moments():
  mean, covariance = skewed()
  number = 20_000
  keys = jax.random.split(jax.random.key(0), (2, number))
  one = oracles.gaussian(jnp.asarray(mean), jnp.asarray(covariance))
  draws = np.asarray(jax.jit(jax.vmap(one.sample))(keys[0]), np.float64)
  std = np.sqrt(np.diag(covariance))
  tolerance = 5 / np.sqrt(number)
  assert np.all(abs(draws.mean(0) - mean) < tolerance * std)
  error = abs(np.cov(draws.T) - covariance) / np.outer(std, std)
  assert np.all(error < np.sqrt(2) * tolerance)

  mixture = three()
  draws = np.asarray(jax.jit(jax.vmap(mixture.sample))(keys[1]), np.float64)
  x = np.linspace(-2.5, 2.5, 11)
  truth = stats.norm.cdf(x[:, None], mixture.means[:, 0], mixture.stds)
  got = (draws[:, :1] < x).mean(0)
  np.testing.assert_allclose(got, truth @ mixture.weights, atol=tolerance / 2)


def test_at_time_zero_it_is_the_data():
  """Where the data have width, log_prob, score and denoise need no noise."""
  with jax.enable_x64(True):
    mixture, x = three(), jnp.array([0.2, -1.0])
    functions = mixture.log_prob, mixture.score, mixture.denoise
    posterior = jax.jit(lambda path, x: [f(path, x, 0.0) for f in functions])
    law = zip(mixture.weights, mixture.means, mixture.stds, strict=True)
    density = sum(
      w * stats.multivariate_normal(m, s**2).pdf(x) for w, m, s in law
    )
    for path in (paths.linear(), paths.vp()):
      log_prob, score, data = posterior(path, x)
      np.testing.assert_allclose(log_prob, np.log(density))
      np.testing.assert_allclose(data, x)
      assert np.all(np.isfinite(score))


def test_is_a_pytree_under_jit_vmap_and_grad():
  mixture = jax.tree.map(jnp.float32, three())
  of = lambda law: lambda x, t: law.log_prob(paths.cosine(), x, t)
  at = jnp.array([[0.1, 0.4], [1.0, -1.0]]), jnp.array([0.3, 0.9])
  expect.a_loop(of(mixture), *at, rtol=1e-5)
  total = lambda law: jax.vmap(of(law))(*at).sum()
  gradient = jax.jit(jax.grad(total))(mixture)
  chex.assert_trees_all_equal_shapes(gradient, mixture)
  assert np.all(np.isfinite(gradient.means))


def test_diagonal_components_are_products():
  """stds [K, D]: a density of independent axes is the product of theirs."""
  with jax.enable_x64(True):
    diagonal = oracles.Mixture(
      np.ones(1), np.array([[0.3, -1.0]]), np.array([[0.2, 1.5]])
    )
    path, x = paths.trigonometric(), jnp.array([0.5, 0.1])
    log_prob = jax.jit(lambda law, x: law.log_prob(path, x, 0.4))
    truth = 0.0
    for axis in range(2):
      law = oracles.Mixture(
        np.ones(1), diagonal.means[:, axis, None], diagonal.stds[:, axis]
      )
      truth += log_prob(law, x[axis, None])
    np.testing.assert_allclose(log_prob(diagonal, x), truth)


@pytest.mark.parametrize(
  ("change", "name"),
  [
    (dict(weights=np.ones(2)), "weights"),
    (dict(means=np.ones(2)), "means"),
    (dict(stds=np.ones((3, 5))), "stds"),
    (dict(basis=np.eye(3)), "basis"),
  ],
)
def test_shapes_that_disagree_are_refused(change, name):
  mixture = three()._replace(**change)
  at = paths.linear(), jnp.ones(2), 0.5
  expect.error(f"^{name}: expected", mixture.log_prob, *at)


def test_wrong_points_and_flow_maps_are_refused():
  path, x = paths.linear(), jnp.ones(2)
  expect.error(r"^x: expected", three().score, path, jnp.ones(3), 0.5)
  said = "one Gaussian, got 3 components"
  expect.error(said, three().flow_map, path, x, 0.5, 0.1)
