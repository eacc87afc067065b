#!/usr/bin/env bash
# "rk4" of torchdyn is a method of first order on every field that depends on
# time.
#
# Packages: torchdyn 1.0.6, torchdiffeq 0.2.5 (for comparison), torch 2.13.0;
# float64 on CPU.
#
# The guess, written before running: the error falls by 16 when the number of
# steps is doubled. With time as a component of the state, the same equation
# gives the same numbers.
#
# What happens: the error falls by 2. With 64 calls it is twice that of Euler's
# method with 64 calls, and 800 times that of the midpoint rule with 32. The
# weights of the stages are right, but the times are not: the four nodes 0, 1/2,
# 1/2, 1 are read from the first one on, where the second belongs. The second
# stage is evaluated at the time of the first and the fourth in the middle of
# the step, instead of at its end. Fields without time do not show it, nor does
# the same equation with time as a component, where the order is four.
#
# It matters here because every field of flow matching and diffusion depends on
# time. torchcfm depends on torchdyn, and its examples sample with it. The
# samples look right, as they do with Euler's method.
#
# Output seen (a sample of N(1, .25) by the exact field of flow matching from
# N(0, 1); error at t = 1, whose value is 1.5):
#   calls                         16        32        64
#   rk4                    -9.52e-02 -4.73e-02 -2.36e-02
#   rk4, time in the state +6.07e-06 +7.03e-08 +8.95e-08
#   torchdiffeq rk4        +1.05e-04 +1.62e-06 -1.55e-08
#   midpoint               -2.24e-04 -2.84e-05 -3.56e-06
#   euler                  -4.43e-02 -2.26e-02 -1.14e-02
#   times of the four stages of one step of rk4: 0.0 0.0 0.5 0.5
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  torchdyn==1.0.6 torchdiffeq==0.2.5 torch==2.13.0 numpy
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
import torchdiffeq
from torchdyn import numerics

mean, std = 1.0, .5


def field(t, x):
  # The mean of x_1 - x_0 given x_t = (1 - t) x_0 + t x_1.
  variance = (1 - t)**2 + (t * std)**2
  return mean + (t * std**2 - (1 - t)) / variance * (x - t * mean)


def with_time(_, state):
  x, t = state
  return torch.stack([field(t, x), torch.ones_like(t)])


def dyn(f, start, times, solver):
  start = torch.tensor(start, dtype=torch.float64)
  return numerics.odeint(f, start, times, solver=solver)[1][-1][0].item()


def diffeq(f, start, times):
  start = torch.tensor(start, dtype=torch.float64)
  return torchdiffeq.odeint(f, start, times, method="rk4")[-1][0].item()


errors = {}
for calls in (16, 32, 64):
  grid = lambda steps: torch.linspace(0, 1, steps + 1, dtype=torch.float64)
  ends = {
    "rk4": dyn(field, [1.0], grid(calls // 4), "rk4"),
    "rk4, time in the state": (
      dyn(with_time, [1.0, 0.0], grid(calls // 4), "rk4")),
    "torchdiffeq rk4": diffeq(field, [1.0], grid(calls // 4)),
    "midpoint": dyn(field, [1.0], grid(calls // 2), "midpoint"),
    "euler": dyn(field, [1.0], grid(calls), "euler"),
  }
  for name, end in ends.items():
    errors.setdefault(name, []).append(end - (mean + std))
print(f"{'calls':22} {16:9} {32:9} {64:9}")
for name, found in errors.items():
  print(f"{name:22}", " ".join(f"{error:+.2e}" for error in found))
visited = []


def noted(t, x):
  visited.append(t.item())
  return field(t, x)


dyn(noted, [1.0], torch.tensor([0.0, 1.0], dtype=torch.float64), "rk4")
print("times of the four stages of one step of rk4:", *visited)
first, second, third = errors["rk4"]
same = (
  visited == [0, 0, .5, .5]
  and 1.8 < first / second < 2.2 and 1.8 < second / third < 2.2
  and abs(third) > abs(errors["euler"][2])
  and abs(errors["rk4, time in the state"][2]) < 1e-5
  and abs(errors["torchdiffeq rk4"][2]) < 1e-5
)
raise SystemExit(0 if same else "the behaviour has changed")
PYTHON
