"""Records on disk and on the screen."""

import io
import json
import sys

import pytest

from jaxgen.training import logging
from tests import expect


def test_records_come_back(tmp_path):
  path = tmp_path / "metrics.jsonl"
  log = logging.jsonl(path, 0)
  assert not path.exists()
  log(10, {"loss": 0.1, "critic/loss": float("inf")})
  log(20, {"loss": 1e-30})
  first, second = logging.read(path)
  assert list(first) == ["step", "seconds", "loss", "critic/loss"]
  assert first["loss"] == 0.1 and first["critic/loss"] == float("inf")
  assert second["step"] == 20 and second["loss"] == 1e-30
  assert second["seconds"] >= first["seconds"] >= 0
  assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_resumed_run_cuts_the_file_back(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_text(
    '{"step": 1, "seconds": 50.0, "loss": 3.0}\n'
    '{"step": 2, "seconds": 60.0, "loss": 2.0}\n'
    '{"step": 3, "seconds": 70.0, "loss": 1.0}\n'
    '{"step": 4, "sec'
  )
  assert [r["step"] for r in logging.read(path)] == [1, 2, 3]
  log = logging.jsonl(path, 2)
  assert [r["step"] for r in logging.read(path)] == [1, 2]
  log(3, {"loss": 1.5})
  last = logging.read(path)[-1]
  assert last["loss"] == 1.5 and 60 <= last["seconds"] < 70
  assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_bad_files(tmp_path):
  path = tmp_path / "metrics.jsonl"
  with pytest.raises(FileNotFoundError, match="no such metrics file"):
    logging.read(path)
  for line in ("loss: 3", "[1]", '{"loss": 2}'):
    path.write_text(line + '\n{"step": 2}\n')
    expect.error("line 1: expected a record", logging.jsonl, path, 1)
    assert path.read_text().startswith(line)


def test_plain_lines_where_there_is_no_terminal(capsys):
  with logging.progress(100, 50) as (log, _):
    log(60, {"loss": 0.25, "a": 2.0})
    log(100, {"loss": 0.125})
  first, second = capsys.readouterr().err.splitlines()
  assert first.startswith("step 60  loss 0.25 a 2  ")
  assert "steps/s" in first and first.endswith("left")
  assert second.startswith("step 100  loss 0.125")
  assert second.endswith("0:00:00 left")


class Clock:
  """A clock that is set by hand, in seconds."""

  def __init__(self, monkeypatch):
    self.now = 1000.0
    monkeypatch.setattr(logging.time, "monotonic", lambda: self.now)


def test_speed_and_time_left_are_those_since_the_last_call(capsys, monkeypatch):
  clock = Clock(monkeypatch)
  with logging.progress(8000, 48) as (log, begin):
    clock.now += 60
    begin(50)  # the first steps compile
    clock.now += 5
    log(60, {})  # 10 steps in 5 s
    clock.now += 10
    log(800, {})  # 740 in 10 s: 7200 are left
    log(800, {})  # none: no speed
    clock.now += 0.5
    log(800, {})
  lines = capsys.readouterr().err.splitlines()
  assert lines[0].split() == "step 60 2 steps/s 1:06:10 left".split()
  assert lines[1].split() == "step 800 74 steps/s 0:01:37 left".split()
  assert all("0 steps/s" in line and "? left" in line for line in lines[2:])


def test_seconds_are_those_of_training_to_a_millisecond(tmp_path, monkeypatch):
  clock, path = Clock(monkeypatch), tmp_path / "metrics.jsonl"
  log = logging.jsonl(path, 0)
  clock.now += 1.23456
  log(1, {})
  clock.now = 17.0  # another process, whose clock began elsewhere
  log = logging.jsonl(path, 1)
  clock.now += 2
  log(2, {})
  assert [r["seconds"] for r in logging.read(path)] == [1.235, 3.235]


def test_a_record_without_seconds_counts_none(tmp_path, monkeypatch):
  clock, path = Clock(monkeypatch), tmp_path / "metrics.jsonl"
  path.write_text('{"step": 1}\n')
  log = logging.jsonl(path, 1)
  clock.now += 2
  log(2, {})
  assert logging.read(path)[-1]["seconds"] == 2


def test_a_bar_on_a_terminal(monkeypatch):
  class Terminal(io.StringIO):
    def isatty(self):
      return True

  screen = Terminal()
  monkeypatch.setattr(sys, "stderr", screen)
  monkeypatch.setenv("COLUMNS", "120")
  monkeypatch.setenv("TERM", "xterm")
  with logging.progress(100, 0) as (log, _):
    log(100, {"loss": 0.125})
  shown = screen.getvalue()
  assert "100/100" in shown and "loss 0.125" in shown and "left" in shown


def test_a_full_disk_is_one_line(tmp_path):
  """/dev/full takes no byte, at any time."""
  path = tmp_path / "metrics.jsonl"
  log = logging.jsonl(path, 0)
  path.symlink_to("/dev/full")
  with pytest.raises(OSError, match="No space left on device") as error:
    log(1, {"loss": 0.5})
  text = str(error.value)
  assert text.startswith(f"{path}: cannot be written") and "\n" not in text
  assert "free space and run the same command again" in text


def test_a_record_is_in_the_file_when_log_returns(tmp_path):
  """So that a process killed then has it."""
  path = tmp_path / "metrics.jsonl"
  log = logging.jsonl(path, 0)
  for step in (1, 2):
    log(step, {"loss": 0.5})
    assert path.read_bytes().count(b"\n") == step


def test_a_full_disk_at_the_start_leaves_the_records(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_text('{"step": 1}\n{"step": 2}\n')
  (tmp_path / "metrics.jsonl.part").symlink_to("/dev/full")
  with pytest.raises(OSError, match="No space left on device"):
    logging.jsonl(path, 1)
  assert len(logging.read(path)) == 2


def test_the_best_record_of_a_curve():
  nan, inf = float("nan"), float("inf")
  values = [2.0, -inf, 1.0, nan, 5.0, 1.0, 5.0, inf]
  records = [{"step": 10 * i, "a": v} for i, v in enumerate(values)]
  records.insert(2, {"step": 15, "b": 0.0})
  assert logging.best(records, "a") == (20, 1.0)
  assert logging.best(records, "a", max) == (40, 5.0)
  assert logging.best(iter(records), "b") == (15, 0.0)
  assert logging.best(records, "c") is logging.best([], "a") is None
  assert logging.best([{"step": 1, "a": nan}], "a") is None
