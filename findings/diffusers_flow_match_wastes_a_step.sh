#!/usr/bin/env bash
# The flow matching scheduler of diffusers spends the last of its n steps on a
# thousandth of the way.
#
# Packages: diffusers 0.42.1, torch 2.13.0, numpy 2.4.6; on CPU.
#
# The guess, written before running: FlowMatchEulerDiscreteScheduler with
# set_timesteps(n) takes n equal steps of Euler's method from noise level 1 to
# 0: 1, .5, 0 for two of them.
#
# What happens: the n levels are equally spaced from 1 to sigma_min, which is
# the lowest level of training, .001, and a 0 is appended. Two steps are 1, .001
# and 0: the first is one step over the whole way, and the second call of the
# model changes nothing. n calls do what n - 1 should. Here, where the field of
# a normal distribution is known, two calls give standard deviation .001 instead
# of .200, and four .295 instead of .341, by the same class with the levels
# given: set_timesteps(sigmas=[1 - i / n for i in range(n)]). With one step
# there is no difference. The Heun variant does the same: 1, .001, .001, 0.
#
# It matters here because few-step samplers are compared by the number of calls,
# and a distilled model of two steps seems to be no better than one of one step.
#
# Output seen (the distribution of the data is N(1, .25)):
#   1 steps, default std 0.000, levels 1 0
#   1 steps, equal   std 0.000, levels 1 0
#   2 steps, default std 0.001, levels 1 0.001 0
#   2 steps, equal   std 0.200, levels 1 0.5 0
#   4 steps, default std 0.295, levels 1 0.667 0.334 0.001 0
#   4 steps, equal   std 0.341, levels 1 0.75 0.5 0.25 0
#   6 steps, default std 0.370, levels 1 0.8 0.6 0.401 0.201 0.001 0
#   6 steps, equal   std 0.390, levels 1 0.833 0.667 0.5 0.333 0.167 0
#   Heun, 2 steps: levels 1 0.001 0.001 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  diffusers==0.42.1 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers import FlowMatchHeunDiscreteScheduler

mean, std = 1.0, .5


def field(x, level):
  # The mean of noise - data given x = (1 - level) data + level noise.
  rest = 1 - level
  variance = (rest * std)**2 + level**2
  return (level - rest * std**2) / variance * (x - rest * mean) - mean


def sampled(**steps):
  scheduler = FlowMatchEulerDiscreteScheduler()
  scheduler.set_timesteps(**steps)
  torch.manual_seed(0)
  x = torch.randn(100_000)
  for time in scheduler.timesteps:
    x = scheduler.step(field(x, time / 1000), time, x).prev_sample
  return scheduler.sigmas.tolist(), x.std().item()


same = True
for n in (1, 2, 4, 6):
  equal = [1 - i / n for i in range(n)]
  ways = {"default": {"num_inference_steps": n}, "equal": {"sigmas": equal}}
  found = {}
  for name, steps in ways.items():
    levels, found[name] = sampled(**steps)
    listed = " ".join(f"{level:.3g}" for level in levels)
    print(f"{n} steps, {name:7} std {found[name]:.3f}, levels {listed}")
    if name == "default" and n > 1:
      same = same and len(levels) == n + 1 and 0 < levels[-2] < .002
  same = same and (found["default"] < found["equal"] - .005 or n == 1)
heun = FlowMatchHeunDiscreteScheduler()
heun.set_timesteps(2)
print("Heun, 2 steps: levels", *(f"{level:.3g}" for level in heun.sigmas))
raise SystemExit(0 if same else "the behaviour has changed")
PYTHON
