import numpy as np
import pytest
from scipy.spatial import distance

from jaxgen.metrics import pairs

CLOUDS = {
  "normal": lambda x: x,
  "far": lambda x: 1e6 + x,
  "tiny": lambda x: 1e-30 * x,
  "huge": lambda x: 1e200 * x,
  "outliers": lambda x: x**15,
}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_products_are_as_exact_as_they_say(cloud, monkeypatch):
  """Of points in float64: in float32 first, in float64 where that is asked."""
  monkeypatch.setattr(pairs, "_BLOCK", 8 * 20 * 7)  # 7 rows a block
  x, y = np.random.default_rng(0).normal(size=(2, 20, 30))
  x, y, seen = CLOUDS[cloud](x), CLOUDS[cloud](y), 0
  for block in pairs.blocks(x, y):
    scaled = block.scale * x[block.rows], block.scale * y
    exact = distance.cdist(*scaled, "sqeuclidean")
    for found, dtype in ((block, "float32"), (block.finer(), "float64")):
      assert found.products.dtype == dtype and found.rows == block.rows
      assert found.finer is None or found is block
      products, (rows, columns) = np.float64(found.products), found.squares
      apart = products + np.float64(rows)[:, None] + columns
      error = found.error(np.float64(rows))[:, None] + found.error(columns)
      assert np.all(np.abs(apart - exact) <= error)
      if dtype == "float64":  # a bound worth having
        assert error.max() < 1e-12
    seen += len(rows)
  assert seen == len(x)


def test_blocks_are_small_beside_a_few_points(monkeypatch):
  """Their rows too are held, at most _TILE bytes."""
  monkeypatch.setattr(pairs, "_TILE", 8 * 30 * 5)
  x, y = np.ones((12, 30)), np.ones((1, 30))
  assert [len(b.products) for b in pairs.blocks(x, y)] == [5, 5, 2]


def test_a_block_in_float32_has_nothing_finer():
  (block,) = pairs.blocks(np.ones((3, 2), "float32"), np.ones((4, 2), "int8"))
  assert block.products.dtype == "float32" and block.finer is None


@pytest.mark.parametrize("many", [False, True])
def test_many_open_pairs_are_compared_again(many):
  """With products in float64: 3 of 64 pairs are many, 2 are not."""
  points = np.random.default_rng(1).normal(size=(8, 2))
  (block,) = pairs.blocks(points, points)
  asked = []

  def compare(block):
    asked.append(block.products.dtype.name)
    rest = np.zeros(block.products.shape, bool)
    rest.flat[[5, 17, 63] if many and len(asked) == 1 else [5, 17]] = True
    return len(asked), rest

  found, i, j = pairs.decided(block, compare)
  assert asked == (["float32", "float64"] if many else ["float32"])
  assert found == len(asked)
  assert i.tolist() == [0, 2] and j.tolist() == [5, 1]


def test_distances_of_pairs(monkeypatch):
  monkeypatch.setattr(pairs, "_TILE", 8 * 3 * 2)  # three pairs at a time
  x, y = np.random.default_rng(2).normal(size=(2, 5, 3)).astype("float32")
  i, j = np.array([0, 4, 2, 2, 1, 0, 3]), np.array([1, 1, 0, 2, 4, 3, 3])
  found = pairs.distances(x, y, i, j)
  expected = distance.cdist(np.float64(x), np.float64(y))[i, j]
  np.testing.assert_allclose(found, expected, rtol=1e-14)
  assert found.dtype == "float64" and found.shape == (7,)
