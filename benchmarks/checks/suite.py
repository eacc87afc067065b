"""The test suite: its tests, wall time, CPU seconds and compiled programs.

  python -m benchmarks suite                     as long as `make test`
  python -m benchmarks suite --other ../before   beside another version

Runs pytest at the root of this checkout and then of another one, as `make test`
of each does, --repeats times. CPU
seconds are those of all processes. Programs are those that the tests' own
processes compile; one that is found in a cache is not counted, nor are those of
the commands that tests start.
"""

import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

from benchmarks import pages, runner

CHILDREN = resource.RUSAGE_CHILDREN
COLUMNS = ("tests", "failed", "wall", "cpu", "programs")
# Read by pytest before the conftest, so JAX is imported later.
PLUGIN = """
import collections, json, os, pathlib

COUNTS = collections.Counter()


def pytest_collection_finish():
  from jax import monitoring

  def timed(name, seconds, **more):
    COUNTS["compiled"] += name.endswith("/backend_compile_duration")

  def happened(name, **more):
    COUNTS["found"] += name.endswith("/cache_hits")

  monitoring.register_event_duration_secs_listener(timed)
  monitoring.register_event_listener(happened)


def pytest_sessionfinish():
  path = pathlib.Path(__file__).with_name(f"{os.getpid()}.json")
  path.write_text(json.dumps(COUNTS))
"""


def measure(root: pathlib.Path) -> dict[str, float]:
  """The figures of one run of all tests of a checkout."""
  own = {"JAX_COMPILATION_CACHE_DIR", "JAX_NUM_CPU_DEVICES", "XLA_FLAGS"}
  bare = {k: v for k, v in os.environ.items() if k not in own}
  with tempfile.TemporaryDirectory() as folder:
    (pathlib.Path(folder) / "counted.py").write_text(PLUGIN)
    begun, before = time.perf_counter(), resource.getrusage(CHILDREN)
    done = subprocess.run(
      [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "counted",
        "-p",
        "no:cacheprovider",
      ],
      cwd=root,
      env=bare | {"PYTHONPATH": folder},
      stdout=subprocess.PIPE,
      text=True,
    )
    wall, after = time.perf_counter() - begun, resource.getrusage(CHILDREN)
    if done.returncode not in (0, 1):  # pytest did not run the tests
      raise ValueError(f"{root}: pytest ended with code {done.returncode}")
    print(done.stdout[-2000:], file=sys.stderr)
    texts = [path.read_text() for path in pathlib.Path(folder).glob("*.json")]
  counts = [json.loads(text) for text in texts]
  total = lambda name: sum(each.get(name, 0) for each in counts)
  found = outcomes(done.stdout)
  found |= dict(wall=wall, programs=total("compiled") - total("found"))
  cpu = lambda usage: usage.ru_utime + usage.ru_stime
  return found | dict(cpu=cpu(after) - cpu(before))


def outcomes(text: str) -> dict[str, float]:
  """Numbers of tests from the last line that pytest prints."""
  last = text.strip().splitlines()[-1]
  number = {kind: int(n) for n, kind in re.findall(r"(\d+) (\w+)", last)}
  kinds = "failed", "error", "errors"  # the last two are one and several
  failed = sum(number.get(kind, 0) for kind in kinds)
  return dict(tests=number.get("passed", 0) + failed, failed=failed)


def run(args) -> dict:
  """Runs the tests of this version, and of another one in alternation."""
  roots = [runner.ROOT] + ([args.other.resolve()] if args.other else [])
  rows = [[measure(root) for root in roots] for _ in range(args.repeats)]
  median = lambda i, name: float(np.median([row[i][name] for row in rows]))
  versions = [
    {name: median(i, name) for name in COLUMNS} for i in range(len(roots))
  ]
  return dict(machine=runner.machine(), repeats=args.repeats, versions=versions)


def tables(record: dict) -> dict:
  """The parts of the page."""
  ours, *others = record["versions"]
  what = dict(
    tests=("tests", 1),
    failed=("of which fail", 1),
    wall=("wall time, minutes", 60),
    cpu=("CPU time, minutes", 60),
    programs=("compiled programs", 1),
  )
  lines = []
  for name, (title, unit) in what.items():
    found = [version[name] / unit for version in (ours, *others)]
    shown = [
      f"{value:,.1f}" if unit > 1 else f"{value:,.0f}" for value in found
    ]
    lines.append((title, *shown, *_compared(name, ours, others)))
  head = "| this version" + " | the other | ratio | per test" * len(others)
  made = f"`python -m benchmarks suite --repeats {record['repeats']}` on"
  return dict(
    made=f"{made} {record['machine']}.", suite=pages.table(head, lines)
  )


def _compared(name, ours, others):
  """The ratio to the other version, in all and per test."""
  if not others:
    return ()
  if name in ("tests", "failed"):
    return "", ""
  ratio, more = ours[name] / others[0][name], ours["tests"] / others[0]["tests"]
  return f"{ratio:.2f}", f"{ratio / more:.2f}"


def flags(parser) -> None:
  """Adds --other."""
  parser.add_argument("--other", type=pathlib.Path, help="another checkout")


BENCHMARKS = {"suite": runner.Benchmark(run, tables, dict(repeats=1), flags)}
