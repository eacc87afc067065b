"""Pictures of points and fields, by the artists that are drawn."""

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

from experiments import experiment
from experiments.pictures import (
  displacements,
  figures,
  modes,
  planes,
  potential,
  sheets,
  vectors,
)
from jaxgen import paths
from jaxgen.data import oracles
from jaxgen.samplers import grids

MEAN, STD = np.array([3.0, -1.0]), 0.5
GAUSSIAN = oracles.Mixture(np.ones(1), MEAN[None], np.array([STD]))


def _panels(figure):
  """The axes that are no colour bars."""
  return [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]


def _assert_named(figure):
  """Axes have names, or share those of the axes at the left or below."""
  for axis in _panels(figure):
    place = axis.get_subplotspec()
    assert axis.get_xlabel() or not place.is_last_row()
    assert axis.get_ylabel() or not place.is_first_col()
  for axis in set(figure.axes) - set(_panels(figure)):
    assert axis.get_ylabel()


def _notes(axis):
  return [text.get_text() for text in axis.texts]


def test_square_holds_all_finite_points_or_a_share():
  x = np.linspace(-1, 1, 101)
  points = np.stack([5 + 2 * x, x], 1)
  expected = [[5 - 2.2, 5 + 2.2], [-2.2, 2.2]]
  np.testing.assert_allclose(planes.square(points), expected)
  lost = np.concatenate([points, [[np.nan, 9.0], [0.0, np.inf]]])
  np.testing.assert_allclose(planes.square(lost), expected)
  fewer = [[5 - 1.76, 5 + 1.76], [-1.76, 1.76]]
  np.testing.assert_allclose(planes.square(points, 0.1), fewer)
  one = planes.square(np.array([[7.0, 2.0]]))
  np.testing.assert_allclose(one, [[6, 8], [1, 3]])
  np.testing.assert_allclose(planes.square(lost[-2:]), [[-1, 1]] * 2)


def test_samples_outside_the_axes_of_real_points_are_counted(drawn):
  real = np.random.default_rng(0).uniform(-1, 1, (400, 2))
  made = real[:300].copy()
  made[:3] = [[9.0, 0.0], [0.0, -9.0], [np.nan, 0.0]]
  planes.samples(None, made, real)
  left, right = _panels(drawn[0])
  assert _notes(left) == ["3 of 300 points lie outside"]
  assert _notes(right) == []
  assert len(right.collections[0].get_offsets()) == 300
  limits = planes.square(real)
  np.testing.assert_allclose([left.get_xlim(), left.get_ylim()], limits)
  _assert_named(drawn[0])


def test_trajectories_share_their_axes(drawn):
  frames = np.zeros((3, 1000, 2))
  frames[:, :, 0] = np.linspace(-1, 1, 1000) * [[8.0], [2.0], [1.0]]
  frames[1, 0] = 50.0
  planes.trajectory(None, frames, "noise ratio", ["80", "1", "sample"])
  panels = _panels(drawn[0])
  assert len({axis.get_xlim() for axis in panels}) == 1
  low, high = panels[0].get_xlim()
  assert low < -7.8 and 7.8 < high < 9
  assert [_notes(axis) for axis in panels][1:] == [
    ["1 of 1000 points lies outside"],
    [],
  ]
  assert [axis.get_title() for axis in panels] == ["80", "1", "sample"]
  _assert_named(drawn[0])


def test_all_paths_lie_in_their_axes(drawn):
  frames = np.random.default_rng(0).normal(size=(300, 4, 2))
  frames[7, 2] = [40.0, 30.0]
  planes.paths(None, frames, "t", ["1", "0.5", "0.2", "sample"])
  (axis,) = _panels(drawn[0])
  assert axis.get_xlim()[1] > 40 and _notes(axis) == []
  assert axis.get_title() == "200 of 300 samples"
  names = [text.get_text() for text in axis.get_legend().get_texts()]
  assert names == ["start", "sample"]
  _assert_named(drawn[0])


def _field_picture(name, num_steps, exact):
  """fields.png of a Gaussian on the path of EDM, whose noise ratio is t."""
  path, times = paths.edm(), grids.karras(paths.edm(), num_steps)
  field, ratios = GAUSSIAN.field(path), np.asarray(times)
  how = experiment.Vectors(name, times, ratios, 0.5, field if exact else None)
  noise = np.random.default_rng(0).normal(size=(100, len(ratios), 2))
  states = MEAN + np.hypot(STD, ratios)[:, None] * noise
  shown = experiment.Times("noise ratio", ratios, np.ones(len(ratios)))
  vectors.plot(None, field, how, shown, states.astype("f"))
  return ratios


