"""Which single-token changes of jaxgen/ its own tests notice.

  python -m benchmarks mutants --seed 0          about 1 hour on one CPU core
  python -m benchmarks mutants --seed 0 --resume         goes on after a stop
  python -m benchmarks mutants --seed 0 --retry      the survivors once more
  python -m benchmarks mutants --seed 0 --list                what it changes
  python -m benchmarks mutants --function fields.from_critic     all of them

Each drawn mutant (benchmarks/checks/mutations.py) runs against the tests of its
module, cheapest first, up to the first failure. Killed: a test fails.
Timeout, which counts as killed: more than 3 times the CPU seconds of the
unmutated tests, and 60. Survived: all tests pass, and no line of
benchmarks/checks/equivalent_mutants.toml proves that the change changes
nothing. A mutant that cannot be imported is replaced by the next of the draw.

One process imports jax and its like, no jaxgen and no device, and forks one
child per mutant; a child works in its own copy of the tree. The unmutated
tests of a module run first and must pass. Results are stored in runs/mutants
as they come.
"""

import argparse
import collections
import contextlib
import hashlib
import itertools
import json
import os
import pathlib
import shutil
import signal
from collections.abc import Iterator

from benchmarks import pages, runner
from benchmarks.checks import children, mutations

STORE = mutations.ROOT / "runs" / "mutants"
OUTCOMES = ("killed", "timeout", "survived", "equivalent")


class Unmutated:
  """CPU seconds of whole test files, which must pass; stored."""

  def __init__(self, tree: pathlib.Path):
    self.tree, self.path = tree, STORE / "tests.json"
    code = hashlib.sha256()
    for path in sorted(tree.glob("jaxgen/**/*.py")):
      code.update(path.read_bytes())
    self.code = code.hexdigest()

  def seconds(self, test: str) -> float:
    """Of a file, from the store or by running it.

    Raises:
      RuntimeError: it fails.
    """
    text = self.code + (self.tree / test).read_text()
    settings = dict(key=hashlib.sha256(text.encode()).hexdigest())
    found = runner.known(self.path, test, settings)
    if found is None:
      child = children.start(self.tree, [test], 3600, test)
      _, result = children.finish([child])
      if result["code"] != 0:
        log = (self.tree / "log.txt").read_text()
        raise RuntimeError(f"{test} fails without any change:\n{log[-3000:]}")
      # The largest so far: the first run compiled, the later ones need not.
      before = runner.read(self.path).get(test, dict(values=dict(seconds=0)))
      spent = max(result["seconds"], before["values"]["seconds"])
      found = dict(seconds=spent)
      runner.store(self.path, test, settings, found)
      print(f"{test}: passes, {result['seconds']} s", flush=True)
    return found["seconds"]


def judge(result: dict) -> str:
  """unimportable, timeout, killed or survived."""
  if result.get("unimportable"):
    return "unimportable"
  if result["code"] == "timeout":
    return "timeout"
  return "survived" if result["code"] == 0 else "killed"


@contextlib.contextmanager
def trees(number: int) -> Iterator[list[pathlib.Path]]:
  """Copies of the tree as it is now: what changes later changes no result."""
  home = STORE / f"trees-{os.getpid()}"
  copies = [home / str(i) for i in range(number)]
  try:
    for tree in copies:
      children.copy_tree(tree)
    yield copies
  finally:
    shutil.rmtree(home, ignore_errors=True)


def run(
  drawn: Iterator[mutations.Mutant],
  number: float,
  copies: list[pathlib.Path],
  done: dict,
) -> Iterator[tuple[mutations.Mutant, dict]]:
  """(mutant, result) until `number` that can be imported are done.

  The first copy stays as it is, each of the others is of one child at a time.
  """
  base, *slots = copies
  unmutated, running = Unmutated(base), []
  try:
    while True:
      while slots and number > 0 and (mutant := next(drawn, None)):
        outcome = done.get(place_of(mutant))
        number -= outcome != "unimportable"
        if outcome is None:
          running.append(_begin(mutant, slots.pop(), unmutated))
      if not running:
        return
      child, result = children.finish(running)
      shutil.copy2(base / child.label.file, child.slot / child.label.file)
      slots.append(child.slot)
      number += judge(result) == "unimportable"
      yield child.label, result
  finally:
    for child in running:
      os.killpg(child.pid, signal.SIGKILL)


