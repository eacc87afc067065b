"""Flow matching and interpolants against their papers' formulas in NumPy, and
their minimisers against exact conditional expectations of mixtures.

The papers' time s runs from the source at 0 to the data at 1: s = 1 - t.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from jaxgen import couplings, paths, predictions
from jaxgen.data import oracles
from jaxgen.losses import denoising, flow_matching
from tests import expect
from tests.cases import PATHS, by_path

BRIDGES = dict(
  constant=flow_matching.constant(0.4), brownian=flow_matching.brownian(0.7)
)


def arrays(*shape):
  rng = np.random.default_rng(0)
  return [rng.standard_normal(shape).astype("float32") for _ in range(3)]


def published(name, data, source, noise, s, std):
  """(x, u) of Tong et al.: x0 is the source, x1 the data, u = dx / ds."""
  mean = s * data + (1 - s) * source
  if name == "constant":  # eq. 14 and 15, I-CFM and OT-CFM
    return mean + std * noise, data - source
  spread = std * np.sqrt(s * (1 - s))  # eq. 16 and 17, SB-CFM
  x = mean + spread * noise
  return x, (1 - 2 * s) / (2 * s * (1 - s)) * (x - mean) + (data - source)


@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize("name", ["constant", "brownian"])
def test_conditional_paths_and_velocities_are_the_published_ones(name, coupled):
  """Of independent pairs, and of those of optimal transport."""
  data, source, noise = arrays(6, 3)
  if coupled:
    source = source[couplings.exact(data, source)]
  bridge = getattr(flow_matching, name)(0.7)
  one = lambda *args: flow_matching.problem(
    *args, path=paths.linear(), bridge=bridge
  )
  t = np.linspace(0.05, 0.95, 6)
  with jax.enable_x64(True):
    wide = [jnp.asarray(a, "float64") for a in (data, source, noise, t)]
    x_t, velocity = jax.jit(jax.vmap(one))(*wide)
  s = 1 - t[:, None]
  x, u = published(name, *np.float64([data, source, noise]), s, 0.7)
  np.testing.assert_allclose(x_t, x, rtol=1e-12)
  np.testing.assert_allclose(velocity, -u, rtol=1e-9)


def answer(x_t, t):
  return x_t * jnp.cos(t)


def by_hand(data, source, noise, t):
  """Flow matching's loss of `answer`, weight 1 + t, and the interpolant's."""
  x, u = published("brownian", data, source, noise, 1 - t, 0.7)
  errors = (x * np.cos(t) + u) ** 2
  both = errors + (x * np.sin(t) - noise) ** 2
  return (1 + t) * errors.mean(), (1 + t) * both.mean()


def both_losses(data, source, noise, t):
  options = dict(path=paths.linear(), bridge=BRIDGES["brownian"])
  options |= dict(weight=lambda t: 1 + jnp.asarray(t))
  pair = lambda x_t, t: (answer(x_t, t), x_t * jnp.sin(t))
  args = data, source, noise, t
  return (
    flow_matching.flow_matching(answer, *args, **options),
    flow_matching.stochastic_interpolant(pair, *args, **options),
  )


class Variants(chex.TestCase):
  @chex.all_variants(with_pmap=False)
  @parameterized.parameters((), (3,), (2, 2, 1))
  def test_values(self, *shape):
    data, source, noise = arrays(*shape)

    @self.variant
    def run(data, source, noise, t):
      return both_losses(*map(jnp.asarray, (data, source, noise)), t)

    found = run(data, source, noise, 0.3)
    assert all(v.shape == () and v.dtype == jnp.float32 for v in found)
    truth = by_hand(*np.float64([data, source, noise]), 0.3)
    np.testing.assert_allclose(found, truth, rtol=1e-5)


def test_one_trace_and_vmap_is_a_loop():
  t = jnp.array([0.1, 0.5, 0.9])
  expect.a_loop(both_losses, *map(jnp.asarray, arrays(3, 4)), t, rtol=1e-5)


@by_path
def test_with_a_gaussian_source_it_is_denoising(path):
  """Value and gradient, on every path, to rounding."""
  data, noise, other = map(jnp.asarray, arrays(5, 4))
  options = dict(path=path, weight=lambda t: 1 / (1 + t))

  @jax.jit
  def both(params, t):
    def mean(loss):
      fn = lambda x_t, t: jnp.tanh(params[0] @ x_t) + params[1] * t
      return jax.vmap(lambda *args: loss(fn, *args))(data, noise, other, t)

    first = lambda fn, data, noise, other, t: flow_matching.flow_matching(
      fn, data, noise, other, t, bridge=flow_matching.constant(0.0), **options
    )
    second = lambda fn, data, noise, other, t: denoising.denoising(
      fn, data, noise, t, prediction=predictions.velocity, **options
    )
    return mean(first), mean(second)

  params = jnp.asarray(other[:4]), jnp.ones(4)
  t = path.time(jnp.geomspace(0.002, 80.0, 5))
  values = both(params, t)
  gradients = jax.jacrev(both)(params, t)
  np.testing.assert_allclose(*values, rtol=1e-6)
  for one, two in zip(*gradients, strict=True):
    np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-7 * abs(two).max())


def stationary(predict_fn, weights, data, source, noise, t, options):
  """Means of the squared-error slopes at f + theta, theta = 0, of both losses.

  Zero where f is the mean of the targets under these weights.
  """

  def mean(theta):
    shifted = lambda x, t: [
      value + shift
      for value, shift in zip(predict_fn(x, t), theta, strict=True)
    ]
    flow = lambda *args: flow_matching.flow_matching(
      lambda x, t: shifted(x, t)[0], *args, t, **options
    )
    pair = lambda *args: flow_matching.stochastic_interpolant(
      shifted, *args, t, **options
    )
    return [
      weights @ jax.vmap(loss)(data, source, noise) for loss in (flow, pair)
    ]

  zero = jnp.zeros(data.shape[1:])
  return jax.jacfwd(mean)((zero, zero))


@pytest.mark.parametrize("name", ["linear", "trigonometric", "vp"])
def test_minimiser_on_a_mixture_is_the_oracle_velocity(name):
  """The source is (x_t - alpha data) / sigma: quadrature over data."""
  path, nodes = PATHS[name], np.linspace(-5, 5, 161)
  mixture = oracles.Mixture(
    np.array([0.3, 0.7]),
    np.array([[1.0, -0.5], [-0.4, 0.6]]),
    np.array([[0.3, 0.5], [0.6, 0.3]]),
  )
  options = dict(path=path, bridge=flow_matching.constant(0.0))
  options |= dict(weight=jnp.ones_like)

  @jax.jit
  def slopes(x, t):
    grid = jnp.stack(jnp.meshgrid(nodes, nodes), -1).reshape(-1, 2)
    source = (x[None] - path.alpha(t) * grid) / path.sigma(t)
    prior = jax.vmap(lambda d: mixture.log_prob(paths.edm(), d, 0.0))(grid)
    weights = jax.nn.softmax(prior - (source**2).sum(1) / 2)
    factor = 1 + 0.01 * jnp.arange(2)  # the oracle, and one percent off it

    def at(factor):
      fn = lambda x, t: (factor * mixture.velocity(path, x, t), 0 * x)
      zero = jnp.zeros_like(grid)
      found = stationary(fn, weights, grid, source, zero, t, options)
      return jnp.stack([of_loss[0] for of_loss in found])

    return jax.vmap(at)(factor)

  with jax.enable_x64(True):
    for x, ratio in (([0.3, -0.2], 0.5), ([-1.0, 1.2], 2.0)):
      t = path.time(jnp.float64(ratio))
      exact, wrong = np.asarray(slopes(jnp.array(x), t))
      np.testing.assert_allclose(exact, 0, atol=1e-9)
      assert (np.abs(wrong) > 1e-4).all()


def two_mixtures(x, t, gamma, gamma_rate):
  """E[velocity | x_t] and E[z | x_t] on the linear path, 1-D, in NumPy.

  Each pair of components makes a Gaussian x_t of mean (1 - t) m + t n and
  variance V = (1 - t)^2 s^2 + t^2 r^2 + gamma^2.
  """
  (w, m, s), (v, n, r) = DATA, SOURCE
  w, m, s = (np.asarray(a)[:, None] for a in (w, m, s))
  v, n, r = map(np.asarray, (v, n, r))
  mean, variance = (
    (1 - t) * m + t * n,
    ((1 - t) * s) ** 2 + (t * r) ** 2 + gamma**2,
  )
  gap = (x - mean) / variance
  odds = w * v * np.exp(-((x - mean) ** 2) / 2 / variance) / np.sqrt(variance)
  covariance = -(1 - t) * s**2 + t * r**2 + gamma * gamma_rate
  average = lambda value: (odds * value).sum() / odds.sum()
  return average(n - m + covariance * gap), average(gamma * gap)


DATA = (0.3, 0.7), (1.0, -0.8), (0.4, 0.6)  # weights, means, stds
SOURCE = (0.6, 0.4), (-0.5, 1.5), (0.5, 0.3)


@pytest.mark.parametrize("bridge", BRIDGES.values(), ids=BRIDGES)
def test_minimisers_between_two_mixtures(bridge):
  """The bridge's noise is (x_t - mean) / gamma: quadrature over both ends."""
  x, t, nodes = 0.4, 0.35, np.linspace(-4, 4, 201)
  density = lambda x, w, m, s: (
    np.asarray(w) / s * np.exp(-((x[:, None] - m) ** 2) / 2 / np.square(s))
  ).sum(1)
  data, source = (a.ravel() for a in np.meshgrid(nodes, nodes))
  prior = density(data, *DATA) * density(source, *SOURCE)
  options = dict(path=paths.linear(), bridge=bridge, weight=jnp.ones_like)

  with jax.enable_x64(True):
    step = 1e-6
    gamma, more, less = (float(bridge(t + h)) for h in (0, step, -step))
    truth = two_mixtures(x, t, gamma, (more - less) / (2 * step))
    noise = (x - (1 - t) * data - t * source) / gamma
    weights = prior * np.exp(-(noise**2) / 2)
    args = [
      jnp.array(a) for a in (weights / weights.sum(), data, source, noise)
    ]

    @jax.jit
    def slopes(factor):
      fn = lambda x_t, t: [factor * value for value in truth]
      return stationary(fn, *args, t, options)

    (flow, none), (velocity, eta) = slopes(1.0)
    np.testing.assert_allclose([flow, velocity, eta], 0, atol=1e-8)
    assert none == 0
    (flow, _), (velocity, eta) = slopes(1.01)
    assert min(map(abs, (flow, velocity, eta))) > 1e-3


