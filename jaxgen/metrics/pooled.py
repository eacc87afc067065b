"""Features of images without a classifier: statistics of the cells of a grid.

Images without labels have no classifier whose features could be compared. The
means show layout and color, the standard deviations contrast and sharpness; no
feature shows what is in the image.
"""

import numpy as np
from jaxtyping import Float, Num


def features(
  images: Num[np.ndarray, "N H W C"], cells: int = 4
) -> Float[np.ndarray, "N K"]:
  """Mean and standard deviation of each channel in each cell.

  Args:
    images: [N, H, W, C].
    cells: largest number of cells per side, at least 1; fewer pixels have a
      cell each.

  Returns:
    [N, K], float64; K = 2 C min(cells, H) min(cells, W): the means, then the
    standard deviations, by cell row, cell column and channel.

  Raises:
    ValueError: cells is below 1.
  """
  if cells < 1:
    raise ValueError(f"cells: expected at least 1, got {cells}")
  found = []
  for rows in _split(np.asarray(images, np.float64), 1, cells):
    for cell in _split(rows, 2, cells):
      found.append((cell.mean((1, 2)), cell.std((1, 2))))
  means, stds = zip(*found, strict=True)
  return np.concatenate([*means, *stds], 1)


def _split(images, axis, cells):
  """Parts of nearly equal size along an axis."""
  return np.array_split(images, min(cells, images.shape[axis]), axis)
