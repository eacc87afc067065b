"""Distances of images by pixels and the features of a classifier together.

The classifier is not that of the metrics (metrics.classifier): it has two
hidden layers with tanh instead of one with relu, another seed, and is trained
on a random half of the training split. Samples trained with its features are
still closer to the metrics than those trained with pixels, so label them.
"""

import functools
import warnings
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

HIDDEN, SEED = (96, 48), 1


def features_of(images: np.ndarray, labels: np.ndarray) -> Callable:
  """x [*D] -> its pixels and both hidden layers, [F].

  Each of the three parts is scaled to the same variance in total, that of the
  pixels, over the training images.

  Args:
    images: the training split, [N, *D], in [-1, 1].
    labels: its classes, [N].
  """
  import threadpoolctl
  from sklearn import exceptions, neural_network

  flat = np.asarray(images, np.float32).reshape(len(images), -1)
  half = np.random.RandomState(SEED).permutation(len(flat))[: len(flat) // 2]
  model = neural_network.MLPClassifier(
    HIDDEN, activation="tanh", max_iter=200, random_state=SEED
  )
  # One thread fixes the order of sums, so that a resumed run has the same.
  with threadpoolctl.threadpool_limits(1), warnings.catch_warnings():
    warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
    model.fit(flat[half], labels[half])
  layers = [
    (np.float32(w), np.float32(b)[None])
    for w, b in zip(model.coefs_[:2], model.intercepts_[:2], strict=True)
  ]
  parts = _parts(np, layers, flat)
  totals = [float(part.var(0).sum()) for part in parts]
  scales = [np.float32(np.sqrt(totals[0] / total)) for total in totals]
  return functools.partial(_scaled, layers, scales)


def _parts(xp, layers, x):
  """x [N, D] and its hidden layers, by NumPy or JAX."""
  found = [x]
  for weights, bias in layers:
    found.append(xp.tanh(found[-1] @ weights + bias))
  return found


def _scaled(layers, scales, x):
  parts = _parts(jnp, layers, x.reshape(1, -1))
  return jnp.concatenate(
    [s * part[0] for s, part in zip(scales, parts, strict=True)]
  )