def _begin(mutant, slot, unmutated):
  """Writes the mutated source into slot and starts its tests."""
  first, *others = mutations.tests_of(mutant.file, unmutated.tree)
  seconds = {test: unmutated.seconds(test) for test in (first, *others)}
  file = slot / mutant.file
  source = mutations.mutate(file.read_text(), mutant, mutant.new)
  file.write_text(source)
  # Compiled files are told apart by seconds and size: a time of its own.
  moment = int(hashlib.sha256(source.encode()).hexdigest()[:7], 16)
  os.utime(file, (moment, moment))
  tests = [first, *sorted(others, key=seconds.__getitem__)]
  return children.start(slot, tests, 3 * sum(seconds.values()) + 60, mutant)


def chosen(
  args: argparse.Namespace, root: pathlib.Path
) -> Iterator[mutations.Mutant]:
  """The mutants asked for: drawn, or all of some lines and functions."""
  if not (args.only or args.function):
    return mutations.draw(args.seed, root)
  found = [
    mutant
    for site in mutations.every_site(root)
    if f"{site.file}:{site.line}" in (args.only or ())
    or any(_within(site, name) for name in (args.function or ()))
    for mutant in mutations.mutants((root / site.file).read_text(), site)
  ]
  if not found:
    raise ValueError("no token to change there")
  return iter(found)


def by_cost(
  drawn: Iterator[mutations.Mutant], number: int, root: pathlib.Path
) -> Iterator[mutations.Mutant]:
  """The first ones by module, those of few test files first; then the rest."""
  cost = lambda mutant: (
    len(mutations.tests_of(mutant.file, root)),
    mutant.file,
  )
  yield from sorted(itertools.islice(drawn, number), key=cost)
  yield from drawn


def _within(site, name):
  """Whether module.function, functions inside it too, holds the site."""
  dotted = site.file.removesuffix(".py").replace("/", ".")
  return f".{dotted}.{site.function}.".find(f".{name}.") >= 0


def flags(parser: argparse.ArgumentParser) -> None:
  """What is changed, and what of it is run."""
  runner.seed_flag(parser)
  parser.add_argument("--list", action="store_true", help="run nothing")
  parser.add_argument(
    "--retry", action="store_true", help="resume, survivors once more"
  )
  parser.add_argument("--only", nargs="+", metavar="FILE:LINE")
  parser.add_argument("--function", nargs="+", metavar="MODULE.NAME")


def measure(args) -> list[dict]:
  """Runs what is missing; a row for every mutant."""
  some = bool(args.only or args.function)
  name = "chosen" if some else f"seed-{args.seed}"
  path = STORE / f"{name}.json"
  runner.start(path, args.resume or args.retry)
  rows = {place: cell["values"] for place, cell in runner.read(path).items()}
  if args.retry:
    rows = {k: r for k, r in rows.items() if r["outcome"] != "survived"}
  done = {k: r["outcome"] for k, r in rows.items()}
  children.warm(STORE / "programs")
  with trees(args.jobs + 1) as copies:
    drawn, number = chosen(args, copies[0]), float("inf")
    if not some:
      number = args.number
      drawn = by_cost(drawn, number, copies[0])
    for mutant, result in run(drawn, number, copies, done):
      row = dict(mutant=mutant, outcome=judge(result), **result)
      rows[place_of(mutant)] = row
      runner.store(path, place_of(mutant), {}, row)
      spent = f"{result['seconds']} s, {result.get('failure', '')}"
      print(f"{mutations.line(mutant)}: {row['outcome']}, {spent}", flush=True)
  return list(rows.values())


def place_of(mutant: mutations.Mutant) -> str:
  """The name of its cell in the store."""
  return json.dumps(mutant.place())


def measure_and_count(args) -> dict | None:
  """The record of all seeds; that of chosen mutants is printed."""
  signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends its children
  some = bool(args.only or args.function)
  if args.list:
    drawn = chosen(args, mutations.ROOT)
    for mutant in itertools.islice(drawn, None if some else args.number):
      print(mutations.line(mutant))
    return None
  found = counted(measure(args), mutations.equivalents())
  if some:
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
