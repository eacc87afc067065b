import itertools
import sys

import numpy as np
import pytest
from sklearn import datasets

from jaxgen.data import photos
from tests import expect

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def originals():
  return datasets.load_sample_images().images


def covered(split, size, label):
  """The pixels that the crops show, as a picture of True."""
  seen = np.zeros((427, 640), bool)
  for top, left in photos.corners(split, size, label):
    assert top + size <= 427 and left + size <= 640 and min(top, left) >= 0
    seen[top : top + size, left : left + size] = True
  return seen


@pytest.mark.parametrize("size", [1, 32, 80, 81, 213])
@pytest.mark.parametrize("label", [0, 1])
def test_no_pixel_is_in_two_splits(size, label):
  masks = [covered(split, size, label) for split in SPLITS]
  for one, other in itertools.combinations(masks, 2):
    assert not np.any(one & other)
  if size == 32:  # and few are in none: a corner's pixel needs its one crop
    for mask, part in zip(masks, (5 / 8, 1 / 8, 2 / 8), strict=True):
      assert 0.7 * part < mask.mean() <= part


@pytest.mark.parametrize(
  "split, number", [("train", 4096), ("validation", 180), ("test", 360)]
)
def test_a_crop_is_what_the_photograph_shows(split, number, originals):
  crops, labels = photos.load(split)
  assert crops.shape == (number, 32, 32, 3) and crops.dtype == np.uint8
  np.testing.assert_array_equal(labels, np.repeat([0, 1], number // 2))
  assert labels.dtype == np.int32
  for label in (0, 1):
    corners = photos.corners(split, 32, label)
    assert len(np.unique(corners, axis=0)) == number // 2
    for crop, (top, left) in zip(crops[labels == label], corners, strict=True):
      there = originals[label][top : top + 32, left : left + 32]
      np.testing.assert_array_equal(crop, there)


def test_the_law_of_the_corners():
  """Size 80: a column a band, but two where train's last bands touch."""
  columns = lambda split: np.unique(photos.corners(split, 80, 0)[:, 1])
  assert columns("train").tolist() == [0, 160, 320, *range(480, 561)]
  assert columns("validation").tolist() == [240]
  assert columns("test").tolist() == [80, 400]
  one, again = (photos.corners("test", 32, 1) for _ in range(2))
  np.testing.assert_array_equal(one, again)


def test_large_crops_have_three_bands_and_may_be_fewer():
  crops, labels = photos.load("train", 213)
  assert crops.shape == (2 * 215, 213, 213, 3) and len(labels) == 430
  for split, left in zip(SPLITS, (0, 213, 426), strict=True):
    assert np.all(photos.corners(split, 213, 0)[:, 1] == left)


def test_a_wrong_size_or_split_is_refused():
  for size in (0, -1, 214):  # that fits in no band
    said = f"expected 1 to 213 pixels, got {size}"
    expect.error(said, photos.load, "train", size)
  expect.error("train, validation, test, got 'valid'", photos.load, "valid")


@pytest.mark.parametrize("package", ["sklearn", "PIL"])
def test_without_its_packages_one_line_says_what_to_do(monkeypatch, package):
  monkeypatch.setitem(sys.modules, package, None)
  with pytest.raises(ImportError, match=r"pip install 'jaxgen\[data\]'") as e:
    photos.load("train")
  assert "\n" not in str(e.value)
