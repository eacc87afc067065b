"""Fixtures of the tests of commands."""

import hashlib
import sys

import numpy as np
import pytest

from experiments.pictures import figures, pyplot
from jaxgen.metrics import classifier, kernel

KNOWN = {}


def remembered(compute):
  """The function, which is called once for the same arguments."""

  def hashed(x):
    if not isinstance(x, np.ndarray):
      return x
    return x.shape, x.dtype.str, hashlib.sha256(x.tobytes()).digest()

  def call(*args, **kwargs):
    named = ((name, hashed(kwargs[name])) for name in sorted(kwargs))
    key = (compute.__name__, *map(hashed, args), *named)
    if key not in KNOWN:
      KNOWN[key] = compute(*args, **kwargs)
    return KNOWN[key]

  return call


@pytest.fixture(autouse=True, scope="module")
def measures_of_data_once():
  """The interval and the classifier of real data take seconds each."""
  with pytest.MonkeyPatch.context() as patch:
    for module, name in ((kernel, "real_interval"), (classifier, "fit")):
      patch.setattr(module, name, remembered(getattr(module, name)))
    yield


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
