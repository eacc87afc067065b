"""The test suite: its tests, wall time, CPU seconds and compiled programs.

  python -m benchmarks suite                                  this checkout
  python -m benchmarks suite --root ../before --name before   another version

Runs pytest as `make test` does, with this Python and its packages, and keeps a
row for each name: as long as the tests take. CPU seconds are those of all
processes. Programs are those that the tests' own processes compile; one that is
found in a cache is not counted, nor are those of the commands that tests start.
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

from benchmarks import pages, runner

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
# Left out of the environment, as they change what is measured.
LEFT_OUT = "JAX_COMPILATION_CACHE_DIR JAX_NUM_CPU_DEVICES PYTEST_ADDOPTS"
LEFT_OUT += " XLA_FLAGS"
NOW = "now"  # the name of this checkout's row
CHILDREN = resource.RUSAGE_CHILDREN


def measure(root: pathlib.Path) -> dict[str, float]:
  """The figures of one run of all tests of a checkout.

  Raises:
    ValueError: pytest did not run the tests, or none of them compiled.
  """
  bare = {k: v for k, v in os.environ.items() if k not in LEFT_OUT.split()}
  words = [sys.executable, *"-m pytest -p counted -p no:cacheprovider".split()]
  with tempfile.TemporaryDirectory() as folder:
    (pathlib.Path(folder) / "counted.py").write_text(PLUGIN)
    begun, before = time.perf_counter(), resource.getrusage(CHILDREN)
    done = subprocess.run(
      words,
      cwd=root,
      env=bare | {"PYTHONPATH": folder},
      stdout=subprocess.PIPE,
      text=True,
    )
    wall, after = time.perf_counter() - begun, resource.getrusage(CHILDREN)
    print(done.stdout[-2000:], file=sys.stderr)
    if done.returncode not in (0, 1):
      raise ValueError(f"{root}: pytest ended with code {done.returncode}")
    texts = [path.read_text() for path in pathlib.Path(folder).glob("*.json")]
  counts = [json.loads(text) for text in texts]
  total = lambda name: sum(each.get(name, 0) for each in counts)
  if not total("compiled"):
    raise ValueError(f"{root}: expected tests that compile programs, got none")
  cpu = lambda usage: usage.ru_utime + usage.ru_stime
  found = dict(wall=wall, cpu=cpu(after) - cpu(before))
  found |= dict(programs=total("compiled") - total("found"))
  return outcomes(done.stdout) | found


def outcomes(text: str) -> dict[str, float]:
  """Numbers of tests from the last line that pytest prints."""
  last = text.strip().splitlines()[-1]
  number = {kind: int(n) for n, kind in re.findall(r"(\d+) (\w+)", last)}
  kinds = "failed", "error", "errors"  # the last two are one and several
  failed = sum(number.get(kind, 0) for kind in kinds)
  return dict(tests=number.get("passed", 0) + failed, failed=failed)


def run(args) -> dict:
  """Measures one version; rows of other names stay."""
  commit = subprocess.run(
    ["git", "-C", args.root, "describe", "--always", "--dirty"],
    capture_output=True,
    text=True,
  )
  row = measure(args.root.resolve()) | dict(
    commit=commit.stdout.strip(), machine=runner.machine()
  )
  return pages.stored(args.out, "suite") | {args.name: row}


def tables(record: dict) -> dict:
  """The parts of the page."""
  head = (
    "version | commit | tests | of which fail | wall, minutes | CPU, minutes"
    " | programs | CPU seconds a test | programs a test"
  )
  lines = [
    (
      name,
      row["commit"],
      f"{row['tests']:,}",
      row["failed"],
      f"{row['wall'] / 60:.1f}",
      f"{row['cpu'] / 60:.1f}",
      f"{row['programs']:,}",
      f"{row['cpu'] / row['tests']:.2f}",
      f"{row['programs'] / row['tests']:.2f}",
    )
    for name, row in record.items()
  ]
  other = lambda name: f" --root ../{name} --name {name}"
  flags = {name: "" if name == NOW else other(name) for name in record}
  made = [
    f"- {name}: `python -m benchmarks suite{flags[name]}` on {row['machine']}"
    for name, row in record.items()
  ]
  return dict(made=made, suite=pages.table(head, lines))


def flags(parser) -> None:
  """Adds --root and --name."""
  what = "the checkout; default: this one"
  parser.add_argument("--root", type=pathlib.Path, default=".", help=what)
  parser.add_argument("--name", default=NOW, help="of the row")


def check(parser, args) -> None:
  """Rejects a --root without tests, before anything is measured."""
  if not (args.root / "tests").is_dir():
    parser.error(f"--root: expected a checkout with tests, got {args.root}")


BENCHMARKS = {"suite": runner.Benchmark(run, tables, flags=flags, check=check)}
