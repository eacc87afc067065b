"""What every benchmark does with its figures: a page and a record of them."""

import argparse
import json
import os
import pathlib
import platform
from typing import Any

import jax


def parser(doc: str | None, **counts: int) -> argparse.ArgumentParser:
  """A command line with --out, and integers that are at least 1."""
  found = argparse.ArgumentParser(
    description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  for name, default in counts.items():
    found.add_argument(f"--{name}", type=_positive, default=default)
  found.add_argument("--out", type=pathlib.Path, default="docs/results")
  return found


def parse_with_run(parser: argparse.ArgumentParser) -> argparse.Namespace:
  """Adds --run: the directory of a trained model, or none to leave it out.

  What is neither is refused before anything is measured.
  """
  from experiments.lib import drawing  # heavy, and few benchmarks need it

  parser.add_argument("--run", default="runs/demo")
  args = parser.parse_args()
  if args.run != "none":
    try:
      drawing.read(args.run)
    except (OSError, ValueError) as error:
      parser.error(f"{error} (make demo trains one; --run none leaves it out)")
  return args


def _positive(text):
  if not (text.isdecimal() and int(text) >= 1):
    raise argparse.ArgumentTypeError(f"expected at least 1, got {text}")
  return int(text)


def machine() -> str:
  """Where it was measured: cores, jax and Python."""
  cores = len(os.sched_getaffinity(0))
  return (
    f"{jax.devices()[0].device_kind} ({cores} cores), jax {jax.__version__},"
    f" Python {platform.python_version()}"
  )


def write(out: pathlib.Path, name: str, page: str, record: Any) -> None:
  """Writes out/name.md and out/name.json, and prints the page."""
  out.mkdir(parents=True, exist_ok=True)
  (out / f"{name}.md").write_text(page)
  (out / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
  print(page)