def _arrows(axis):
  kind = matplotlib.quiver.Quiver
  (found,) = (a for a in axis.collections if isinstance(a, kind))
  return found


@pytest.mark.parametrize("name", ["velocity", "score"])
def test_arrows_of_a_gaussian_point_to_its_mean(name, drawn):
  """On the path of EDM, x = data + t noise:

  velocity = t (x - mean) / (s^2 + t^2),   score = (mean - x) / (s^2 + t^2)
  """
  ratios = _field_picture(name, 40, True)
  (figure,) = drawn
  panels = _panels(figure)
  assert len(panels) == 6
  norms = [_arrows(axis).norm for axis in panels]
  assert all(norm is norms[0] for norm in norms)
  (bar,) = set(figure.axes) - set(panels)
  assert name in bar.get_ylabel() and "unit" in bar.get_ylabel()
  marks = figures.distinct(ratios)
  for axis in panels:
    t = ratios[marks.index(axis.get_title().split("\n")[0].rpartition(" ")[2])]
    arrows = _arrows(axis)
    away = MEAN - np.stack([arrows.X, arrows.Y], 1)
    far = np.linalg.norm(away, axis=1)
    shown = np.stack([arrows.U, arrows.V], 1)
    keep = far > 1e-3 * far.max()
    units = (away / far[:, None])[keep]
    np.testing.assert_allclose(shown[keep], units, atol=1e-3)
    expected = far / (STD**2 + t**2) * (t if name == "velocity" else 1)
    np.testing.assert_allclose(arrows.get_array(), expected, rtol=1e-3)
  assert "relative error 0.000" in panels[0].get_title()
  _assert_named(figure)


def test_no_time_of_a_field_is_shown_twice(drawn):
  """Four steps: two of the three aims have the same nearest time."""
  ratios = _field_picture("velocity", 4, False)
  titles = [axis.get_title() for axis in _panels(drawn[0])]
  aims = np.array(vectors.SPREADS) * 0.5
  apart = np.abs(np.log(ratios[:, None] / aims))
  nearest = figures.distinct(ratios[np.unique(apart.argmin(0))])
  assert len(nearest) == len(titles) == 2
  assert titles == [f"learned velocity, noise ratio {n}" for n in nearest]


def test_points_outside_a_field_are_counted(drawn):
  path = paths.edm()
  times = grids.karras(path, 2)
  ratios = np.asarray(path.ratio(times))
  how = experiment.Vectors("velocity", times, ratios, 10.0)
  shown = experiment.Times("noise ratio", ratios, np.ones(3))
  states = np.random.default_rng(0).uniform(-1, 1, (400, 3, 2)).astype("f")
  states[0], states[1] = [50, 0], [0, 60]
  vectors.plot(None, GAUSSIAN.field(path), how, shown, states)
  for axis in _panels(drawn[0]):
    assert _notes(axis) == ["2 of 400 points lie outside"]


def test_a_field_of_zeros_has_arrows_of_no_length(drawn):
  path = paths.edm()
  times = grids.karras(path, 2)
  ratios = np.asarray(path.ratio(times))
  how = experiment.Vectors("velocity", times, ratios, 10.0)
  shown = experiment.Times("noise ratio", ratios, np.ones(3))
  states = np.random.default_rng(0).normal(size=(20, 3, 2)).astype("f")
  field = lambda x, t: GAUSSIAN.field(path)(x, t)._replace(velocity=0 * x)
  vectors.plot(None, field, how, shown, states)
  arrows = _arrows(_panels(drawn[0])[0])
  assert not np.any(arrows.U) and not np.any(arrows.V)


def test_a_map_shows_every_displacement(drawn):
  starts = np.random.default_rng(0).normal(size=(500, 2)).astype("f")
  ends = starts + np.float32([2.0, 0.0])
  ends[0] = [30.0, 0.0]
  displacements.plot(None, starts, ends, starts[:100], lambda x: jnp.sum(x**2))
  left, right = _panels(drawn[0])
  assert left.get_xlim()[1] > 30 and _notes(left) == _notes(right) == []
  moved = np.stack([_arrows(left).U, _arrows(left).V], 1)
  np.testing.assert_allclose(
    moved[1:], np.tile([2.0, 0.0], (299, 1)), atol=1e-6
  )
  assert left.get_title() == "300 of 500 displacements"
  assert left.get_legend() and right.get_legend()
  _assert_named(drawn[0])


