#!/usr/bin/env bash
# Samples of a stochastic differential equation have too little noise at every
# time that is not a step: half the variance, in the first step.
#
# Packages: torchsde 0.2.6, torch 2.13.0; diffrax 0.7.2, jax 0.10.2, jaxlib
# 0.10.2; numpy 2.4.6; on CPU.
#
# The guess, written before running: for dx = dW, which Euler's method solves
# exactly, sdeint(..., ts, dt=.1) and diffeqsolve(..., dt0=.1, SaveAt(ts=ts))
# return draws of variance t at all times asked for, also at .05 and .25. Both
# have a Brownian motion that can be evaluated at any time, with the right
# bridges in between, and both would use it.
#
# What happens: both connect the values at the two ends of a step by a straight
# line. In the middle of the first step the variance is .025 instead of .05, and
# the standard deviation too small by .29; what is missing in the middle of any
# step is a quarter of the step. Increments over half a step have half the
# variance that they should have, and the two in one step are equal. A smaller
# step moves the error to shorter times, it does not take away the factor. The
# noise itself is right: the motion that diffrax was given, read at .05, has
# variance .05. Giving steps at the times asked for (StepTo; dt) is what helps.
# Milstein's method and the higher ones of both packages do the same.
#
# It matters here because noisy data are taken from a path at times drawn at
# random, at which the noise is then too small, more so near the start.
#
# Output seen (variance over 40,000 paths at the times given, dt = .1):
#   time                 0.050 0.100 0.150 0.200 0.250
#   torchsde euler       0.025 0.100 0.125 0.200 0.225
#   torchsde milstein    0.025 0.099 0.124 0.198 0.222
#   diffrax Euler        0.025 0.100 0.125 0.201 0.226
#   diffrax, StepTo .05  0.050 0.100 0.150 0.201 0.251
#   the motion itself    0.050 0.100 0.150 0.201 0.251
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  torchsde==0.2.6 torch==2.13.0 diffrax==0.7.2 jax==0.10.2 jaxlib==0.10.2 \
  numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import torch
import torchsde

paths, step = 40_000, .1
times = np.array([.05, .1, .15, .2, .25])


class Motion:
  noise_type, sde_type = "diagonal", "ito"

  def f(self, t, x):
    return torch.zeros_like(x)

  def g(self, t, x):
    return torch.ones_like(x)


def in_torch(method):
  torch.manual_seed(0)
  asked = torch.tensor([0.0, *times, .3])
  start = torch.zeros(paths, 1)
  found = torchsde.sdeint(Motion(), start, asked, dt=step, method=method)
  return found[1:-1, :, 0].numpy().T


def in_diffrax(controller=None, itself=False):
  def one(key):
    motion = diffrax.VirtualBrownianTree(0.0, .3, 1e-3, (), key)
    if itself:
      return jax.vmap(lambda time: motion.evaluate(0.0, time))(asked)
    terms = diffrax.MultiTerm(
      diffrax.ODETerm(lambda t, x, _: jnp.zeros_like(x)),
      diffrax.ControlTerm(lambda t, x, _: jnp.ones_like(x), motion))
    return diffrax.diffeqsolve(
      terms, diffrax.Euler(), 0.0, .3, None if controller else step,
      jnp.zeros(()), saveat=diffrax.SaveAt(ts=asked),
      stepsize_controller=controller or diffrax.ConstantStepSize()).ys

  asked = jnp.asarray(times, jnp.float32)
  return np.asarray(jax.jit(jax.vmap(one))(
    jax.random.split(jax.random.key(0), paths)))


every = jnp.arange(7) * .05
ways = {
  "torchsde euler": in_torch("euler"),
  "torchsde milstein": in_torch("milstein"),
  "diffrax Euler": in_diffrax(),
  "diffrax, StepTo .05": in_diffrax(diffrax.StepTo(every)),
  "the motion itself": in_diffrax(itself=True),
}
print(f"{'time':20}", *(f"{time:.3f}" for time in times))
same = True
for name, x in ways.items():
  variance = x.var(0)
  print(f"{name:20}", *(f"{v:.3f}" for v in variance))
  lost = times - variance
  if name in ("diffrax, StepTo .05", "the motion itself"):
    same = same and np.abs(lost / times).max() < .05
  else:
    between = lost[::2]
    same = same and between.min() > .018 and np.abs(lost[1::2]).max() < .008
raise SystemExit(0 if same else "the behaviour has changed")
PYTHON
