"""Bridge matching and restoration: the papers' formulas, and the optimum of the
regression at the exact drifts of Gaussians, by linear regression.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import fields as fields_of
from jaxgen import paths, predictions, samplers
from jaxgen.data import bridges as exact_bridges
from jaxgen.losses import bridges, flow_matching
from tests import expect

STD, SHAPE = 0.6, (2, 3)
LAW = exact_bridges.schrodinger(
  np.array([0.5]), np.array([[0.3]]), np.array([-1.0]), np.eye(1) * 1.5, std=STD
)
uniform = lambda t: 1.0


def arrays(*shape):
  rng = np.random.default_rng(0)
  return [rng.standard_normal(shape).astype("float32") for _ in range(3)]


def test_the_problem_is_the_published_one():
  """Shi et al., eq. 5 and 10, as in their released code: t_1 - z - ..."""
  data, source, noise = arrays(*SHAPE)
  with jax.enable_x64(True):
    wide = [jnp.asarray(a, "float64") for a in (data, source, noise)]
    for t in (0.1, 0.5, 1.0):
      x_t, drift = bridges.problem(*wide, t, std=STD)
      x = t * source + (1 - t) * data + STD * np.sqrt(t * (1 - t)) * noise
      np.testing.assert_allclose(x_t, x, atol=1e-6)
      np.testing.assert_allclose(drift, (data - x) / t, atol=1e-5)


def test_both_drifts_give_the_interpolants_velocity_and_score():
  """(f - b) / 2 is flow_matching's velocity, (f + b) / std^2 the score."""
  data, source, noise = map(jnp.asarray, arrays(*SHAPE))
  t = 0.3
  x_t, to_data = bridges.problem(data, source, noise, t, std=STD)
  other, to_source = bridges.problem(source, data, noise, 1 - t, std=STD)
  np.testing.assert_allclose(x_t, other, rtol=1e-5)
  bridge = flow_matching.brownian(STD)
  same, velocity = flow_matching.problem(
    data, source, noise, t, path=paths.linear(), bridge=bridge
  )
  np.testing.assert_allclose(x_t, same, rtol=1e-6)
  half = (to_source - to_data) / 2
  np.testing.assert_allclose(half, velocity, rtol=1e-4, atol=1e-5)
  score = -noise / (STD * np.sqrt(t * (1 - t)))
  total = (to_source + to_data) / STD**2
  np.testing.assert_allclose(total, score, rtol=1e-4, atol=1e-5)


def test_matching_is_the_weighted_mean_square():
  data, source, noise = map(jnp.asarray, arrays(*SHAPE))
  net = lambda x, t: 2 * x + t
  x_t, drift = bridges.problem(data, source, noise, 0.4, std=STD)
  expected = 0.4 * np.mean((2 * x_t + 0.4 - drift) ** 2)
  loss = lambda t: bridges.matching(
    net, data, source, noise, t, std=STD, weight=lambda t: t
  )
  np.testing.assert_allclose(loss(0.4), expected, rtol=1e-6)
  np.testing.assert_allclose(jax.jit(loss)(0.4), expected, rtol=1e-5)


def test_the_game_converges_to_the_bridge():
  """With the best affine drift at each of 20 times, in place of networks.

  Pairs begin independent; then each drift is fitted to pairs that the other
  simulates. The covariance of the ends becomes (sqrt 5 - 1) / 2, and no end
  moves (Shi et al.'s example, std 1).
  """
  rng, number, steps = np.random.default_rng(0), 20_000, 20
  many = jax.jit(
    jax.vmap(
      lambda *args: bridges.problem(*args, std=1.0), in_axes=(0, 0, 0, None)
    )
  )

  def simulated(ends, starts, x):
    """New ends from x, by the drift to the ends of these pairs."""
    for left in np.linspace(1, 0, steps, endpoint=False):
      noise = rng.standard_normal(number).astype("float32")
      x_t, drift = many(ends, starts, noise, jnp.float32(left))
      slope, base = np.polyfit(np.asarray(x_t), np.asarray(drift), 1)
      step = (slope * x + base) / steps
      x = x + step + rng.standard_normal(number) / np.sqrt(steps)
    return x.astype("float32")

  true = [rng.normal(mean, 1, number).astype("float32") for mean in (-0.1, 0.1)]
  pair = list(true)  # data and source
  for turn in range(6):
    end = turn % 2  # the drift to this end moves true examples of the other
    made = simulated(pair[end], pair[1 - end], true[1 - end])
    pair = [made, true[1]] if end == 0 else [true[0], made]
  covariance = np.cov(*pair)
  golden = (np.sqrt(5) - 1) / 2
  np.testing.assert_allclose(covariance[0, 1], golden, atol=0.04)
  np.testing.assert_allclose(covariance.diagonal(), 1, atol=0.06)
  np.testing.assert_allclose(np.mean(pair, 1), [-0.1, 0.1], atol=0.04)


