"""experiments.lib.quality on samplers whose faults are known."""

import jax
import matplotlib.image
import numpy as np
import pytest

from experiments.lib import datasets, quality
from experiments.pictures import metrics
from jaxgen.metrics import frechet, neighbours
from tests import expect

NUMBER = 90


def _images(seed, labels):
  """Three classes of 4 x 4 images at 17 levels: a bright square that moves."""
  rng = np.random.default_rng(seed)
  images = rng.normal(-0.6, 0.15, (len(labels), 4, 4, 1))
  for place in range(3):
    images[labels == place, place : place + 2, place : place + 2] += 1.0
  levels = np.round((np.clip(images, -1, 1) + 1) * 8) / 8 - 1
  return levels.astype(np.float32)


def _split(name):
  seeds = {"train": (0, 300), "validation": (1, NUMBER), "test": (2, NUMBER)}
  seed, size = seeds[name]
  labels = np.arange(size) % 3
  return _images(seed, labels), labels


def _data(relabel=lambda labels: labels, classes=3):
  split = lambda name: (_split(name)[0], relabel(_split(name)[1]))
  real = split("validation")
  unread = None, None  # batches and draw
  sets = dict(real=real, split=split, levels=17)
  return datasets.Data((4, 4, 1), classes, 0.5, *unread, **sets)


@pytest.fixture(scope="module")
def ref():
  return quality.reference(_data(), "test")


def _real(i, labels, number):
  return _images(100 + i, labels)


def _evaluate(draw, ref, **settings):
  return quality.evaluate(draw, ref, **{"num_draws": 3} | settings)


@pytest.fixture(scope="module")
def real(ref):
  return _evaluate(_real, ref)


def test_real_data_meet_every_goal(real):
  rows = real.rows
  assert all(row["met"] in (True, None) for row in rows.values()), rows
  assert rows["accuracy"]["samples"] > 0.99
  assert rows["density"]["met"] is None and rows["copies"]["samples"] == 0


def test_the_gaussian_is_found_out(real):
  for name in ("frechet", "kid", "nearest_50"):
    row = real.rows[name]
    assert row["gaussian"] > 1.1 * np.max(row["floor"])
  coverage = real.rows["coverage"]
  assert coverage["gaussian"] < coverage["floor"] - 0.1
  assert real.rows["accuracy"]["gaussian"] is None


def test_floors_are_the_held_out_data(ref, real):
  images, labels = _split("test")
  train = _split("train")[0]
  whole = frechet.distance(ref.features(images), ref.features(train))
  assert real.rows["frechet"]["floor"] == pytest.approx(whole)
  flat = images.reshape(NUMBER, -1), train.reshape(300, -1)
  nearest = np.quantile(neighbours.nearest(*flat)[0], 0.1)
  assert real.rows["nearest_10"]["floor"] == pytest.approx(nearest)
  accuracy = np.mean(ref.predict(images) == labels)
  assert real.rows["accuracy"]["floor"] == accuracy
  low, high = real.rows["kid"]["goal"]
  assert low < high < 0.1 and real.rows["kid"]["floor"] == [low, high]
  goals = {name: row["goal"] for name, row in real.rows.items()}
  assert goals["frechet"] == [None, pytest.approx(whole + 0.05)]
  assert goals["coverage"][0] == real.rows["coverage"]["floor"] - 0.03
  assert goals["nearest_10"][0] == 0.95 * real.rows["nearest_10"]["floor"]


def test_means_and_spread_are_over_draws(real):
  for name, row in real.rows.items():
    draws = real.draws["samples"][name]
    assert len(draws) == 3 and row["samples"] == pytest.approx(np.mean(draws))
    assert row["spread"] == pytest.approx(np.std(draws, ddof=1))


def test_copies_pass_the_distances_and_fail_the_check(ref):
  train = _split("train")[0]
  step = 0.4 / 8  # below half a level

  def copies(i, labels, number):
    rows = 3 * (np.arange(number) + 10 * i) % 300 + labels
    noise = np.random.default_rng(i).uniform(-step, step, (number, 4, 4, 1))
    return train[rows] + noise

  rows = _evaluate(copies, ref).rows
  assert rows["copies"]["samples"] == NUMBER and rows["copies"]["met"] is False
  assert rows["nearest_90"]["met"] is False
  assert rows["accuracy"]["met"] is True


def test_missing_classes_and_wrong_labels(ref):
  one = lambda i, labels, n: _images(100 + i, 0 * labels)
  rows = _evaluate(one, ref).rows
  for name in ("frechet", "kid", "coverage", "accuracy"):
    assert rows[name]["met"] is False, name
  assert rows["accuracy"]["samples"] == pytest.approx(1 / 3, abs=0.02)
  assert rows["coverage"]["samples"] < 0.5


def test_another_number(ref):
  """Fewer: the floor has as many. More: the labels come round again."""
  asked = []

  def draw(i, labels, number):
    asked.append(labels)
    return _real(i, labels, number)

  few = _evaluate(draw, ref, number=30, num_draws=1)
  assert len(few.nearest["held out"]) == 30
  assert few.rows["frechet"]["spread"] is None
  many = _evaluate(draw, ref, number=120, num_draws=1)
  assert len(many.nearest["held out"]) == NUMBER
  np.testing.assert_array_equal(asked[1][:NUMBER], ref.held_out[1])
  np.testing.assert_array_equal(asked[1][NUMBER:], asked[1][:30])
  np.testing.assert_array_equal(asked[0], asked[1][:30])


