"""The denoising loss against NumPy and against its exact minimiser."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from jaxgen import levels, paths, predictions
from jaxgen.losses import denoising
from tests import cases, expect
from tests.cases import ROWS, SD, by_path

LINEAR = dict(
  path=paths.linear(),
  prediction=predictions.velocity,
  weight=levels.uniform_weight,
)


def arrays(*shape, seed=0):
  rng = np.random.default_rng(seed)
  draw = lambda: rng.standard_normal(shape).astype(np.float32)
  return SD * draw(), draw()


def by_hand(data, noise, t, weight=1.0):
  """The linear path's velocity loss of f = x_t cos(t), in NumPy."""
  x_t = (1 - t) * data + t * noise
  return weight * np.mean((x_t * np.cos(t) - (noise - data)) ** 2)


predict = lambda x_t, t: x_t * jnp.cos(t)


class Variants(chex.TestCase):
  @chex.all_variants(with_pmap=False)
  @parameterized.parameters((), (3,), (2, 2, 1))
  def test_value(self, *shape):
    data, noise = arrays(*shape)
    data, noise = jnp.asarray(data), jnp.asarray(noise)

    @self.variant
    def loss(data, noise, t):
      data, noise = jnp.asarray(data), jnp.asarray(noise)  # from NumPy too
      return denoising.denoising(predict, data, noise, t, **LINEAR)

    value = loss(data, noise, 0.3)
    assert value.shape == () and value.dtype == jnp.float32
    np.testing.assert_allclose(value, by_hand(data, noise, 0.3), rtol=1e-5)


def test_problem_and_weight():
  data, noise = map(jnp.asarray, arrays(4))
  x_t, target = denoising.problem(
    data, noise, 0.3, path=paths.linear(), prediction=predictions.velocity
  )
  np.testing.assert_allclose(x_t, 0.7 * data + 0.3 * noise, rtol=1e-6)
  np.testing.assert_allclose(target, noise - data, rtol=1e-6)
  options = LINEAR | dict(weight=lambda t: jnp.float32(10 * t))
  value = denoising.denoising(predict, data, noise, 0.3, **options)
  np.testing.assert_allclose(value, by_hand(data, noise, 0.3, 3.0), rtol=1e-5)


def test_one_trace_and_vmap_is_a_loop():
  data, noise = map(jnp.asarray, arrays(3, 4))
  t = jnp.array([0.1, 0.5, 0.9])

  def loss(data, noise, t):
    options = LINEAR | dict(path=paths.linear())
    return denoising.denoising(predict, data, noise, t, **options)

  expect.a_loop(loss, data, noise, t)


@by_path
def test_values_and_gradients_are_finite_in_float32(path):
  """Every prediction and weight, noise ratios from .002 to 80."""
  weights = [(weight, predictions.data) for weight in cases.weights(path)]
  weights.append((levels.sigmoid_weight(path), predictions.noise))
  data, noise = map(jnp.asarray, arrays(5))

  @jax.jit
  def everything(params, times):
    def loss(params, t, i, row):
      def weight(t):
        moved = [predictions.reweight(w, path, of, row) for w, of in weights]
        return jnp.stack([w(t) for w in moved])[i]

      predict_fn = lambda x_t, t: params[0] * jnp.tanh(x_t) + params[1]
      options = dict(path=path, prediction=row, weight=weight)
      return denoising.denoising(predict_fn, data, noise, t, **options)

    def grid(row):
      one = jax.value_and_grad(lambda p, t, i: loss(p, t, i, row))
      over_weights = jax.vmap(one, (None, None, 0))
      return jax.vmap(over_weights, (None, 0, None))(
        params, times, jnp.arange(len(weights))
      )

    return {name: grid(row) for name, row in ROWS.items()}

  times = path.time(jnp.geomspace(0.002, 80.0, 9))
  for value, grad in everything(jnp.array([0.5, 0.1]), times).values():
    assert value.dtype == jnp.float32 and value.shape == (9, len(weights))
    assert np.all(np.isfinite(value)) and np.all(value > 0)
    assert np.all(np.isfinite(grad)) and np.any(grad != 0)


@pytest.mark.parametrize("name", ROWS)
def test_gradient_is_that_of_the_square(name):
  """f = theta: the gradient is 2 w mean(theta - target), by hand."""
  path, row = paths.vp(), ROWS[name]
  data, noise = map(jnp.asarray, arrays(5))
  weight = lambda t: jnp.float32(1 + t)

  def loss(theta):
    predict_fn = lambda x_t, t: theta * jnp.ones_like(x_t)
    options = dict(path=path, prediction=row, weight=weight)
    return denoising.denoising(predict_fn, data, noise, 0.4, **options)

  a, b = (float(value) for value in row(path, 0.4))
  truth = 2 * 1.4 * np.mean(0.3 - (a * data + b * noise))
  np.testing.assert_allclose(jax.jit(jax.grad(loss))(0.3), truth, rtol=1e-4)


@pytest.mark.parametrize("name", ROWS)
def test_the_exact_denoiser_is_the_minimiser(name):
  """Data N(0, s^2): E[target | x_t] = k x_t, and d loss / d slope is 0 there.

  The slope at k is zero within four standard errors, at 1.2 k it is not.
  """
  path, row, n, s = paths.cosine(), ROWS[name], 40_000, 0.7
  t = path.time(0.8)
  alpha, sigma = path.alpha(t), path.sigma(t)
  a, b = row(path, t)
  k = (a * alpha * s**2 + b * sigma) / ((alpha * s) ** 2 + sigma**2)
  rng = np.random.default_rng(2)
  data = jnp.asarray(s * rng.standard_normal((n, 2)), jnp.float32)
  noise = jnp.asarray(rng.standard_normal((n, 2)), jnp.float32)

  def loss(k, data, noise):
    predict_fn = lambda x_t, t: k * x_t
    options = LINEAR | dict(path=path, prediction=row)
    return denoising.denoising(predict_fn, data, noise, t, **options)

  slopes = jax.jit(jax.vmap(jax.grad(loss), (None, 0, 0)))
  at = np.asarray(slopes(k, data, noise), np.float64)
  error = at.std() / np.sqrt(n)
  assert abs(at.mean()) < 4 * error
  # v's optimal slope may be near 0: perturb by a share of the row's size.
  wrong = np.asarray(slopes(k + 0.2 * jnp.hypot(a, b), data, noise))
  assert abs(wrong.mean()) > 10 * error


def test_mismatches_are_refused():
  data, noise = map(jnp.asarray, arrays(4))
  loss = lambda data, noise, t, predict_fn=predict: denoising.denoising(
    predict_fn, data, noise, t, **LINEAR
  )
  half = noise.astype(jnp.bfloat16)
  expect.error("noise: expected shape", loss, data, noise[:3], 0.5)
  expect.error("noise: expected dtype", loss, data, half, 0.5)
  expect.error(r"t: expected shape \(\)", loss, data, noise, jnp.ones(4) / 2)
  for t in (-0.1, 1.1, float("nan"), jnp.float32(2)):
    expect.error(r"t: expected a time in \[0, 1\]", loss, data, noise, t)
  for bad in (lambda x_t, t: x_t[:, None], lambda x_t, t: x_t.sum()):
    said = "predict_fn: expected output shape"
    expect.error(said, loss, data, noise, 0.5, bad)
