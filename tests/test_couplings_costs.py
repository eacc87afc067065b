"""Costs of pairs and outliers, against SciPy and differences."""

import numpy as np
import pytest
from scipy import optimize

from jaxgen import couplings
from tests.test_couplings import clouds, squared


def test_costs_are_squared_distances():
  for name in ("images", "far", "plane"):
    x, y = clouds(name, 7)
    np.testing.assert_allclose(couplings.costs(x, y), squared(x, y), rtol=1e-9)
  # Also where the points are near or equal, for their distance from zero and
  # from an outlier.
  for offset, outlier in ((0, 0), (1e4, 0), (0, 1e9)):
    x = np.float32(clouds("plane", 9)[0] + offset)
    x[4] += outlier
    y = x * np.float32(1 + 1e-6 * (np.arange(9) % 3))[:, None]
    found = couplings.costs(x, y)
    assert found.shape == (9, 9) and found.dtype == np.float64
    np.testing.assert_allclose(found, squared(x, y), rtol=1e-8)
    np.testing.assert_array_equal(np.diag(found)[::3], 0)


@pytest.mark.parametrize("size", [1e9, 1e10, -1e12])
@pytest.mark.parametrize("sides", [(0,), (1,), (0, 1)])
def test_an_outlier_costs_the_others_nothing(size, sides):
  """All but its own pair are those of SciPy on direct differences."""
  pair = clouds("plane")
  for side in sides:
    pair[side][7 + side] = size
  x, y = pair
  order = couplings.exact(x, y)
  best = optimize.linear_sum_assignment(squared(x, y))[1]
  lengths = [np.sort(((x - y[o]) ** 2).sum(1)) for o in (order, best)]
  found, truth = (np.sum(a[: -len(sides)]) for a in lengths)
  np.testing.assert_allclose(found, truth, rtol=1e-9)
