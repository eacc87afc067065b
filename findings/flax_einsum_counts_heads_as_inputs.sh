#!/usr/bin/env bash
# Flax's Einsum starts with outputs that are too small by the root of the number
# of heads or experts.
#
# Packages: flax 0.12.8, jax 0.10.2, jaxlib 0.10.2; float32 on CPU.
#
# The guess, written before running: nn.Einsum and nnx.Einsum know from their
# equation which axes are summed over, and draw weights of variance 1 / (number
# of inputs that are summed) as Dense does. Inputs of standard deviation 1 give
# outputs of standard deviation 1, however many heads or experts there are, as
# with DenseGeneral.
#
# What happens: with 64 experts it is .125. The equation is not passed to the
# initialiser; it sees a shape, takes the last two axes for inputs and outputs
# as of a convolution's kernel, and counts all others among the inputs. For
# "bd,hdk->bhk" the number of inputs is heads times d. For "bd,dhk->bhk" it is
# the same number by another way. Queries and keys made so are both too small
# by the root of the heads, and the logits of their attention by the number of
# heads. What helps is variance_scaling(1, "fan_in", "truncated_normal",
# in_axis=..., batch_axis=...) with the axes named. Neither class says so.
#
# It matters here because experts and heads are written with this layer, and the
# outputs of a layer of 64 experts then start eight times too small.
#
# Output seen (standard deviation of the outputs):
#    1 heads or experts, DenseGeneral       1.002
#    1 heads or experts, linen bd,hdk->bhk  1.002
#    1 heads or experts, nnx bd,hdk->bhk    1.014
#    1 heads or experts, linen bd,dhk->bhk  1.002
#    1 heads or experts, nnx bd,dhk->bhk    1.014
#    1 heads or experts, axes named         1.002
#    8 heads or experts, DenseGeneral       0.998
#    8 heads or experts, linen bd,hdk->bhk  0.353
#    8 heads or experts, nnx bd,hdk->bhk    0.353
#    8 heads or experts, linen bd,dhk->bhk  0.353
#    8 heads or experts, nnx bd,dhk->bhk    0.354
#    8 heads or experts, axes named         0.999
#   64 heads or experts, DenseGeneral       1.000
#   64 heads or experts, linen bd,hdk->bhk  0.125
#   64 heads or experts, nnx bd,hdk->bhk    0.125
#   64 heads or experts, linen bd,dhk->bhk  0.125
#   64 heads or experts, nnx bd,dhk->bhk    0.125
#   64 heads or experts, axes named         1.000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  flax==0.12.8 jax==0.10.2 jaxlib==0.10.2
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import flax.linen as nn
import jax
from flax import nnx

dim, width = 256, 64
x = jax.random.normal(jax.random.key(1), (512, dim))
key = jax.random.key(0)


def in_linen(layer):
  return layer.init_with_output(key, x)[0].std().item()


same = True
for number in (1, 8, 64):
  shapes = {
    "bd,hdk->bhk": (number, dim, width), "bd,dhk->bhk": (dim, number, width),
  }
  named = nn.initializers.variance_scaling(
    1.0, "fan_in", "truncated_normal", in_axis=1, batch_axis=0)
  found = {"DenseGeneral": in_linen(nn.DenseGeneral((number, width)))}
  for equation, shape in shapes.items():
    found[f"linen {equation}"] = in_linen(nn.Einsum(shape, equation))
    layer = nnx.Einsum(equation, shape, rngs=nnx.Rngs(0))
    found[f"nnx {equation}"] = layer(x).std().item()
  equation, shape = next(iter(shapes.items()))
  found["axes named"] = in_linen(
    nn.Einsum(shape, equation, kernel_init=named))
  for name, std in found.items():
    print(f"{number:2} heads or experts, {name:18} {std:.3f}")
    right = 1 if name in ("DenseGeneral", "axes named") else number**-.5
    same = same and abs(std / right - 1) < .05
raise SystemExit(0 if same else "the behaviour has changed")
PYTHON
