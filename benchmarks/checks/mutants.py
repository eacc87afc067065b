"""Which single-token changes of jaxgen/ its own tests notice.

  python -m benchmarks mutants --seed 0          about 1 hour on one CPU core
  python -m benchmarks mutants --seed 0 --resume         goes on after a stop
  python -m benchmarks mutants --seed 0 --retry      the survivors once more
  python -m benchmarks mutants --seed 0 --list                what it changes
  python -m benchmarks mutants --function fields.from_critic     all of them
  python -m benchmarks mutants --listed FILE      those that --list printed in
                            another version, as far as their lines are the same

Each sampled mutant (benchmarks/checks/mutations.py) runs against the tests of
its module, fastest first, up to the first failure. Killed: a test fails.
Timeout, which counts as killed: more than 60 CPU seconds and 3 times those of
the unmutated tests. Survived: all tests pass, and no line of
benchmarks/checks/equivalent_mutants.toml proves that the change changes
nothing. A mutant that cannot be imported is replaced by the next of the seed.

Each mutant is written into a copy of the tree, in which pytest runs. The
unmutated tests of a module run first and must pass. Limits are of CPU seconds,
so that a busy machine causes no timeouts. Results are stored in runs/mutants as
soon as they are known.
"""

import collections
import contextlib
import hashlib
import itertools
import json
import math
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator

from benchmarks import pages, runner
from benchmarks.checks import mutations

STORE = mutations.ROOT / "runs" / "mutants"
OUTCOMES = ("killed", "timeout", "survived", "equivalent")
PYTEST = "-m pytest -x -n 0 -p no:cacheprovider --basetemp tmp --tb short"
ENVIRONMENT = dict(
  MPLBACKEND="agg",
  JAX_PLATFORMS="cpu",
  JAX_COMPILATION_CACHE_DIR=str(STORE / "programs"),
  JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
  JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES="-1",
)
# What an import that fails prints in pytest's log.
UNIMPORTABLE = re.compile("^E   (Import|ModuleNotFound|Name|Syntax)Error", re.M)


def copy_tree(tree: pathlib.Path) -> None:
  """Copies the repository's files, except those that git ignores, to tree."""
  command = ["git", "ls-files", "-co", "--exclude-standard"]
  listed = subprocess.check_output(command, cwd=mutations.ROOT, text=True)
  for name in listed.splitlines():
    source = mutations.ROOT / name
    if source.is_file():
      (tree / name).parent.mkdir(parents=True, exist_ok=True)
      shutil.copy2(source, tree / name)


def run_tests(tree: pathlib.Path, tests: list[str], limit: float) -> dict:
  """Runs test files of a tree up to the first failure.

  Returns the exit code, or "timeout" after `limit` CPU seconds or ten times as
  many by the clock; the failed test; whether an import failed; CPU seconds.
  """
  with (tree / "log.txt").open("w+") as log:
    process = subprocess.Popen(
      [sys.executable, *PYTEST.split(), *tests],
      cwd=tree,
      env=os.environ | ENVIRONMENT,
      stdout=log,
      stderr=log,
      start_new_session=True,
    )
    resource.prlimit(process.pid, resource.RLIMIT_CPU, (int(limit),) * 2)
    timer = threading.Timer(10 * limit, process.kill)
    timer.start()
    try:
      _, status, usage = os.wait4(process.pid, 0)
    finally:
      timer.cancel()
      with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # and what the tests started
    log.seek(0)
    said = log.read()
  code = process.returncode = os.waitstatus_to_exitcode(status)
  failures = re.findall("^(?:FAILED|ERROR) (.*?)(?: - |$)", said, re.M)
  unimportable = "ERROR collecting" in said and UNIMPORTABLE.search(said)
  return dict(
    code="timeout" if code in (-signal.SIGKILL, -signal.SIGXCPU) else code,
    failure=failures[-1] if failures else "",
    unimportable=bool(unimportable),
    seconds=round(usage.ru_utime + usage.ru_stime, 1),
  )


def unmutated_seconds(tree: pathlib.Path, test: str) -> float:
  """CPU seconds of a test file, which must pass; stored for this source.

  Raises:
    RuntimeError: it fails.
  """
  path, digest = STORE / "tests.json", hashlib.sha256()
  for file in (*sorted(tree.glob("jaxgen/**/*.py")), tree / test):
    digest.update(file.read_bytes())
  settings = dict(key=digest.hexdigest())
  found = runner.known(path, test, settings)
  if found is None:
    result = run_tests(tree, [test], 3600)
    if result["code"] != 0:
      log = (tree / "log.txt").read_text()
      raise RuntimeError(f"{test} fails without any change:\n{log[-3000:]}")
    # The largest so far: the first run compiles, later ones may not.
    before = runner.read(path).get(test, dict(values=dict(seconds=0)))
    spent = max(result["seconds"], before["values"]["seconds"])
    found = dict(seconds=spent)
    runner.store(path, test, settings, found)
    print(f"{test}: passes, {result['seconds']} s", flush=True)
  return found["seconds"]


def judge(result: dict) -> str:
  """unimportable, timeout, killed or survived."""
  if result.get("unimportable"):
    return "unimportable"
  if result["code"] == "timeout":
    return "timeout"
  return "survived" if result["code"] == 0 else "killed"


def run(mutant: mutations.Mutant, tree: pathlib.Path) -> dict:
  """Runs the tests of a mutant in a tree, which is restored."""
  first, *others = mutations.tests_of(mutant.file, tree)
  seconds = {test: unmutated_seconds(tree, test) for test in (first, *others)}
  file = tree / mutant.file
  source = file.read_text()
  changed = mutations.mutate(source, mutant, mutant.new)
  file.write_text(changed)
  # Python recompiles a file of another time or size: a time of its own.
  moment = int(hashlib.sha256(changed.encode()).hexdigest()[:7], 16)
  os.utime(file, (moment, moment))
  tests = [first, *sorted(others, key=seconds.__getitem__)]
  result = run_tests(tree, tests, 3 * sum(seconds.values()) + 60)
  file.write_text(source)
  return result


