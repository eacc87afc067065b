"""A run that dies in every way, one after the other, ends as the unbroken one.

benchmarks/checks/crashes.py does the same at twenty random moments of a larger
run.
"""

import signal

from benchmarks import pages
from benchmarks.checks import crashes
from experiments.lib import run as runs
from jaxgen.training import checkpoint

TOY = (
  "toy --width 128 --num-blocks 1 --batch-size 8 --warmup-steps 1"
  " --sample-steps 2 --num-steps 200 --save-every 10 --log-every 5"
  " --samples-every 1000 --ema-decay 0.9 --ema-length 0.05 0.1"
  " --snapshot-every 50"
)


def test_killed_stopped_and_without_a_disk(tmp_path):
  cache, whole, run_dir = (tmp_path / n for n in ("cache", "whole", "run"))
  crashes.finish(TOY, whole, cache)

  process = crashes.start(TOY, run_dir, cache)  # killed anywhere
  assert crashes.wait_for(process, (run_dir / "metrics.jsonl").exists)
  (ended,) = crashes.end(process, run_dir, signal.SIGKILL)
  assert ended["code"] == -signal.SIGKILL and ended["step"] < 200

  process = crashes.start(TOY, run_dir, cache)  # killed inside a save
  assert crashes.wait_for(process, crashes.completed(run_dir))
  (ended,) = crashes.end(process, run_dir, signal.SIGKILL, in_save=True)
  assert ended["code"] == -signal.SIGKILL and ended["checkpoints"]
  assert not (run_dir / "samples.png").exists()

  process = crashes.start(TOY, run_dir, cache)  # stopped
  assert crashes.wait_for(process, crashes.completed(run_dir))
  (ended,) = crashes.end(process, run_dir, signal.SIGTERM)
  assert ended["code"] == 128 + signal.SIGTERM and not ended["in_save"]
  step = ended["checkpoints"][-1]
  said = f"SIGTERM: stopped and saved at step {step}; resume with: python -m"
  assert crashes.last_line(run_dir).startswith(said)

  process = crashes.start(TOY, run_dir, cache)  # no room to write
  assert crashes.wait_for(process, crashes.completed(run_dir))
  crashes.fill(process, None)
  assert process.wait() == 2
  assert crashes.last_line(run_dir).startswith("error: ")
  assert "run the same command again" in crashes.last_line(run_dir)
  said = (tmp_path / "run.log").read_text()
  assert "Traceback" not in said and "ERROR" not in said
  assert step < checkpoint.steps(runs.checkpoints(run_dir))[-1] < 200

  crashes.finish(TOY, run_dir, cache)
  expected = crashes.contents(whole)
  assert crashes.differing(crashes.contents(run_dir), expected) == []
  assert sum(name.startswith("metrics") for name in expected) == 40
  for part in ("checkpoints/200/state", "checkpoints/200/ema", "snapshots/50"):
    assert any(name.startswith(part) for name in expected)


def test_what_differs_is_seen(tmp_path):
  left = {"a": b"1", "b": b"2", "c": b"3"}
  assert crashes.differing(left, dict(left)) == []
  assert crashes.differing(left, {"a": b"1", "b": b"0", "d": b"4"}) == [*"bcd"]


def test_the_page_counts():
  end = dict(code=-9, step=3, checkpoints=[], in_save=True)
  cases = [
    dict(how="SIGKILL", ends=[end, end | dict(in_save=False)], differing=[]),
    dict(how="SIGKILL", ends=[end], differing=["metrics.jsonl/3"]),
    dict(how="full disk", ends=[dict(said="error: full")], differing=[]),
  ]
  record = dict(machine="cpu", flags="smoke", kills=2, seed=0, minutes=1.0)
  parts = crashes.tables(record | dict(compared=9, cases=cases))
  page = pages.page("crashes", parts)
  assert "| SIGKILL | 2 | 3 | 2 | 1 |" in page
  assert "| full disk | 1 | 1 | - | 1 |" in page
  assert (
    parts["compared"] == "9 arrays, records and pictures"
    and "--seed 0` on cpu" in page
  )
  assert parts["said"] == "On the full disk: `error: full`"
