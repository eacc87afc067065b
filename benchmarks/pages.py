"""The pages of docs/results: their prose stays, their marked parts are filled.

A page is Markdown. What comes from its record stands between two marks, on
lines of their own or within a paragraph,

  <!-- NAME -->
  | a | table |
  <!-- end -->

and a benchmark makes {NAME: lines} from its record. So the prose of a page can
change without a new measurement, and its figures cannot.
"""

import json
import pathlib
import re
from typing import Any

from benchmarks import runner

PAGES = runner.ROOT / "docs" / "results"
PART = re.compile(r"<!-- ([^>]+) -->(\n?)(.*?)(\n?)<!-- end -->", re.DOTALL)


def table(head: str, rows) -> list[str]:
  """Lines of a table: `head` has its titles, separated by |."""
  return [
    f"| {head} |".replace("|  |", "| |"),
    "|---" * len(re.findall(r"(?<!\\)\|", f"{head}|")) + "|",
    *(f"| {' | '.join(map(str, cells))} |" for cells in rows),
  ]


def fill(name: str, text: str, parts: dict[str, Any]) -> str:
  """Fills in {part: lines, or one string}; other parts become "Not measured."

  Raises:
    ValueError: the page has no place for a part.
  """
  places = {found[1] for found in PART.finditer(text)}
  if lost := parts.keys() - places:
    raise ValueError(f"{name}.md: expected marked parts {sorted(lost)}")

  def made(found):
    part = parts.get(found[1], "Not measured.")
    content = part if isinstance(part, str) else "\n".join(part)
    return f"<!-- {found[1]} -->{found[2]}{content}{found[4]}<!-- end -->"

  return PART.sub(made, text)


def page(name: str, parts: dict[str, Any]) -> str:
  """The page of docs/results with these parts."""
  return fill(name, (PAGES / f"{name}.md").read_text(), parts)


def write(out: pathlib.Path, name: str, parts: dict, record: Any) -> None:
  """Writes out/name.md and out/name.json, and prints the page."""
  out.mkdir(parents=True, exist_ok=True)
  text = page(name, parts)
  (out / f"{name}.md").write_text(text)
  (out / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
  print(text)


def stored(out: pathlib.Path, name: str) -> dict:
  """The record of an earlier run, {} if there is none."""
  path = out / f"{name}.json"
  return json.loads(path.read_text()) if path.exists() else {}
