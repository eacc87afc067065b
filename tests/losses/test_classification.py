"""Losses of classes against optax, SciPy, scikit-learn and one another."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special
from sklearn import metrics

from jaxgen.losses import classification
from tests import expect

LOGITS = np.float32(np.random.default_rng(0).normal(size=(40, 5)) * 4)
LABELS = np.random.default_rng(1).integers(0, 5, 40)
Z = jnp.array([-90.0, -8.0, -1.0, -0.1, 0.0, 0.3, 2.0, 20.0, 90.0])


def test_log_odds_by_scipy():
  """From probabilities; p and 1 - p each of their own logarithm."""
  found = expect.a_loop(classification.log_odds, LOGITS, LABELS)
  log_p = special.log_softmax(np.float64(LOGITS), axis=-1)
  own = np.eye(5, dtype=bool)[LABELS]
  rest = special.logsumexp(np.where(own, -np.inf, log_p), axis=-1)
  np.testing.assert_allclose(found, log_p[own] - rest, rtol=2e-5, atol=1e-5)
  assert found.shape == (40,) and found.dtype == np.float32
  whole = classification.log_odds(jnp.array(LOGITS), jnp.array(LABELS))
  np.testing.assert_allclose(whole, found, rtol=1e-6)
  pair = jnp.array([0.0, 60.0])  # one logit: z is it, and its negative
  for label, truth in ((1, 60.0), (0, -60.0)):
    assert classification.log_odds(pair, jnp.array(label)) == truth


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_is_that_of_optax(gamma):
  """Values and slopes, of classes 1 and 0, in the tails too."""
  one = jax.jit(lambda z: classification.focal(z, gamma))
  for label, sign in ((1.0, 1), (0.0, -1)):
    other = lambda z, y=label: optax.sigmoid_focal_loss(
      z, jnp.full_like(z, y), gamma=gamma
    )
    np.testing.assert_allclose(one(Z), other(sign * Z), rtol=2e-6)
    slope, truth = jax.vmap(jax.grad(one))(Z), jax.vmap(jax.grad(other))
    np.testing.assert_allclose(slope, sign * truth(sign * Z), 2e-5, 1e-30)
  np.testing.assert_allclose(one(Z), classification.focal(Z, gamma), 1e-6)


def test_focal_of_many_classes_by_its_formula():
  log_p = special.log_softmax(np.float64(LOGITS), axis=-1)
  log_p = log_p[np.arange(40), LABELS]
  z = classification.log_odds(jnp.array(LOGITS), jnp.array(LABELS))
  found = classification.focal(z, 2.0)
  truth = -((-np.expm1(log_p)) ** 2) * log_p
  np.testing.assert_allclose(found, truth, rtol=1e-4, atol=1e-9)
  ce = optax.softmax_cross_entropy_with_integer_labels(LOGITS, LABELS)
  np.testing.assert_allclose(classification.focal(z, 0.0), ce, 1e-5, 1e-6)


def test_soft_truncation_of_slope_one_is_focal():
  soft = jax.jit(classification.soft_truncated)
  np.testing.assert_allclose(soft(Z, 1.0), classification.focal(Z, 1.0), 2e-6)
  p = special.expit(np.float64(Z))
  truth = -special.expit(-3 * np.float64(Z)) * np.log(p)
  np.testing.assert_allclose(soft(Z, 3.0), truth, rtol=2e-6)
  eager = classification.soft_truncated(Z, 0.5)
  np.testing.assert_allclose(soft(Z, 0.5), eager, rtol=1e-6)


@pytest.mark.parametrize("margin", [0.3, 0.5, 0.6, 1.0])
def test_hard_truncation_is_the_product_of_steps(margin):
  """lambda(y, p) with theta, of both classes; away from the margin itself."""
  p = np.array([0.01, 0.2, 0.35, 0.45, 0.55, 0.65, 0.8, 0.99])
  theta = lambda x: float(x > 0)
  for y in (0, 1):
    z = jnp.array((2 * y - 1) * special.logit(p), "float32")
    found = jax.jit(lambda z: classification.hard_truncated(z, margin))(z)
    for q, value in zip(p, found, strict=True):
      left = theta(y - 0.5) * theta(q - margin)
      left += theta(0.5 - y) * theta(1 - margin - q)
      truth = -(1 - left) * (y * np.log(q) + (1 - y) * np.log1p(-q))
      np.testing.assert_allclose(value, truth, rtol=1e-5)


def test_steep_soft_truncation_is_hard():
  """At z = 0 a half counts, as sigmoid(0) does; hard counts it whole."""
  z = Z[Z != 0]
  hard = classification.hard_truncated(z, 0.5)
  soft = classification.soft_truncated(z, 1e4)
  np.testing.assert_allclose(soft, hard, rtol=1e-6, atol=1e-30)
  slope = lambda fn: jax.vmap(jax.grad(fn))(jnp.array([-1.0, 0.0, 1.0]))
  found = slope(lambda z: classification.hard_truncated(z, 0.5))
  np.testing.assert_allclose(found, [-special.expit(1.0), -0.5, 0], 1e-6)


def test_smooth_metrics_are_those_of_scikit_learn_at_zeros_and_ones():
  predicted = np.where(np.arange(40) % 3 > 0, LABELS, LOGITS.argmax(-1))
  hard = np.eye(5, dtype="float32")[predicted]
  accuracy = jax.jit(classification.smooth_accuracy)
  truth = metrics.accuracy_score(LABELS, predicted)
  assert 0.5 < truth < 1
  np.testing.assert_allclose(accuracy(hard, LABELS), truth, rtol=1e-6)
  columns = hard.T, np.eye(5, dtype="float32")[LABELS].T
  found = expect.a_loop(classification.smooth_f1, *columns)
  truth = metrics.f1_score(LABELS, predicted, average=None)
  np.testing.assert_allclose(found, truth, rtol=1e-6)


def test_smooth_metrics_between():
  """The mean over all predictions sampled from the probabilities."""
  p = np.array([[0.2, 0.8], [0.6, 0.4], [0.9, 0.1]])
  labels, total = np.array([1, 1, 0]), 0.0
  counts = np.zeros(3)  # expected TP, positive predictions, positive labels
  for outcome in np.ndindex(2, 2, 2):
    drawn = np.array(outcome)
    weight = p[np.arange(3), drawn].prod()
    total += weight * metrics.accuracy_score(labels, drawn)
    counts += weight * np.array([labels @ drawn, drawn.sum(), labels.sum()])
  found = classification.smooth_accuracy(jnp.array(p), jnp.array(labels))
  np.testing.assert_allclose(found, total, rtol=1e-6)
  args = jnp.array(p[:, 1]), jnp.array(labels, "float32")
  found = classification.smooth_f1(*args)
  truth = 2 * counts[0] / (counts[1] + counts[2])
  np.testing.assert_allclose(found, truth, rtol=1e-6)
  assert jax.grad(classification.smooth_f1)(*args)[0] > 0
  assert np.isnan(classification.smooth_f1(jnp.zeros(2), jnp.zeros(2)))


def test_bad_input():
  logits = jnp.array(LOGITS)
  call = classification.log_odds
  said = "^labels: expected 0 to 4, got "
  expect.error(said + "5$", call, logits[:2], jnp.array([0, 5]))
  expect.error(said + "-1$", call, logits[0], jnp.array(-1))
  said = "^logits: expected at least two classes, got 1$"
  expect.error(said, call, logits[:, :1], jnp.array(LABELS))
  found = jax.jit(call)(logits[:4], jnp.array([-1, 0, 4, 5]))
  assert np.isnan(found).tolist() == [True, False, False, True]
  said = "^gamma: expected at least 0, got -0.1$"
  expect.error(said, classification.focal, Z, -0.1)
  said = "^slope: expected a positive number, got 0.0$"
  expect.error(said, classification.soft_truncated, Z, 0.0)
  for margin in (0.0, 1.1):
    said = f"^margin: expected above 0, at most 1, got {margin}$"
    expect.error(said, classification.hard_truncated, Z, margin)
