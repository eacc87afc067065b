"""Settings are described in sentences, and the way to a loss is short."""

import ast
import itertools
import json
import pathlib
import re
import sys

import pytest

from experiments import edm
from experiments.lib import command_line
from jaxgen.losses import denoising
from tests import processes

HOME = pathlib.Path(__file__).parents[2]
FILES = sorted(HOME.glob("experiments/*.py"))
NUMBERS = re.compile(r"\b(int|float)\b")
RANGES = re.compile(
  r"[Nn]umber of|at least|at most|positive|from 0|from -?\d|[Ss]ide|above|below"
  r"|pixels|each from|Mean of|Step of|Seed"
)
COMMANDS = [path.stem for path in FILES if "__main__" in path.read_text()]


def settings():
  """(file, name, type, description) of every setting."""
  for path in FILES:
    for node in ast.walk(ast.parse(path.read_text())):
      body = getattr(node, "body", [])
      if not (isinstance(node, ast.ClassDef) and "dataclass" in ast.dump(node)):
        continue
      for field, after in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign):
          text = getattr(getattr(after, "value", None), "value", None)
          kind = ast.unparse(field.annotation)
          yield path.name, field.target.id, kind, text


@pytest.mark.parametrize(
  ("name", "kind", "text"),
  [pytest.param(*rest, id=f"{file}-{rest[0]}") for file, *rest in settings()],
)
def test_a_setting_is_described_by_a_sentence(name, kind, text):
  assert isinstance(text, str), f"{name} has no description"
  assert text[0].isupper() and text.endswith("."), text
  assert len(text.split()) >= 3, text
  if NUMBERS.search(kind):
    assert RANGES.search(text), f"{name}: neither a unit nor a range in {text}"


# Runs the commands given as NAME or NAME:PRESET one after the other, and prints
# {name: [exit code, output, whether a device is open]}.
HELP = """
import contextlib, io, json, runpy, sys
found, given = {}, sys.argv[1:]
for command in given:
  name, *preset = command.split(":")
  sys.argv = [name, *preset, "--help"]
  code, printed = None, io.StringIO()
  try:
    with contextlib.redirect_stdout(printed):
      runpy.run_module(f"experiments.{name}", run_name="__main__")
  except SystemExit as stop:
    code = stop.code or 0
  from jax._src import xla_bridge
  opened = xla_bridge.backends_are_initialized()
  found[name] = code, printed.getvalue(), opened
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def helps():
  """What every command prints of itself, in one process of their own."""
  has_presets = lambda n: (
    "PRESETS" in (HOME / f"experiments/{n}.py").read_text()
  )
  given = [name + ":smoke" * has_presets(name) for name in COMMANDS]
  done = processes.python("-c", HELP, *given, cwd=HOME)
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_every_setting_and_opens_no_device(name, helps):
  code, printed, opened = helps[name]
  assert code == 0 and not opened
  assert "usage" in printed and "--" in printed


def test_few_files_lie_between_the_command_line_and_the_loss(
  tmp_path, monkeypatch
):
  """Files of experiments/ and jaxgen/ on the stack when a loss is first called.

  A batch passes through those below the loop alone.
  """
  found = []
  whole = denoising.denoising

  def traced(*args, **kwargs):
    frame = sys._getframe(1)
    while frame is not None:
      path = pathlib.Path(frame.f_code.co_filename)
      if path.is_relative_to(HOME) and "tests" not in path.parts:
        name = str(path.relative_to(HOME))
        if name.startswith(("experiments", "jaxgen")) and name not in found:
          found.append(name)
      frame = frame.f_back
    return whole(*args, **kwargs)

  class Stopped(Exception):
    pass

  def once(*args, **kwargs):
    traced(*args, **kwargs)
    raise Stopped

  monkeypatch.setattr(denoising, "denoising", once)
  flags = ["smoke", "--run-dir", str(tmp_path / "run"), "--num-steps", "6"]
  monkeypatch.setattr(sys, "argv", ["edm", *flags])
  with pytest.raises(Stopped):
    command_line.main(edm.__file__, edm.PRESETS, edm.run)
  assert found[0] == "experiments/edm.py"
  assert len(found) <= 6, found
  batch = found[: found.index("jaxgen/training/loop.py") + 1]
  assert len(batch) <= 3, batch
