"""The fixed classifier: features and labels of small images.

  features(x) = max(x W + b, 0),   64 of them

Scikit-learn's MLPClassifier((64,), max_iter=400, random_state=0), trained on
flattened images in [-1, 1]. It has no settings, so that distances in its
features are comparable between runs: another width would have another scale.
Larger images need features of a larger network, and the metrics accept any.
"""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Classifier(NamedTuple):
  """features: [N, *D] -> [N, 64], float64; predict: [N, *D] -> labels, [N]."""

  features: Callable
  predict: Callable


def fit(
  images: Float[np.ndarray, "N *D"], labels: Int[np.ndarray, "M"]
) -> Classifier:
  """Trains the classifier, in seconds for a few thousand small images.

  Training stops after at most 400 epochs; scikit-learn's warning about
  convergence is suppressed, since the caller cannot change the limit.

  Args:
    images: the training split, [N, *D], in [-1, 1]; training uses its dtype.
    labels: its classes, [N], at least two different ones.

  Returns:
    The functions `features` and `predict` of the trained classifier.

  Raises:
    ValueError: there are fewer than two classes, or not one label per image.
    ImportError: scikit-learn is not installed.
  """
  if len(images) != len(labels):
    raise ValueError(f"labels: expected {len(images)}, got {len(labels)}")
  if len(np.unique(labels)) < 2:
    raise ValueError("labels: expected at least 2 classes, got fewer")
  try:
    import threadpoolctl  # comes with scikit-learn
    from sklearn import exceptions, neural_network
  except ModuleNotFoundError:
    raise ImportError(
      "the classifier needs scikit-learn: pip install 'jaxgen[data]'"
    ) from None
  flat = lambda x: np.asarray(x, images.dtype).reshape(len(x), -1)
  model = neural_network.MLPClassifier((64,), max_iter=400, random_state=0)
  # One thread fixes the order of sums, and is as fast for such small products.
  with threadpoolctl.threadpool_limits(1), warnings.catch_warnings():
    warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
    model.fit(flat(images), labels)

  def features(x):
    hidden = flat(x) @ model.coefs_[0] + model.intercepts_[0]
    return np.maximum(hidden, 0).astype(np.float64)

  return Classifier(features, lambda x: model.predict(flat(x)))
