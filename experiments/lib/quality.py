"""All metrics of samples, compared with real data and a fitted Gaussian.

  frechet              features of the samples to those of all training data
  kid                  unbiased, to the held-out data
  density, coverage    among as many random training examples
  accuracy             share of samples whose label the classifier predicts
  nearest_10, _50, _90 quantiles of the distance to the nearest training example
  copies               samples that equal a training example

The floor is the value of the held-out data in place of the samples. For kid,
this would compare the held-out data with themselves, so the floor is the
interval of values between two sets of real data.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from experiments.lib import datasets
from jaxgen.metrics import classifier, frechet, kernel, neighbours

QUANTILES = (10, 50, 90)
NUM_PAIRS = 8  # samples shown beside their nearest training example
MAX_HELD_OUT = 2000  # examples; larger splits are truncated
MAX_POOL = 6000  # real examples that are split randomly for kid's interval
RARE = 20  # for kid's interval, classes are merged up to this many examples


class Reference(NamedTuple):
  """The real data that samples are compared with.

  Attributes:
    train: examples [N, *D] and labels [N] or None.
    held_out: the same for a split that was not used in training.
    features: N examples -> [N, K].
    predict: N examples -> labels; None without labels of two classes.
    levels: number of equally spaced stored values in [-1, 1]; None for points.
    train_features: [N, K].
    held_out_features: [M, K].
  """

  train: tuple[np.ndarray, Any]
  held_out: tuple[np.ndarray, Any]
  features: Callable
  predict: Callable | None
  levels: int | None
  train_features: np.ndarray
  held_out_features: np.ndarray


class Result(NamedTuple):
  """The result of evaluate.

  Attributes:
    rows: {metric: {samples, spread, floor, gaussian, goal, met}}: means over
      the sets, their standard deviation, and the goal as [low, high] with None
      for no bound; None if a metric does not apply.
    draws: {'samples', 'held out', 'Gaussian': {metric: [value per set]}}.
    nearest: {same keys: distances to the nearest training example, one set}.
    pairs: the samples closest to a training example, with it, [P, 2, *D].
  """

  rows: dict[str, dict[str, Any]]
  draws: dict[str, dict[str, list]]
  nearest: dict[str, np.ndarray]
  pairs: np.ndarray


def reference(
  data: datasets.Data,
  split: str,
  features: Callable | None = None,
) -> Reference:
  """The reference of a dataset, for evaluate.

  Args:
    data: the dataset.
    split: 'validation' or 'test'.
    features: N examples -> [N, K]; None for those of the fixed classifier, or
      the points themselves.

  Raises:
    ValueError: images without labels of two classes and without features, or a
      split of at most 5 examples.
  """
  train, held_out = data.split("train"), data.split(split)
  if len(held_out[0]) <= 5:
    raise ValueError(
      f"split: expected more than 5 examples, got {len(held_out[0])} in {split}"
    )
  # In random order, so that any part of them is a random part.
  rows = np.random.RandomState(0).permutation(len(held_out[0]))[:MAX_HELD_OUT]
  held_out = tuple(x if x is None else x[rows] for x in held_out)
  predict = None
  classified = None if data.classified is None else data.classified()
  if classified is None and train[1] is not None:
    classified = train
  if classified is not None and len(np.unique(classified[1])) > 1:
    fitted = classifier.fit(*classified)
    features, predict = features or fitted.features, fitted.predict
  elif len(data.shape) == 1:
    features = features or _flat
  elif features is None:
    raise ValueError(
      "features: expected module:function, such as"
      " jaxgen.metrics.pooled:features, as the training data lack labels of two"
      " classes for the classifier, got None"
    )
  found = []
  for name, (examples, _) in (("train", train), ("held out", held_out)):
    found.append(np.asarray(features(examples), np.float64))
    if found[-1].ndim != 2 or len(found[-1]) != len(examples):
      raise ValueError(
        f"features: expected [{len(examples)}, K] for the {name} examples, "
        f"got {list(found[-1].shape)}"
      )
  return Reference(train, held_out, features, predict, data.levels, *found)


def evaluate(
  draw: Callable,
  ref: Reference,
  *,
  number: int | None = None,
  num_draws: int = 5,
  seed: int = 0,
) -> Result:
  """Measures a sampler, the held-out data and a Gaussian in the same way.

  Args:
    draw: (number of the set, labels [N] or None, N) -> samples [N, *D]. The
      labels are those of the held-out data, repeated if N is larger.
    ref: the result of `reference`.
    number: number N of samples per set; None for that of the held-out data.
      Only then the floor is comparable: most metrics depend on the size of the
      set.
    num_draws: number of sets; a figure is the mean over them.
    seed: seed of the Gaussian and of the random subsets and splits.

  Raises:
    ValueError: there are fewer real data than the comparison needs.
  """
  held_out, labels = ref.held_out
  number = len(held_out) if number is None else number
  if number <= 5:
    raise ValueError(f"number: expected more than 5, got {number}")
  wanted = None if labels is None else np.resize(labels, number)
  interval = _kid_interval(ref, number, num_draws, seed)
  law = _gaussian(ref.train[0])
  whole = frechet.fit(ref.train_features)
  draws: dict[str, dict[str, list]] = {}
  nearest: dict[str, np.ndarray] = {}
  best = np.zeros(0), np.zeros((0, 2, *held_out[0].shape))
  for i in range(num_draws):
    random = np.random.RandomState([seed, i])
    subset = random.permutation(len(ref.train_features))[:number]
    sets = {
      "samples": (draw(i, wanted, number), wanted),
      "held out": (held_out[:number], labels),
      "Gaussian": (law(random, number), None),
    }
    for name, (examples, asked) in sets.items():
      if not np.all(np.isfinite(examples)):
        raise ValueError(f"{name}: expected finite values in set {i}")
      found, near = _measure(examples, asked, ref, whole, subset)
      for metric, value in found.items():
        draws.setdefault(name, {}).setdefault(metric, []).append(value)
      nearest.setdefault(name, near[0])
      if name == "samples":
        best = _closest(best, examples, ref.train[0], near)
  return Result(_rows(draws, interval), draws, nearest, best[1])


def _measure(examples, labels, ref, whole, subset):
  """All metrics of one set, and its nearest training examples."""
  features = np.asarray(ref.features(examples), np.float64)
  near = neighbours.nearest(_flat(examples), _flat(ref.train[0]))
  lies = neighbours.density_coverage(ref.train_features[subset], features)
  known = ref.predict is not None and labels is not None
  quantiles = np.percentile(near[0], QUANTILES)
  found = {
    "frechet": frechet.between(frechet.fit(features), whole),
    "kid": kernel.distance(features, ref.held_out_features),
    "density": lies.density,
    "coverage": lies.coverage,
    "accuracy": np.mean(ref.predict(examples) == labels[: len(examples)])
    if known
    else None,
    **{f"nearest_{q}": v for q, v in zip(QUANTILES, quantiles, strict=True)},
    "copies": neighbours.num_copies(examples, ref.train[0], ref.levels),
  }
  return {k: v if v is None else float(v) for k, v in found.items()}, near


def _rows(draws, interval):
  """One row per metric: mean, spread, floor, Gaussian, goal, whether met."""
  rows = {}
  for metric, values in draws["samples"].items():
    mean = {k: _mean(v[metric]) for k, v in draws.items()}
    spread = None
    if None not in values and len(values) > 1:
      spread = float(np.std(values, ddof=1))
    floor = list(interval) if metric == "kid" else mean["held out"]
    low, high = goal = _goal(metric, floor)
    met = None
    if goal != (None, None) and mean["samples"] is not None:
      met = (low is None or mean["samples"] >= low) and (
        high is None or mean["samples"] <= high
      )
    rows[metric] = dict(
      samples=mean["samples"],
      spread=spread,
      floor=floor,
      gaussian=mean["Gaussian"],
      goal=list(goal),
      met=met,
    )
  return rows


def _goal(metric, floor):
  """(low, high) in which a metric should lie; None for no bound."""
  match metric:
    case "frechet":
      return None, floor + 0.05
    case "kid":
      return tuple(floor)
    case "coverage":
      return floor - 0.03, None
    case "accuracy" if floor is not None:
      return floor - 0.01, None
    case "nearest_10" | "nearest_50" | "nearest_90":
      return 0.95 * floor, None
    case "copies":
      return None, 0.0
  return None, None


def _kid_interval(ref, number, num_draws, seed):
  """The interval for random splits of the training and held-out data."""
  real = np.concatenate([ref.train_features, ref.held_out_features])
  rows = np.random.RandomState(seed).permutation(len(real))[:MAX_POOL]
  labels = None
  if ref.held_out[1] is not None:
    labels = np.concatenate([ref.train[1], ref.held_out[1]])[rows]
    labels = _without_rare(labels)
  return kernel.real_interval(
    real[rows],
    len(ref.held_out_features),
    number,
    labels=labels,
    num_draws=num_draws,
    seed=seed,
  )


def _without_rare(labels):
  """Labels with the rarest classes merged until they have RARE examples.

  A random split may contain too few examples of a class that has only a few.
  """
  classes, counts = np.unique(labels, return_counts=True)
  order = np.argsort(counts, kind="stable")
  before = np.cumsum(counts[order]) - counts[order]
  rare = classes[order[before < RARE]]
  return np.where(np.isin(labels, rare), rare[0], labels)


def _gaussian(train):
  """(random, N) -> samples [N, *D] of the Gaussian fitted to training data."""
  flat = _flat(train)
  mean = flat.mean(0)
  factor = (flat - mean) / math.sqrt(len(flat) - 1)  # covariance F^T F

  def draw(random, number):
    draws = mean + random.standard_normal((number, len(factor))) @ factor
    return draws.reshape(number, *train.shape[1:]).astype(train.dtype)

  return draw


def _closest(best, samples, train, near):
  """The NUM_PAIRS closest pairs, of those so far and of one more set."""
  distances = np.concatenate([best[0], near[0]])
  order = np.argsort(distances, kind="stable")[:NUM_PAIRS]
  pairs = np.concatenate([best[1], np.stack([samples, train[near[1]]], 1)])
  return distances[order], pairs[order]


def _mean(values):
  return None if None in values else math.fsum(values) / len(values)


def _flat(examples):
  return np.asarray(examples, np.float64).reshape(len(examples), -1)
