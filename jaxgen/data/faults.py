"""One-line messages for errors about files."""

import difflib
import itertools
from collections.abc import Sequence


def cause(error: BaseException) -> str:
  """The first line of another library's message, at most 400 characters."""
  first = error.args[0] if error.args else ""
  said = first if isinstance(first, str) else str(error)
  line = next(iter(said.strip().splitlines()), "") or type(error).__name__
  return line if len(line) <= 400 else f"{line[:397]}..."


def listed(names: Sequence[str], shown: int = 5) -> str:
  """The first names and the number of the others, or 'nothing'."""
  if len(names) <= shown + 1:
    return ", ".join(names) or "nothing"
  return f"{', '.join(names[:shown])} and {len(names) - shown} more"


def nearest(name: str, known: Sequence[str]) -> str | None:
  """The known name that was probably meant, or None if none is similar.

  The longest common prefix decides, then difflib's ratio: val_images is nearer
  to validation_images than to images.
  """

  def likeness(other):
    pairs = zip(name.lower(), other, strict=False)
    shared = [*itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)]
    ratio = difflib.SequenceMatcher(None, name.lower(), other).ratio()
    return len(shared), ratio

  found = max(known, key=likeness)
  shared, ratio = likeness(found)
  return found if shared >= 2 or ratio >= 0.6 else None
