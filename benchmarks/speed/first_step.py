"""CPU seconds until a script's first step, and of each script's imports.

  python -m benchmarks first_step                       about 5 minutes
  python -m benchmarks first_step --other ../before     beside another version

Every figure is of a process of its own: user and system time. cold: an empty
cache of compiled programs; warm: the cache of the cold process before it.
--other is a checkout of another version, whose processes alternate with ours;
a version without a cache of its own gets JAX's, with every program.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from benchmarks import pages, runner
from benchmarks.speed import timing

SCRIPTS = ("edm", "flow_matching", "score_matching", "gan")
SCRIPTS += ("transport_map", "wasserstein", "sample", "evaluate", "encode")
OWN = {"JAX_COMPILATION_CACHE_DIR", "JAX_NUM_CPU_DEVICES", "XLA_FLAGS"}
CPU = "print(sum(os.times()[:2]), flush=True); os._exit(0)"
IMPORT = f"import os, experiments.{{}}; {CPU}"
# Ends the process when the loop says that the first step is done.
FIRST_STEP = f"""
import os, runpy, sys
from jaxgen.training import loop
def run(train_step, state, batch_fn, **_):
  import jax
  jax.block_until_ready(train_step(state, batch_fn(0)))
  {CPU}
loop.run = run
sys.argv[0] = "edm"
runpy.run_module("experiments.edm", run_name="__main__", alter_sys=True)
"""


def seconds(root: pathlib.Path, program: str, *arguments, **variables) -> float:
  """CPU seconds of a process at the root of a checkout."""
  bare = {k: v for k, v in os.environ.items() if k not in OWN}
  done = subprocess.run(
    [sys.executable, "-c", program, *map(str, arguments)],
    cwd=root,
    env=bare | {"PYTHONPATH": str(root)} | variables,
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    check=True,
  )
  return float(done.stdout)


def first_step(root: pathlib.Path, preset: str) -> tuple[float, float]:
  """(cold, warm) CPU seconds to the first step of experiments.edm."""
  with tempfile.TemporaryDirectory() as folder:
    found = {"XDG_CACHE_HOME": folder}
    if not (root / "experiments/lib/programs.py").exists():
      found = {"JAX_COMPILATION_CACHE_DIR": folder}
      found["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    of = lambda n: (preset, "--run-dir", f"{folder}/{n}")
    cold, warm = (seconds(root, FIRST_STEP, *of(n), **found) for n in "ab")
    return cold, warm


def run(args) -> dict:
  """Measures this version, and another one in alternation."""
  roots = [runner.ROOT] + ([args.other.resolve()] if args.other else [])
  rows = []
  for preset in ("digits", "toy"):
    pairs = np.array(
      [[first_step(r, preset) for r in roots] for _ in range(args.repeats)]
    )
    for i, what in enumerate(("cold", "warm")):
      rows.append(row(f"edm {preset}, {what}", pairs[..., i], 0.5))
  for name in SCRIPTS:
    one = [
      [seconds(r, IMPORT.format(name)) for r in roots]
      for _ in range(args.repeats)
    ]
    rows.append(row(f"import experiments.{name}", np.array(one), 0.7))
  return dict(machine=runner.machine(), rows=rows)


def row(name: str, found: np.ndarray, limit: float) -> dict:
  """A row of seconds [repeats, versions]."""
  made = dict(name=name, limit=limit, seconds=np.median(found, 0).tolist())
  if found.shape[1] > 1:
    ratios = np.quantile(found[:, 0] / found[:, 1], timing.QUARTILES)
    made |= dict(zip(("low", "ratio", "high"), ratios.tolist(), strict=True))
  return made


def tables(record: dict) -> dict:
  """The parts of the page."""
  rows = []
  for r in record["rows"]:
    both = [f"{s:.2f}" for s in (*r["seconds"], float("nan"))[:2]]
    ratio = timing.ratio_of(r, ".2f") if "ratio" in r else "-"
    rows.append((r["name"], ratio, f"{r['limit']:.1f}", *both))
  head = "process | ratio | goal | this version, s | the other, s"
  return dict(
    made=f"`python -m benchmarks first_step` on {record['machine']}.",
    seconds=pages.table(head, rows),
  )


def flags(parser) -> None:
  """Adds --other."""
  parser.add_argument("--other", type=pathlib.Path, help="another checkout")


BENCHMARKS = {
  "first_step": runner.Benchmark(run, tables, dict(repeats=5), flags)
}
