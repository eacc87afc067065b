"""Samples of text, as files of text."""

import pathlib

import numpy as np


def write(path: pathlib.Path, samples: np.ndarray) -> None:
  """Writes samples [N, T] of bytes, each below a line with its number."""
  found = [f"[{i}]\n{decode(sample)}\n" for i, sample in enumerate(samples)]
  path.write_text("\n".join(found), encoding="utf-8")


def decode(sample: np.ndarray) -> str:
  """Bytes [T] as text; what is no UTF-8 or is not printable becomes U+FFFD."""
  text = np.asarray(sample, np.uint8).tobytes().decode("utf-8", "replace")
  shown = lambda c: c if c.isprintable() or c in "\n\t" else "\ufffd"
  return "".join(map(shown, text))
