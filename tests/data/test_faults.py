import tokenize

import pytest

from jaxgen.data import faults

KNOWN = ("images", "labels", "train_images", "validation_images")


@pytest.mark.parametrize(
  "name, expected",
  [
    ("label", "labels"),
    ("lables", "labels"),
    ("Images", "images"),
    ("val_images", "validation_images"),
    ("trainimages", "train_images"),
    ("y", None),
    ("arr_0", None),
    ("laxyz", "labels"),  # two letters in front are enough
    ("lxxxx", None),
    ("xges", "images"),  # a ratio of .6 is enough
    ("xxges", None),
  ],
)
def test_the_nearest_name_is_the_one_that_was_meant(name, expected):
  assert faults.nearest(name, KNOWN) == expected


def test_long_lists_are_cut():
  assert faults.listed([]) == "nothing"
  assert faults.listed(list("abcdef")) == "a, b, c, d, e, f"
  assert faults.listed(list("abcdefg")) == "a, b, c, d, e and 2 more"
  assert faults.listed(list("abcd"), shown=2) == "a, b and 2 more"


@pytest.mark.parametrize(
  "error, expected",
  [
    (ValueError("one\ntwo"), "one"),
    (tokenize.TokenError("torn", (2, 0)), "torn"),  # str() is a tuple's repr
    (FileNotFoundError(2, "No such file"), "[Errno 2] No such file"),
    (MemoryError(), "MemoryError"),
    (ValueError("\n"), "ValueError"),
    (ValueError("x" * 500), "x" * 397 + "..."),
  ],
)
def test_a_cause_is_one_short_line(error, expected):
  assert faults.cause(error) == expected
