"""Byte-pair encoding: a vocabulary of frequent pieces of a text.

The vocabulary starts with the 256 bytes. As long as it has fewer than N pieces,
the pair of neighbouring pieces that is most frequent in the text becomes one
more piece. Pieces lie within words: a space and the letters, digits or signs
behind it, or white space. A text is encoded by the merges in their order, so
that it has one encoding among many that give the same bytes:

  decode(encode(text)) = text,   P(text) >= P(encode(text))

A model of tokens therefore gives a lower bound on the log-probability of the
bytes. Every text of bytes can be encoded, UTF-8 or not.

Reference: Sennrich et al. 2016, arXiv:1508.07909; Radford et al. 2019 (GPT-2,
bytes as the alphabet).
"""

import hashlib
import json
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

NUM_BYTES = 256
# The characters \x80 to \xff themselves: the library's expressions take escapes
# of them for bytes of UTF-8.
WORDS = " ?[A-Za-z\x80-\xff]+| ?[0-9]+| ?[^\\sA-Za-z0-9\x80-\xff]+|\\s+"


class Vocabulary(NamedTuple):
  """Pieces of text, and the encoding by them.

  Attributes:
    pieces: the bytes of each token; tokens 0 to 255 are the bytes.
    encode: text -> tokens [N], int32.
    decode: tokens [N] -> text.
    digest: SHA-256 of the merges, which determine the encoding.
  """

  pieces: tuple[bytes, ...]
  encode: Callable[[bytes], Int[np.ndarray, "N"]]
  decode: Callable[[Int[np.ndarray, "N"]], bytes]
  digest: str


def fit(text: bytes, number: int) -> Vocabulary:
  """The vocabulary of a text, a function of the text and the number alone.

  Args:
    text: the text that the merges are learned from.
    number: most pieces of the vocabulary, above 256; a text in which no pair is
      left to merge has fewer.

  Raises:
    ValueError: number is at most 256, or the package tokenizers is missing.
  """
  if number <= NUM_BYTES:
    raise ValueError(f"number: expected above {NUM_BYTES} pieces, got {number}")
  tokenizers = _tokenizers()
  # A byte is the character of the same number, which is Latin-1: the library
  # takes text, and the parts of a split may begin within a character of UTF-8.
  model = tokenizers.Tokenizer(tokenizers.models.BPE())
  model.pre_tokenizer = tokenizers.pre_tokenizers.Split(
    tokenizers.Regex(WORDS), "isolated"
  )
  trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=number,
    initial_alphabet=[chr(i) for i in range(NUM_BYTES)],
    show_progress=False,
  )
  model.train_from_iterator([text.decode("latin-1")], trainer)
  known = sorted(model.get_vocab().items(), key=lambda item: item[1])
  pieces = tuple(piece.encode("latin-1") for piece, _ in known)
  merges = json.loads(model.to_str())["model"]["merges"]

  def encode(text):
    return np.array(model.encode(text.decode("latin-1")).ids, np.int32)

  def decode(tokens):
    return b"".join(pieces[token] for token in np.asarray(tokens).tolist())

  digest = hashlib.sha256(json.dumps(merges).encode()).hexdigest()
  return Vocabulary(pieces, encode, decode, digest)


def _tokenizers():
  try:
    import tokenizers
    import tokenizers.models
    import tokenizers.pre_tokenizers
    import tokenizers.trainers
  except ImportError:
    raise ValueError(
      "number: expected the package tokenizers, which byte-pair encoding needs"
      " (pip install tokenizers)"
    ) from None
  return tokenizers
