"""Fixtures of the tests of commands."""

import sys

import pytest

from experiments.pictures import figures, pyplot


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
  pyplot.close("all")
