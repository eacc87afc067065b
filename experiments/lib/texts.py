"""Text by name, as the dataset of windows of bytes.

An example is a window [T] of integers: a byte, or a byte + GIVEN if it is only
context, whose probability is not asked for. Windows for training have no given
bytes; those of the splits score every byte of a split once.
"""

import hashlib
from typing import Any

import numpy as np

from experiments.lib import checks, datasets
from jaxgen.data import text

GIVEN = 256  # also the number of bytes, and the mask token of a masked model


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


def load(config: Any, body: bytes) -> datasets.Data:
  """The dataset of windows of `length` bytes of a text.

  Raises:
    ValueError: the text is too short for the length, or that is odd.
  """

  def batches(key, number):
    batch_fn = text.batches(parts["train"], config.length, key, number)
    return lambda step: (batch_fn(step).astype(np.int32), None)

  def split(name):
    found, given = text.windows(parts[name], config.length)
    return found.astype(np.int32) + GIVEN * given.astype(np.int32), None

  with checks.naming(config, "data", text="data, length"):
    parts = text.split(body)
    std = float(np.frombuffer(parts["train"], np.uint8).std())
    found = datasets.without_labels(std, batches, split)
  return found._replace(is_text=True)


def num_scored(examples: np.ndarray) -> int:
  """The number of bytes of all windows [N, T] that are not given."""
  return int((examples < GIVEN).sum())


def describe(body: bytes) -> dict[str, Any]:
  """Numbers of bytes of the text and its parts, and its SHA-256."""
  sizes = {name: len(part) for name, part in text.split(body).items()}
  digest = hashlib.sha256(body).hexdigest()
  return dict(bytes=len(body), **sizes, sha256=digest)
