"""benchmarks.checks.suite: what pytest prints, counts of programs, the page."""

import pytest

from benchmarks import pages
from benchmarks.checks import suite
from tests import expect

SOME = """
import jax
import numpy as np
import pytest

def test_programs():
  one = jax.jit(lambda x: x + NUMBER)
  for size in (2, 3, 3):
    one(np.zeros(size))

@pytest.mark.parametrize("number", [0, 1])
def test_numbers(number):
  assert number
"""


@pytest.mark.parametrize(
  "last, tests, failed",
  [
    ("5 passed in 3.21s", 5, 0),
    ("1 failed, 4 passed, 2 warnings in 61.00s (0:01:01)", 5, 1),
    ("2 failed, 3 errors in 1.00s", 5, 5),
    ("4 passed, 1 error in 1.00s", 5, 1),
  ],
)
def test_the_last_line_says_how_many(last, tests, failed):
  text = f"....\nFAILED 7 passed\n{last}\n"
  assert suite.outcomes(text) == dict(tests=tests, failed=failed)


def test_a_checkout_is_measured_by_all_workers(tmp_path):
  (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -n 2\n")
  for number in "12":
    text = SOME.replace("NUMBER", number)
    (tmp_path / f"test_{number}.py").write_text(text)
  found = suite.measure(tmp_path)
  assert (found["tests"], found["failed"]) == (6, 2)
  assert found["programs"] == 4  # one a size
  assert found["wall"] > 0 and found["cpu"] > 0


def test_what_is_no_suite_is_said(tmp_path, capsys):
  expect.error("pytest ended with code 5", suite.measure, tmp_path)
  (tmp_path / "test_none.py").write_text("def test_nothing():\n  import jax\n")
  expect.error("expected tests that compile", suite.measure, tmp_path)
  benchmark = suite.BENCHMARKS["suite"]
  with pytest.raises(SystemExit):
    benchmark.parse("suite", suite.__doc__, ["--root", str(tmp_path)])
  assert "--root: expected a checkout with" in capsys.readouterr().err


def test_the_page_has_a_row_for_each_version():
  row = dict(tests=20, failed=1, wall=120.0, cpu=240.0, programs=50)
  row |= dict(commit="abc-dirty", machine="one")
  parts = suite.tables({"before": row, "now": row | dict(commit="def")})
  line = "| abc-dirty | 20 | 1 | 2.0 | 4.0 | 50 | 12.00 | 2.50 |"
  assert parts["suite"][2] == f"| before {line}"
  assert "now | def" in pages.page("suite", parts)
