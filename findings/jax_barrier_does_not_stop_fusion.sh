#!/usr/bin/env bash
# On a CPU, operations before and after jax.lax.optimization_barrier are fused,
# into one loop and even into one multiply-add.
#
# Packages: jax 0.10.2, jaxlib 0.10.2; on CPU.
#
# The guess, written before running: the documentation says that operations
# before the barrier may not be fused into the same kernel as operations after
# it. So x y behind a barrier is rounded to float32, and barrier(x y) - z is 0
# where z is the product x y in float32, whereas x y - z without a barrier may
# be a multiply-add, which gives the product's rounding error.
#
# What happens: XLA's CPU compiler drops barriers before it fuses. The compiled
# program has one loop with the product and the difference, the processor's
# multiply-add rounds once, and 1000 of 1000 differences are not 0: as many as
# without the barrier. The two other usual ways to force a rounding do no better:
# lax.reduce_precision to float32's own 8 and 23 bits, and a cast to the bits of
# an integer and back, are both removed as identities. The differences are 0 if
# the function also returns the product, or computes it in a jitted call of its
# own, as outside of jit.
#
# It matters here for sums with compensation and products in double-double
# arithmetic, which need the rounded product, and for speed: a barrier does not
# keep XLA from computing a value again in every loop that reads it. Barriers do
# prevent the elimination of equal expressions, as the documentation says, so
# that rematerialisation works.
#
# Output seen:
#   in the program: barriers 0, loops 1 (multiply and subtract)
#   x y - z                                1000 of 1000 not 0
#   barrier(x y) - z                       1000 of 1000 not 0
#   reduce_precision(x y, 8, 23) - z       1000 of 1000 not 0
#   cast to int32 and back                 1000 of 1000 not 0
#   product returned too                      0 of 1000 not 0
#   product in a jitted call of its own       0 of 1000 not 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  jax==0.10.2 jaxlib==0.10.2 numpy
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import re

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

x, y = np.random.default_rng(0).normal(size=(2, 1000)).astype("float32")
z = x * y  # rounded


def through_bits(value):
  bits = lax.bitcast_convert_type(value, jnp.int32)
  return lax.bitcast_convert_type(bits, jnp.float32)


behind = jax.jit(lambda x, y, z: lax.optimization_barrier(x * y) - z)
lowered = behind.lower(x, y, z)
assert "optimization_barrier" in lowered.as_text()
program = lowered.compile().as_text()
barriers, loops = program.count("opt-barrier"), program.count("kind=kLoop")
together = re.search(r"multiply\(.*subtract\(", program, re.DOTALL) is not None
print(
  f"in the program: barriers {barriers}, loops {loops}"
  f"{' (multiply and subtract)' if together else ''}"
)

multiply = jax.jit(lambda x, y: x * y)
subtract = jax.jit(lambda p, z: p - z)
returned = jax.jit(lambda x, y, z: ((p := x * y) - z, p))
ways = {
  "x y - z": jax.jit(lambda x, y, z: x * y - z),
  "barrier(x y) - z": behind,
  "reduce_precision(x y, 8, 23) - z": jax.jit(
    lambda x, y, z: lax.reduce_precision(x * y, 8, 23) - z
  ),
  "cast to int32 and back": jax.jit(lambda x, y, z: through_bits(x * y) - z),
  "product returned too": lambda x, y, z: returned(x, y, z)[0],
  "product in a jitted call of its own": lambda x, y, z: subtract(
    multiply(x, y), z
  ),
}
counts = {name: int((way(x, y, z) != 0).sum()) for name, way in ways.items()}
for name, count in counts.items():
  print(f"{name:37} {count:5} of {x.size} not 0")

assert (barriers, loops, together) == (0, 1, True)
assert list(counts.values())[:4] == [1000] * 4, counts
assert list(counts.values())[4:] == [0, 0], counts
PYTHON
