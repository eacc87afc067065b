"""benchmarks.checks.suite: what pytest prints, counts of programs, the page."""

import pytest

from benchmarks import pages
from benchmarks.checks import suite

SOME = """
import jax
import numpy as np
import pytest

def test_programs():
  one = jax.jit(lambda x: x + 1)
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


def test_a_checkout_is_measured(tmp_path):
  (tmp_path / "test_some.py").write_text(SOME)
  found = suite.measure(tmp_path)
  assert (found["tests"], found["failed"]) == (3, 1)
  assert found["programs"] == 2  # one a size
  assert found["wall"] > 0.5 and found["cpu"] > 0.5


def test_ratios_are_also_per_test():
  ours = dict(tests=20, failed=0, wall=120.0, cpu=240.0, programs=50)
  other = dict(tests=10, failed=1, wall=60.0, cpu=60.0, programs=100)
  record = dict(machine="one", repeats=1, versions=[ours, other])
  parts = suite.tables(record)
  assert parts["suite"][2:] == [
    "| tests | 20 | 10 |  |  |",
    "| of which fail | 0 | 1 |  |  |",
    "| wall time, minutes | 2.0 | 1.0 | 2.00 | 1.00 |",
    "| CPU time, minutes | 4.0 | 1.0 | 4.00 | 2.00 |",
    "| compiled programs | 50 | 100 | 0.50 | 0.25 |",
  ]
  assert "on one." in pages.page("suite", parts)
  alone = suite.tables(record | dict(versions=[ours]))
  assert alone["suite"][2] == "| tests | 20 |"
