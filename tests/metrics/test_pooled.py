import numpy as np
import pytest

from jaxgen.metrics import pooled
from tests import expect

X = np.random.RandomState(0).normal(size=(3, 8, 12, 2))


def test_features_are_means_and_deviations_of_blocks():
  found = pooled.features(X.astype(np.float32))
  blocks = X.reshape(3, 4, 2, 4, 3, 2)
  stats = blocks.mean((2, 4)), blocks.std((2, 4))
  expected = np.concatenate([s.reshape(3, -1) for s in stats], 1)
  np.testing.assert_allclose(found, expected, atol=1e-6)
  assert found.dtype == np.float64


@pytest.mark.parametrize(
  "shape, cells, size",
  [
    ((2, 13, 7, 3), 4, 2 * 3 * 16),
    ((2, 3, 5, 1), 4, 2 * 3 * 4),
    ((2, 1, 1, 1), 1, 2),
  ],
)
def test_any_size_has_features(shape, cells, size):
  images = np.full(shape, 0.25, np.float32)
  found = pooled.features(images, cells)
  assert found.shape == (2, size)
  np.testing.assert_allclose(found[:, : size // 2], 0.25)
  np.testing.assert_allclose(found[:, size // 2 :], 0, atol=1e-7)


def test_a_grid_has_a_cell():
  expect.error("cells: expected at least 1, got 0", pooled.features, X, 0)