@pytest.mark.parametrize("player", ["to_data", "to_source"])
def test_the_gradient_vanishes_at_the_exact_drift(player):
  """In expectation, over pairs of the bridge's coupling: the mean gradient with
  respect to an added affine drift, relative to that of a drift of 0.
  """
  number = 40_000
  rng = np.random.default_rng(1)
  cross = LAW.cross[0, 0]
  joint = [[0.3, cross], [cross, 1.5]]
  pairs = rng.multivariate_normal([0.5, -1.0], joint, number)
  data, source = jnp.asarray(pairs.T[..., None], jnp.float32)
  noise = jnp.asarray(rng.standard_normal((number, 1)), jnp.float32)
  t = jnp.asarray((rng.permutation(number) + 0.5) / number, jnp.float32)

  def mean(params, scale):
    exact = getattr(LAW, player)

    def drift(x, t):
      return scale * exact(x, t) + params[0] + params[1] * x

    def one(data, source, noise, t):
      ends, fn, left = (data, source), drift, t
      if player == "to_source":
        ends, fn, left = (source, data), bridges.to_source(drift), 1 - t
      return bridges.matching(
        fn, *ends, noise, left, std=STD, weight=lambda left: left
      )

    return jax.vmap(one)(data, source, noise, t).mean()

  slope = jax.jit(jax.grad(mean))
  at, away = slope(jnp.zeros(2), 1.0), slope(jnp.zeros(2), 0.0)
  assert np.abs(at).max() < 0.02 * np.abs(away).max()


