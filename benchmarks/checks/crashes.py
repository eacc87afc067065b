"""Ends runs at random moments, resumes and compares them with an unbroken one.

  python -m benchmarks crashes          about 10 minutes on two CPU cores

Trains the digits without a break (100 steps, a checkpoint every 10). Then runs
the same command again and again, and kills it (SIGKILL) at a uniformly random
moment of its training; in every other run, as soon after that moment as a
checkpoint is being written. Some runs are killed a second time, anywhere, the
start included. Then come SIGTERM and a full disk. Each run is resumed by the
same command until it is done, and compared byte by byte: parameters, optimizer,
averages, snapshots, metrics.jsonl except for the seconds, pictures.
"""

import contextlib
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np
from orbax.checkpoint import v1 as ocp

from benchmarks import pages, runner, trained
from jaxgen.training import checkpoint, logging

DIGITS = (
  "smoke --num-steps 100 --save-every 10 --log-every 1 --samples-every 40"
  " --multipliers 1 --attention 8 --ema-decay 0.9 --ema-length 0.1"
  " --snapshot-every 25"
)


EDM = "experiments.edm"


def start(flags: str, run_dir: pathlib.Path, cache: pathlib.Path, module=EDM):
  """Starts the process of a run, with its standard error in RUN_DIR.log."""
  settings = {
    "PYTHONPATH": str(runner.ROOT),
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": str(cache),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
  }
  command = [sys.executable, "-m", module, *flags.split()]
  with open(f"{run_dir}.log", "w") as log:
    return subprocess.Popen(
      [*command, "--run-dir", str(run_dir)],
      cwd=runner.ROOT,
      env=os.environ | settings,
      stderr=log,
    )


def last_line(run_dir: pathlib.Path) -> str:
  """The last line of RUN_DIR.log."""
  return pathlib.Path(f"{run_dir}.log").read_text().strip().splitlines()[-1]


def finish(flags: str, run_dir: pathlib.Path, cache: pathlib.Path, module=EDM):
  """Runs the command to its end; RuntimeError if it fails."""
  code = start(flags, run_dir, cache, module).wait()
  if code:
    raise RuntimeError(f"{run_dir}: code {code}: {last_line(run_dir)}")


def wait_for(process, condition) -> bool:
  """Polls until the condition holds; False if the process ends before."""
  while process.poll() is None:
    if condition():
      return True
    time.sleep(0.001)
  return False


def steps(run_dir: pathlib.Path) -> list[int]:
  """The steps of a run's checkpoints."""
  return checkpoint.steps(trained.run.checkpoints(run_dir))


def writing(run_dir: pathlib.Path) -> bool:
  """Whether a checkpoint is half written."""
  return any(trained.run.checkpoints(run_dir).glob("*.orbax-checkpoint-tmp"))


def completed(run_dir: pathlib.Path):
  """() -> whether a checkpoint was completed since this call."""
  before = set(steps(run_dir))
  return lambda: set(steps(run_dir)) - before


def end(process, run_dir, number, *, in_save=False):
  """Sends the signal, during a save if asked: [how that left the run], or [] if
  the process had ended by itself.
  """
  if in_save:
    wait_for(process, lambda: writing(run_dir))
  process.send_signal(number)
  code = process.wait()
  metrics = run_dir / "metrics.jsonl"
  records = logging.read(metrics) if metrics.exists() else []
  state = dict(
    code=code,
    step=records[-1]["step"] if records else 0,
    checkpoints=steps(run_dir),
    in_save=writing(run_dir),
  )
  return [state] if code else []


def contents(run_dir: pathlib.Path) -> dict[str, bytes]:
  """Everything that an unbroken and a resumed run must have in common."""
  found = {}
  last = trained.run.checkpoints(run_dir)  # those before it are of other steps
  for place in (last, trained.run.snapshots(run_dir)):
    with warnings.catch_warnings(), ocp.training.Checkpointer(place) as stored:
      warnings.simplefilter("ignore")
      for step in checkpoint.steps(place)[-1 if place is last else 0 :]:
        for item, leaves in stored.load_checkpointables(step).items():
          for name, leaf in leaves.items():
            array = np.asarray(leaf)
            kind = f"{array.dtype}{array.shape}"
            name = f"{place.name}/{step}/{item}/{name} {kind}"
            found[name] = array.tobytes()
  records = logging.read(run_dir / "metrics.jsonl")
  for number, record in enumerate(records):
    del record["seconds"]
    found[f"metrics.jsonl/{number}"] = json.dumps(record).encode()
  pictures = set(run_dir.rglob("*.png")) - {run_dir / "curves.png"}  # seconds
  return found | {str(p.relative_to(run_dir)): p.read_bytes() for p in pictures}


def differing(left: dict, right: dict) -> list[str]:
  """The names of which the values differ, or that only one side has."""
  names = left.keys() | right.keys()
  return sorted(n for n in names if left.get(n) != right.get(n))


@contextlib.contextmanager
def small_disk(directory: pathlib.Path):
  """Mounts a file system of 64 MB in memory; yields whether that is allowed."""
  directory.mkdir()
  command = f"mount -t tmpfs -o size=64m none {directory}"
  done = subprocess.run(command, shell=True, capture_output=True)
  try:
    yield done.returncode == 0
  finally:
    if done.returncode == 0:
      subprocess.run(["umount", str(directory)], check=True)