def test_rays_that_leave_the_axes_are_counted(drawn):
  x = np.random.default_rng(0).uniform(-1, 1, (40, 2)).astype("f")
  lengths = np.where(np.arange(40) < 5, 20.0, 1e-3)
  found = potential.HeldOut(x, x, (x, x), lengths)
  potential.plot(None, lambda x: x[0], found)
  (axis,) = _panels(drawn[0])
  assert _notes(axis) == ["5 of 40 rays lead outside"]
  _assert_named(drawn[0])


def test_generated_points_far_from_the_modes_are_counted(drawn):
  points = np.concatenate([np.zeros((6, 2)), np.full((4, 2), 99.0)])
  mixture = oracles.Mixture(np.ones(1), np.zeros((1, 2)), np.ones(1))
  modes.plot(None, jnp.sum, points, mixture)
  left, right = _panels(drawn[0])
  assert _notes(left) == ["4 of 10 points lie outside"]
  assert right.get_title() == "0.600 of 10 within 3 std of a mode"
  names = [text.get_text() for text in right.get_legend().get_texts()]
  assert names == ["weight of the mode", "generated"]
  _assert_named(drawn[0])


def test_frames_of_an_even_change_are_even():
  frames = np.arange(13.0) * np.array([[1.0], [-1.0]])
  assert sheets.by_change(frames[..., None], 5) == [0, 3, 6, 9, 12]
  still = np.zeros((2, 13, 3))
  assert sheets.by_change(still, 5) == [0, 3, 6, 9, 12]
  assert sheets.by_change(still, 20) == list(range(13))
  assert sheets.by_change(still, 2) == [0, 12]


def test_frames_lie_on_both_sides_of_the_only_change():
  """Between the frames 7 and 8 of 13; the other columns are spread evenly."""
  frames = np.where(np.arange(13) < 8, 0.0, 3.0) * np.ones((2, 1))
  assert sheets.by_change(frames[..., None], 4) == [0, 7, 8, 12]
  found = sheets.by_change(frames[..., None], 6)
  assert {0, 7, 8, 12} < set(found) and len(found) == 6


def test_frames_have_equal_steps_of_change():
  """1000 frames of x = 100^-u: steps of (1 - 1/100) / 4, in any unit."""
  u = np.linspace(0, 1, 1000)
  frames = np.stack([100.0**-u, -(100.0**-u)])[..., None]
  values = np.linspace(1, 0.01, 5)
  expected = -np.log(values) / np.log(100) * 999
  np.testing.assert_allclose(sheets.by_change(frames, 5), expected, atol=1)


def test_a_change_that_is_not_finite_counts_as_none():
  frames = np.tile(np.arange(9.0), (3, 1))
  frames[1, 3] = np.inf
  assert sheets.by_change(frames[..., None], 2) == [0, 8]
  found = sheets.by_change(frames[..., None], 5)
  assert found == sorted(set(found)) and len(found) == 5


def test_a_chain_shows_no_state_twice():
  """The last state of a flow is the sample; other states are scaled."""
  states = np.random.default_rng(0).normal(size=(5, 3, 2))
  times = experiment.Times("t", np.array([1.0, 0.5, 0.0]), np.ones(3))
  frames, name, columns = sheets.chain(times, states, states[:, -1])
  assert (name, columns) == ("t", ["1", "0.5", "sample"])
  np.testing.assert_array_equal(frames, states)
  times = times._replace(scales=np.array([2.0, 3.0, 4.0]))
  frames, name, columns = sheets.chain(times, states, states[:, 0])
  assert columns == ["1", "0.5", "0", "sample"]
  assert name == "t (states scaled to the data's spread)"
  scaled = states * np.array([2.0, 3.0, 4.0])[:, None]
  np.testing.assert_allclose(frames[:, :3], scaled)
  np.testing.assert_array_equal(frames[:, 3], states[:, 0])


def test_different_numbers_have_different_names():
  assert figures.distinct([80.0, 0.5, 0.0]) == ["80", "0.5", "0"]
  assert figures.distinct([0.9941, 0.9952, 1.0]) == ["0.994", "0.995", "1"]
  assert figures.distinct([2.0, 2.0]) == ["2", "2"]
