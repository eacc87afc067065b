#!/usr/bin/env bash
# An exact index of faiss finds exact copies at distance 0 or not, by the number
# of queries of the call.
#
# Packages: faiss-cpu 1.15.1, numpy 2.4.6; float32.
#
# The guess, written before running: IndexFlatL2 is exhaustive and exact. The
# distance of a query does not depend on the other queries of the call, and a
# vector of the index has distance 0 to itself.
#
# What happens: for few queries the differences are squared and summed, and all
# copies have distance 0. For many, |x|^2 + |y|^2 - 2 x.y is taken from a matrix
# product in float32, and for more than a quarter of the copies that is not 0.
# Vectors of 2048 features around 3.5 get squared distances up to .012, which
# are distances up to .11; images of 3072 pixels from 0 to 255, whole numbers,
# get distances up to 5.7. The change is where queries times dimensions reach
# 128,000, as with 63 queries of 2048 features. That number is
# faiss.cvar.distance_compute_blas_threshold; raising it gives zeros again. The
# last batch of a set is usually a smaller one, so that one run can have both.
#
# It matters here because copies of the training set are counted by a small
# distance to it. A threshold that holds for one query misses copies in a batch.
#
# Output seen (share of copies that are not at 0, and largest distance):
#   threshold: 128000
#   features, 1 at a time: 0.0 %, 0.000
#   features, 62 at a time: 0.0 %, 0.000
#   features, 63 at a time: 28.0 %, 0.108
#   features, 1000 at a time: 30.0 %, 0.108
#   features, 1000 at a time, threshold raised: 0.0 %, 0.000
#   pixels, 1 at a time: 0.0 %, 0.000
#   pixels, 41 at a time: 0.0 %, 0.000
#   pixels, 42 at a time: 27.8 %, 5.657
#   pixels, 1000 at a time: 28.7 %, 5.657
#   pixels, 1000 at a time, threshold raised: 0.0 %, 0.000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  faiss-cpu==1.15.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import faiss
import numpy as np

rng = np.random.default_rng(0)
sets = {
  "features": 3.5 + rng.standard_normal((1000, 2048)),
  "pixels": rng.integers(0, 256, (1000, 3072)),
}
threshold = faiss.cvar.distance_compute_blas_threshold
print("threshold:", threshold)


def to_copies(x, batch):
  index = faiss.IndexFlatL2(x.shape[1])
  index.add(x)
  found = [index.search(x[i:i + batch], 1) for i in range(0, len(x), batch)]
  rows = np.concatenate([rows[:, 0] for _, rows in found])
  assert np.array_equal(rows, np.arange(len(x)))
  return np.sqrt(np.concatenate([squared[:, 0] for squared, _ in found]))


same = True
for name, x in sets.items():
  x = x.astype(np.float32)
  edge = -(-threshold // x.shape[1])
  for batch in (1, edge - 1, edge, 1000):
    distance = to_copies(x, batch)
    share = 100 * np.mean(distance != 0)
    print(f"{name}, {batch} at a time: {share:.1f} %, {distance.max():.3f}")
    if batch == 1:
      same = same and share == 0
    if batch == 1000:
      same = same and share > 2
  faiss.cvar.distance_compute_blas_threshold = 1000 * x.shape[1] + 1
  raised = to_copies(x, 1000)
  faiss.cvar.distance_compute_blas_threshold = threshold
  print(f"{name}, 1000 at a time, threshold raised: "
        f"{100 * np.mean(raised != 0):.1f} %, {raised.max():.3f}")
  same = same and raised.max() == 0
raise SystemExit(0 if same else "the behaviour has changed")
PYTHON
