"""Text: a corpus that Python ships, a split, windows of bytes or tokens.

  topics() or read(path)    the text, as bytes of UTF-8
  split(text)               train, validation and test, by blocks of the text
  batches(text, T, ...)     random windows [B, T] of it, for training
  windows(text, T)          windows that score each byte once, for evaluation

A model of windows of T bytes predicts a long text by windows that overlap: with
S = T / 2, the first half of a window is given and its second half is scored,

  log p(text) = log p(first T bytes) + sum_n log p(next S bytes | S before).

Every byte is scored once, with S to T - 1 bytes before it, except for the first
S bytes of the text, which have fewer. The same holds for the tokens of another
alphabet (byte_pairs.py), in place of bytes.
"""

import functools
import operator
import pathlib
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array, Bool, Integer

from jaxgen import keys

SPLITS = ("train", "validation", "test")
BLOCKS = 100


@functools.cache
def topics() -> bytes:
  """The help texts of Python itself (`pydoc_data.topics`), in English.

  Topics are sorted by name and joined, without paragraphs that have occurred
  before: a fifth of the text repeats others word by word, which would put parts
  of the training text into the test text. The text differs between versions of
  Python (about 370 kB for Python 3.11).
  """
  from pydoc_data import topics

  known = topics.topics
  parts = (part for name in sorted(known) for part in known[name].split("\n\n"))
  kept = dict.fromkeys(part.strip("\n") for part in parts)
  return ("\n\n".join(part for part in kept if part) + "\n").encode()


def read(path: str | pathlib.Path) -> bytes:
  """The bytes of a file of text.

  Raises:
    OSError: the file cannot be opened.
    ValueError: the file is empty or is not UTF-8.
  """
  text = pathlib.Path(path).read_bytes()
  if not text:
    raise ValueError(f"{path}: expected text, got an empty file")
  try:
    text.decode()
  except UnicodeDecodeError as error:
    raise ValueError(
      f"{path}: expected text in UTF-8, got byte {text[error.start]:#04x} at"
      f" position {error.start}"
    ) from None
  return text


def split(text: bytes) -> dict[str, bytes]:
  """Train, validation and test: 80, 10 and 10 of 100 equal blocks.

  Block i is the bytes from i N // 100 to (i + 1) N // 100 - 1. Blocks with
  i % 10 = 4 are joined for validation, those with i % 10 = 9 for test, the
  others for training. A block may begin within a word.

  Raises:
    ValueError: the text has fewer bytes than blocks.
  """
  if len(text) < BLOCKS:
    raise ValueError(f"text: expected at least {BLOCKS} bytes, got {len(text)}")
  edges = [i * len(text) // BLOCKS for i in range(BLOCKS + 1)]
  parts: dict[str, list[bytes]] = {name: [] for name in SPLITS}
  for i in range(BLOCKS):
    name = {4: "validation", 9: "test"}.get(i % 10, "train")
    parts[name].append(text[edges[i] : edges[i + 1]])
  return {name: b"".join(blocks) for name, blocks in parts.items()}


def batches(
  text: bytes | Integer[np.ndarray, "N"],
  length: int,
  key: Array,
  batch_size: int,
) -> Callable[[int], Integer[np.ndarray, "B T"]]:
  """The function step -> windows that begin at random bytes of the text.

  Args:
    text: N bytes, or tokens [N].
    length: T.
    key: a typed key.
    batch_size: B, at least 1.

  Returns:
    A function of a step (0, 1, ...) to windows [B, T], on the host. It is pure:
    the windows depend on (key, step) alone. Starts are uniform and independent.

  Raises:
    ValueError: as in `windows` for text and length; batch_size is below 1, or
      key is a legacy key; the returned function raises for a negative step.
  """
  keys.require_typed(key)
  if batch_size < 1:
    raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
  every = _every_window(text, length)
  seed = np.asarray(jax.random.key_data(key)).tolist()

  def batch_fn(step):
    step = operator.index(step)
    if step < 0:
      raise ValueError(f"step: expected at least 0, got {step}")
    # Raw bits: NumPy keeps these streams fixed between its versions.
    bits = np.random.Philox(np.random.SeedSequence([*seed, step]))
    return every[bits.random_raw(batch_size) % len(every)]

  return batch_fn


def windows(
  text: bytes | Integer[np.ndarray, "N"], length: int
) -> tuple[Integer[np.ndarray, "M T"], Bool[np.ndarray, "M T"]]:
  """Windows of the whole text, and which of their bytes are given.

  The first window scores all its bytes. Window n >= 1 begins at n S, S = T / 2,
  and scores its second half; the last one begins at N - T and scores what is
  left. Given bytes come before those that are scored.

  Args:
    text: N bytes, or tokens [N].
    length: T, even.

  Returns:
    Windows [M, T], uint8 for bytes, and flags [M, T], True for given bytes and
    False for scored.

  Raises:
    ValueError: length is odd or below 2, or the text is shorter than a window.
  """
  every, stride = _every_window(text, length), length // 2
  start = np.arange(0, len(text) - stride, stride)
  first = np.where(start > 0, start + stride, 0)  # the first byte scored
  start = np.minimum(start, len(text) - length)
  return every[start], start[:, None] + np.arange(length) < first[:, None]


def _every_window(text, length):
  """A view of all windows, [N - T + 1, T]."""
  if length < 2 or length % 2:
    raise ValueError(f"length: expected an even number, got {length}")
  found = np.frombuffer(text, np.uint8) if isinstance(text, bytes) else text
  if len(text) < length:
    unit = "bytes" if found.dtype == np.uint8 else "tokens"
    raise ValueError(
      f"text: expected at least {length} {unit} in each part, got {len(text)}"
    )
  return np.lib.stride_tricks.sliding_window_view(found, length)
