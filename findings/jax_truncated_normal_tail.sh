#!/usr/bin/env bash
# jax.random.truncated_normal in a tail returns the far end of the window.
#
# Packages: jax 0.10.2, jaxlib 0.10.2, scipy 1.17.1 (for the truth); float32 on
# CPU, the default dtype.
#
# The guess, written before running: a normal draw truncated to [5.6, 9] lies
# near 5.6, as the density falls by a factor of e every .18 there. SciPy's
# truncnorm has 10, 50 and 90 % quantiles 5.62, 5.72 and 5.99.
#
# What happens: every one of 100,000 draws is 9, the end where the density is
# 1e-11 of that at 5.6. On [-9, -5.6] every draw is -9. On [5, 9] the quantiles
# look right, but 100,000 draws take only ten values; on [4, 9] about a
# thousand. The function draws uniformly between erf(lower / sqrt 2) and
# erf(upper / sqrt 2); in float32 both round to 1 from about 5.3 on, the inverse
# erf of 1 is infinite, and the last step clips it to the window's upper end.
# Nothing warns, and the draws are finite and inside the window, so that a
# check of range or NaN passes.
#
# It matters here because noise levels are drawn from truncated log-normals: a
# window of levels far above the mean gives one level instead of a distribution.
#
# Output seen:
#   [5.6, 9] quantiles 9.00 9.00 9.00, distinct values 1
#   [-9, -5.6] quantiles -9.00 -9.00 -9.00, distinct values 1
#   [5, 9] quantiles 5.04 5.12 5.42, distinct values 10
#   [4, 9] quantiles 4.02 4.16 4.52, distinct values 1063
#   scipy [5.6, 9] quantiles 5.62 5.72 5.99
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  jax==0.10.2 jaxlib==0.10.2 scipy==1.17.1
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import jax
import numpy as np
from scipy import stats

probabilities = [.1, .5, .9]
distinct = {}
for window in ((5.6, 9), (-9, -5.6), (5, 9), (4, 9)):
  draws = jax.random.truncated_normal(
    jax.random.key(0), *window, shape=(100_000,))
  draws = np.asarray(draws)
  distinct[window] = len(np.unique(draws))
  found = " ".join(f"{q:.2f}" for q in np.quantile(draws, probabilities))
  print(f"{list(window)} quantiles {found}, distinct values {distinct[window]}")
  if window == (5.6, 9):
    far_end = np.allclose(draws, 9, atol=1e-5)
  if window == (-9, -5.6):
    far_end = far_end and np.allclose(draws, -9, atol=1e-5)
truth = stats.truncnorm(5.6, 9).ppf(probabilities)
print("scipy [5.6, 9] quantiles", " ".join(f"{q:.2f}" for q in truth))
same = far_end and distinct[5, 9] < 50 and distinct[4, 9] < 5000
raise SystemExit(0 if same else "the behaviour has changed")
PYTHON