def chosen(args, root: pathlib.Path) -> Iterator[mutations.Mutant]:
  """The mutants of --seed, or all those of --function or --listed."""
  if args.listed:
    return mutations.of_lines(args.listed.read_text(), root)
  if args.function:
    return mutations.of_functions(args.function, root)
  return mutations.draw(args.seed, root)


def picked(args) -> bool:
  """Whether others are chosen than those of --seed."""
  return bool(args.listed or args.function)


def place_of(mutant: mutations.Mutant) -> str:
  """The name of a mutant's cell in the store."""
  return json.dumps([*mutant.key(), mutant.column])


def flags(parser) -> None:
  """Adds --seed, --list, --retry, --function and --listed."""
  runner.seed_flag(parser)
  add = parser.add_argument
  add("--list", action="store_true", help="print the mutants and run nothing")
  add("--retry", action="store_true", help="--resume, and rerun the survivors")
  add("--function", nargs="+", metavar="MODULE.NAME", help="instead of --seed")
  what = "instead of --seed: lines that --list printed, of another version"
  add("--listed", type=pathlib.Path, metavar="FILE", help=what)


def measure(args) -> list[dict]:
  """Runs the mutants without a result: a row for every mutant."""
  name = "chosen" if picked(args) else f"seed-{args.seed}"
  path = STORE / f"{name}.json"
  if not (args.resume or args.retry):
    path.unlink(missing_ok=True)
  rows = {place: cell["values"] for place, cell in runner.read(path).items()}
  if args.retry:
    rows = {k: r for k, r in rows.items() if r["outcome"] != "survived"}
  STORE.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(prefix="tree-", dir=STORE) as folder:
    tree = pathlib.Path(folder)  # later changes of the code change no result
    copy_tree(tree)
    number = math.inf if picked(args) else args.number
    for mutant in chosen(args, tree):
      if number == 0:
        break
      place = place_of(mutant)
      if place not in rows:
        result = run(mutant, tree)
        row = dict(mutant=mutant, outcome=judge(result), **result)
        rows[place] = row
        runner.store(path, place, {}, row)
        said = f"{row['outcome']}, {result['seconds']} s, {result['failure']}"
        print(f"{mutations.line(mutant)}: {said}", flush=True)
      number -= rows[place]["outcome"] != "unimportable"
  if not rows:
    raise SystemExit("expected a change that this version has, got none")
  return list(rows.values())


def measure_and_count(args) -> dict | None:
  """The record of all seeds; the counts of others are printed."""
  signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the tests
  if args.list:
    number = None if picked(args) else args.number
    for mutant in itertools.islice(chosen(args, mutations.ROOT), number):
      print(mutations.line(mutant))
    return None
  found = counted(measure(args), mutations.equivalents())
  if picked(args):
    print("\n".join(section(found)))
    return None
  known = pages.stored(args.out, "mutants") | {f"seed {args.seed}": found}
  return dict(sorted(known.items()))


def counted(rows: list[dict], proofs: dict[tuple, str]) -> dict:
  """Counts by folder and outcome, survivors, and equivalents with proofs."""
  folders: dict = collections.defaultdict(lambda: dict.fromkeys(OUTCOMES, 0))
  survived, equivalent, redrawn = [], [], 0
  for row in rows:
    mutant, outcome = mutations.Mutant(*row["mutant"]), row["outcome"]
    if outcome == "unimportable":
      redrawn += 1
      continue
    if outcome == "survived" and mutant.key() in proofs:
      outcome = "equivalent"
      equivalent.append([mutations.line(mutant), proofs[mutant.key()]])
    elif outcome == "survived":
      survived.append(mutations.line(mutant))
    folder = str(pathlib.PurePath(mutant.file).parent)
    folders[folder][outcome] += 1
  return dict(
    folders=dict(sorted(folders.items())),
    survived=sorted(survived),
    equivalent=sorted(equivalent),
    redrawn=redrawn,
  )


def section(found: dict) -> list[str]:
  """The lines of one record."""
  total = {
    outcome: sum(row[outcome] for row in found["folders"].values())
    for outcome in OUTCOMES
  }
  rows = []
  for folder, row in [*found["folders"].items(), ("all", total)]:
    number = sum(row.values())
    valid = max(number - row["equivalent"], 1)
    rate = f"{100 * (row['killed'] + row['timeout']) / valid:.1f} %"
    rows.append((folder, number, *(row[o] for o in OUTCOMES), rate))
  lines = pages.table(f"folder | mutants | {' | '.join(OUTCOMES)} | rate", rows)
  lines += ["", f"Could not be imported and were replaced: {found['redrawn']}."]
  lines += ["", "Survivors:" if found["survived"] else "No survivor."]
  if found["survived"]:
    lines += ["", *(f"- `{text}`" for text in found["survived"])]
  if found["equivalent"]:
    lines += ["", "Equivalent:", ""]
    lines += [f"- `{text}`: {proof}" for text, proof in found["equivalent"]]
  return lines


def tables(record: dict) -> dict:
  """The part of the page: a section for each seed."""
  lines = []
  for name, found in record.items():
    lines += ["", f"## {name.capitalize()}", "", *section(found)]
  return dict(seeds=lines[1:])


BENCHMARKS = {
  "mutants": runner.Benchmark(
    measure_and_count, tables, dict(number=150), flags, resumes=True
  )
}
