"""benchmarks.checks.command_lines: every script and flag has lines."""

import collections
import pathlib

import pytest

import experiments
from benchmarks import pages
from benchmarks.checks import command_draws, command_lines
from tests import expect

SCRIPTS = sorted(
  path.stem
  for path in pathlib.Path(experiments.__file__).parent.glob("*.py")
  if "class Config(" in path.read_text()
)


def test_every_script_has_lines():
  assert sorted(command_draws.SHARES) == SCRIPTS
  for part in ("bases", "together"):
    assert sorted(command_draws.TABLES[part]) == SCRIPTS, part


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_flag_is_in_lines(script):
  known = command_draws.TABLES["flags"]
  kinds = command_draws.types(script)
  assert kinds.keys() <= known.keys()
  for base in command_draws.TABLES["bases"][script]:
    own = {*base.get("right", {}), *base.get("wrong", {})} - {"sets"}
    assert own | {*base["always"].split()} <= kinds.keys(), base["words"]
  for seed in range(3):  # raises for a flag in fewer than three lines
    lines = command_draws.draw_lines(seed, command_draws.NUMBER, [script])
    kinds = collections.Counter(line["right"] for line in lines)
    assert len(lines) == command_draws.SHARES[script] == 2 * kinds[True]


def test_a_flag_without_values_is_named(monkeypatch):
  flags = dict(command_draws.TABLES["flags"])
  del flags["betas"]
  monkeypatch.setitem(command_draws.TABLES, "flags", flags)
  said = "^information_bottleneck: no values for betas$"
  expect.error(said, command_draws.types, "information_bottleneck")


def test_lines_do_not_depend_on_other_scripts_or_on_the_number():
  some = command_draws.draw_lines(0, command_draws.NUMBER, ["vae", "export"])
  assert some == [
    *command_draws.draw_lines(0, command_draws.NUMBER, ["vae"]),
    *command_draws.draw_lines(0, command_draws.NUMBER, ["export"]),
  ]
  few = command_draws.draw_lines(0, command_draws.NUMBER // 2, ["vae"])
  assert few == some[: len(few)] and 2 < len(few) < len(some)
  assert few != command_draws.draw_lines(1, command_draws.NUMBER // 2, ["vae"])


def test_the_page_has_a_row_for_each_script():
  case = dict(flags={"width": "8"}, words=["smoke"], said="", faults=[])
  cases = [
    case | dict(script="vae", right=True, as_command=True),
    case | dict(script="vae", right=False, faults=["exit code 0"]),
    case | dict(script="text", right=True),
  ]
  record = dict(command="NAME --flag", machine="a machine", cases=cases)
  parts = command_lines.tables(record)
  page = pages.page("command_lines", parts)
  assert "`python -m benchmarks NAME --flag` on a machine." in page
  assert "| vae | 1 | 2 | 1 | 1 | 1 | 0 |" in page
  assert "| text | 1 | 1 | 1 | 1 | 0 | 0 |" in page
  assert "1 of 1 lines that were run again" in page
  assert "1 of 3 lines failed." in page and "`vae smoke`: exit code 0" in page


@pytest.mark.parametrize(
  "right, code, said, same, faults",
  [
    (True, 0, "done", True, []),
    (True, 2, "error: no", True, ["exit code 2"]),
    (False, 2, "error: --width: no", True, []),
    (False, 2, "error: --depth: no", True, ["--width is not named"]),
    (False, 2, "error: --width: no", False, ["something was written"]),
    (False, 0, "--width", True, ["exit code 0"]),
    (False, 2, "--width\n2", True, ["2 lines of message"]),
  ],
)
def test_how_a_line_should_end(right, code, said, same, faults):
  line = dict(right=right, names=["--width"])
  found = dict(code=code, said=said)
  assert command_lines.faults_of(line, found, same) == faults


def test_boxes_of_any_width_say_the_same():
  narrow = dict(said="╭─ Value error ─╮\n│ --width: no   │\n│ help │\n")
  wide = dict(said="╭─ Value error ──────╮\n│ --width: no        │\n")
  told = command_lines._told
  assert told(narrow) == told(wide) == ["Value error", "--width: no"]
  assert told(dict(said="error: --width: no\n")) == ["error: --width: no"]
