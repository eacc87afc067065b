import jax
import numpy as np
import pytest

from jaxgen.data import images, loaders
from tests import expect

LEVELS = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)


def test_levels_become_the_interval():
  x = images.to_float(LEVELS)
  assert x.dtype == np.float32 and x.shape == LEVELS.shape
  exact = (LEVELS.astype(np.float64) * 2 - 255) / 255
  np.testing.assert_allclose(x, exact, rtol=0, atol=1e-7)
  assert x.min() == -1 and x.max() == 1
  assert images.to_float(x) is x


def test_levels_come_back():
  back = images.to_uint8(images.to_float(LEVELS))
  np.testing.assert_array_equal(back, LEVELS)
  nudged = images.to_float(LEVELS) + np.float32(0.49 / 127.5)
  np.testing.assert_array_equal(images.to_uint8(nudged), LEVELS)
  beyond = jax.numpy.array([-3.0, 1.2]).reshape(1, 2, 1)
  np.testing.assert_array_equal(images.to_uint8(beyond).ravel(), [0, 255])


def test_what_is_no_image_is_refused():
  said, wide = "expected uint8 or float32, got int64", LEVELS.astype(np.int64)
  expect.error(said, images.to_float, wide)


def rows(number):
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (number, 3, 4, 3)).astype(np.uint8)


def test_a_row_is_mirrored_or_as_it_was():
  batch = rows(400)
  before = batch.copy()
  flipped = images.flips(jax.random.key(0))(0, batch)
  np.testing.assert_array_equal(batch, before)
  assert flipped.dtype == np.uint8
  mirrored = np.all(flipped == batch[:, :, ::-1], (1, 2, 3))
  kept = np.all(flipped == batch, (1, 2, 3))
  assert np.all(mirrored ^ kept)
  assert abs(mirrored.sum() - 200) < 50  # five standard deviations


def test_a_flip_depends_on_key_step_and_row_alone():
  batch, flip = rows(64), images.flips(jax.random.key(0))
  forward = [flip(step, batch) for step in range(5)]
  again = images.flips(jax.random.key(0))
  for step in (4, 0, 2):
    np.testing.assert_array_equal(again(step, batch), forward[step])
    np.testing.assert_array_equal(again(step, batch[:9]), forward[step][:9])
  assert len({x.tobytes() for x in forward}) == 5
  other = images.flips(jax.random.key(1))(0, batch)
  assert not np.array_equal(other, forward[0])
  expect.error("expected a typed key", images.flips, jax.random.PRNGKey(0))


def test_floats_are_mirrored_too():
  batch = images.to_float(rows(20))
  flip = images.flips(jax.random.key(0))
  flipped = images.to_float(flip(3, rows(20)))
  np.testing.assert_array_equal(flip(3, batch), flipped)


@pytest.mark.parametrize("size", [1, 700])
def test_std_is_that_of_all_coordinates(size):
  pixels = rows(size)
  source = loaders.in_memory((pixels, None))
  expected = (pixels / 127.5 - 1).std()
  np.testing.assert_allclose(images.std(source), expected, rtol=1e-6)


@pytest.mark.parametrize("level", [0, 77, 255])
def test_std_of_constant_images_is_0(level):
  pixels = np.full((700, 3, 3, 1), level, np.uint8)
  source = loaders.Source(700, lambda rows: (pixels[rows], None))
  assert images.std(source) == 0
  pixels[0, 0, 0] = level // 2 + 9  # the first of all, and it alone
  expected = (pixels / 127.5 - 1).std()
  np.testing.assert_allclose(images.std(source), expected, rtol=1e-6)


def test_std_of_many_is_that_of_evenly_spaced_ones():
  asked = []

  def read(rows):
    asked.append(rows)
    return (rows % 2 * 255).astype(np.uint8).reshape(-1, 1, 1, 1), None

  std = images.std(loaders.Source(2**17 - 1, read))
  np.testing.assert_allclose(std, 0, atol=1e-6)
  np.testing.assert_array_equal(np.concatenate(asked), np.arange(0, 2**17, 2))


