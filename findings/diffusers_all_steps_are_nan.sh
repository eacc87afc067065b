#!/usr/bin/env bash
# Four schedulers of diffusers return NaN for as many steps as in training.
#
# Packages: diffusers 0.42.1, torch 2.13.0, numpy 2.4.6; on CPU.
#
# The guess, written before running: the more steps, the closer a sampler is to
# the solution of its equation. With as many steps as there are noise levels in
# training, 1000 by default, every level is used once, which is the natural
# reference that fewer steps are compared with. set_timesteps refuses what it
# cannot do.
#
# What happens: DPMSolverMultistepScheduler, DEISMultistepScheduler,
# UniPCMultistepScheduler and SASolverScheduler, with their default arguments,
# return NaN for every sample. 999 steps are right. The levels are 1001 equally
# spaced numbers between 0 and 999, rounded, so that one level in the middle is
# there twice; between the two the step in log-SNR is 0, and the second order
# formula divides by it. It is the same with 100 levels and 100 steps. DDIM,
# which is of first order, is right, and so is timestep_spacing="trailing".
#
# It matters here because errors of samplers are measured against a run with
# all levels, and because small experiments train with few levels.
#
# Output seen (the distribution of the data is N(.2, .09); twice: levels
# that are there twice):
#   DPMSolverMultistepScheduler   50 steps: std 0.295, twice 0
#   DPMSolverMultistepScheduler  999 steps: std 0.300, twice 0
#   DPMSolverMultistepScheduler 1000 steps: std nan, twice 1
#   DEISMultistepScheduler        50 steps: std 0.307, twice 0
#   DEISMultistepScheduler       999 steps: std 0.301, twice 0
#   DEISMultistepScheduler      1000 steps: std nan, twice 1
#   UniPCMultistepScheduler       50 steps: std 0.294, twice 0
#   UniPCMultistepScheduler      999 steps: std 0.300, twice 0
#   UniPCMultistepScheduler     1000 steps: std nan, twice 1
#   SASolverScheduler             50 steps: std 0.302, twice 0
#   SASolverScheduler            999 steps: std 0.296, twice 0
#   SASolverScheduler           1000 steps: std nan, twice 1
#   DDIMScheduler                 50 steps: std 0.275, twice 0
#   DDIMScheduler                999 steps: std 0.298, twice 0
#   DDIMScheduler               1000 steps: std 0.298, twice 0
#   num_train_timesteps=100: 100 steps: std nan, twice 1
#   timestep_spacing=trailing: 1000 steps: std 0.301, twice 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  diffusers==0.42.1 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import diffusers
import torch

mean, std = .2, .3


def sampled(name, steps, **how):
  scheduler = getattr(diffusers, name)(**how)
  scheduler.set_timesteps(steps)
  torch.manual_seed(0)
  x = torch.randn(10_000, 1, 1, 1)
  for time in scheduler.timesteps:
    level = scheduler.alphas_cumprod[time]
    # The mean of the noise given x = sqrt(level) data + sqrt(1 - level) noise.
    variance = level * std**2 + 1 - level
    noise = (1 - level).sqrt() / variance * (x - level.sqrt() * mean)
    x = scheduler.step(noise, time, x).prev_sample
  repeated = len(scheduler.timesteps) - len(set(scheduler.timesteps.tolist()))
  return x.std().item(), repeated


multistep = [
  "DPMSolverMultistepScheduler", "DEISMultistepScheduler",
  "UniPCMultistepScheduler", "SASolverScheduler",
]
same = True
for name in multistep + ["DDIMScheduler"]:
  for steps in (50, 999, 1000):
    found, repeated = sampled(name, steps)
    print(f"{name:27} {steps:4} steps: std {found:.3f}, twice {repeated}")
    nan = found != found
    same = same and nan == (name in multistep and steps == 1000)
name = multistep[0]
for how in ({"num_train_timesteps": 100}, {"timestep_spacing": "trailing"}):
  steps = how.get("num_train_timesteps", 1000)
  found, repeated = sampled(name, steps, **how)
  listed = ", ".join(f"{key}={value}" for key, value in how.items())
  print(f"{listed}: {steps} steps: std {found:.3f}, twice {repeated}")
  same = same and (found != found) == (steps == 100)
raise SystemExit(0 if same else "the behaviour has changed")
PYTHON
