"""Pictures: exact pixels where they can be, and not blank where not."""

import types

import jax
import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest

from experiments import experiment
from experiments.lib import datasets
from experiments.pictures import figures, metrics, planes, sheets


def _images(*shape, seed=0):
  levels = np.random.default_rng(seed).integers(0, 17, shape)
  return (levels / 8 - 1).astype("f")


def _read(path):
  """Colours in [0, 1], without the alpha channel."""
  return matplotlib.image.imread(path)[..., :3]


def test_sheet_places_every_image_and_white_gaps():
  images = _images(3, 4, 5, 6, 1)
  pixels = figures.sheet(images)
  assert pixels.shape == (3 * 6 - 1, 4 * 7 - 1, 3)
  seen = np.zeros(pixels.shape[:2], bool)
  for row in range(3):
    for column in range(4):
      place = np.s_[6 * row : 6 * row + 5, 7 * column : 7 * column + 6]
      expected = np.broadcast_to((images[row, column] + 1) / 2, (5, 6, 3))
      np.testing.assert_array_equal(pixels[place], expected)
      seen[place] = True
  assert np.all(pixels[~seen] == 1) and not seen.all()


def test_sheet_clips_and_keeps_colours():
  images = np.array([-3.0, -1.0, 0.0, 1.0, 7.0, 0.5]).reshape(1, 2, 1, 1, 3)
  pixels = figures.sheet(images)
  np.testing.assert_array_equal(pixels[0, 0], [0, 0, 0.5])
  np.testing.assert_array_equal(pixels[0, 1], [1, 1, 1])
  np.testing.assert_array_equal(pixels[0, 2], [1, 1, 0.75])


@pytest.mark.parametrize(
  "number, rows, columns", [(1, 1, 1), (7, 1, 7), (10, 1, 10), (23, 3, 10)]
)
def test_in_rows_keeps_the_order_and_pads_with_white(number, rows, columns):
  images = _images(number, 3, 2, 1)
  placed = figures.in_rows(images)
  assert placed.shape == (rows, columns, 3, 2, 1)
  flat = placed.reshape(-1, 3, 2, 1)
  np.testing.assert_array_equal(flat[:number], images)
  assert np.all(flat[number:] == 1)


def test_a_saved_sheet_is_the_sheet_enlarged(tmp_path):
  images = _images(2, 10, 8, 8, 1)
  figures.save_sheet(tmp_path / "sheet.png", images)
  picture, pixels = _read(tmp_path / "sheet.png"), figures.sheet(images)
  scale = picture.shape[0] // pixels.shape[0]
  assert scale == 7  # 89 pixels wide, 600 or so wanted
  assert picture.shape[:2] == tuple(scale * n for n in pixels.shape[:2])
  np.testing.assert_allclose(picture[3::7, 3::7], pixels, atol=1 / 255)


def _assert_drawn(path, *, ink):
  """A picture of some size in which a part at least of the pixels is inked."""
  picture = _read(path)
  assert min(picture.shape[:2]) >= 100
  assert np.mean(np.any(picture < 0.9, -1)) > ink