def test_mismatches_are_refused():
  data, source, noise = map(jnp.asarray, arrays(4))

  def call(data, source, noise, t, value=answer, pair=None, path="linear"):
    args = data, source, noise, t
    options = dict(path=PATHS[path], bridge=BRIDGES["constant"])
    options |= dict(weight=jnp.ones_like)
    if pair is not None:
      return flow_matching.stochastic_interpolant(pair, *args, **options)
    return flow_matching.flow_matching(value, *args, **options)

  of_float32, half = r": expected float32 \[4\]", noise.astype(jnp.bfloat16)
  expect.error("source" + of_float32, call, data, source[:3], noise, 0.5)
  expect.error("noise" + of_float32, call, data, source, half, 0.5)
  args, each = (data, source, noise), jnp.full((4,), 0.5)
  expect.error(r"t: expected shape \(\)", call, *args, each)
  outside = ("linear", 1.01), ("linear", -0.1), ("linear", np.nan), ("edm", 0)
  for path, t in outside:
    expect.error("t: expected a time in", call, *args, t, path=path)
  shape = "_fn: expected output shape"
  for bad in (lambda x, t: x[:, None], lambda x, t: x.sum()):
    expect.error("velocity" + shape, call, *args, 0.5, bad)
    for pair in (lambda x, t: (x, bad(x, t)), lambda x, t: (bad(x, t), x)):
      expect.error("predict" + shape, call, *args, 0.5, pair=pair)


@pytest.mark.parametrize("std", [-0.1, float("nan")])
def test_bridges_refuse_what_is_no_std(std):
  for bridge in (flow_matching.constant, flow_matching.brownian):
    expect.error("std: expected at least 0", bridge, std)


def test_a_bridge_that_ends_before_the_path_is_refused():
  args = map(jnp.asarray, (*arrays(4), np.float32(0.5)))
  short = dict(path=PATHS["trigonometric"], bridge=BRIDGES["brownian"])
  with pytest.raises(ValueError, match="bridge: expected a finite value at"):
    jax.jit(lambda *args: flow_matching.problem(*args, **short))(*args)