def test_good_images_are_taken():
  gray = np.zeros((5, 4, 6), np.uint8)
  pixels, labels = images.checked(gray, None, "x")
  assert pixels.shape == (5, 4, 6, 1) and labels is None
  floats = np.linspace(-1, 1, 5 * 16 * 3).reshape(5, 4, 4, 3)
  pixels, labels = images.checked(floats, np.array([0, 2, 1, 0, 1]), "x")
  assert pixels.dtype == np.float32 and labels.dtype == np.int32
  np.testing.assert_allclose(pixels, floats, atol=1e-7)
  _, labels = images.checked(gray, np.array([3, 3, 3, 3, 0]), "x", 10)
  np.testing.assert_array_equal(labels, [3, 3, 3, 3, 0])


U8 = np.zeros((4, 2, 2, 1), np.uint8)
ODD = np.array([0, -1, np.nan, np.inf]).reshape(4, 1, 1)


@pytest.mark.parametrize(
  "pixels, labels, message",
  [
    (U8[0, 0], None, r"images: expected \[N, H, W\], .*shape \[2, 1\]"),
    (np.zeros((4, 3, 8, 8), np.uint8), None, r"got shape \[4, 3, 8, 8\]"),
    (U8[:0], None, "images: expected at least one, got none"),
    (U8.astype(np.int32), None, "images: expected uint8, or floats .* int32"),
    (U8.astype(bool), None, "images: expected uint8, or floats .* bool"),
    (U8 + np.float32(37), None, r"floats in \[-1, 1\], got 37 to 37; give"),
    (U8 + np.float32(np.nan), None, "images: expected finite values, got NaN"),
    (ODD, None, "images: expected finite values, got NaN"),
    (U8 - np.float16(np.inf), None, r"floats in \[-1, 1\], got -inf to -inf"),
    (U8 + np.float64(0.5), None, r"none below 0; scale \[0, 1\] by 2 x - 1"),
    (U8, np.zeros((4, 1), int), r"labels: expected \[4\].* shape \[4, 1\]"),
    (U8, np.zeros(3, int), r"labels: expected \[4\], one per image.*\[3\]"),
    (U8, np.zeros(4), "labels: expected integers 0, 1, ..., got float64"),
    (U8, np.array(list("abca")), "labels: expected integers"),
    (U8, np.array([0, -1, 1, 0]), "labels: expected 0 to 1, got -1 to 1"),
    (U8, np.array([0, 3, 1, 0]), "every class of 0 to 3, got no 2; numb"),
    (U8, np.array([1, 2, 1, 2]), "every class of 0 to 2, got no 0"),
    (U8, np.full(4, 2**40), f"every class of 0 to {2**40}, got no 0"),
  ],
)
def test_bad_images_are_one_line(pixels, labels, message):
  said = expect.error(message, images.checked, pixels, labels, "a.npz")
  assert said.startswith("a.npz: ")


def test_labels_beyond_the_known_classes_are_refused():
  said, labels = "labels: expected 0 to 9, got 0 to 10", np.array([0, 10, 1, 0])
  expect.error(said, images.checked, U8, labels, "x", 10)


def test_parts_are_of_the_classes_and_the_shape_of_train():
  train = np.zeros((4, 2, 3, 1), np.uint8), np.array([0, 2, 1, 2])
  of = lambda *part: images.checked_parts({"train": train, "test": part}, "x")
  sources, classes = of(train[0][:2], np.array([0, 2]))  # no 1: as few have
  assert classes == 3 and set(sources) == {"train", "validation", "test"}
  assert sources["test"].size == 2 and sources["train"].size == 3
  for part, message in (
    ((train[0], np.array([0, 3, 1, 2])), "labels: expected 0 to 2, got 0 to 3"),
    ((train[0][:, :, 1:], train[1]), r"images \[2, 3, 1\] .* got \[2, 2, 1\]"),
    ((np.zeros((4, 2, 3, 3), np.uint8), train[1]), r"got \[2, 3, 3\]"),
    ((train[0][:, :1], train[1]), r"got \[1, 3, 1\]"),
    ((train[0], None), "expected labels in all parts or none"),
  ):
    expect.error(f"^x: test: .*{message}", of, *part)
  train = train[0], None
  assert of(*train)[1] == 0
  said = "expected labels in all parts or none"
  expect.error(said, of, train[0], np.zeros(4, int))
