"""The n-gram beside a recursion over dictionaries; code lengths."""

import collections
import zlib

import numpy as np
import pytest

from benchmarks import text

TRAIN = b"abracadabra, abracadabra! a barbarian bar"
TEST = b"a cadaverous zebra"


def recursion(body, context, byte, discount, order):
  """P of a byte after a context [order], from the counts of one context."""
  if order < 0:
    return 1 / 256
  padded = bytes(order) + body
  places = range(order, len(padded))
  here = context[len(context) - order :]
  after = collections.Counter(
    padded[i] for i in places if padded[i - order : i] == here
  )
  lower = recursion(body, context, byte, discount, order - 1)
  if not after:
    return lower
  mixed = max(after[byte] - discount, 0) + discount * len(after) * lower
  return mixed / after.total()


@pytest.mark.parametrize("order", [0, 3])
def test_the_ngram_is_the_recursion(order):
  counts = text.fit(TRAIN, order)
  found = text.probabilities(counts, text.codes(TEST, order), 0.7)
  padded = bytes(order) + TEST
  expected = [
    recursion(TRAIN, padded[i : i + order], byte, 0.7, order)
    for i, byte in enumerate(TEST)
  ]
  np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("discount", [0.05, 0.7, 1.0])
def test_probabilities_of_the_next_byte_sum_to_one(discount):
  counts = text.fit(TRAIN, text.ORDER)
  contexts = text.codes(TRAIN[:9] + TEST + b"\xff", text.ORDER) << np.uint64(8)
  contexts &= np.uint64(256 ** (text.ORDER + 1) - 1)
  every = contexts[:, None] + np.arange(256, dtype=np.uint64)
  p = text.probabilities(counts, every.ravel(), discount).reshape(-1, 256)
  assert p.min() > 0
  np.testing.assert_allclose(p.sum(1), 1, rtol=1e-12)


def test_rows_of_compressors_and_of_the_ngram():
  parts = dict(train=TRAIN * 20, validation=TEST * 8, test=TRAIN * 4)
  rows = text.classical(parts)
  added = lambda part: (
    len(zlib.compress(TRAIN * 20 + part, 9)) - len(zlib.compress(TRAIN * 20, 9))
  )
  gzip = rows["gzip -9"]
  assert gzip["validation"] == 8 * added(TEST * 8) / len(TEST * 8)
  assert gzip["test"] == 8 * added(TRAIN * 4) / len(TRAIN * 4)
  assert rows["xz -9e"]["test"] < rows["xz -9e"]["validation"]
  ngram = rows["n-gram of order 5"]
  assert ngram["test"] < 0.5 and ngram["validation"] > 3
