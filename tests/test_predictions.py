"""Rows, conversions and weights against known data and noise, and formulas."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import paths, predictions
from jaxgen.losses import denoising
from tests import expect
from tests.cases import ROWS, SD, by_path

RATIOS = np.geomspace(0.002, 80.0, 25)


def example(num=6):
  """Data of standard deviation SD and noise, float64 on the host, [num]."""
  rng = np.random.default_rng(0)
  return SD * rng.standard_normal(num), rng.standard_normal(num)


@by_path
def test_rows_are_the_published_ones(path):
  @jax.jit
  @jax.vmap
  def everything(t):
    rows = {name: row(path, t) for name, row in ROWS.items()}
    det = {n: predictions.determinant(r, path, t) for n, r in ROWS.items()}
    return path.alpha(t), path.sigma(t), path.rates(t), rows, det

  with jax.enable_x64(True):
    values = everything(path.time(jnp.asarray(RATIOS)))
  alpha, sigma, rates, row, det = jax.device_get(values)
  # F of D = c_skip x + c_out F (Karras et al. 2022, table 1), at x_t / alpha.
  ratio = sigma / alpha
  c_skip = SD**2 / (ratio**2 + SD**2)
  c_out = ratio * SD / np.sqrt(ratio**2 + SD**2)
  edm = (1 - c_skip) / c_out, -c_skip * ratio / c_out
  scale = np.sqrt(alpha**2 * SD**2 + sigma**2)
  published = {  # row, determinant
    "data": ((1, 0), sigma),
    "noise": ((0, 1), -alpha),
    "velocity": (rates, rates[0] * sigma - rates[1] * alpha),
    "v": ((-sigma, alpha), -(alpha**2 + sigma**2)),
    "score": ((0, -1 / sigma), alpha / sigma),
    "edm": (edm, scale / SD),
  }
  for name, truth in published.items():
    expect.close((row[name], det[name]), truth, rtol=1e-9)


@by_path
def test_every_conversion_gives_the_truth(path):
  """All 36, one way against data and noise, and round trips, in float64."""

  @jax.jit
  @jax.vmap
  def errors(t):
    data, noise = map(jnp.asarray, example())
    x_t = path.alpha(t) * data + path.sigma(t) * noise
    scale = lambda value: jnp.sqrt(jnp.mean(value**2))
    one_way, round_trip = [], []
    for source in ROWS.values():
      value = predictions.target(path, source, data, noise, t)
      for target in ROWS.values():
        rows = dict(source=source, target=target)
        there = predictions.convert(value, x_t, t, path, **rows)
        rows = dict(source=target, target=source)
        back = predictions.convert(there, x_t, t, path, **rows)
        truth = predictions.target(path, target, data, noise, t)
        one_way.append(scale(there - truth) / scale(truth))
        round_trip.append(scale(back - value) / scale(value))
    return jnp.array(one_way), jnp.array(round_trip)

  with jax.enable_x64(True):
    values = errors(path.time(jnp.asarray(RATIOS)))
    one_way, round_trip = jax.device_get(values)
  assert np.max(one_way) < 1e-8
  assert np.max(round_trip) < 1e-8


@by_path
def test_weighted_losses_are_equal_after_reweight(path):
  """Values and gradients; every network is one data network, converted."""
  rng = np.random.default_rng(1)
  params = dict(w=rng.standard_normal((6, 6)) / 3, b=rng.standard_normal(6))
  weight = lambda t: 1 / (0.1 + path.ratio(t))  # on data's squared error

  def loss(params, t, prediction):
    data, noise = map(jnp.asarray, example())

    def predict_fn(x_t, t):
      value = jnp.tanh(params["w"] @ x_t + params["b"])
      return predictions.convert(
        value, x_t, t, path, source=predictions.data, target=prediction
      )

    moved = predictions.reweight(weight, path, predictions.data, prediction)
    return denoising.denoising(
      predict_fn, data, noise, t, path=path, prediction=prediction, weight=moved
    )

  @jax.jit
  def values_and_gradients(params, times):
    value_and_grad = jax.value_and_grad(loss)
    one = lambda t: {
      name: value_and_grad(params, t, row) for name, row in ROWS.items()
    }
    back = predictions.reweight(
      predictions.reweight(weight, path, predictions.data, ROWS["edm"]),
      path,
      ROWS["edm"],
      predictions.data,
    )
    return jax.vmap(one)(times), jax.vmap(lambda t: back(t) / weight(t))(times)

  with jax.enable_x64(True):
    params, times = jax.tree.map(jnp.asarray, params), jnp.asarray(RATIOS)
    found = values_and_gradients(params, path.time(times))
  results, again = jax.device_get(found)
  truth_value, truth_gradient = results["data"]
  assert np.all(truth_value > 0)
  for value, gradient in results.values():
    np.testing.assert_allclose(value, truth_value, rtol=1e-9)
    expect.close(gradient, truth_gradient, rtol=1e-8, atol=1e-11)
  np.testing.assert_allclose(again, 1, rtol=1e-12)


def test_preconditioned_is_karras_denoiser():
  """D(x) = c_skip x + c_out F(c_in x, c_noise), table 1, by hand in NumPy."""
  net = lambda x, c: jnp.tanh(2 * x) + c
  predict_fn, prediction = predictions.preconditioned(net, paths.edm(), SD)
  assert prediction is predictions.edm(SD)
  rows = dict(source=prediction, target=predictions.data)

  @jax.jit
  @jax.vmap
  def denoise(x, sigma):
    value = predict_fn(x, sigma)
    return predictions.convert(value, x, sigma, paths.edm(), **rows)

  sigma = RATIOS[:, None]
  data, noise = example()
  x = data + sigma * noise
  c_skip = SD**2 / (sigma**2 + SD**2)
  c_out = sigma * SD / np.sqrt(sigma**2 + SD**2)
  c_in = 1 / np.sqrt(sigma**2 + SD**2)
  truth = c_skip * x + c_out * (np.tanh(2 * c_in * x) + np.log(sigma) / 4)
  with jax.enable_x64(True):
    value = denoise(jnp.asarray(x), jnp.asarray(RATIOS))
  np.testing.assert_allclose(value, truth, rtol=1e-10, atol=1e-12)


@by_path
def test_preconditioned_sees_unit_variance_and_the_conditioning(path):
  seen = []
  net = lambda x, c: seen.append((x, c)) or x
  predict_fn, _ = predictions.preconditioned(net, path, SD)
  with jax.enable_x64(True):
    t = path.time(jnp.float64(0.7))
    predict_fn(jnp.array([1.0]), t)
    ((x, c),) = seen
    std = np.sqrt((path.alpha(t) * SD) ** 2 + path.sigma(t) ** 2)
    np.testing.assert_allclose(x[0] * std, 1, rtol=1e-12)
    np.testing.assert_allclose(c, path.conditioning(t), rtol=1e-12)


def test_same_row_is_the_identity():
  x = jnp.array([1.0, 2.0])
  rows = dict(source=predictions.velocity, target=predictions.velocity)
  assert predictions.convert(x, x, 0.5, paths.linear(), **rows) is x


def test_a_new_prediction_is_one_row():
  half = lambda path, t: (jnp.float32(0.5), jnp.float32(0.5))
  data, noise = (jnp.asarray(x, jnp.float32) for x in example())
  x_t = 0.75 * data + 0.25 * noise
  rows = dict(source=half, target=predictions.noise)
  given = (data + noise) / 2, x_t, 0.25, paths.linear()
  value = predictions.convert(*given, **rows)
  np.testing.assert_allclose(value, noise, atol=1e-5)