def test_the_seed_moves_the_random_parts_alone(ref, real):
  same, other = _evaluate(_real, ref), _evaluate(_real, ref, seed=1)
  assert same.rows == real.rows
  assert other.rows["frechet"]["samples"] == real.rows["frechet"]["samples"]
  for name in ("frechet", "nearest_50"):
    assert other.rows[name]["gaussian"] != real.rows[name]["gaussian"]


def test_closest_pairs(ref):
  train = _split("train")[0]

  def draw(i, labels, number):
    images = _real(i, labels, number)
    images[5] = train[7 + i] + 0.01
    return images

  pairs = _evaluate(draw, ref).pairs
  assert pairs.shape == (quality.NUM_PAIRS, 2, 4, 4, 1)
  gaps = np.sqrt(np.sum((pairs[:, 0] - pairs[:, 1]) ** 2, (1, 2, 3)))
  assert np.all(np.diff(gaps) >= 0)
  np.testing.assert_allclose(gaps[:3], 0.04, rtol=1e-3)
  for image in train[7:10]:
    assert np.sum(np.all(pairs[:3, 1] == image, (1, 2, 3))) == 1


def test_points_are_their_own_features():
  data = datasets.load_data("moons")
  ref = quality.reference(data, "validation")
  assert ref.levels is None and ref.predict is None
  np.testing.assert_allclose(ref.train_features, ref.train[0])
  other = quality.reference(data, "test")
  assert np.mean(np.isin(other.held_out[0], ref.held_out[0])) < 0.01
  fresh = data.batches(jax.random.key(9), 300)
  draw = lambda i, labels, n: np.asarray(fresh(i)[0])
  rows = _evaluate(draw, ref, number=300).rows
  assert rows["accuracy"]["samples"] is None and rows["accuracy"]["met"] is None
  assert rows["kid"]["met"] is True and rows["coverage"]["met"] is True
  assert rows["coverage"]["gaussian"] < rows["coverage"]["goal"][0]


@pytest.mark.parametrize("relabel", [lambda labels: None, np.zeros_like])
def test_images_without_two_classes_need_features(relabel):
  data = _data(relabel, 0 if relabel(np.zeros(1)) is None else 1)
  of, means = quality.reference, lambda x: x.mean((2, 3))
  expect.error("features: expected module:function", of, data, "test")
  wide = r"features: expected \[300, K\]"
  expect.error(wide, of, data, "test", features=lambda x: x)
  few = data._replace(split=lambda name: (_split(name)[0][:5], None))
  said = "more than 5 examples, got 5 in test"
  expect.error(said, of, few, "test", features=means)
  ref = quality.reference(data, "test", features=means)
  assert ref.train_features.shape == (300, 4) and ref.predict is None
  draw = lambda i, labels, number: _images(100 + i, np.arange(number) % 3)
  rows = _evaluate(draw, ref, num_draws=1).rows
  assert rows["frechet"]["met"] is True
  assert rows["accuracy"]["samples"] is None


def test_a_class_of_one_example_is_measured(ref):
  """Held out: no other set can have its label."""
  images, labels = ref.held_out
  alone = ref._replace(held_out=(images, np.append(labels[:-1], 3)))
  rows = _evaluate(_real, alone, num_draws=1).rows
  assert rows["kid"]["met"] is True
  assert rows["accuracy"]["floor"] == pytest.approx(1 - 1 / NUMBER)


def test_only_rare_classes_are_joined():
  labels = np.repeat([4, 0, 7, 2], [30, 1, 19, 25])
  joined = np.repeat([4, 0, 0, 2], [30, 1, 19, 25])
  np.testing.assert_array_equal(quality._without_rare(labels), joined)
  few = quality._without_rare(labels[:31])
  np.testing.assert_array_equal(few, np.zeros(31))
  np.testing.assert_array_equal(quality._without_rare(joined), joined)


def test_bad_samples_are_refused(ref):
  nan = lambda i, labels, number: np.full((number, 4, 4, 1), np.nan)
  expect.error("samples: expected finite values", _evaluate, nan, ref)
  few = "number: expected more than 5"
  expect.error(few, _evaluate, _real, ref, number=5)
  expect.error("fewer samples", _evaluate, _real, ref, number=1000)


def test_pictures(real, tmp_path):
  path = tmp_path / "results.png"
  metrics.results(path, real, "three draws")
  assert matplotlib.image.imread(path).std() > 0.05
  path = tmp_path / "curve.png"
  metrics.over_training(path, [10, 20, 40], [real.rows] * 3)
  assert matplotlib.image.imread(path).std() > 0.05


def test_every_axis_of_the_pictures_has_a_name(real, tmp_path, monkeypatch):
  kept = []
  monkeypatch.setattr(
    metrics.figures, "save", lambda figure, path: kept.append(figure)
  )
  metrics.results(None, real, "three draws")
  points = real._replace(pairs=real.pairs.reshape(len(real.pairs), 2, -1))
  metrics.results(None, points, "three draws")
  metrics.over_training(None, [10, 20, 40], [real.rows] * 3)
  for figure in kept:
    for axis in figure.axes:
      assert not axis.axison or axis.get_xlabel()
      assert not axis.axison or axis.get_ylabel() or axis.images
  pictures, alone, steps = kept
  assert pictures.get_suptitle() == "three draws"
  assert len(alone.axes) == len(pictures.axes) - 1
  assert all(axis.axison for axis in (*pictures.axes, *alone.axes))
  names = [text.get_text() for text in steps.legends[0].get_texts()]
  assert len(set(names)) == len(names)
  assert {"samples", "real, held out", "goal", "Gaussian"} < {*names}
  metrics.plt.close("all")
