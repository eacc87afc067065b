"""Byte-pair encoding beside merges by direct counts in Python."""

import collections
import itertools
import re
import sys

import numpy as np

from jaxgen.data import byte_pairs
from tests import expect

TEXT = "low lower lowest low, newer newest wide wider widest 2024 déjà\n" * 3
TEXT = (TEXT + "  low_low lowly").encode()


def words(text):
  return re.findall(byte_pairs.WORDS, text.decode("latin-1"))


def merged(word, pair):
  """A word, tuple of pieces, with each occurrence of the pair joined."""
  found = []
  for piece in word:
    if found and (found[-1], piece) == pair:
      found[-1] += piece
    else:
      found.append(piece)
  return tuple(found)


def test_each_piece_is_a_most_frequent_pair_of_its_time():
  """Ties may be broken in any order, so the library's choice is followed."""
  found = byte_pairs.fit(TEXT, 280)
  assert found.pieces[:256] == tuple(bytes([i]) for i in range(256))
  assert len(found.pieces) == 280 == len({*found.pieces})
  counts = collections.Counter(tuple(word) for word in words(TEXT))
  for piece in (p.decode("latin-1") for p in found.pieces[256:]):
    pairs = collections.Counter()
    for word, number in counts.items():
      for pair in itertools.pairwise(word):
        pairs[pair] += number
    best = [p for p, n in pairs.items() if n == max(pairs.values())]
    (pair,) = [p for p in best if "".join(p) == piece]
    joined = collections.Counter()
    for word, number in counts.items():
      joined[merged(word, pair)] += number
    counts = joined
  encoded = found.encode(TEXT)
  assert len(encoded) == sum(len(w) * n for w, n in counts.items())


def test_decoding_inverts_encoding_of_all_bytes():
  found = byte_pairs.fit(TEXT, 300)
  rng = np.random.RandomState(0)
  for text in (TEXT, b"", bytes(range(256)), rng.bytes(999), TEXT[5:-3]):
    tokens = found.encode(text)
    assert tokens.dtype == np.int32 and found.decode(tokens) == text
    assert b"".join(found.pieces[token] for token in tokens) == text
  assert len(found.encode(TEXT)) < len(TEXT) / 2


def test_the_vocabulary_is_a_function_of_the_text():
  first, again = (byte_pairs.fit(TEXT, 280) for _ in range(2))
  assert first.pieces == again.pieces and first.digest == again.digest
  assert byte_pairs.fit(TEXT, 281).digest != first.digest
  other = byte_pairs.fit(TEXT.replace(b"low", b"high"), 280)
  assert other.digest != first.digest
  few = byte_pairs.fit(b"ab ab", 1000)
  assert few.pieces[256:] == (b"ab", b" ab")


def test_what_is_wrong_is_said_in_one_line(monkeypatch):
  said = "number: expected above 256 pieces, got 256"
  expect.error(said, byte_pairs.fit, TEXT, 256)
  monkeypatch.setitem(sys.modules, "tokenizers", None)
  said = (
    r"^number: expected the package tokenizers, .*\(pip install tokenizers\)"
  )
  expect.error(said, byte_pairs.fit, TEXT, 300)
