"""Scikit-learn's real handwritten digits: 1797 images, 8 x 8, 17 gray levels.

The split is fixed, p = RandomState(0).permutation(1797): train p[:1257],
validation p[1257:1437], test p[1437:]. Select on validation, report test once.

For paired comparisons of models there are ten folds of the same permutation:
every image is a test image of one fold. Fold k tests on p[k::10], validates on
p[k + 1 mod 10::10] and trains on the other eight tenths.

Reference: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits,
UCI Machine Learning Repository.
"""

import importlib.util
import pathlib

import numpy as np
from jaxtyping import Float32, Int32

SPLITS = ("train", "validation", "test")
FOLDS = 10


def load(
  split: str, fold: int | None = None
) -> tuple[Float32[np.ndarray, "N 8 8 1"], Int32[np.ndarray, "N"]]:
  """The images and labels of one part of the split.

    image = level / 8 - 1,   level in 0, 1, ..., 16

  Args:
    split: 'train' (1257 images), 'validation' (180) or 'test' (360).
    fold: 0 to 9, for one of the ten folds (about 1438, 180 and 180 images);
      None is the fixed split.

  Returns:
    Images [N, 8, 8, 1] in [-1, 1] and labels [N] in 0, ..., 9, on the host.

  Raises:
    ValueError: split is not one of the three names, or fold not 0 to 9.
    ImportError: scikit-learn is not installed.
  """
  if fold is not None and not 0 <= fold < FOLDS:
    raise ValueError(f"fold: expected 0 to {FOLDS - 1}, got {fold}")
  levels, labels = _all()
  order = np.random.RandomState(0).permutation(len(levels))
  place = np.arange(len(order))
  if fold is None:
    part = np.digitize(place, (1257, 1437))  # 0, 1, 2
  else:
    part = np.choose((place - fold) % FOLDS, (2, 1, *(FOLDS - 2) * (0,)))
  if split not in SPLITS:
    known = ", ".join(SPLITS)
    raise ValueError(f"split: expected one of {known}, got {split!r}")
  order = order[part == SPLITS.index(split)]
  images = levels[order].reshape(-1, 8, 8, 1) / 8 - 1
  return images.astype(np.float32), labels[order].astype(np.int32)


def load_binary(
  split: str, fold: int | None = None
) -> tuple[Float32[np.ndarray, "N 8 8 1"], Int32[np.ndarray, "N"]]:
  """The images in black and white, -1 or 1: 1 where the level is 8 or more.

  Arguments, labels and errors are those of `load`.
  """
  images, labels = load(split, fold)
  return np.where(images >= 0, 1, -1).astype(np.float32), labels


def _all():
  """Levels [1797, 64] and labels [1797].

  From scikit-learn's own file: importing scikit-learn for it would take most of
  the time until a script's first step.
  """
  spec = importlib.util.find_spec("sklearn")
  if spec is None:
    raise ImportError(
      "digits needs scikit-learn: pip install 'jaxgen[data]'"
    ) from None
  (folder,) = spec.submodule_search_locations
  path = pathlib.Path(folder) / "datasets" / "data" / "digits.csv.gz"
  if path.exists():
    table = np.loadtxt(path, delimiter=",", dtype=np.float64)
    return table[:, :-1], table[:, -1]
  from sklearn import datasets  # a version that stores it elsewhere

  return datasets.load_digits(return_X_y=True)
