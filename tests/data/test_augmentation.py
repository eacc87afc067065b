"""Shifts against NumPy's pad and slice; mixtures of a batch in pairs."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from jaxgen.data import augmentation
from tests import expect


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_all_nine_moves_are_equally_likely(probability):
  image = np.float32(np.random.default_rng(0).uniform(-1, 1, (4, 5, 2)))
  wide = np.pad(image, ((1, 1), (1, 1), (0, 0)), constant_values=-1)
  moved = {
    wide[i : i + 4, j : j + 5].tobytes(): (i - 1, j - 1)
    for i in range(3)
    for j in range(3)
  }
  one = lambda key, x: augmentation.shift(key, x, probability)
  many = jax.jit(jax.vmap(one, (0, None)))
  keys = jax.random.split(jax.random.key(0), 1800)
  found = np.asarray(many(keys, image))
  assert found.shape == (1800, 4, 5, 2) and found.dtype == np.float32
  counts = collections.Counter(moved[one.tobytes()] for one in found)
  for way in moved.values():
    part = probability / 9 + (1 - probability) * (way == (0, 0))
    spread = 5 * np.sqrt(part * (1 - part) / 1800)
    assert abs(counts[way] / 1800 - part) <= spread, way


def test_the_gradient_of_what_stays_is_passed():
  image = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (4, 4, 1)))
  seen = jax.grad(lambda x, key: augmentation.shift(key, x, 1.0).sum())
  keys = jax.random.split(jax.random.key(1), 50)
  many = np.asarray(jax.vmap(seen, (None, 0))(image, keys))
  assert set(many.sum((1, 2, 3)).tolist()) == {9.0, 12.0, 16.0}


X = jnp.array([[0.5, -1.0], [2.0, 0.3], [-0.4, 1.5]])
PARTNERS = jnp.array([2, 0, 1])


def test_a_mix_row_by_row():
  """All leaves by the same weights; 1/2 is SamplePairing."""
  weights = jnp.array([0.0, 0.25, 1.0])
  batch = dict(x=X, image=X.reshape(3, 2, 1, 1).astype("bfloat16"))
  found = jax.jit(augmentation.mix)(batch, PARTNERS, weights)
  truth = [X[2], 0.25 * X[1] + 0.75 * X[0], X[2]]
  np.testing.assert_allclose(found["x"], truth, rtol=1e-6)
  assert found["image"].dtype == jnp.bfloat16
  assert found["image"].shape == (3, 2, 1, 1)
  image = np.float32(found["image"]).reshape(3, 2)
  np.testing.assert_allclose(image, truth, rtol=1e-2)
  found = augmentation.sample_pairing(X, PARTNERS)
  np.testing.assert_allclose(found, (X + X[PARTNERS]) / 2, rtol=1e-6)
  assert np.isnan(augmentation.mix(X, PARTNERS + 1, weights)[0]).all()


@pytest.mark.parametrize(
  "function, more", [(augmentation.mixup, 0), (augmentation.mix_inputs, 1)]
)
def test_weights_have_the_beta_distribution(function, more):
  """By Kolmogorov and Smirnov: 1 at the row itself, 0 at its partner."""
  alpha, number = 0.4, 4000
  batch = (jnp.arange(number) % 2).astype("float32")
  partners = jnp.arange(number) ^ 1
  run = jax.jit(lambda key: function(key, (batch, 3 * batch), partners, alpha))
  one, other = run(jax.random.key(0))
  np.testing.assert_allclose(other, 3 * one, rtol=1e-5)
  weights = np.float64(np.where(batch == 1, one, 1 - one))
  law = stats.beta(alpha + more, alpha)
  assert stats.kstest(weights, law.cdf).pvalue > 1e-3
  assert abs(weights.mean() - law.mean()) < 5 * law.std() / number**0.5
  again, _ = run(jax.random.key(1))
  assert np.mean(again != one) > 0.9


@pytest.mark.parametrize("alpha", [0.3, 1.0, 2.0])
def test_mixed_inputs_have_the_expected_loss_of_mixup(alpha):
  """Three examples, nine equally likely pairs, quadrature over the weights."""
  with jax.enable_x64(True):
    x, y = jnp.asarray(X, "float64"), jnp.eye(3)
    net = jnp.array([[1.0, -0.5, 0.2], [0.3, 0.8, -1.0]])
    first, second = np.divmod(np.arange(9), 3)
    batch = x[first], y[first]
    # The partners come from a batch of all nine pairs: rows 0, 3 and 6.
    partners = jnp.array(3 * second)

    @jax.jit
    @jax.vmap
    def losses(weight):
      weights = jnp.full(9, weight)
      inputs, targets = augmentation.mix(batch, partners, weights)
      log_p = jax.nn.log_softmax(jnp.tanh(inputs) @ net)
      both = jnp.stack([targets, y[first]])
      return -jnp.sum(both * log_p[None], axis=(1, 2)) / 9

    def expected(more, column):
      q = alpha + more  # the weight function x^(q - 1) (1 - x)^(alpha - 1)
      nodes, rule = special.roots_sh_jacobi(60, q + alpha - 1, q)
      values = np.asarray(losses(jnp.array(nodes)))[:, column]
      return rule @ values / rule.sum()

    mixed, kept = expected(0, 0), expected(1, 1)
    np.testing.assert_allclose(kept, mixed, rtol=1e-10)
    assert abs(expected(0, 1) - mixed) > 1e-2  # the weights of mixup are others


def test_bad_batches_and_settings():
  key, weights = jax.random.key(0), jnp.ones(3)
  said = r"^batch: expected floats of 3 rows, got "
  mix = augmentation.mix
  expect.error(said + r"float32\[2\]$", mix, X[:2, 0], PARTNERS, weights)
  expect.error(said + r"int32\[3\]$", mix, PARTNERS, PARTNERS, weights)
  for function in (augmentation.mixup, augmentation.mix_inputs):
    said = "^alpha: expected a positive number, got 0.0$"
    expect.error(said, function, key, X, PARTNERS, 0.0)
