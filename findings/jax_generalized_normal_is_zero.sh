#!/usr/bin/env bash
# jax.random.generalized_normal draws exact zeros: 42 % of all, for p = 100.
#
# Packages: jax 0.10.2, jaxlib 0.10.2, scipy 1.17.1 (for the truth), numpy
# 2.4.6; float32 on CPU, the default dtype.
#
# The guess, written before running: the density of exp(-|x|^p) is flat between
# -1 and 1 for large p. No draw is exactly 0, and the distribution agrees with
# SciPy's gennorm to the error of 100,000 draws, .005. jax.random.ball(d, p),
# uniform in the unit ball of the norm of order p, is a square for d = 2 and
# p = 100, with as many points near its axes as elsewhere.
#
# What happens: for p = 32, 64 and 100 a share of 7, 26 and 42 % of draws is 0;
# in the ball 42 % of the points lie on each axis and 18 % in the middle. The
# size is g^(1/p) with g of a gamma distribution of shape 1/p. Of g for p = 100,
# 42 % is below 1e-38, where float32 ends, and is 0, though its hundredth root
# is any number up to .42. The shares are those of the gamma distributions below
# the smallest float32 number. Up to p = 8 that is less than 1e-4. exp(l / p)
# with l of jax.random.loggamma, which exists for such shapes, has no zeros.
#
# It matters here because the family goes from the Laplace distribution to the
# uniform one by p, and a likelihood or noise that is uniform in the limit has
# almost half of its draws in one point.
#
# Output seen (100,000 draws; distance: Kolmogorov-Smirnov from gennorm):
#   p   2, jax         zeros  0.00 %, below float32  0.00 %, distance 0.002
#   p   2, by loggamma zeros  0.00 %, below float32  0.00 %, distance 0.002
#   p   8, jax         zeros  0.00 %, below float32  0.00 %, distance 0.002
#   p   8, by loggamma zeros  0.00 %, below float32  0.00 %, distance 0.002
#   p  32, jax         zeros  6.64 %, below float32  6.64 %, distance 0.033
#   p  32, by loggamma zeros  0.00 %, below float32  6.64 %, distance 0.002
#   p  64, jax         zeros 25.78 %, below float32 25.77 %, distance 0.129
#   p  64, by loggamma zeros  0.00 %, below float32 25.77 %, distance 0.002
#   p 100, jax         zeros 42.07 %, below float32 41.99 %, distance 0.210
#   p 100, by loggamma zeros  0.00 %, below float32 41.99 %, distance 0.002
#   ball, p 100: on an axis 42.2 %, in the middle 17.6 %
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  jax==0.10.2 jaxlib==0.10.2 scipy==1.17.1 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import jax
import numpy as np
from scipy import stats

number, key = 100_000, jax.random.key(0)
found = {}
for p in (2, 8, 32, 64, 100):
  logs = jax.random.loggamma(key, 1 / p, (number,))
  sign = np.random.default_rng(0).choice([-1, 1], number)
  draws = {
    "jax": np.asarray(jax.random.generalized_normal(key, p, (number,))),
    "by loggamma": sign * np.exp(np.asarray(logs, np.float64) / p),
  }
  below = stats.gamma(1 / p).cdf(np.finfo(np.float32).tiny)
  for name, x in draws.items():
    zeros = np.mean(x == 0)
    distance = stats.ks_1samp(x.astype(float), stats.gennorm(p).cdf).statistic
    found[name, p] = zeros, distance, below
    print(f"p {p:3}, {name:11} zeros {100 * zeros:5.2f} %, below float32 "
          f"{100 * below:5.2f} %, distance {distance:.3f}")
square = np.asarray(jax.random.ball(key, 2, 100, (number,)))
axis, middle = np.mean(square[:, 0] == 0), np.mean((square == 0).all(1))
print(f"ball, p 100: on an axis {100 * axis:.1f} %, "
      f"in the middle {100 * middle:.1f} %")
same = (
  all(found["by loggamma", p][0] == 0 and found["by loggamma", p][1] < .01
      for p in (2, 8, 32, 64, 100))
  and all(abs(found["jax", p][0] - found["jax", p][2]) < .01
          for p in (2, 8, 32, 64, 100))
  and found["jax", 100][1] > .15 and found["jax", 2][1] < .01
  and .35 < axis < .5 and .12 < middle < .25
)
raise SystemExit(0 if same else "the behaviour has changed")
PYTHON
