#!/usr/bin/env bash
# The post-hoc average of ema-pytorch is, by default, mostly the weights that
# training began with.
#
# Packages: ema-pytorch 0.8.3, torch 2.13.0, numpy 2.4.6; on CPU.
#
# The guess, written before running: PostHocEMA(model, sigma_rels=(.05, .28))
# with one update() per step keeps two averages with the profile t^gamma of
# Karras et al. 2023, and synthesize_ema_model(sigma_rel=.1) returns one whose
# width is .1 of the training. update_every=100, the default, looks at the
# weights at every hundredth step to save time. As the width is relative, the
# average is nearly the same one.
#
# What happens: the decay at step t, (1 - 1 / t)^(gamma + 1), is that of one
# step, and it is applied once in 100. gamma + 1 becomes a hundredth of what it
# should be: weights count like t^-.82 and t^-.99 in place of t^17 and t^.17,
# most at the start. After 10,000 steps 71 % of the average of width .1 are the
# weights at the first step, and 94 % of that of width .28. The mean position
# in training, of which 1 is the end, is .07 instead of .89. With
# update_every=10, which the package's README has, it is .35. With 1 it is
# right. The profile would have to count updates, not steps.
#
# It matters here because the length of an average is chosen after training
# with this class, and what it then compares are weights of the start.
#
# Output seen (10,000 steps; start: share of the weights at the first step;
# position: mean over the average, and truth (gamma + 1) / (gamma + 2)):
#   every default width 0.05: start  0.3961, position 0.151, truth 0.947
#   every default width  0.1: start  0.7144, position 0.070, truth 0.888
#   every default width 0.28: start  0.9415, position 0.011, truth 0.539
#   every 10      width 0.05: start  0.0000, position 0.642, truth 0.947
#   every 10      width  0.1: start  0.2302, position 0.351, truth 0.888
#   every 10      width 0.28: start  0.4277, position 0.105, truth 0.539
#   every 1       width 0.05: start  0.0000, position 0.947, truth 0.947
#   every 1       width  0.1: start  0.0000, position 0.888, truth 0.888
#   every 1       width 0.28: start  0.0000, position 0.539, truth 0.539
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  ema-pytorch==0.8.3 torch==2.13.0 numpy==2.4.6
cd "$folder"
venv/bin/python -W ignore - <<'PYTHON'
import numpy as np
import torch
from ema_pytorch import PostHocEMA

steps = 10_000
# Two weights: one is 1 at the first step and then 0, the other is the step.
model = torch.nn.Linear(1, 2, bias=False)


def trained(name, **arguments):
  averages = PostHocEMA(
    model, sigma_rels=(.05, .28), checkpoint_folder=name,
    checkpoint_dtype=torch.float32, **arguments)
  for step in range(steps):
    with torch.no_grad():
      model.weight[:, 0] = torch.tensor([float(step == 0), step / steps])
    averages.update()
  return averages


found = {}
for name, arguments in (
    ("default", {}), ("10", {"update_every": 10}), ("1", {"update_every": 1})):
  averages = trained(name, **arguments)
  for width in (.05, .1, .28):
    made = averages.synthesize_ema_model(sigma_rel=width).ema_model
    start, position = made.weight[:, 0].tolist()
    roots = np.roots([1, 7, 16 - width**-2, 12 - width**-2])
    gamma = roots.real.max()
    truth = (gamma + 1) / (gamma + 2)
    found[name, width] = start, position, truth
    print(f"every {name:7} width {width:4}: start {start:7.4f}, "
          f"position {position:.3f}, truth {truth:.3f}")
same = (
  found["default", .28][0] > .8 and found["default", .1][0] > .5
  and found["default", .1][1] < .3 and found["10", .1][1] < .6
  and all(abs(found["1", width][1] - found["1", width][2]) < .005
          and abs(found["1", width][0]) < .005 for width in (.05, .1, .28))
)
raise SystemExit(0 if same else "the behaviour has changed")
PYTHON
