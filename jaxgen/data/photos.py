"""Crops of scikit-learn's two photographs, a temple and a flower, in color.

The embedded stand-in for 32 x 32 natural images. Each photograph, 427 x 640,
is cut into vertical bands; the crops of a split lie inside its own bands, so no
pixel is in two splits. Crops of at most 80 x 80 use eight bands of 80 columns,

  train test train validation train test train train

larger ones, up to 213 x 213, three bands of 213: train, validation, test. Where
two bands of one split touch, a crop may span both. A crop's corner is any pixel
at which it fits: RandomState(label).permutation of these, row by row, picks
2048 of each photograph for train, 90 for validation and 180 for test, or all of
them if there are fewer.
"""

import numpy as np
from jaxtyping import Int32, UInt8


def load(
  split: str, size: int = 32
) -> tuple[UInt8[np.ndarray, "N S S 3"], Int32[np.ndarray, "N"]]:
  """The crops and labels of one part of the split.

  Args:
    split: 'train' (4096 crops), 'validation' (180) or 'test' (360).
    size: S, side length of a crop in pixels, 1 to 213.

  Returns:
    Crops [N, S, S, 3], levels 0, ..., 255, and labels [N], 0 for the temple and
    1 for the flower; on the host.

  Raises:
    ValueError: split is not one of the three names, or size is out of range.
    ImportError: scikit-learn or Pillow is not installed.
  """
  places = [corners(split, size, label) for label in (0, 1)]
  crops = [
    np.lib.stride_tricks.sliding_window_view(photo, (size, size, 3))[
      top, left, 0
    ]
    for photo, (top, left) in zip(_photos(), (p.T for p in places), strict=True)
  ]
  labels = np.repeat(np.arange(2, dtype=np.int32), [len(p) for p in places])
  return np.concatenate(crops), labels


def corners(split: str, size: int, label: int) -> Int32[np.ndarray, "M 2"]:
  """The upper left pixel (row, column) of each crop of one photograph.

  Raises:
    ValueError: as in `load`.
  """
  numbers = {"train": 2048, "validation": 90, "test": 180}
  if split not in numbers:
    raise ValueError(
      f"split: expected one of {', '.join(numbers)}, got {split!r}"
    )
  if not 1 <= size <= 213:
    raise ValueError(f"size: expected 1 to 213 pixels, got {size}")
  width, names = 80, "train test train validation train test train train"
  if size > width:
    width, names = 213, "train validation test"
  owners = np.repeat(names.split(), width)  # the split of each column
  within = np.lib.stride_tricks.sliding_window_view(owners == split, size)
  fitting = np.flatnonzero(within.all(1))
  rows = 427 - size + 1
  places = np.random.RandomState(label).permutation(rows * len(fitting))
  top, left = np.divmod(places[: numbers[split]], len(fitting))
  return np.stack([top, fitting[left]], 1).astype(np.int32)


def _photos():
  """The temple and the flower, [427, 640, 3]."""
  try:
    from sklearn import datasets

    return datasets.load_sample_images().images
  except ImportError:
    raise ImportError(
      "photos needs scikit-learn and Pillow: pip install 'jaxgen[data]'"
    ) from None
