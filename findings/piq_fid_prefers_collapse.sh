#!/usr/bin/env bash
# FID of piq is far from 0 for a set and itself, and lower for a collapsed set.
#
# Packages: piq 0.8.0, torch 2.14.1, torchvision 0.29.1 (which piq needs), numpy
# 2.4.6, scipy 1.17.1 (for the truth); float64 on CPU.
#
# The guess, written before running: given features in float64, FID of a set
# with itself is 0 to many digits, and FID of two samples is the closed form,
# as 5000 rows of 512 features have covariances of full rank.
#
# What happens: for features whose i-th direction has standard deviation 1 / i,
# FID of a set with itself is .066, and that of two samples of one distribution
# .067 where the truth is .0019. Of a copy that is 0 in all but its first 32
# directions it is .046, which is less than that of the set itself. The root of
# the product of the covariances comes from a Newton-Schulz iteration, which
# ends when the square of its result differs from the product by 1e-5 of its
# Frobenius norm. The few largest eigenvalues make the norm; the root of a small
# one grows by 1.5 per step from far below, and FID needs the sum of all roots.
# What has not grown yet is missing from the trace: a direction which is right
# costs up to twice its variance, and one that is lost costs it once. An open
# issue (381) names the early end, not that the order can be reversed. Where all
# variances are equal there is hardly an error. Nothing warns.
#
# It matters here because features of images have falling spectra, and a number
# that prefers collapse to the data itself is of no use for models.
#
# Output seen (FID to a set of 5000 rows of 512 features):
#   1 / i: the set itself       piq  0.0660, truth  0.0000
#   1 / i: another sample       piq  0.0674, truth  0.0019
#   1 / i: 32 directions kept   piq  0.0460, truth  0.0288
#   equal: the set itself       piq  0.0006, truth  0.0000
#   equal: another sample       piq 26.4125, truth 26.4125
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  piq==0.8.0 torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import numpy as np
import piq
import torch
from scipy import linalg

rows, dim = 5000, 512
rng = np.random.default_rng(0)


def truth(x, y):
  # The trace of the root of a product of covariances is the sum of the
  # singular values of the product of their triangular factors.
  first, second = np.cov(x.T), np.cov(y.T)
  factors = [linalg.qr(z - z.mean(0), mode="r")[0][:dim] for z in (x, y)]
  roots = linalg.svdvals(factors[0] @ factors[1].T) / (rows - 1)
  far = ((x.mean(0) - y.mean(0))**2).sum()
  return far + np.trace(first) + np.trace(second) - 2 * roots.sum()


def by_piq(x, y):
  return piq.FID()(torch.tensor(x), torch.tensor(y)).item()


found = {}
for spectrum, std in (
    ("1 / i", 1 / np.arange(1, dim + 1)), ("equal", np.ones(dim))):
  x, other = (rng.standard_normal((rows, dim)) * std for _ in range(2))
  collapsed = np.where(np.arange(dim) < 32, x, 0)
  sets = {"the set itself": x, "another sample": other}
  if spectrum == "1 / i":
    sets["32 directions kept"] = collapsed
  for name, y in sets.items():
    found[spectrum, name] = pair = by_piq(x, y), truth(x, y)
    print(f"{spectrum}: {name:20} piq {pair[0]:7.4f}, truth {pair[1]:7.4f}")
itself, other, collapsed = (
  found["1 / i", name] for name in
  ("the set itself", "another sample", "32 directions kept"))
same = (
  itself[0] > .03 and abs(itself[1]) < 1e-6 and other[0] > 10 * other[1]
  and collapsed[0] < .9 * itself[0] and collapsed[1] > 10 * other[1]
)
raise SystemExit(0 if same else "the behaviour has changed")
PYTHON