def test_image_samples(tmp_path):
  path = tmp_path / "new" / "samples.png"
  black, gray = -np.ones((3, 4, 8, 8, 1)), np.zeros((3, 2, 8, 8, 1))
  figures.image_samples(path, black, gray, ["0", "1", "2"])
  _assert_drawn(path, ink=0.4)
  picture = _read(path)
  left, right = np.split(picture, [picture.shape[1] * 4 // 6], axis=1)
  dark, middle = np.all(left < 0.01, -1), np.abs(right - 0.5) < 0.01
  assert dark.mean() > 0.5 and np.all(middle, -1).mean() > 0.4
  assert np.all(left < 0.01, -1).sum() > 10 * np.all(right < 0.01, -1).sum()


def test_image_trajectory(tmp_path):
  path = tmp_path / "trajectory.png"
  frames = _images(5, 4, 8, 8, 1)
  figures.image_trajectory(path, frames, "ratio", ["80", "1", "0", "data"])
  _assert_drawn(path, ink=0.3)


def test_a_trajectory_names_its_rows_and_columns(drawn):
  frames, columns = _images(2, 3, 8, 8, 1), ["80", "1", "sample"]
  figures.image_trajectory(None, frames, "noise ratio", columns, ["4", "7"])
  figures.image_trajectory(None, frames, "noise ratio", columns)
  named, plain = (figure.axes[0] for figure in drawn)
  for axis in (named, plain):
    assert [text.get_text() for text in axis.get_xticklabels()] == columns
    assert axis.get_xlabel() == "noise ratio"
    np.testing.assert_allclose(axis.get_xticks(), 9 * np.arange(3) + 3.5)
  rows = [text.get_text() for text in named.get_yticklabels()]
  assert (rows, named.get_ylabel()) == (["4", "7"], "class")
  np.testing.assert_allclose(named.get_yticks(), [3.5, 12.5])
  assert not len(plain.get_yticks())
  assert plain.get_ylabel() == "one trajectory per row"


def test_points(tmp_path):
  rng = np.random.default_rng(0)
  points = rng.normal(size=(4, 300, 2))
  paths, times = points.swapaxes(0, 1), np.array([1.0, 0.7, 0.3, 0.0])
  columns = ["80", "1", "0.002", "sample"]
  for draw, given, ink in (
    (planes.samples, (points[0], points[1]), 0.01),
    (planes.trajectory, (points, "ratio", columns), 0.01),
    (planes.paths, (paths, "t", columns), 0.05),
    (figures.straightness, (paths, times), 0.005),
  ):
    path = tmp_path / f"{draw.__name__}.png"
    draw(path, *given)
    _assert_drawn(path, ink=ink)


@pytest.mark.parametrize("number", [1, 2, 60])
def test_curves(tmp_path, number):
  records = [
    {"step": 10 * i, "seconds": 0.5 * i, "loss": 1 / i}
    for i in range(1, number + 1)
  ]
  figures.curves(tmp_path / "curves.png", records)
  _assert_drawn(tmp_path / "curves.png", ink=0.005)


def test_curves_of_a_loss_that_is_negative_or_not_finite(tmp_path):
  records = [
    {"step": i, "seconds": i / 2, "loss": loss}
    for i, loss in enumerate([2.0, -1.0, float("nan"), float("inf"), 0.5], 1)
  ]
  figures.curves(tmp_path / "curves.png", records)
  _assert_drawn(tmp_path / "curves.png", ink=0.005)


def test_sheets_give_each_class_its_row(tmp_path):
  """Samples that are black up to their label's row, by a made-up sampler."""
  data = datasets.load_data("digits")
  keys, labels = sheets.keys_and_labels(data, jax.random.key(0))
  assert len(keys) == len(labels) == 10 * sheets.NUM_COLUMNS
  rows = np.arange(8)[:, None, None]
  seen = np.where(rows < np.asarray(labels).reshape(-1, 1, 1, 1), -1.0, 1.0)
  images = np.broadcast_to(seen, (len(labels), 8, 8, 1)).astype("f")

  sheets.sheet(tmp_path / "sheet.png", images, data)
  picture = _read(tmp_path / "sheet.png")
  scale = picture.shape[1] // (12 * 9 - 1)
  pixels = picture[scale // 2 :: scale, scale // 2 :: scale, 0]
  for label in range(10):
    black = pixels[9 * label : 9 * label + 8] == 0
    assert black.sum() == 12 * 8 * min(label, 8)

  marks = np.array([80.0, 5.0, 0.3, 0.002])
  times = experiment.Times("noise ratio", marks, np.ones(4))
  ex = types.SimpleNamespace(data=data, times=times, view=None, vectors=None)
  states = np.stack([images, -images, images, -images], 1)
  found = experiment.Trained({}, {}, {}, states, images)
  names = sheets.common(tmp_path, ex, found)
  assert names == ["samples.png", "trajectory.png"]
  _assert_drawn(tmp_path / "samples.png", ink=0.3)
  _assert_drawn(tmp_path / "trajectory.png", ink=0.1)


@pytest.mark.parametrize("names", [("loss",), ("discriminator", "generator")])
def test_curves_have_a_panel_a_player(names, drawn):
  keys = names if names == ("loss",) else [f"{name}/loss" for name in names]
  records = [
    {"step": 5 * i, "seconds": 0.1 * i, "discriminator/gap": 0.0}
    | {name: (-1) ** k / i for k, name in enumerate(keys)}
    for i in range(1, 8)
  ]
  figures.curves(None, records)
  (figure,) = drawn
  *losses, speed = figure.axes
  labels = [axis.get_ylabel() for axis in losses]
  assert labels == [name.replace("/", ": ") for name in keys]
  for k, axis in enumerate(losses):
    steps, values = axis.lines[0].get_data()
    np.testing.assert_array_equal(steps, 5 * np.arange(1, 8))
    np.testing.assert_allclose(values, (-1) ** k / np.arange(1, 8))
    assert axis.get_yscale() == ("linear" if k else "log")
  np.testing.assert_allclose(speed.lines[0].get_ydata(), 50)


@pytest.mark.parametrize("value, width", [(1.0, 0.1), (0.0, 0.1), (20.0, 2.0)])
def test_a_metric_of_equal_values_has_an_axis_of_their_size(value, width):
  figure, axis = plt.subplots()
  row = dict(goal=(None, None), floor=value)
  draws = {kind: {"coverage": [value, value]} for kind in metrics.COLORS}
  metrics._metric(axis, "coverage", row, draws)
  low, high = axis.get_ylim()
  plt.close(figure)
  np.testing.assert_allclose([low + high, high - low], [2 * value, width])
