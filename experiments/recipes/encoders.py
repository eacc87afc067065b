"""A discriminator as an encoder, and how well it encodes: its reconstructions
beside those of PCA, and a probe beside pixels, PCA and an untrained encoder.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from experiments import experiment
from experiments.lib import datasets
from experiments.recipes import adversarial, latents

NUM_LATENTS = 1000  # latents that are decoded and encoded again
NUM_USED = 4096  # largest number of examples of a split


def encoding(
  ex: experiment.Experiment, model: adversarial.Model, data: datasets.Data
) -> experiment.Experiment:
  """The experiment with its encoder, measured on data with their labels.

  Latents are of the norm of noise and lie on a great circle between two images.
  """
  return ex._replace(
    sampled=("generator", "discriminator"),
    encode=lambda params, extras, x, label: model.encode(params, x),
    decode=lambda params, extras, z, label: model.decode(params, z, label),
    between=latents.spherical,
    measure=functools.partial(record, ex.config.seed, model, data),
  )


def reconstructed(
  model: adversarial.Model, params: Any, examples: np.ndarray
) -> np.ndarray:
  """G(E(x)) of examples, [N, *D]."""
  one = lambda x: model.decode(params, model.encode(params, x), None)
  return np.asarray(jax.jit(jax.vmap(one))(examples))


def record(
  seed: int,
  model: adversarial.Model,
  data: datasets.Data,
  found: experiment.Trained,
  split: str = "validation",
) -> tuple[dict[str, Any], str]:
  """The record of result.json, and its text.

    rms_error       root mean square of x - G(E(x)), x of the split
    pca_rms_error   the same of PCA with the dimension of the latent
    cosine          mean cos(z, E(G(z))), z noise of samples
    probe           accuracy on the split of logistic regression of the label
                    on standardised features of training examples

  Args:
    seed: of the noise and the untrained encoder.
    model: the players, whose discriminator is an encoder.
    data: the data with their labels, if there are any.
    found: the averages of both players.
    split: validation or test.
  """
  params = found.params
  (held, labels), (train, known) = (
    (None if x is None else np.asarray(x[:NUM_USED]) for x in data.split(name))
    for name in (split, "train")
  )
  noise_key, start_key = jax.random.split(jax.random.key(seed))
  project, invert = _pca(train, model.latent)
  flat = lambda x: np.asarray(x, np.float64).reshape(len(x), -1)
  apart = lambda made: float(np.sqrt(np.mean((flat(made) - flat(held)) ** 2)))
  values: dict[str, Any] = dict(
    latent=model.latent,
    number=len(held),
    rms_error=apart(reconstructed(model, params, held)),
    pca_rms_error=apart(invert(project(flat(held)))),
    cosine=_cosine(model, params, noise_key),
  )
  if data.num_classes:
    encode = jax.jit(jax.vmap(model.encode, (None, 0)))
    untrained = jax.jit(model.players)(start_key)
    features: dict[str, Callable] = dict(
      encodings=lambda x: encode(params, x),
      pixels=lambda x: x,
      pca=lambda x: project(flat(x)),
      untrained=lambda x: encode(untrained, x),
    )
    values["probe"] = {
      name: _probe(flat(fn(train)), known, flat(fn(held)), labels)
      for name, fn in features.items()
    }
  return values, "\n".join(f"{name}: {value}" for name, value in values.items())


def _cosine(model, params, key):
  """Mean cos(z, E(G(z)))."""

  def one(key):
    z = model.noise(key)
    again = model.encode(params, model.decode(params, z, None))
    return z @ again / model.latent  # both have the norm sqrt(latent)

  keys = jax.random.split(key, NUM_LATENTS)
  return float(jax.jit(jax.vmap(one))(keys).mean())


def _pca(train, number):
  """Scikit-learn's PCA: (examples -> components, components -> examples)."""
  from sklearn import decomposition

  points = np.asarray(train, np.float64).reshape(len(train), -1)
  number = min(number, *points.shape)
  model = decomposition.PCA(number, svd_solver="full").fit(points)
  return model.transform, model.inverse_transform


def _probe(train, labels, held, truth):
  """Accuracy on held-out examples of scikit-learn's logistic regression."""
  import threadpoolctl
  from sklearn import exceptions, linear_model, pipeline, preprocessing

  rule = linear_model.LogisticRegression(max_iter=1000)
  model = pipeline.make_pipeline(preprocessing.StandardScaler(), rule)
  # One thread fixes the order of sums.
  with threadpoolctl.threadpool_limits(1), warnings.catch_warnings():
    warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
    model.fit(train, labels)
  return float(model.score(held, truth))
