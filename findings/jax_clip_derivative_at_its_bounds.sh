#!/usr/bin/env bash
# Clipping to [-1, 1] has three different derivatives at -1 and 1.
#
# Packages: jax 0.10.2, jaxlib 0.10.2, torch 2.13.0; float32 on CPU.
#
# The guess, written before running: at a bound, where one-sided derivatives are
# 0 and 1, jnp.clip, jax.lax.clamp, jax.nn.hard_tanh and torch.clamp pass the
# same derivative, 0 or 1, so that a loss keeps its gradient when it is ported.
#
# What happens: jnp.clip passes .5, jax.lax.clamp 0, jax.nn.hard_tanh 1;
# torch.clamp passes 1 and torch's hardtanh 0, so that the two functions of the
# same name are opposites. Clipping twice changes no value, but in jax the
# derivative becomes .25, in torch it stays 1.
#
# It matters here because images sit on the bounds: half of the pixels of the
# digits are exactly -1. Gradients through a clipped prediction (guidance by a
# classifier or a measurement, a reconstruction loss) are then halved, dropped
# or kept for half of an image, and nothing but the gradient shows it.
#
# Output seen:
#   jnp.clip          0.5 0.5
#   jax.lax.clamp     0.0 0.0
#   jax.nn.hard_tanh  1.0 1.0
#   jnp.clip twice    0.25 0.25
#   torch.clamp       1.0 1.0
#   torch hardtanh    0.0 0.0
#   torch.clamp twice 1.0 1.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  jax==0.10.2 jaxlib==0.10.2 torch==2.13.0 numpy
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import jax
import jax.numpy as jnp
import torch

twice = lambda clip: lambda x: clip(clip(x))
jax_clip = lambda x: jnp.clip(x, -1, 1)
torch_clip = lambda x: torch.clamp(x, -1, 1)
in_jax = {
  "jnp.clip": jax_clip,
  "jax.lax.clamp": lambda x: jax.lax.clamp(-1.0, x, 1.0),
  "jax.nn.hard_tanh": jax.nn.hard_tanh,
  "jnp.clip twice": twice(jax_clip),
}
in_torch = {
  "torch.clamp": torch_clip,
  "torch hardtanh": torch.nn.functional.hardtanh,
  "torch.clamp twice": twice(torch_clip),
}


def by_torch(fn, at):
  x = torch.tensor(at, requires_grad=True)
  fn(x).backward()
  return x.grad.item()


found = {}
for name, fn in in_jax.items():
  found[name] = [float(jax.grad(fn)(at)) for at in (-1.0, 1.0)]
for name, fn in in_torch.items():
  found[name] = [by_torch(fn, at) for at in (-1.0, 1.0)]
for name, (low, high) in found.items():
  print(f"{name:17} {low} {high}")
seen = dict(zip(found, (0.5, 0.0, 1.0, 0.25, 1.0, 0.0, 1.0)))
same = all(found[name] == [value, value] for name, value in seen.items())
raise SystemExit(0 if same else "the behaviour has changed")
PYTHON
