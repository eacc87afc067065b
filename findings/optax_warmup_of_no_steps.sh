#!/usr/bin/env bash
# optax.warmup_constant_schedule with no warm-up steps never leaves its first
# rate, where its two siblings start at the peak.
#
# Packages: optax 0.2.8, jax 0.10.2, jaxlib 0.10.2.
#
# The guess, written before running: with warmup_steps=0 there is no warm-up, so
# that every schedule of the family begins at peak_value. A sweep over warm-up
# lengths may therefore begin at 0.
#
# What happens: warmup_cosine_decay_schedule and warmup_exponential_decay_schedule
# do begin at the peak, as they join two schedules and the second begins at count
# 0. warmup_constant_schedule is a linear schedule and nothing else, and a linear
# schedule over no steps is the constant init_value. With the usual init_value of
# 0 the learning rate is 0 for ever: the loss is finite, and no parameter moves. A
# message says so, at a level of logging that is hidden by default. With one
# warm-up step the peak is reached at count 1.
#
# It matters here because the number of warm-up steps is a setting of every run;
# the setting 0 is given the peak as the first rate.
#
# Output seen (rates at counts 0, 1, 50):
#   constant, 0 steps: 0 0 0
#   cosine, 0 steps: 0.001 0.0009998 0.0005
#   exponential, 0 steps: 0.001 0.000933 3.125e-05
#   constant, 1 step: 0 0.001 0.001
#   |params| after 100 steps of SGD, constant, 0 steps: 1 (was 1)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  optax==0.2.8 jax==0.10.2 jaxlib==0.10.2
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import jax
import optax

peak = 1e-3
schedules = {
  "constant, 0 steps": optax.warmup_constant_schedule(0.0, peak, 0),
  "cosine, 0 steps": optax.warmup_cosine_decay_schedule(0.0, peak, 0, 100),
  "exponential, 0 steps": optax.warmup_exponential_decay_schedule(
    0.0, peak, 0, 10, 0.5),
  "constant, 1 step": optax.warmup_constant_schedule(0.0, peak, 1),
}
rates = {}
for name, schedule in schedules.items():
  rates[name] = [float(schedule(count)) for count in (0, 1, 50)]
  print(f"{name}:", *(f"{rate:.4g}" for rate in rates[name]))

rule = optax.sgd(schedules["constant, 0 steps"])
params = 1.0
state = rule.init(params)
for _ in range(100):
  updates, state = rule.update(jax.grad(lambda x: x**2)(params), state)
  params = float(optax.apply_updates(params, updates))
print(f"|params| after 100 steps of SGD, constant, 0 steps: {params:g} (was 1)")

same = rates["constant, 0 steps"] == [0, 0, 0] and params == 1
for name in ("cosine, 0 steps", "exponential, 0 steps"):
  same = same and abs(rates[name][0] - peak) < 1e-8
same = same and abs(rates["constant, 1 step"][1] - peak) < 1e-8
raise SystemExit(0 if same else "the behaviour has changed")
PYTHON
