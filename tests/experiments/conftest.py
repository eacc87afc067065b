"""Fixtures of the tests of commands."""

import sys

import numpy as np
import pytest

from experiments.pictures import figures
from jaxgen.metrics import kernel

INTERVALS = {}


@pytest.fixture(autouse=True)
def each_interval_once(monkeypatch):
  """The interval of real data, computed once for each data and settings."""
  compute = kernel.real_interval

  def real_interval(real, *sizes, labels=None, **settings):
    read = [
      None if x is None else np.asarray(x).tobytes() for x in (real, labels)
    ]
    key = (*read, *sizes, *sorted(settings.items()))
    if key not in INTERVALS:
      INTERVALS[key] = compute(real, *sizes, labels=labels, **settings)
    return INTERVALS[key]

  monkeypatch.setattr(kernel, "real_interval", real_interval)


@pytest.fixture
def exits(monkeypatch, capsys):
  """(main, arguments) -> (exit code, all that is printed), in this process."""

  def run(main, *arguments):
    monkeypatch.setattr(sys, "argv", ["command.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
      main()
    printed = "".join(capsys.readouterr())
    assert "Traceback" not in printed
    return caught.value.code, printed

  return run


@pytest.fixture
def drawn(monkeypatch):
  """The figures that are drawn, in place of files."""
  kept = []
  monkeypatch.setattr(figures, "save", lambda figure, path: kept.append(figure))
  yield kept
  figures.plt.close("all")
