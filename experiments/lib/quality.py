"""Every metric of a set of samples, beside real data and a fitted Gaussian.

  frechet              features of the samples to those of all training data
  kid                  unbiased, to the held-out data
  density, coverage    among as many training examples, drawn anew each time
  accuracy             of the asked labels, by the classifier
  nearest_10, _50, _90 quantiles of the distance to the nearest training example
  copies               samples that equal a training example

The floor is what the held-out data get in the samples' place; for kid, whose
floor would compare them with themselves, the interval of real against real.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from experiments.lib import datasets
from jaxgen.metrics import classifier, frechet, kernel, neighbours

QUANTILES = (10, 50, 90)
NUM_PAIRS = 8  # samples shown beside their nearest training example
MAX_HELD_OUT = 2000  # examples; larger splits are cut
MAX_POOL = 6000  # real data that are split anew for kid's interval
RARE = 20  # examples of a class, below which kid's interval joins classes


class Reference(NamedTuple):
  """What samples are measured against.

  Attributes:
    train: examples [N, *D] and labels [N] or None.
    held_out: the same of a split that was not trained on.
    features: a set of examples -> [., K].
    predict: a set of examples -> labels; None without two classes of them.
    levels: equally spaced values in [-1, 1] that examples are stored at; None
      for points.
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
  """What evaluate finds.

  Attributes:
    rows: {metric: {samples, spread, floor, gaussian, goal, met}}; the means
      over draws, the standard deviation between draws, [low, high] of the
      goal with None for no bound; None where a metric does not apply.
    draws: {'samples', 'held out', 'Gaussian': {metric: [draws]}}.
    nearest: {same: distances to the nearest training example, of one draw}.
    pairs: the samples nearest to training and those neighbours, [P, 2, *D].
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
  """What samples of a data set are measured against.

  Args:
    data: the data set.
    split: 'validation' or 'test'.
    features: a set of examples -> [N, K]; None for the pinned classifier's, or
      the points themselves.

  Raises:
    ValueError: images without labels of two classes, and no features; or a
      split of 5 examples or fewer.
  """
  train, held_out = data.split("train"), data.split(split)
  if len(held_out[0]) <= 5:
    raise ValueError(
      f"split: expected more than 5 examples, got {len(held_out[0])} of {split}"
    )
  # In random order: a part of them is a fair part.
  rows = np.random.RandomState(0).permutation(len(held_out[0]))[:MAX_HELD_OUT]
  held_out = tuple(x if x is None else x[rows] for x in held_out)
  predict = None
  classified = data.classified
  if classified is None and train[1] is not None:
    classified = train
  if classified is not None and len(np.unique(classified[1])) > 1:
    fitted = classifier.fit(*classified)
    features, predict = features or fitted.features, fitted.predict
  elif len(data.shape) == 1:
    features = features or _flat
  elif features is None:
    raise ValueError(
      "features: the classifier needs labels of two classes, which the training"
      " data have not; give a function, --features module:function"
    )
  found = []
  for name, (examples, _) in (("train", train), ("held out", held_out)):
    found.append(np.asarray(features(examples), np.float64))
    if found[-1].ndim != 2 or len(found[-1]) != len(examples):
      raise ValueError(
        f"features: expected [{len(examples)}, K] of the {name} examples, "
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
    draw: (number of the draw, labels [N] or None, N) -> samples [N, *D]. The
      labels are those of the held-out data, over again if N is larger.
    ref: of reference().
    number: N of a draw; None for as many as are held out, which is what the
      floor can be compared with: most metrics depend on the size of the set.
    num_draws: what a figure is the mean of.
    seed: of the Gaussian and of the random subsets and splits.

  Raises:
    ValueError: fewer real data than the comparison needs.
  """
  held_out, labels = ref.held_out
  number = len(held_out) if number is None else number
  if number <= 5:
    raise ValueError(f"number: expected more than 5 a draw, got {number}")
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
        raise ValueError(f"{name}: expected finite values in draw {i}")
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
  """A row a metric: means, spread, floor, Gaussian, goal and whether met."""
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
  """(low, high) that a metric should lie in; None for no bound."""
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
  """Of real against real: the training and the held-out data split anew."""
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
  """The rarest classes as one that has RARE examples, for sets to match in.

  Random sets need not have as many of a class that has few: none, of one.
  """
  classes, counts = np.unique(labels, return_counts=True)
  order = np.argsort(counts, kind="stable")
  before = np.cumsum(counts[order]) - counts[order]
  rare = classes[order[before < RARE]]
  return np.where(np.isin(labels, rare), rare[0], labels)


def _gaussian(train):
  """(random, N) -> draws [N, *D] of the Gaussian fitted to training data."""
  flat = _flat(train)
  mean = flat.mean(0)
  factor = (flat - mean) / math.sqrt(len(flat) - 1)  # covariance F^T F

  def draw(random, number):
    draws = mean + random.standard_normal((number, len(factor))) @ factor
    return draws.reshape(number, *train.shape[1:]).astype(train.dtype)

  return draw


def _closest(best, samples, train, near):
  """The NUM_PAIRS closest pairs of those so far and one more draw."""
  distances = np.concatenate([best[0], near[0]])
  order = np.argsort(distances, kind="stable")[:NUM_PAIRS]
  pairs = np.concatenate([best[1], np.stack([samples, train[near[1]]], 1)])
  return distances[order], pairs[order]


def _mean(values):
  return None if None in values else math.fsum(values) / len(values)


def _flat(examples):
  return np.asarray(examples, np.float64).reshape(len(examples), -1)
