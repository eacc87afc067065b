#!/usr/bin/env bash
# The moving average of diffusers warms up with use_ema_warmup=False as well,
# for 90,000 steps at decay .9999.
#
# Packages: diffusers 0.42.1, torch 2.13.0, numpy 2.4.6; on CPU.
#
# The guess, written before running: EMAModel(parameters, decay=.9999) has decay
# .9999 at every step, as its argument use_ema_warmup is False by default. After
# 10,000 steps it averages over about as many, as torch's AveragedModel with
# get_ema_multi_avg_fn(.9999) does.
#
# What happens: the decay is (1 + i) / (10 + i) after i steps, if that is less
# than .9999, and it is less for the first 89,990 steps. The argument decides
# between two kinds of warm-up. Whatever the decay asked for, the average is
# over about the last tenth of the training so far: after 10,000 steps the mean
# age of the averaged parameters is 1,000 steps for decay .9999 and .99999
# alike, where constant decays give 6,300 and 9,500. The docstring says "whether
# to use EMA warmup". min_decay=decay, not meant for it, gives a constant decay.
#
# It matters here because lengths of averages are compared: in a run of 10,000
# steps all decays from .999 on are nearly the same average.
#
# Output seen (the parameter is the number of the step; age: the last step less
# the average, after 10,000 steps):
#   decay 0.99: age 99, last decay 0.99000; with min_decay 99; torch 99
#   decay 0.999: age 963, last decay 0.99900; with min_decay 999; torch 999
#   decay 0.9999: age 1000, last decay 0.99910; with min_decay 6320; torch 6320
#   decay 0.99999: age 1000, last decay 0.99910; with min_decay 9515; torch 9515
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  diffusers==0.42.1 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from diffusers.training_utils import EMAModel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

steps = 10_000


class Counter(torch.nn.Module):

  def __init__(self):
    super().__init__()
    self.step = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))


def of_diffusers(decay, **how):
  counter = Counter()
  ema = EMAModel(counter.parameters(), decay=decay, **how)
  for step in range(steps):
    counter.step.data.fill_(step)
    ema.step(counter.parameters())
  return steps - 1 - ema.shadow_params[0].item(), ema.cur_decay_value


def of_torch(decay):
  counter = Counter()
  ema = AveragedModel(counter, multi_avg_fn=get_ema_multi_avg_fn(decay))
  for step in range(steps):
    counter.step.data.fill_(step)
    ema.update_parameters(counter)
  return steps - 1 - ema.module.step.item()


same = True
for decay in (.99, .999, .9999, .99999):
  age, last = of_diffusers(decay)
  fixed, _ = of_diffusers(decay, min_decay=decay)
  other = of_torch(decay)
  print(f"decay {decay}: age {age:.0f}, last decay {last:.5f}; "
        f"with min_decay {fixed:.0f}; torch {other:.0f}")
  if decay > .999:
    same = same and 900 < age < 1100 and last < .9992 and other > 6000
raise SystemExit(0 if same else "the behaviour has changed")
PYTHON
