#!/usr/bin/env bash
# jax.random.wald draws negative numbers from a distribution of positive ones.
#
# Packages: jax 0.10.2, jaxlib 0.10.2, scipy 1.17.1 (for the truth), numpy
# 2.4.6 (for comparison); float32 on CPU, the default dtype.
#
# The guess, written before running: the inverse Gaussian distribution of mean
# 1e4 and scale 1, the time in which a Brownian motion with a small drift first
# comes to 1, is positive. Its 1, 10, 50 and 90 % quantiles are .15, .37, 2.2
# and 63, nearly those of mean 1000, as SciPy's invgauss says.
#
# What happens: with mean 1e4 17 % of 200,000 draws are not positive, the lowest
# is -92, and the median is 3.6. With mean 1000 it is .4 %, and the 1 % quantile
# is .09 in place of .15. The draw is the smaller root of a quadratic equation,
# a difference of numbers of the size of mean^2 times a squared normal number;
# in float32 that leaves no digit of a root near 1. Up to mean 100 the quantiles
# are right to 1 or 2 %. NumPy has the right ones. Nothing warns; the
# documentation's domain, "-infinity < x < infinity", is not of this
# distribution.
#
# It matters here because first passage times of a Brownian motion are this
# distribution, and a time or a variance that is negative makes a NaN of a root
# far from where it was drawn.
#
# Output seen (1, 10, 50 and 90 % quantiles):
#   mean   100, jax   0.15 0.37 2.15 52.50 not positive 0.0 %, lowest 0.04
#   mean   100, numpy 0.15 0.37 2.13 53.21 not positive 0.0 %, lowest 0.05
#   mean   100, scipy 0.15 0.37 2.15 53.53
#   mean  1000, jax   0.09 0.38 2.20 60.86 not positive 0.4 %, lowest -0.59
#   mean  1000, numpy 0.15 0.37 2.18 62.87 not positive 0.0 %, lowest 0.05
#   mean  1000, scipy 0.15 0.37 2.19 62.20
#   mean 10000, jax   -12.94 -1.67 3.63 62.14 not positive 16.9 %, lowest -92.00
#   mean 10000, numpy 0.15 0.37 2.18 63.96 not positive 0.0 %, lowest 0.05
#   mean 10000, scipy 0.15 0.37 2.20 63.21
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

probabilities, number = [.01, .1, .5, .9], 200_000
not_positive, median = {}, {}
for mean in (1e2, 1e3, 1e4):
  draws = {
    "jax": np.asarray(jax.random.wald(jax.random.key(0), mean, (number,))),
    "numpy": np.random.default_rng(0).wald(mean, 1, number),
  }
  for name, x in draws.items():
    quantiles = np.quantile(x, probabilities)
    not_positive[name, mean] = 100 * np.mean(x <= 0)
    median[name, mean] = quantiles[2]
    print(f"mean {mean:5g}, {name:5}", *(f"{q:.2f}" for q in quantiles),
          f"not positive {not_positive[name, mean]:.1f} %, "
          f"lowest {x.min():.2f}")
  truth = stats.invgauss(mean).ppf(probabilities)
  print(f"mean {mean:5g}, scipy", *(f"{q:.2f}" for q in truth))
  right = truth[2]
same = (
  not_positive["jax", 1e4] > 5 and not_positive["jax", 1e3] > .05
  and not_positive["jax", 1e2] == 0 and median["jax", 1e4] > 1.2 * right
  and not_positive["numpy", 1e4] == 0
  and abs(median["numpy", 1e4] / right - 1) < .05
)
raise SystemExit(0 if same else "the behaviour has changed")
PYTHON
