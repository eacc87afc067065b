"""The edges of what data may be: the last valid value and the first invalid."""

import numpy as np
import pytest

from jaxgen.data import files, images, loaders
from tests import expect
from tests.data.test_files import whole

LARGEST = float(np.finfo(np.float32).max)


def load_points(tmp_path, **arrays):
  path = tmp_path / "points.npz"
  np.savez(path, **arrays)
  return files.load_points(path)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16, np.uint8])
def test_points_are_read_and_cut(tmp_path, dtype):
  points = np.arange(60).reshape(20, 3).astype(dtype)
  found = load_points(tmp_path, points=points)
  sizes = {name: source.size for name, source in found.items()}
  assert sizes == dict(train=16, validation=2, test=2)
  parts = [whole(found[name]) for name in sizes]
  assert all(part.dtype == np.float32 for part in parts)
  together = np.concatenate(parts)
  np.testing.assert_array_equal(together[np.argsort(together[:, 0])], points)


def test_points_may_be_as_large_as_a_float32(tmp_path):
  points = np.full((4, 1), 0.5)
  points[2:, 0] = LARGEST, -LARGEST
  found = load_points(tmp_path, points=points)
  everything = np.concatenate([whole(source) for source in found.values()])
  ends = np.float32([-LARGEST, 0.5, 0.5, LARGEST])
  np.testing.assert_array_equal(np.sort(everything, 0)[:, 0], ends)


@pytest.mark.parametrize(
  "arrays, message",
  [
    (dict(x=np.ones((5, 2))), "expected arrays named points, got x"),
    (dict(points=np.ones(5)), r"points \[N, D\], got shape \[5\]"),
    (dict(points=np.ones((5, 2, 1))), r"got shape \[5, 2, 1\]"),
    (dict(points=np.ones((0, 2))), r"got shape \[0, 2\]"),
    (dict(points=np.ones((5, 2), complex)), "expected finite numbers"),
    (dict(points=np.ones((5, 2), bool)), "expected finite numbers"),
    (dict(points=np.array([["1", "2"]] * 5)), "expected finite numbers"),
    *(
      (dict(points=np.array([[0.0], [0.0], [0.0], [bad]])), "expected finite")
      for bad in (np.nan, np.inf, -np.inf, 1.001 * LARGEST, -1.001 * LARGEST)
    ),
    (dict(points=np.ones((2, 2))), "expected at least 3 examples"),
  ],
)
def test_what_is_no_set_of_points_is_one_line(tmp_path, arrays, message):
  said = expect.error(message, load_points, tmp_path, **arrays)
  assert "points.npz: " in said


def test_floats_of_images_lie_between_black_and_white():
  of = lambda *ends: np.float32(ends).reshape(2, 1, 1, 1).repeat(3, 1)
  for ends in ((-1, 1), (0, 0), (-1, -1), (-1e-3, 0.5)):
    found, _ = images.checked(of(*ends), None, "x")
    np.testing.assert_array_equal(found, of(*ends))
  beyond = ((-1.001, 0.5), (-0.5, 1.001), (-0.5, np.inf))
  for ends in (*beyond, (0, 1e-3), (0.25, 0.5)):  # none below 0: of [0, 1]
    said = r"expected floats in \[-1, 1\]"
    expect.error(said, images.checked, of(*ends), None, "x")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_pixel_that_is_not_finite_is_refused(bad):
  pixels = np.zeros((2, 2, 2, 1), np.float32)
  pixels[1, 0, 1, 0] = bad
  expect.error("images: expected finite values", images.to_uint8, pixels)


def test_batches_ahead_are_drawn_one_at_a_time():
  """A source need not bear two readers: each batch is slow, none overlap."""
  working, together = [], []

  def batch_fn(step):
    working.append(step)
    together.append(len(working))
    sum(range(10**6))
    working.remove(step)
    return step

  ahead = loaders.prefetch(batch_fn, place=lambda step: step, depth=4)
  assert [ahead(step) for step in range(6)] == list(range(6))
  assert set(together) == {1}
