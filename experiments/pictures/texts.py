"""Samples of text, as files of text."""

import pathlib
from collections.abc import Callable

import numpy as np


def write(path: pathlib.Path, samples: np.ndarray, to_bytes: Callable) -> None:
  """Writes samples [N, T] of tokens, each below a line with its number.

  Args:
    path: the file.
    samples: the tokens.
    to_bytes: tokens [T] -> bytes.
  """
  shown = map(decode, map(to_bytes, samples))
  found = [f"[{i}]\n{sample}\n" for i, sample in enumerate(shown)]
  path.write_text("\n".join(found), encoding="utf-8")


def decode(sample: bytes) -> str:
  """Bytes as text; what is no UTF-8 or is not printable becomes U+FFFD."""
  text = sample.decode("utf-8", "replace")
  shown = lambda c: c if c.isprintable() or c in "\n\t" else "\ufffd"
  return "".join(map(shown, text))
