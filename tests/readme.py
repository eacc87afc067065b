"""The figures of README's tables, and the records that they come from."""

import json
import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent


def records(name):
  return json.loads((ROOT / f"docs/results/{name}.json").read_text())


def cells(title):
  """Of the lines of README's tables with this title, the numbers."""
  lines = (ROOT / "README.md").read_text().splitlines()
  found = [line for line in lines if line.startswith(f"| {title} |")]
  return [re.findall(r"-?\d*\.?\d+", line[len(title) + 3 :]) for line in found]


def rounded(value, shown):
  """Whether a figure of README is the value to the digits that it shows."""
  digits = len(shown.partition(".")[2])
  return abs(value - float(shown)) <= 0.5001 * 10**-digits


def has_row(title, values):
  return any(
    len(shown) == len(values) and all(map(rounded, values, shown))
    for shown in cells(title)
  )
