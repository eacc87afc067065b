"""Distributions of levels against SciPy, and what they do at their ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from jaxgen import outputs
from tests import expect

ALL = (
  outputs.bernoulli(),
  outputs.categorical(5),
  outputs.logistic_mixture(5, 2),
)
NAMES = [output.name for output in ALL]


def mixture_of(params, num_levels):
  """Probabilities [L] by SciPy's logistic distribution function."""
  logits, means, raw = np.split(np.asarray(params, np.float64), 3)
  scales = np.exp(7 * np.tanh(raw / 7))
  edges = 2 * (np.arange(1, num_levels) - 0.5) / (num_levels - 1) - 1
  below = stats.logistic.cdf((edges[:, None] - means) / scales)
  ends = np.zeros_like(means), np.ones_like(means)
  parts = np.diff(np.vstack([ends[0], below, ends[1]]), axis=0)
  return parts @ special.softmax(logits)


def test_the_logistic_mixture_is_scipys():
  with jax.enable_x64(True):
    params = jax.random.normal(jax.random.key(0), (7, 9)) * 2
    output = outputs.logistic_mixture(17, 3)
    found = jax.jit(lambda p: outputs.table(output, p))(params)
    truth = np.stack([mixture_of(row, 17) for row in params])
    np.testing.assert_allclose(np.exp(found), truth, rtol=1e-9, atol=1e-15)


def test_bernoulli_and_categorical_are_scipys():
  logits = jnp.array([[-3.0, 0.5], [2.0, 1.0]])
  found = outputs.table(outputs.categorical(2), logits)
  np.testing.assert_allclose(
    found, special.log_softmax(logits, axis=-1), rtol=1e-6
  )
  difference = logits[:, 1:] - logits[:, :1]
  same = outputs.table(outputs.bernoulli(), difference)
  np.testing.assert_allclose(same, found, rtol=1e-5)


@pytest.mark.parametrize("kind", ["categorical", "logistic_mixture"])
def test_levels_of_bytes(kind):
  output = getattr(outputs, kind)(*{"categorical": [256]}.get(kind, [256, 2]))
  params = jax.random.normal(jax.random.key(0), (3, output.num_params))
  found, truth = (
    output.log_prob(params, jnp.array([0, 7, 255], dtype))
    for dtype in ("uint8", "int32")
  )
  np.testing.assert_array_equal(found, truth)
  assert jnp.isfinite(found).all()
  assert outputs.wide_levels(jnp.ones(2, "bfloat16")).dtype == jnp.bfloat16


@pytest.mark.parametrize("output", ALL, ids=NAMES)
def test_probabilities_sum_to_one_and_samples_follow_them(output):
  shape = 3, output.num_params
  params = 2 * jax.random.normal(jax.random.key(0), shape)
  log_p = outputs.table(output, params)
  assert log_p.shape == (3, output.num_levels)
  np.testing.assert_allclose(jnp.exp(log_p).sum(-1), 1, rtol=1e-5)

  @jax.jit
  def draw(keys):
    return jax.vmap(lambda key: outputs.sample(key, output, params))(keys)

  found = draw(jax.random.split(jax.random.key(1), 4000))
  assert found.dtype == jnp.int32
  for row, levels in zip(np.exp(log_p, dtype="float64"), found.T, strict=True):
    counts = np.bincount(levels, minlength=output.num_levels)
    expected = 4000 * row / row.sum()
    few = expected < 5
    observed = np.append(counts[~few], counts[few].sum())
    wanted = np.append(expected[~few], expected[few].sum())
    keep = wanted > 0
    assert stats.chisquare(observed[keep], wanted[keep]).pvalue > 1e-3
  values = np.linspace(-1, 1, output.num_levels)
  np.testing.assert_allclose(
    outputs.mean(output, params), np.exp(log_p) @ values, atol=1e-5
  )


@pytest.mark.parametrize("output", ALL, ids=NAMES)
def test_values_and_gradients_are_finite_at_logits_of_100(output):
  count = output.num_params
  ends = np.array(np.meshgrid(*[[-100.0, 0.0, 100.0]] * min(count, 4)))
  ends = ends.reshape(min(count, 4), -1).T
  ends = np.pad(ends, ((0, 0), (0, count - ends.shape[1]))).astype("float32")

  @jax.jit
  @jax.vmap
  def run(params):
    return jax.value_and_grad(lambda p: outputs.table(output, p).sum())(params)

  value, slope = run(ends)
  assert np.isfinite(value).all() and np.isfinite(slope).all()


@pytest.mark.parametrize("output", ALL, ids=NAMES)
def test_a_level_out_of_range_is_nan(output):
  params = jnp.zeros((2, output.num_params))
  levels = jnp.array([-1, output.num_levels])
  assert np.isnan(output.log_prob(params, levels)).all()


def test_levels_and_values_invert_each_other():
  levels = jnp.arange(17)
  values = outputs.to_values(levels, 17)
  np.testing.assert_allclose(values, np.linspace(-1, 1, 17), atol=1e-7)
  assert outputs.to_levels(values, 17).dtype == jnp.int32
  np.testing.assert_array_equal(outputs.to_levels(values, 17), levels)
  np.testing.assert_array_equal(
    jax.jit(lambda x: outputs.to_levels(x, 17))(values), levels
  )


@pytest.mark.parametrize("wrong", [0.3, 1.5, np.nan])
def test_data_between_levels_are_rejected(wrong):
  data = jnp.array([-1.0, wrong])
  expect.error(
    "data: expected values at 2 levels in", outputs.to_levels, data, 2
  )


def test_bad_sizes_are_rejected():
  expect.error("num_levels at least 2, got 1", outputs.categorical, 1)
  expect.error("at least 1, got 0", outputs.logistic_mixture, 4, 0)
