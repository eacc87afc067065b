#!/usr/bin/env bash
# Flax's attention drops the same weights in every example and every head.
#
# Packages: flax 0.12.8, jax 0.10.2, jaxlib 0.10.2, torch 2.13.0 (for
# comparison); on CPU.
#
# The guess, written before running: dropout of attention weights draws every
# weight on its own, whatever the example and the head, as in torch's
# MultiheadAttention. The mean output of 64 equal examples then varies over keys
# with a standard deviation an eighth of that of one example, the square root of
# 1/64.
#
# What happens: nn.MultiHeadDotProductAttention and nnx.MultiHeadAttention draw
# one mask of [queries, keys] and use it for the whole batch and all heads
# (broadcast_dropout=True). 64 equal examples give 64 equal outputs, and the
# standard deviation of their mean is that of one example. A larger batch does
# not average this noise away. broadcast_dropout=False gives what torch does.
# The docstring says "use a broadcasted dropout along batch dims", in a list of
# arguments; that this is the default, and of the heads, has to be looked up.
#
# It matters here because the noise of a gradient is taken to fall with the
# batch, which the learning rate and the length of the average are set by.
#
# Output seen (spread: largest difference among 64 equal examples; ratio: the
# standard deviation over keys for one example divided by that for the batch):
#   linen, default                  spread 0.00, ratio 1.00
#   nnx, default                    spread 0.00, ratio 1.00
#   linen, broadcast_dropout=False  spread 2.38, ratio 7.96
#   nnx, broadcast_dropout=False    spread 3.70, ratio 8.00
#   torch MultiheadAttention        spread 0.86, ratio 8.00
#   equal masks among 4 heads: default True, broadcast_dropout=False False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  flax==0.12.8 jax==0.10.2 jaxlib==0.10.2 torch==2.13.0 numpy
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

batch, length, dim, heads, keys = 64, 16, 32, 4, 300
one = jax.random.normal(jax.random.key(1), (1, length, dim))
many = jnp.tile(one, (batch, 1, 1))


def linen(**how):
  layer = nn.MultiHeadDotProductAttention(
    heads, dropout_rate=.5, deterministic=False, **how)
  streams = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
  variables = layer.init(streams, one)
  run = jax.jit(lambda x, key: layer.apply(variables, x, rngs={"dropout": key}))
  return lambda x, seed: np.asarray(run(x, jax.random.key(seed)))


def of_nnx(**how):
  layer = nnx.MultiHeadAttention(
    heads, dim, dropout_rate=.5, deterministic=False, decode=False,
    rngs=nnx.Rngs(0), **how)
  run = nnx.jit(lambda layer, x, key: layer(x, rngs=nnx.Rngs(dropout=key)))
  return lambda x, seed: np.asarray(run(layer, x, jax.random.key(seed)))


def of_torch():
  torch.manual_seed(0)
  layer = torch.nn.MultiheadAttention(dim, heads, .5, batch_first=True)

  def run(x, seed):
    torch.manual_seed(seed)
    x = torch.tensor(np.asarray(x))
    with torch.no_grad():
      return layer(x, x, x, need_weights=False)[0].numpy()

  return run


def noise(run, x):
  means = np.stack([run(x, seed).mean(0) for seed in range(keys)])
  return means.std(0).mean()


own = {"broadcast_dropout": False}
layers = {
  "linen, default": linen(),
  "nnx, default": of_nnx(),
  "linen, broadcast_dropout=False": linen(**own),
  "nnx, broadcast_dropout=False": of_nnx(**own),
  "torch MultiheadAttention": of_torch(),
}
same = True
for name, run in layers.items():
  outputs = run(many, 0)
  spread = np.abs(outputs - outputs[:1]).max()
  ratio = noise(run, one) / noise(run, many)
  print(f"{name:31} spread {spread:.2f}, ratio {ratio:.2f}")
  if "default" in name:
    same = same and spread < 1e-5 and abs(ratio - 1) < .01
  else:
    same = same and spread > .1 and 7 < ratio < 9

# Equal weights on all keys, and values that show which of them are dropped.
values = jnp.tile(jnp.eye(length)[:, None], (1, heads, 1))
zeros = jnp.zeros((length, heads, dim))
equal = []
for how in ({}, own):
  weights = nn.dot_product_attention(
    zeros, zeros, values, dropout_rng=jax.random.key(0), dropout_rate=.5,
    deterministic=False, **how)
  equal.append(bool(jnp.all(weights == weights[:, :1])))
print(f"equal masks among {heads} heads: default {equal[0]}, "
      f"broadcast_dropout=False {equal[1]}")
same = same and equal == [True, False]
raise SystemExit(0 if same else "the behaviour has changed")
PYTHON
