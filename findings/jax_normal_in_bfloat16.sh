#!/usr/bin/env bash
# jax.random.normal in bfloat16 takes 128 values, none of them beyond 2.9.
#
# Packages: jax 0.10.2, jaxlib 0.10.2, torch 2.13.0 (for comparison); on CPU.
#
# The guess, written before running: a normal draw of dtype bfloat16 is a draw
# in float32, rounded to bfloat16. A million draws take some thousands of
# values, as bfloat16 is fine near 0, and the largest is beyond 4. So it is with
# torch.randn(dtype=torch.bfloat16).
#
# What happens: a million draws take 128 values. The largest magnitude is 2.89,
# where .27 % of draws should be beyond 3. The mean is -.012, twelve standard
# errors from 0. Both come from the uniform numbers inside: they are drawn in
# bfloat16, which has 7 bits of fraction and so 128 numbers between 0 and 1, and
# the inverse of the distribution function is taken of those. float16 has 1024
# values and ends at 3.49. jax.random.exponential has the same grid: .8 % of its
# bfloat16 draws are exactly 0, the largest is 4.84 and the mean .974. The
# documentation of the argument says only that it is the dtype of the result.
#
# It matters here because noise is often drawn in the dtype of the data. In half
# precision the noise of diffusion then has no tail, and a density or a bound
# that takes it for normal is of another model. Draw in float32 and round.
#
# Output seen:
#   jax normal, bfloat16          128 values, mean -0.012, largest 2.89
#   jax normal, float16          1024 values, mean -0.002, largest 3.49
#   jax float32, then bfloat16   3598 values, mean +0.000, largest 4.66
#   torch randn, bfloat16        3600 values, mean -0.002, largest 4.75
#   jax exponential, bfloat16     128 values, mean +0.974, largest 4.84
#   torch exponential_, bfloat16 2135 values, mean +1.000, largest 15.44
#   exponential draws that are exactly 0: jax 0.77 %, torch 0.00 %
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  jax==0.10.2 jaxlib==0.10.2 torch==2.13.0 numpy
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np
import torch

key, number = jax.random.key(0), 1_000_000
torch.manual_seed(0)
empty = torch.empty(number, dtype=torch.bfloat16)
draws = {
  "jax normal, bfloat16": jax.random.normal(key, (number,), jnp.bfloat16),
  "jax normal, float16": jax.random.normal(key, (number,), jnp.float16),
  "jax float32, then bfloat16": (
    jax.random.normal(key, (number,)).astype(jnp.bfloat16)),
  "torch randn, bfloat16": torch.randn(number, dtype=torch.bfloat16).float(),
  "jax exponential, bfloat16": (
    jax.random.exponential(key, (number,), jnp.bfloat16)),
  "torch exponential_, bfloat16": empty.exponential_().float(),
}
values, mean, largest, zeros = {}, {}, {}, {}
for name, x in draws.items():
  x = np.asarray(x).astype(np.float64)
  values[name], mean[name] = len(np.unique(x)), x.mean()
  largest[name], zeros[name] = np.abs(x).max(), 100 * np.mean(x == 0)
  print(f"{name:28} {values[name]:4} values, mean {mean[name]:+.3f}, "
        f"largest {largest[name]:.2f}")
half, half16, rounded, other, waits, other_waits = draws
print(f"exponential draws that are exactly 0: jax {zeros[waits]:.2f} %, "
      f"torch {zeros[other_waits]:.2f} %")
same = (
  values[half] <= 128 and largest[half] < 3 and mean[half] < -.006
  and values[half16] <= 1024 and largest[half16] < 3.6
  and values[rounded] > 2000 and largest[rounded] > 4
  and values[other] > 2000 and largest[other] > 4
  and zeros[waits] > .5 and zeros[other_waits] < .01
)
raise SystemExit(0 if same else "the behaviour has changed")
PYTHON
