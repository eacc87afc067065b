#!/usr/bin/env bash
# The optimal transport matcher of torchcfm trains on two thirds of each batch.
#
# Packages: torchcfm 1.0.7, torch 2.13.0, numpy 2.4.6; on CPU.
#
# The guess, written before running: between two batches of equal size the
# optimal plan is a permutation, so that ExactOptimalTransportConditionalFlow-
# Matcher gives every example of the batch one noise vector of the batch. Each
# example is used once per epoch, as in ConditionalFlowMatcher, which pairs them
# in the order given.
#
# What happens: the plan is a permutation, but the pairs are drawn from it with
# replacement. Of 256 examples 162 are used on average, some of them up to seven
# times, always with the same noise vector, and the others are dropped: a
# fraction of 1/e. The argument that decides it, replace=True of sample_plan, is
# not one of the matcher's. The gradient has the right mean. Its noise, and a
# validation loss, are those of a batch smaller by half: here the mean of the
# matched examples varies with a variance twice that of the batch.
#
# It matters here because optimal transport pairs are said to lower the variance
# of training; drawn like this they raise it as well, and an epoch does not see
# the data set.
#
# Output seen (300 batches of 256 normal examples):
#   in order      used 256.0 of 256, one up to 1 times, variance 1.01 / 256
#   transport     used 162.1 of 256, one up to 7 times, variance 2.09 / 256
#   replace=False used 256.0 of 256, one up to 1 times, variance 1.01 / 256
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  torchcfm==1.0.7 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import functools

import numpy as np
import torch
from torchcfm import conditional_flow_matching as matching
from torchcfm.optimal_transport import OTPlanSampler

size, batches = 256, 300
torch.manual_seed(0)
np.random.seed(0)


def by_matcher(matcher):
  # At t = 1 and sigma = 0 the point on the path is the matched example.
  ends = torch.ones(size)
  return lambda x0, x1: (
    matcher.sample_location_and_conditional_flow(x0, x1, t=ends)[1])


apart = functools.partial(
  torch.cdist, compute_mode="donot_use_mm_for_euclid_dist")
sampler = OTPlanSampler(method="exact")
ways = {
  "in order": by_matcher(matching.ConditionalFlowMatcher(sigma=0.0)),
  "transport": by_matcher(
    matching.ExactOptimalTransportConditionalFlowMatcher(sigma=0.0)),
  "replace=False": lambda x0, x1: (
    sampler.sample_plan(x0, x1, replace=False)[1]),
}
used = {name: [] for name in ways}
most = {name: 0 for name in ways}
mean = {name: [] for name in ways}
for _ in range(batches):
  noise, data = torch.randn(size, 2), torch.randn(size, 2)
  for name, run in ways.items():
    # Which example of the batch every matched one is.
    rows = apart(run(noise, data), data).argmin(1)
    count = torch.bincount(rows, minlength=size)
    used[name].append((count > 0).sum().item())
    most[name] = max(most[name], count.max().item())
    mean[name].append(data[rows].mean(0).numpy())
for name in ways:
  variance = size * np.var(mean[name])
  print(f"{name:13} used {np.mean(used[name]):.1f} of {size}, "
        f"one up to {most[name]} times, "
        f"variance {variance:.2f} / {size}")
share = {name: np.mean(used[name]) / size for name in ways}
same = (
  share["in order"] == share["replace=False"] == 1
  and .6 < share["transport"] < .66
)
raise SystemExit(0 if same else "the behaviour has changed")
PYTHON
