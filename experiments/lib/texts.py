"""Text by name, as the dataset of windows of tokens.

Tokens are bytes, or pieces of a vocabulary fitted to the training part. Of V
tokens, an example is a window [T] of integers: a token, or a token + V if it is
only context, whose probability is not asked for. Windows for training have no
given tokens; those of the splits score every token of a split once.
"""

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from experiments.lib import checks, datasets
from jaxgen.data import byte_pairs, text


class Corpus(NamedTuple):
  """A text, for models of its tokens.

  Attributes:
    data: the dataset of its windows.
    num_tokens: V, the number of different tokens.
    num_bytes: windows [N, T] -> the number of bytes of all tokens that are not
      given.
    record: numbers of bytes and tokens, and checksums.
    checksums: of the text and the vocabulary.
  """

  data: datasets.Data
  num_tokens: int
  num_bytes: Callable[[np.ndarray], int]
  record: dict[str, Any]
  checksums: dict[str, str]


def read(config: Any) -> bytes:
  """The text of the setting data: docs, or text:PATH.

  Raises:
    ValueError, OSError: no such text, or it is not readable.
  """
  match config.data.split(":", 1):
    case ["docs"]:
      return text.topics()
    case ["text", path] if path:
      with checks.naming(config, "data"):
        return text.read(path)
  raise ValueError(f"data: expected docs or text:PATH, got {config.data!r}")


def load(config: Any) -> Corpus:
  """The text of the settings data, length and vocabulary.

  Raises:
    ValueError, OSError: as in `read`, the text is too short for the length, the
      length is odd, or there is no such vocabulary.
  """
  body = read(config)
  with checks.naming(config, "data", text="data, length", number="vocabulary"):
    parts = text.split(body)
    if config.vocabulary:
      found = byte_pairs.fit(parts["train"], config.vocabulary)
    else:
      found = _bytes()
    tokens = {name: found.encode(part) for name, part in parts.items()}
    data = _windows(config.length, tokens, len(found.pieces))
  record = describe(body)
  checksums = {"data": record["sha256"]}
  if config.vocabulary:
    sizes = {f"{name}_tokens": len(part) for name, part in tokens.items()}
    record |= dict(vocabulary=len(found.pieces), **sizes)
    record["vocabulary_sha256"] = checksums["vocabulary"] = found.digest
  lengths = np.array([len(piece) for piece in found.pieces] * 2)
  lengths[len(found.pieces) :] = 0
  return Corpus(
    data._replace(to_bytes=found.decode),
    len(found.pieces),
    lambda windows: int(lengths[windows].sum()),
    record,
    checksums,
  )


def _windows(length, tokens, num_tokens):
  """The dataset of windows of the tokens of each part."""

  def batches(key, number):
    batch_fn = text.batches(tokens["train"], length, key, number)
    return lambda step: (batch_fn(step).astype(np.int32), None)

  def split(name):
    found, given = text.windows(tokens[name], length)
    return found.astype(np.int32) + num_tokens * given.astype(np.int32), None

  std = float(np.std(tokens["train"]))
  return datasets.without_labels(std, batches, split)


def _bytes():
  """Bytes as tokens."""
  return byte_pairs.Vocabulary(
    tuple(bytes([i]) for i in range(byte_pairs.NUM_BYTES)),
    lambda text: np.frombuffer(text, np.uint8),
    lambda tokens: np.asarray(tokens, np.uint8).tobytes(),
    "",
  )


def describe(body: bytes) -> dict[str, Any]:
  """Numbers of bytes of the text and its parts, and its SHA-256."""
  sizes = {name: len(part) for name, part in text.split(body).items()}
  digest = hashlib.sha256(body).hexdigest()
  return dict(bytes=len(body), **sizes, sha256=digest)
