"""Which single-token changes of jaxgen/ its own tests notice.

  python -m benchmarks mutants --seed 0          about 1 hour on one CPU core
  python -m benchmarks mutants --seed 0 --resume         goes on after a stop
  python -m benchmarks mutants --seed 0 --retry      the survivors once more
  python -m benchmarks mutants --seed 0 --list                what it changes
  python -m benchmarks mutants --function fields.from_critic     all of them

Each sampled mutant (benchmarks/checks/mutations.py) runs against the tests of
its module, fastest first, up to the first failure. Killed: a test fails.
Timeout, which counts as killed: more than 60 CPU seconds and 3 times those of
the unmutated tests. Survived: all tests pass, and no line of
benchmarks/checks/equivalent_mutants.toml proves that the change changes
nothing. A mutant that cannot be imported is replaced by the next of the seed.

One process imports jax and the other libraries and forks a child per mutant,
which works in its own copy of the tree (benchmarks/checks/children.py). The
unmutated tests of a module run first and must pass. Results are stored in
runs/mutants as soon as they are known.
"""

import collections
import hashlib
import itertools
import json
import math
import os
import pathlib
import shutil
import signal
import tempfile
from collections.abc import Iterator

from benchmarks import pages, runner
from benchmarks.checks import children, mutations

STORE = mutations.ROOT / "runs" / "mutants"
OUTCOMES = ("killed", "timeout", "survived", "equivalent")


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
    process = children.start(tree, [test], 3600)
    _, result = children.finish({process: tree})
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


def run(
  sampled: Iterator[mutations.Mutant],
  number: float,
  done: dict[str, str],
  base: pathlib.Path,
  slots: list[pathlib.Path],
) -> Iterator[tuple[mutations.Mutant, dict]]:
  """Yields (mutant, result) until `number` that can be imported are done.

  The tree `base` stays as it is; each slot is the tree of one child at a time.
  """
  used, changed = {}, {}  # by process
  try:
    while True:
      while slots and number > 0 and (mutant := next(sampled, None)):
        outcome = done.get(place_of(mutant))
        number -= outcome != "unimportable"
        if outcome is None:
          process = _begin(mutant, slots[-1], base)
          used[process], changed[process] = slots.pop(), mutant
      if not used:
        return
      process, result = children.finish(used)
      slot, mutant = used.pop(process), changed.pop(process)
      shutil.copy2(base / mutant.file, slot / mutant.file)
      slots.append(slot)
      number += judge(result) == "unimportable"
      yield mutant, result
  finally:
    for process in used:
      os.killpg(process, signal.SIGKILL)


def _begin(mutant, slot, base):
  """Writes the mutated source into slot and starts its tests: the process."""
  first, *others = mutations.tests_of(mutant.file, base)
  seconds = {test: unmutated_seconds(base, test) for test in (first, *others)}
  file = slot / mutant.file
  source = mutations.mutate(file.read_text(), mutant, mutant.new)
  file.write_text(source)
  # Python recompiles a file of another time or size: a time of its own.
  moment = int(hashlib.sha256(source.encode()).hexdigest()[:7], 16)
  os.utime(file, (moment, moment))
  tests = [first, *sorted(others, key=seconds.__getitem__)]
  return children.start(slot, tests, 3 * sum(seconds.values()) + 60)


def chosen(args, root: pathlib.Path) -> Iterator[mutations.Mutant]:
  """The mutants of --seed, or all those of --function."""
  if not args.function:
    return mutations.draw(args.seed, root)
  found = [
    mutant
    for site in mutations.every_site(root)
    if any(_within(site, name) for name in args.function)
    for mutant in mutations.mutants((root / site.file).read_text(), site)
  ]
  if not found:
    raise SystemExit(f"--function: no token to change in {args.function}")
  return iter(found)


def _within(site, name):
  """Whether module.function, or a function inside it, holds the site."""
  dotted = site.file.removesuffix(".py").replace("/", ".")
  return f".{name}." in f".{dotted}.{site.function}."


def place_of(mutant: mutations.Mutant) -> str:
  """The name of a mutant's cell in the store."""
  return json.dumps([*mutant.key(), mutant.column])


def flags(parser) -> None:
  """Adds --seed, --list, --retry and --function."""
  runner.seed_flag(parser)
  add = parser.add_argument
  add("--list", action="store_true", help="print the mutants and run nothing")
  add("--retry", action="store_true", help="--resume, and rerun the survivors")
  add("--function", nargs="+", metavar="MODULE.NAME", help="instead of --seed")


def measure(args, number: float) -> list[dict]:
  """Runs the mutants without a result: a row for every mutant."""
  name = "chosen" if args.function else f"seed-{args.seed}"
  path = STORE / f"{name}.json"
  if not (args.resume or args.retry):
    path.unlink(missing_ok=True)
  rows = {place: cell["values"] for place, cell in runner.read(path).items()}
  if args.retry:
    rows = {k: r for k, r in rows.items() if r["outcome"] != "survived"}
  done = {k: r["outcome"] for k, r in rows.items()}
  children.warm(STORE / "programs")
  with tempfile.TemporaryDirectory(prefix="trees-", dir=STORE) as home:
    # Copies of the tree as it is now: later changes of it change no result.
    base, *slots = [pathlib.Path(home, str(i)) for i in range(args.jobs + 1)]
    for tree in (base, *slots):
      children.copy_tree(tree)
    for mutant, result in run(chosen(args, base), number, done, base, slots):
      row = dict(mutant=mutant, outcome=judge(result), **result)
      rows[place_of(mutant)] = row
      runner.store(path, place_of(mutant), {}, row)
      spent = f"{result['seconds']} s, {result.get('failure', '')}"
      print(f"{mutations.line(mutant)}: {row['outcome']}, {spent}", flush=True)
  return list(rows.values())


def measure_and_count(args) -> dict | None:
  """The record of all seeds; the counts of --function are printed instead."""
  signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends its children
  number = None if args.function else args.number
  if args.list:
    for mutant in itertools.islice(chosen(args, mutations.ROOT), number):
      print(mutations.line(mutant))
    return None
  STORE.mkdir(parents=True, exist_ok=True)
  found = counted(measure(args, number or math.inf), mutations.equivalents())
  if args.function:
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
    measure_and_count, tables, dict(number=150, jobs=1), flags, resumes=True
  )
}
