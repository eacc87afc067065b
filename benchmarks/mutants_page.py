"""The page of benchmarks.mutants: rates by folder, survivors, proofs."""

import collections
import json
import pathlib

from benchmarks import mutations, results

OUTCOMES = ("killed", "timeout", "survived", "equivalent")
HEADER = """# Mutants

`make mutants` draws 150 single-token changes of `jaxgen/` by a seed and runs
each against the tests of its module (benchmarks/mutants.py says how). Killed:
a test fails. Timeout: it exceeds 3 times the CPU time of its tests, and counts
as killed. Equivalent: the line given proves that no value changes. The rate is
(killed + timeout) / (all - equivalent).

Seed 0 came first and its survivors were given tests, so its own rate says
nothing about other changes: the seeds after it do.
"""


def line(mutant: mutations.Mutant) -> str:
  """The place of a mutant and its change."""
  change = f"{mutant.old!r} -> {mutant.new!r}"
  return f"{mutant.file}:{mutant.line} {change}  {mutant.before}"


def record(rows: list[dict], proofs: dict[tuple, str]) -> dict:
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
      equivalent.append([line(mutant), proofs[mutant.key()]])
    elif outcome == "survived":
      survived.append(line(mutant))
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
  head = ["folder", "mutants", *OUTCOMES, "rate"]
  lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
  total = {
    outcome: sum(row[outcome] for row in found["folders"].values())
    for outcome in OUTCOMES
  }
  for folder, row in [*found["folders"].items(), ("all", total)]:
    number = sum(row.values())
    valid = max(number - row["equivalent"], 1)
    rate = f"{100 * (row['killed'] + row['timeout']) / valid:.1f} %"
    cells = [folder, number, *(row[outcome] for outcome in OUTCOMES), rate]
    lines.append(f"| {' | '.join(map(str, cells))} |")
  lines += ["", f"Could not be imported and were replaced: {found['redrawn']}."]
  lines += ["", "Survivors:" if found["survived"] else "No survivor."]
  if found["survived"]:
    lines += ["", *(f"- `{text}`" for text in found["survived"])]
  if found["equivalent"]:
    lines += ["", "Equivalent:", ""]
    lines += [f"- `{text}`: {proof}" for text, proof in found["equivalent"]]
  return lines


def write(out: pathlib.Path, seed: int, found: dict) -> None:
  """Adds a seed's record to out/mutants.json and writes the page of all."""
  path = out / "mutants.json"
  known = json.loads(path.read_text()) if path.exists() else {}
  known[f"seed {seed}"] = found
  known = dict(sorted(known.items()))
  lines = [HEADER]
  for name, row in known.items():
    lines += [f"## {name.capitalize()}", "", *section(row), ""]
  results.write(out, "mutants", "\n".join(lines), known)
