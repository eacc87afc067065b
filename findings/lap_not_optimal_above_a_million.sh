#!/usr/bin/env bash
# lap.lapjv finds the optimal assignment of points in kilometres and not of the
# same points in metres.
#
# Packages: lap 0.5.13, scipy 1.17.1 (for the truth), numpy 2.4.6; float64.
#
# The guess, written before running: lapjv is exact for finite costs of any
# size. All costs times a million give the same pairs and a million times the
# total, as with SciPy's linear_sum_assignment.
#
# What happens: 256 pairs of points in a square of 20 by 20 km, by squared
# distance, are optimal in kilometres. In metres 19 of 20 draws are not, and one
# costs 32 % more than the optimum. The result is a permutation and nothing is
# said. Where the dense solver looks for the lowest costs of rows and columns it
# starts from 1,000,000, its constant LARGE, in place of infinity. Above that a
# row may be given a column that is not its lowest, and the shortest paths that
# follow rely on what came before. The sparse solver of the package refuses such
# costs; the dense one does not, and its docstring does not name a bound. With
# lapx 0.11.1, which came from lap, all are optimal.
#
# It matters here because batches are paired by squared distances, which pass a
# million for data that were not scaled: positions in m, pressures in Pa.
#
# Output seen (the total divided by the optimum, less 1, over 20 draws):
#   km    not optimal  0, median 0.0000, largest 0.0000, costs up to 7e+02
#   100 m not optimal  0, median 0.0000, largest 0.0000, costs up to 7e+04
#   m     not optimal 19, median 0.0069, largest 0.3218, costs up to 7e+08
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  lap==0.5.13 scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import lap
import numpy as np
from scipy.optimize import linear_sum_assignment

number, draws = 256, 20
rows = np.arange(number)
worse = {}
for unit, size in (
    ("km", 20.0), ("100 m", 200.0), ("m", 2e4)):
  found = []
  for seed in range(draws):
    first, second = np.random.default_rng(seed).random((2, number, 2)) * size
    costs = ((first[:, None] - second)**2).sum(-1)
    columns = lap.lapjv(costs, return_cost=False)[0]
    assert sorted(columns) == list(rows)
    least = costs[linear_sum_assignment(costs)].sum()
    found.append(costs[rows, columns].sum() / least - 1)
  worse[unit] = np.array(found)
  print(f"{unit:5} not optimal {(worse[unit] > 1e-9).sum():2}, median "
        f"{np.median(found):.4f}, largest {max(found):.4f}, "
        f"costs up to {costs.max():.0e}")
same = (
  max(worse["km"].max(), worse["100 m"].max()) < 1e-9
  and (worse["m"] > 1e-9).sum() > draws // 2 and worse["m"].max() > .05
)
raise SystemExit(0 if same else "the behaviour has changed")
PYTHON
