"""Models of the latents of a first stage, sampled and evaluated as images.

`read` opens the run of the first stage, `latents` gives its latents as a
dataset, and `decoded` makes an experiment on them one on images. Without a
first stage all of them leave what they get as it is.

A first stage is lossy, so an image has no likelihood through it: what can be
reported is the probability of its tokens.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.experiment import Experiment
from experiments.lib import averages, checks, datasets, samples
from experiments.recipes import single
from jaxgen.data import loaders

NUM_SCALED = 1024  # training examples that determine the scale of latents
PART = 64  # examples that are encoded together


class FirstStage(NamedTuple):
  """A trained run that maps images to latents, and back.

  Attributes:
    encode: (example [*D], label) -> latent [*E]: tokens 0, ..., num_codes - 1,
      [h, w, M], or numbers of mean 0 and standard deviation 1.
    decode: (latent [*E], label) -> example [*D].
    shape: *E.
    num_codes: number of values of a token; None for numbers.
  """

  encode: Callable
  decode: Callable
  shape: tuple[int, ...]
  num_codes: int | None


def read(
  config: Any, data: datasets.Data, *, tokens: bool
) -> FirstStage | None:
  """The first stage of settings.SecondStage, with its first average.

  Args:
    config: the script's settings.
    data: the images.
    tokens: whether the script models tokens; otherwise it models numbers.

  Raises:
    ValueError, OSError: it cannot be read, encodes nothing, or its examples or
      latents are of another kind.
  """
  if config.codec is None:
    return None
  with checks.naming(config, "codec"):
    ex = samples.read(config.codec)
    if ex.encode is None or ex.decode is None:
      raise ValueError(f"expected a run with an encoder, got {config.codec}")
    if ex.data.shape != data.shape:
      raise ValueError(
        f"codec, data: expected a run on examples {list(data.shape)} as in"
        f" {config.data}, got {config.codec} on {list(ex.data.shape)}"
      )
    if (ex.num_codes is not None) != tokens:
      wanted, found = ("tokens", "numbers")[:: 1 if tokens else -1]
      raise ValueError(
        f"expected a run whose latents are {wanted}, got {found} of"
        f" {config.codec}"
      )
    trained = averages.load(ex)
  known = bool(ex.data.num_classes)
  encode = lambda x, label: ex.encode(*trained, x, label if known else None)
  decode = lambda z, label: ex.decode(*trained, z, label if known else None)
  if tokens:
    first = FirstStage(
      lambda x, label: _stages_last(encode(x, label)),
      lambda z, label: decode(_stages_first(z), label),
      (),
      ex.num_codes,
    )
  else:
    first = _scaled(encode, decode, data)
  label = jnp.zeros((), "int32") if data.num_classes else None
  latent = jax.eval_shape(first.encode, jnp.zeros(data.shape), label)
  return first._replace(shape=latent.shape)


def _stages_last(tokens):
  return jnp.moveaxis(tokens, 0, -1) if tokens.ndim == 3 else tokens


def _stages_first(tokens):
  return jnp.moveaxis(tokens, -1, 0) if tokens.ndim == 3 else tokens


def _scaled(encode, decode, data):
  """Latents less their mean in each channel, over one standard deviation.

  One scale for all channels keeps channels that the first stage does not use
  small.
  """
  batch = data.batches(jax.random.key(0), NUM_SCALED)(0)
  z = by_parts(encode, *batch)
  mean = z.mean(tuple(range(z.ndim - 1)), keepdims=True)[0]
  std = (z - mean).std()
  if not std > 0:
    raise ValueError("codec: expected latents that differ, got equal ones")
  return FirstStage(
    lambda x, label: (encode(x, label) - mean) / std,
    lambda latent, label: decode(latent * std + mean, label),
    (),
    None,
  )


def by_parts(fn: Callable, examples: Any, labels: Any) -> np.ndarray:
  """fn of each example [N, *D] and label [N] or None, on the host.

  Every part has the same size, so that fn is compiled once.
  """
  many, number, parts = jax.jit(jax.vmap(fn)), len(examples), []
  for first in range(0, number, PART):
    rows = np.arange(first, first + PART) % number
    label = None if labels is None else np.asarray(labels)[rows]
    parts.append(np.asarray(many(np.asarray(examples)[rows], label)))
  return np.concatenate(parts)[:number]


def latents(
  first: FirstStage | None, data: datasets.Data, flip: bool = False
) -> datasets.Data:
  """The dataset of latents, each split encoded once.

  Args:
    first: the first stage; None returns the data.
    data: the images.
    flip: whether training images are also mirrored.
  """
  if first is None:
    return data

  @functools.cache
  def split(name):
    examples, labels = data.split(name)
    if flip and name == "train":
      examples = np.concatenate([examples, np.asarray(examples)[:, :, ::-1]])
      labels = None if labels is None else np.concatenate([labels, labels])
    return by_parts(first.encode, examples, labels), labels

  batches = lambda key, size: loaders.batches(split("train"), key, size)
  found = datasets.without_labels(1.0, batches, split)
  return found._replace(num_classes=data.num_classes, num_codes=first.num_codes)


def decoded(
  first: FirstStage | None, data: datasets.Data, ex: Experiment
) -> Experiment:
  """An experiment on latents as one on images.

  Its samples are decoded, their states only for pictures; `num_calls` counts
  the calls of the second network alone. It has no field of images.
  """
  if first is None:
    return ex
  config = ex.config

  def sample(params, extras, key, label):
    states, latent = ex.sample(params, extras, key, label)
    return states, first.decode(latent, label)

  coders, log_likelihood = {}, ex.log_likelihood
  if ex.encode is not None:
    coders = dict(
      encode=lambda p, extras, x, label: ex.encode(
        p, extras, first.encode(x, label), label
      ),
      decode=lambda p, extras, z, label: first.decode(
        ex.decode(p, extras, z, label), label
      ),
    )
  if log_likelihood is not None:
    log_likelihood = log_likelihood._replace(
      log_prob=lambda p, extras, key, x, label: ex.log_likelihood.log_prob(
        p, extras, key, first.encode(x, label), label
      ),
      num_scored=lambda examples: len(examples) * math.prod(first.shape),
    )
  return ex._replace(
    data=single.shown(config, data),
    sample=sample,
    view=viewer(first, data),
    field=None,
    vectors=None,
    log_likelihood=log_likelihood,
    reads={**ex.reads, "codec": config.codec},
    **coders,
  )


def viewer(first: FirstStage | None, data: datasets.Data) -> Callable:
  """(a state on the way to a sample, label) -> its picture.

  Masked tokens are grey. Without a first stage it is the state itself.
  """

  def view(state, label):
    if first is None:
      return state
    if first.num_codes is None:
      return first.decode(state, label)
    hidden = state == first.num_codes
    image = first.decode(jnp.where(hidden, 0, state), label)
    grey = jnp.any(hidden, -1)
    for axis in (0, 1):
      grey = jnp.repeat(grey, data.shape[axis] // grey.shape[axis], axis)
    return jnp.where(grey[..., None], 0, image)

  return view