@pytest.mark.parametrize(
  "path", [paths.edm(1e-3, 1.3), paths.vp(0.1, 2.0)], ids=["edm", "vp"]
)
def test_a_pinned_path_is_the_conditional_of_the_process(path):
  """By the joint Gaussian of x_t and x_T given the data."""
  with jax.enable_x64(True):
    ends, gamma = bridges.pinned(path)
    last = jnp.float64(path.t_max)
    alpha_T, sigma_T = map(float, (path.alpha(last), path.sigma(last)))
    for t in (0.2, 0.5, 0.9):
      t = jnp.float64(t)
      alpha, sigma = map(float, (path.alpha(t), path.sigma(t)))
      step = alpha_T / alpha  # x_T = step x_t + noise
      gain = step * sigma**2 / sigma_T**2
      np.testing.assert_allclose(ends.sigma(t), gain, rtol=1e-9)
      left = alpha - gain * alpha_T
      np.testing.assert_allclose(ends.alpha(t), left, rtol=1e-9)
      spread = sigma**2 - gain * step * sigma**2
      np.testing.assert_allclose(gamma(t), np.sqrt(spread), rtol=1e-9)
      back = ends.time(ends.ratio(t))
      np.testing.assert_allclose(back, t, rtol=1e-6)
    at_end = ends.alpha(last), ends.sigma(last), gamma(last)
    np.testing.assert_allclose(at_end, [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(ends.alpha(path.t_min), 1, rtol=1e-5)


def test_edms_is_the_brownian_bridge_in_squared_time():
  """Liu et al., with s = (t / t_max)^2 and std = t_max."""
  ends, gamma = bridges.pinned(paths.edm(1e-3, 1.3))
  for s in (0.1, 0.5, 0.8):
    t = 1.3 * np.sqrt(s)
    found = ends.alpha(t), ends.sigma(t), gamma(t)
    brownian = 1.3 * np.sqrt(s * (1 - s))
    np.testing.assert_allclose(found, [1 - s, s, brownian], rtol=1e-5)


def test_restoration_is_the_weighted_mean_square():
  data, source, noise = map(jnp.asarray, arrays(*SHAPE))
  ends, gamma = bridges.pinned(paths.edm(0.01, 1.0))
  how = dict(path=ends, bridge=gamma, weight=lambda t: 1 / t**2)
  denoise = lambda x, t, source: 0.5 * x + t * source
  t = 0.6
  loss = lambda t: bridges.restoration(denoise, data, source, noise, t, **how)
  q = 0.36
  x_t = (1 - q) * data + q * source + t * np.sqrt(1 - q) * noise
  expected = np.mean((0.5 * x_t + t * source - data) ** 2) / t**2
  np.testing.assert_allclose(loss(t), expected, rtol=1e-5)
  np.testing.assert_allclose(jax.jit(loss)(t), expected, rtol=1e-5)


def test_ancestral_samples_have_the_posterior_of_the_source():
  """Data N(m, v), source = data + noise of std s: p(data | source)."""
  m, v, s, source = 0.5, 0.4, 0.6, 1.1
  path = paths.edm(0.002, 0.9)
  ends, gamma = bridges.pinned(path)
  # Data and source given x_t: data are Gaussian given source, then x_t.
  gain = v / (v + s**2)
  mean, variance = m + gain * (source - m), v * (1 - gain)

  def denoise(x, t):
    alpha, total = ends.alpha(t), ends.alpha(t) ** 2 * variance + gamma(t) ** 2
    middle = alpha * mean + ends.sigma(t) * source
    safe = jnp.where(total > 0, total, 1.0)  # at t_max x_t is the source
    return mean + alpha * variance / safe * (x - middle)

  field = fields_of.from_prediction(denoise, path, predictions.data)
  times = jnp.linspace(0.9, 0.002, 65)
  run = jax.jit(
    jax.vmap(
      lambda key: samplers.integrate(
        samplers.ancestral(), field, jnp.array([source]), times, key
      )
    )
  )
  made = np.asarray(run(jax.random.split(jax.random.key(0), 8000)))
  np.testing.assert_allclose(made.mean(), mean, atol=0.03)
  np.testing.assert_allclose(made.std(), np.sqrt(variance), rtol=0.06)


@pytest.mark.parametrize(
  "said, changes",
  [
    ("^std: expected at least 0, got -1", dict(std=-1.0)),
    ("^t: expected a time in", dict(t=1.5)),
    ("^t: expected shape", dict(t=jnp.ones(2))),
    ("^source: expected float32", dict(start=jnp.ones(2))),
    ("^noise: expected float32", dict(noise=jnp.ones((1, 3)))),
    ("^drift_fn: expected output", dict(drift_fn=lambda x, t: x[0])),
  ],
)
def test_bad_input_of_matching(said, changes):
  data, source, noise = map(jnp.asarray, arrays(3))
  good = dict(drift_fn=lambda x, t: x, end=data, start=source, noise=noise)
  good |= dict(t=0.5, std=1.0, weight=uniform)
  assert bridges.matching(**good).shape == ()
  expect.error(said, lambda: bridges.matching(**good | changes))


def test_bad_input_of_restoration():
  data, source, noise = map(jnp.asarray, arrays(3))
  ends, gamma = bridges.pinned(paths.edm(0.01, 1.0))
  how = dict(path=ends, bridge=gamma, weight=uniform)
  bad = lambda x, t, source: x[0]
  args = data, source, noise, 0.5
  said = "^denoise_fn: expected output shape"
  expect.error(said, lambda: bridges.restoration(bad, *args, **how))
  said = "^path: expected a scale of the data at t_max above"
  for path in (paths.linear(), paths.cosine(), paths.trigonometric()):
    expect.error(said, bridges.pinned, path)
