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


def test_every_image_is_a_test_image_of_one_fold():
  order = np.random.RandomState(0).permutation(1797)
  raw = datasets.load_digits().images[order]
  seen = []
  for fold in range(10):
    parts = [digits.load(s, fold)[0] for s in ("train", "validation", "test")]
    assert {len(part) for part in parts[1:]} <= {179, 180}
    assert sum(map(len, parts)) == 1797
    rows = np.concatenate(parts).reshape(-1, 64)
    assert sorted(map(bytes, rows)) == sorted(map(bytes, _values(raw)))
    np.testing.assert_array_equal(
      parts[1], digits.load("test", (fold + 1) % 10)[0]
    )
    seen.append(parts[2])
  whole = np.empty_like(raw, np.float32)
  for fold, images in enumerate(seen):
    whole[fold::10] = images[..., 0]
  np.testing.assert_array_equal(whole, _values(raw).reshape(raw.shape))


def _values(raw):
  return (raw.reshape(-1, 64) / 8 - 1).astype(np.float32)


def test_folds_in_black_and_white_and_a_wrong_fold():
  images, labels = digits.load_binary("test", 3)
  gray, same = digits.load("test", 3)
  np.testing.assert_array_equal(images, np.where(gray >= 0, 1, -1))
  np.testing.assert_array_equal(labels, same)
  with pytest.raises(ValueError, match="fold: expected 0 to 9, got 10"):
    digits.load("train", 10)


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
