"""guidance: the weighted combination of exact fields, in one call or two."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import fields, guidance, paths, predictions, samplers
from jaxgen.data import oracles
from tests import expect
from tests.cases import ROWS, by_path

WEIGHTS = np.array([0.3, 0.7])
MEANS = np.array([[1.0, -0.5, 0.2], [-0.4, 0.3, 1.5]])
STDS = np.array([0.001, 0.002])  # narrow: noise is of size one at any level
DATA, NOISE = MEANS[0] + 0.001, np.array([0.7, -0.4, 1.1])
NAMES = ("velocity", "score", "data", "noise")
# Noise ratio: the largest conversion error in the table of docs/design.md.
FLOAT32 = {0.002: 4.8e-5, 80.0: 1.2e-5}


def labelled():
  """The first class of a mixture, and the mixture without labels."""
  one = oracles.Mixture(np.ones(1), MEANS[:1], STDS[:1])
  return one, oracles.Mixture(WEIGHTS, MEANS, STDS)


def learned(mixture, path, row):
  """The exact field, through what a network of this prediction returns."""

  def predict_fn(x, t):
    at = mixture.estimate(path, x, t)
    return predictions.target(path, row, at.data, at.noise, t)

  return fields.from_prediction(predict_fn, path, row)


def combined(path, x, t, weight):
  """{estimate: (the combination by hand, the size of its two terms)}."""
  at, null = (mixture.estimate(path, x, t) for mixture in labelled())
  found = {}
  for name in NAMES:
    one, other = weight * getattr(at, name), (1 - weight) * getattr(null, name)
    size = np.linalg.norm(one) + np.linalg.norm(other)
    found[name] = np.asarray(one + other), size
  return found


@pytest.mark.parametrize("weight", [-1.0, 0.0, 1.0, 2.5])
@by_path
def test_a_guided_field_combines_the_exact_fields(path, weight):
  """Whatever the networks predict, in both precisions."""

  def run(x, t):
    pairs = {
      name: [learned(mixture, path, row) for mixture in labelled()]
      for name, row in ROWS.items()
    }
    return {
      name: guidance.classifier_free(*pair, weight)(x, t)
      for name, pair in pairs.items()
    }

  for ratio, bound in FLOAT32.items():
    t = path.time(jnp.float32(ratio))
    x = path.alpha(t) * jnp.float32(DATA) + path.sigma(t) * jnp.float32(NOISE)
    with jax.enable_x64(True):
      wide = jnp.asarray(x, float), jnp.asarray(t, float)
      truth = combined(path, *wide, weight)
      found = jax.device_get(jax.jit(run)(*wide))
    single = jax.device_get(jax.jit(run)(x, t))
    for row in ROWS:
      for name, (value, size) in truth.items():
        double, float32 = getattr(found[row], name), getattr(single[row], name)
        assert double.dtype == np.float64 and float32.dtype == np.float32
        assert np.linalg.norm(double - value) < 1e-10 * size, (row, name)
        assert np.linalg.norm(float32 - value) < 3 * bound * size, (row, name)


def test_it_is_not_the_field_of_the_tilted_density():
  """p^w q^(1 - w) of two Gaussians is a Gaussian; its score differs from the
  guided one at t > 0 and equals it at t = 0.
  """
  weight, variances = 2.0, np.array([0.25, 1.0])
  precision = weight / variances[0] + (1 - weight) / variances[1]
  one, other, tilted = (
    oracles.gaussian(np.zeros(1), np.full((1, 1), variance))
    for variance in (*variances, 1 / precision)
  )
  path = paths.linear()
  field = guidance.classifier_free(one.field(path), other.field(path), weight)
  x = jnp.array([0.6])
  for t, same in ((0.0, True), (0.5, False)):
    score, truth = field(x, t).score, tilted.field(path)(x, t).score
    assert np.allclose(score, truth, rtol=1e-5) == same


def counted(field, calls):
  """The field, which appends to `calls` whenever it is evaluated."""

  def estimate(x, t):
    jax.debug.callback(lambda t: calls.append(float(t)), t)
    return field(x, t)

  return fields.Field(estimate, field.path)


@pytest.mark.parametrize(
  "weight, inside, outside",
  [(1.0, (1, 0), (1, 0)), (0.0, (0, 1), (1, 0)), (3, (1, 1), (1, 0))],
)
def test_outside_the_interval_one_call_is_made(weight, inside, outside):
  """In a solver under vmap and jit, where times are not batched."""
  path, both = paths.edm(), labelled()
  times = jnp.array([80.0, 10.0, 2.0, 1.0, 0.5, 0.1])
  one, other = [], []
  field = guidance.classifier_free(
    counted(both[0].field(path), one),
    counted(both[1].field(path), other),
    weight,
    (0.5, 2.0),
  )
  x = 80 * jax.random.normal(jax.random.key(0), (4, 3))
  solve = lambda x: samplers.trajectory(
    samplers.euler(), field, x, times, jax.random.key(1)
  )
  states = jax.block_until_ready(jax.jit(jax.vmap(solve))(x))
  jax.effects_barrier()
  # low < ratio <= high, at the start of each step. A callback may run once for
  # each row of a batch.
  guided, starts = [2.0, 1.0], np.asarray(times[:-1]).tolist()
  calls = lambda i: [
    t for t in starts if (inside if t in guided else outside)[i]
  ]
  assert [sorted({*one}), sorted({*other})] == [
    sorted(calls(0)),
    sorted(calls(1)),
  ]
  # The same states by hand, one Euler step after the other.
  plain = [both[0].field(path), both[1].field(path)]
  now = x
  for n, t in enumerate(times[:-1]):
    at, null = (
      jax.vmap(lambda x, f=f, t=t: f(x, t).velocity)(now) for f in plain
    )
    w = weight if float(t) in guided else 1.0
    now = now + (times[n + 1] - t) * (w * at + (1 - w) * null)
    np.testing.assert_allclose(states[:, n + 1], now, rtol=2e-5, atol=2e-5)


def test_weights_may_be_traced_and_have_gradients():
  path = paths.linear()
  one, other = (mixture.field(path) for mixture in labelled())
  x, t = jnp.float32(NOISE), jnp.float32(0.4)
  value = lambda w: guidance.classifier_free(one, other, w)(x, t).velocity
  found, slope = jax.jvp(jax.jit(value), (1.5,), (1.0,))
  at, null = one(x, t).velocity, other(x, t).velocity
  np.testing.assert_allclose(found, null + 1.5 * (at - null), rtol=1e-6)
  np.testing.assert_allclose(slope, at - null, rtol=1e-5)


def test_estimates_that_one_field_lacks_are_none():
  path, x = paths.linear(), jnp.float32(NOISE)
  velocity = fields.from_velocity(lambda x, t: -x)
  whole = labelled()[0].field(path)
  for interval in (None, (0.1, 1.0)):
    at = guidance.classifier_free(whole, velocity, 2.0, interval)(x, 0.3)
    assert at.velocity is not None
    assert at.score is at.data is at.noise is at.log_prob is None
  assert guidance.classifier_free(whole, velocity, 2.0).path is path


@pytest.mark.parametrize("interval", [(1.0, 1.0), (-1.0, 2.0), (2.0, 0.5)])
def test_an_invalid_interval_is_rejected(interval):
  field = labelled()[0].field(paths.linear())
  message = r"interval: expected 0 <= low < high, got"
  expect.error(message, guidance.classifier_free, field, field, 2.0, interval)


def test_an_interval_needs_a_path():
  field = fields.from_velocity(lambda x, t: -x)
  message = "interval: expected a field with a path, got None"
  expect.error(message, guidance.classifier_free, field, field, 2.0, (0.1, 1.0))
