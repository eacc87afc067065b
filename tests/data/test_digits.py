import sys

import numpy as np
import pytest
from sklearn import datasets

from jaxgen.data import digits


def test_the_split_is_a_partition_of_the_levels_in_order():
  parts = [digits.load(split) for split in ("train", "validation", "test")]
  assert [len(images) for images, _ in parts] == [1257, 180, 360]
  images, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
  assert images.dtype == np.float32 and labels.dtype == np.int32
  assert images.shape == (1797, 8, 8, 1)
  raw = datasets.load_digits()
  order = np.random.RandomState(0).permutation(1797)
  np.testing.assert_array_equal((images[..., 0] + 1) * 8, raw.images[order])
  np.testing.assert_array_equal(labels, raw.target[order])
  assert images.min() == -1 and images.max() == 1


def test_overlap_of_the_binarised_test_rows():
  """15 of 360 binarised test images also occur in train: the split's mark."""
  binary = lambda split: [x.tobytes() for x in digits.load(split)[0] >= 0]
  train = set(binary("train"))
  assert sum(row in train for row in binary("test")) == 15


def test_a_wrong_split_lists_the_choices():
  with pytest.raises(ValueError, match="train, validation, test, got 'valid'"):
    digits.load("valid")


def test_without_scikit_learn_one_line_says_what_to_do(monkeypatch):
  monkeypatch.setitem(sys.modules, "sklearn", None)
  said = r"pip install 'jaxgen\[data\]'"
  with pytest.raises(ImportError, match=said) as error:
    digits.load("train")
  assert "\n" not in str(error.value)
  assert error.value.__suppress_context__