def fill(process, disk: pathlib.Path | None) -> str:
  """Leaves the process no room to write checkpoints; returns by what.

  A file takes all that is left of the disk. Without a disk of its own, the size
  of the files that it writes is limited (RLIMIT_FSIZE): below that of a
  checkpoint, above that of its messages.
  """
  if disk is None:
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (2**15, 2**15))
    return "RLIMIT_FSIZE"
  with contextlib.suppress(OSError), (disk / "ballast").open("wb", 0) as file:
    while file.write(bytes(4096)):
      pass
  return "tmpfs"


class Runs:
  """Runs in one directory, and how long one takes."""

  def __init__(self, directory):
    self.directory, self.cache = directory, directory / "cache"

  def begin(self, run_dir):
    """Starts a run of the digits, or resumes it."""
    return start(DIGITS, run_dir, self.cache)

  def unbroken(self):
    """Runs twice, as the first compiles; times the second: how they differ."""
    finish(DIGITS, self.directory / "first", self.cache)
    whole, begun = self.directory / "unbroken", time.monotonic()
    process = self.begin(whole)
    wait_for(process, (whole / "metrics.jsonl").exists)
    self.starting = time.monotonic() - begun
    process.wait()
    records = logging.read(whole / "metrics.jsonl")
    self.training = records[-1]["seconds"] - records[0]["seconds"]
    self.expected = contents(whole)
    return differing(contents(self.directory / "first"), self.expected)

  def compared(self, run_dir, how, ends):
    """Finishes a run, compares it and removes it."""
    finish(DIGITS, run_dir, self.cache)
    wrong = differing(contents(run_dir), self.expected)
    shutil.rmtree(run_dir, ignore_errors=True)
    return dict(how=how, ends=ends, differing=wrong)

  def struck(self, rng, number, in_save):
    """A run that a signal ends at one random moment or at two, resumed."""
    kill, run_dir = number == signal.SIGKILL, self.directory / "struck"
    twice = kill and rng.random() < 0.3
    ends = []
    while not ends:  # again if the run was over before that moment
      shutil.rmtree(run_dir, ignore_errors=True)
      process = self.begin(run_dir)
      wait_for(process, (run_dir / "metrics.jsonl").exists)
      time.sleep(rng.uniform(0, self.training))
      ends += end(process, run_dir, number, in_save=kill and in_save)
    if twice:  # at any moment, that of the start included
      process = self.begin(run_dir)
      time.sleep(rng.uniform(0, self.starting + self.training))
      ends += end(process, run_dir, number)
    return self.compared(run_dir, signal.Signals(number).name, ends)

  def filled(self, rng):
    """A run whose disk is filled at a random moment, resumed with room."""
    run_dir, code = self.directory / "disk", 0
    with small_disk(run_dir) as mounted:
      while code == 0:  # again if the run was over before that moment
        shutil.rmtree(run_dir, ignore_errors=True)
        process = self.begin(run_dir)
        wait_for(process, completed(run_dir))
        time.sleep(rng.uniform(0, self.training / 2))
        how = fill(process, run_dir if mounted else None)
        code = process.wait()
        (run_dir / "ballast").unlink(missing_ok=True)
      said = last_line(run_dir).replace(f"{self.directory}/", "")
      ends = [dict(code=code, checkpoints=steps(run_dir), said=said)]
      return self.compared(run_dir, f"full disk ({how})", ends)


def run(args) -> dict:
  """Ends, resumes and compares."""
  begun, rng = time.monotonic(), random.Random(args.seed)
  with tempfile.TemporaryDirectory() as directory:
    case = Runs(pathlib.Path(directory))
    cases = [dict(how="nothing", ends=[], differing=case.unbroken())]
    for number in [signal.SIGKILL] * args.kills + [signal.SIGTERM] * 3:
      cases.append(case.struck(rng, number, in_save=len(cases) % 2 == 0))
    cases.append(case.filled(rng))
  return dict(
    machine=runner.machine(),
    flags=DIGITS,
    kills=args.kills,
    seed=args.seed,
    minutes=round((time.monotonic() - begun) / 60, 1),
    compared=len(case.expected),
    cases=cases,
  )


def tables(record: dict) -> dict:
  """The parts of the page."""
  lines = []
  for how in dict.fromkeys(case["how"] for case in record["cases"]):
    cases = [case for case in record["cases"] if case["how"] == how]
    ends = [end for case in cases for end in case["ends"]]
    inside = sum(end.get("in_save", False) for end in ends)
    inside = inside if "SIGKILL" in how else "-"
    equal = sum(not case["differing"] for case in cases)
    lines.append((how, len(cases), len(ends), inside, equal))
  head = "ended by | runs | times ended | of these inside a save | equal"
  command = f"--kills {record['kills']} --seed {record['seed']}"
  said = record["cases"][-1]["ends"][-1]["said"]
  return dict(
    made=[
      f"`python -m benchmarks crashes {command}` on {record['machine']}. The"
      " run:",
      f"`python -m experiments.edm {record['flags']}`.",
    ],
    compared=f"{record['compared']} arrays, records and pictures",
    ends=pages.table(head, lines),
    said=f"On the full disk: `{said}`",
  )


BENCHMARKS = {
  "crashes": runner.Benchmark(
    run,
    tables,
    dict(kills=20),
    runner.seed_flag,
    fails=lambda record: any(each["differing"] for each in record["cases"]),
  )
}
