import sys
import warnings

import numpy as np
import pytest
from sklearn import neural_network

from jaxgen.data import digits
from jaxgen.metrics import classifier, frechet
from tests import expect


@pytest.fixture(scope="module")
def fitted():
  return classifier.fit(*digits.load("train"))


def test_floor_of_the_published_protocol(fitted):
  """Real test images to train: 1.03, and .98 of their labels are found."""
  images, labels = digits.load("test")
  train = fitted.features(digits.load("train")[0])
  found = fitted.features(images)
  assert found.shape == (360, 64) and found.dtype == np.float64
  assert frechet.distance(found, train) == pytest.approx(1.03, abs=0.02)
  accuracy = np.mean(fitted.predict(images) == labels)
  assert accuracy == pytest.approx(0.98, abs=0.006)


def test_features_are_those_that_predict():
  """The last layer on our features gives scikit-learn's probabilities."""
  rng = np.random.default_rng(0)
  labels = np.arange(60) % 3
  images = rng.normal(size=(60, 2, 2, 1)) + labels.reshape(-1, 1, 1, 1)
  ours = classifier.fit(images, labels)
  theirs = neural_network.MLPClassifier((64,), max_iter=400, random_state=0)
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    theirs.fit(images.reshape(60, -1), labels)
  logits = ours.features(images) @ theirs.coefs_[1] + theirs.intercepts_[1]
  odds = np.exp(logits - logits.max(1, keepdims=True))
  expected = theirs.predict_proba(images.reshape(60, -1))
  np.testing.assert_allclose(odds / odds.sum(1, keepdims=True), expected)
  np.testing.assert_array_equal(ours.predict(images), expected.argmax(1))
  low = ours.features(images.astype(np.float32))
  np.testing.assert_allclose(low, ours.features(images), atol=1e-5)


def test_bad_input_is_refused(monkeypatch):
  images = np.zeros((4, 2, 2, 1))
  fit, one = classifier.fit, np.zeros(4, int)
  expect.error("labels: expected 4, got 3", fit, images, np.arange(3))
  expect.error("labels: expected at least 2 classes", fit, images, one)
  monkeypatch.setitem(sys.modules, "sklearn", None)
  with pytest.raises(ImportError, match=r"pip install 'jaxgen\[data\]'"):
    classifier.fit(images, np.arange(4))


def test_a_classifier_of_two_classes():
  labels = np.arange(20) % 2
  images = np.random.default_rng(1).normal(size=(20, 2, 2, 1)) / 9
  images += labels.reshape(-1, 1, 1, 1)
  found = classifier.fit(images, labels).predict(images)
  np.testing.assert_array_equal(found, labels)
