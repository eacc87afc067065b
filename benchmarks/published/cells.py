"""What the published tables share: the figures of others, settings that go
through JSON, seconds of the CPU, and means over seeds.
"""

import importlib.metadata
import json
import pathlib
import time
import tomllib
from collections.abc import Callable, Iterable

import numpy as np

from benchmarks import runner

FIGURES = tomllib.loads(
  pathlib.Path(__file__).with_name("published.toml").read_text()
)


def steps(budget: float, number: int, chunk: int = 1) -> int:
  """A share of a recipe's steps, a multiple of the chunk and at least one."""
  return max(1, round(budget * number / chunk)) * chunk


def plain(settings: dict) -> dict:
  """Settings as JSON gives them back: tuples become lists."""
  return json.loads(json.dumps(settings))


def tuples(settings: dict) -> dict:
  """The inverse of `plain`: lists become tuples."""
  as_tuple = lambda v: tuple(v) if isinstance(v, list) else v
  return {name: as_tuple(value) for name, value in settings.items()}


def timed(make: Callable) -> tuple:
  """What make() returns, and its CPU seconds on all cores."""
  begun = time.process_time()
  found = make()
  return found, time.process_time() - begun


def mean(values: list[dict], name: str) -> float:
  """The mean of one measure over seeds."""
  return float(np.mean([value[name] for value in values]))


def means(values: list[dict], **digits: int) -> list[str]:
  """Means over seeds of several measures, each with its number of digits."""
  return [f"{mean(values, name):.{n}f}" for name, n in digits.items()]


def spread(values: Iterable[float], digits: int = 3, sign: str = "+-") -> str:
  """Mean +- standard deviation over seeds; the latter is 0 for one seed."""
  found = np.array([*values])
  deviation = found.std(ddof=1) if len(found) > 1 else 0.0
  return f"{found.mean():.{digits}f} {sign} {deviation:.{digits}f}"


def with_versions(benchmark: runner.Benchmark) -> runner.Benchmark:
  """The benchmark; its record says which peers are installed."""

  def version(name):
    try:
      return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
      return f"no {name}"

  def run(args):
    record = benchmark.run(args)
    peers = ", ".join(map(version, ("torch", "torchcfm", "POT")))
    return record | dict(machine=f"{record['machine']}; {peers}")

  return benchmark._replace(run=run)
