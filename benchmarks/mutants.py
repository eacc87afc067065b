"""Which single-token changes of jaxgen/ its own tests notice.

  python -m benchmarks.mutants --seed 0          about 1 hour on one CPU core
  python -m benchmarks.mutants --seed 0 --resume         goes on after a stop
  python -m benchmarks.mutants --seed 0 --retry      the survivors once more
  python -m benchmarks.mutants --seed 0 --list                what it changes
  python -m benchmarks.mutants --function fields.from_critic     all of them

Each drawn mutant (benchmarks/mutations.py) runs against the tests of its
module, cheapest first, up to the first failure. Killed: a test fails.
Timeout, which counts as killed: more than 3 times the CPU seconds of the
unmutated tests, and 60. Survived: all tests pass, and no line of
benchmarks/equivalent_mutants.toml proves that the change changes nothing. A
mutant that cannot be imported is replaced by the next of the draw.

One process imports jax and its like, no jaxgen and no device, and forks one
child per mutant; a child works in its own copy of the tree. The unmutated
tests of a module run first and must pass. Results are stored in runs/mutants
as they come. Writes docs/results/mutants.md and its record.
"""

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import pathlib
import shutil
import signal
import tomllib
from collections.abc import Iterator

from benchmarks import children, mutants_page, mutations

STORE = mutations.ROOT / "runs" / "mutants"
EQUIVALENT = mutations.ROOT / "benchmarks" / "equivalent_mutants.toml"


class Unmutated:
  """CPU seconds of whole test files, which must pass; stored."""

  def __init__(self, tree: pathlib.Path):
    self.tree, self.path = tree, STORE / "unmutated.json"
    self.known = self._read()
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
    key = hashlib.sha256(text.encode()).hexdigest()
    if self.known.get(test, {}).get("key") != key:
      _, result = children.finish(
        [children.start(self.tree, [test], 3600, test)]
      )
      if result["code"] != 0:
        log = (self.tree / "log.txt").read_text()
        raise RuntimeError(f"{test} fails without any change:\n{log[-3000:]}")
      # The largest so far: the first run compiled, the later ones need not.
      spent = max(result["seconds"], self.known.get(test, {}).get("seconds", 0))
      # Another run may have stored others in the meantime.
      self.known = self._read() | {test: dict(key=key, seconds=spent)}
      self.path.write_text(json.dumps(self.known, indent=1))
      print(f"{test}: passes, {result['seconds']} s", flush=True)
    return self.known[test]["seconds"]

  def _read(self):
    return json.loads(self.path.read_text()) if self.path.exists() else {}


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
        outcome = done.get(mutant.place())
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


def equivalents() -> dict[tuple, str]:
  """{key of a mutant: one line that proves that it changes nothing}."""
  stored = tomllib.loads(EQUIVALENT.read_text()).get("mutant", [])
  fields = ("file", "function", "before", "after")
  return {tuple(row[name] for name in fields): row["proof"] for row in stored}


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


def _arguments():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--number", type=int, default=150)
  parser.add_argument("--jobs", type=int, default=1, help="children at a time")
  parser.add_argument("--list", action="store_true", help="run nothing")
  parser.add_argument("--resume", action="store_true")
  parser.add_argument(
    "--retry", action="store_true", help="resume, survivors once more"
  )
  parser.add_argument("--only", nargs="+", metavar="FILE:LINE")
  parser.add_argument("--function", nargs="+", metavar="MODULE.NAME")
  parser.add_argument("--out", type=pathlib.Path, default="docs/results")
  return parser.parse_args()


def main() -> None:
  """Runs what is missing, prints and, of a seed, writes."""
  args = _arguments()
  signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends its children
  some, known = bool(args.only or args.function), equivalents()
  if args.list:
    drawn = chosen(args, mutations.ROOT)
    for mutant in itertools.islice(drawn, None if some else args.number):
      print(mutants_page.line(mutant))
    return
  name = "chosen" if some else f"seed-{args.seed}"
  path, rows = STORE / f"{name}.jsonl", []
  path.parent.mkdir(parents=True, exist_ok=True)
  if (args.resume or args.retry) and path.exists():
    rows = [json.loads(row) for row in path.read_text().splitlines()]
    rows = [r for r in rows if not (args.retry and r["outcome"] == "survived")]
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  done = {mutations.Mutant(*r["mutant"]).place(): r["outcome"] for r in rows}
  children.warm(STORE / "programs")
  with trees(args.jobs + 1) as copies:
    drawn, number = chosen(args, copies[0]), float("inf")
    if not some:
      number = args.number
      drawn = by_cost(drawn, number, copies[0])
    for mutant, result in run(drawn, number, copies, done):
      rows.append(dict(mutant=mutant, outcome=judge(result), **result))
      with path.open("a") as file:
        file.write(json.dumps(rows[-1]) + "\n")
      spent = f"{result['seconds']} s, {result.get('failure', '')}"
      text = f"{mutants_page.line(mutant)}: {rows[-1]['outcome']}, {spent}"
      print(text, flush=True)
  record = mutants_page.record(rows, known)
  if some:
    print("\n".join(mutants_page.section(record)))
  else:
    mutants_page.write(args.out, args.seed, record)


if __name__ == "__main__":
  main()
