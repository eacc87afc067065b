"""Random command lines of every script: right ones run, wrong ones say why.

  python -m benchmarks command_lines            about an hour on two CPU cores
  python -m benchmarks command_lines --seed 1 --list

Half of the lines are right by construction: values of command_draws that go
together, at 2 to 5 steps. The others have one thing wrong: a flag's value, a
flag or preset that does not exist, settings that do not fit together, a file
that is missing or damaged, the directory of another run. Every flag of every
script is in at least three lines. A line is judged by

  right  exit code 0
  wrong  exit code 2, nothing written, and a message of one line (or tyro's
         box) that names a flag that was in the line
  both   no traceback

A line runs in a fork of a process that has imported the libraries and nothing
of JAX's backend; the first --plain lines of each kind run as commands too, and
must end alike. --workers says how many lines run at once, --resume goes on
after those that were judged before.
"""

import hashlib
import os
import pathlib
import runpy
import shutil
import signal
import subprocess
import sys
import time
import traceback

# Before jax, which the children start: compiling is most of a line's time.
os.environ["XLA_FLAGS"] = (
  "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
  " --xla_cpu_parallel_codegen_split_count=1"
)
os.environ["MPLBACKEND"] = "agg"
os.environ["COLUMNS"] = "200"  # tyro's box breaks no word

import jax

from benchmarks import pages, runner
from benchmarks.checks import command_draws

LIMIT = 400  # seconds of a line
TYRO = 30  # lines of its box, with the flags that were perhaps meant


def fork(script: str, words: list[str], place: pathlib.Path) -> dict:
  """Runs a line in a child; its exit code and what it said."""
  begun, said = time.monotonic(), place / "said"
  child = os.fork()
  if child == 0:
    code = 1
    try:
      with said.open("wb", 0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
      os.chdir(place / "here")
      sys.argv = [script, *words]
      sys.modules.pop(f"experiments.{script}", None)  # not imported when run
      runpy.run_module(f"experiments.{script}", run_name="__main__")
      code = 0
    except SystemExit as stop:
      code = stop.code or 0
    except BaseException:
      traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
  while True:
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
      break
    if time.monotonic() - begun > LIMIT:
      os.kill(child, signal.SIGKILL)
    time.sleep(0.02)
  return dict(
    code=os.waitstatus_to_exitcode(status),
    said=said.read_text(errors="replace"),
    seconds=round(time.monotonic() - begun, 1),
  )


def contents(place: pathlib.Path) -> dict[str, str]:
  """Every file below a directory and its hash, every directory."""
  return {
    str(path): hashlib.sha256(path.read_bytes()).hexdigest()
    if path.is_file()
    else ""
    for path in sorted(place.rglob("*"))
  }


def judge(line: dict, found: dict, same: bool) -> list[str]:
  """What is wrong with how a line ended, [] for nothing."""
  text = " ".join(found["said"].replace("│", " ").split())
  faults = []
  if "Traceback (most recent call last)" in text:
    faults.append("a traceback")
  if found["code"] != (0 if line["right"] else 2):
    faults.append(f"exit code {found['code']}")
  if line["right"]:
    return faults
  if not same:
    faults.append("something was written")
  lines = found["said"].strip().splitlines()
  if len(lines) > (TYRO if text.startswith("╭") else 1):
    faults.append(f"{len(lines)} lines of message")
  if not any(name in text for name in line["names"]):
    faults.append(f"{' or '.join(line['names'])} is not named")
  return faults


def _run(how, script, words, where):
  shutil.rmtree(where, ignore_errors=True)
  (where / "here").mkdir(parents=True)
  return how(script, words, where)


def command(script: str, words: list[str], place: pathlib.Path) -> dict:
  """The same as a process of its own."""
  done = subprocess.run(
    [sys.executable, "-m", f"experiments.{script}", *words],
    cwd=place / "here",
    env=os.environ | {"PYTHONPATH": str(runner.ROOT)},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    check=False,
  )
  return dict(code=done.returncode, said=done.stdout)


class Lines:
  """Where the lines of one seed run, and what became of those that did."""

  def __init__(self, place: pathlib.Path, resume: bool):
    self.place = place
    self.trained, self.files = place / "trained", place / "files"
    self.store = place / "judged.json"
    if not resume:
      shutil.rmtree(place, ignore_errors=True)
    if not (self.trained / "w1" / "result.json").exists():
      self._prepare()

  def _prepare(self):
    """The runs and the files that lines name."""
    import numpy as np

    for made in (self.trained, self.files / "empty"):
      made.mkdir(parents=True, exist_ok=True)
    points = np.random.default_rng(0).normal(size=(400, 2))
    np.savez(self.files / "points.npz", points=points)
    (self.files / "damaged.npz").write_bytes(b"PK damaged")
    for name, text in command_draws.TRAINED.items():
      script, *words = text.split()
      words += ["--run-dir", str(self.trained / name)]
      found = _run(fork, script, words, self.place / f"for-{name}")
      if found["code"]:
        raise RuntimeError(f"{text}: {found['said']}")

  def judge(self, line: dict, number: int, plain: bool) -> dict:
    """Runs a line, and as a command too if it is plain: what came of it."""
    where = self.place / str(number)
    shutil.rmtree(where, ignore_errors=True)
    own = shutil.copytree(self.trained, where / "trained")
    place = lambda word: word.replace("TRAINED", str(own)).replace(
      "FILES", str(self.files)
    )
    words = [place(word) for word in line["words"]]
    named = line | {"names": [place(name) for name in line["names"]]}
    before = contents(own) | contents(self.files)
    found = _run(fork, line["script"], words, where / "forked")
    same = contents(own) | contents(self.files) == before
    same &= not any((where / "forked" / "here").iterdir())
    case = line | found | dict(number=number, faults=judge(named, found, same))
    if plain:
      again = _run(command, line["script"], words, where / "plain")
      last = lambda said: said["said"].strip().splitlines()[-1:]
      alike = line["right"] or last(found) == last(again)
      case["as_command"] = found["code"] == again["code"] and alike
    shutil.rmtree(where)
    case["said"] = case["said"][-2000:].replace(f"{self.place}/", "")
    return case

  def judged(self, lines: list[dict]) -> dict[int, dict]:
    """What came of these lines so far, by number."""
    cases = [cell["values"] for cell in runner.read(self.store).values()]
    return {
      case["number"]: case
      for case in cases
      if case["words"] == lines[case["number"]]["words"]
    }

  def work(self, lines: list[dict], share: int, workers: int, plain: int):
    """Judges a worker's share of the lines, but for those that were."""
    own = set(range(share, len(lines), workers)) - self.judged(lines).keys()
    # Wrong ones first, which take seconds.
    for number in sorted(own, key=lambda n: (lines[n]["right"], n)):
      case = self.judge(lines[number], number, number < 2 * plain)
      runner.store(self.store, str(number), {}, case)
      print(
        number,
        case["seconds"],
        case["faults"],
        command_draws.shown(case),
        flush=True,
      )


def run(args) -> dict | None:
  """Draws, runs and judges."""
  lines = command_draws.draw_lines(args.seed, args.number)
  if args.list:
    for number, line in enumerate(lines):
      print(
        number, "right" if line["right"] else "wrong", command_draws.shown(line)
      )
    return None
  place = (args.work / f"seed-{args.seed}").resolve()
  jax.config.update("jax_compilation_cache_dir", str(place.parent / "cache"))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
  _import_libraries()
  runs, workers = Lines(place, args.resume), []
  for share in range(args.workers):
    workers.append(os.fork())
    if workers[-1] == 0:
      runs.work(lines, share, args.workers, args.plain)
      os._exit(0)
  for worker in workers:
    os.waitpid(worker, 0)
  cases = [case for _, case in sorted(runs.judged(lines).items())]
  if len(cases) < len(lines):
    sys.exit("a worker ended early; --resume goes on")
  record = dict(seed=args.seed, number=args.number)
  return record | dict(machine=runner.machine(), cases=cases)


def _import_libraries():
  """What every script imports, so that a child starts at once."""
  import tyro  # noqa: F401
  from sklearn import neural_network  # noqa: F401

  from benchmarks import trained  # noqa: F401


def tables(record: dict) -> dict:
  """The parts of the page."""
  cases, lines = record["cases"], []
  plain = [case["as_command"] for case in cases if "as_command" in case]
  for script in command_draws.SHARES:
    own = [case for case in cases if case["script"] == script]
    kinds = {flag for case in own for flag in case["flags"]}
    least = min(sum(name in c["flags"] for c in own) for name in kinds)
    row = [script, len(kinds), least]
    for right in (True, False):
      of_kind = [case for case in own if case["right"] == right]
      row += [len(of_kind), sum(not case["faults"] for case in of_kind)]
    lines.append(row)
  failed = [case for case in cases if case["faults"]]
  said = [f"{len(failed)} of {len(cases)} lines failed."]
  for case in failed:
    last = (case["said"].strip().splitlines()[-1:] or [""])[0][:200]
    faults = "; ".join(case["faults"])
    said += ["", f"- `{command_draws.shown(case)}`: {faults} (`{last}`)"]
  head = "script | flags | lines with the rarest | right | as they should"
  flags = f"--seed {record['seed']} --number {record['number']}"
  alike = f"{sum(plain)} of {len(plain)} lines that were run again as commands"
  return dict(
    made=f"`python -m benchmarks command_lines {flags}` on"
    f" {record['machine']}.",
    alike=f"{alike} ended alike.",
    lines=pages.table(f"{head} | wrong | as they should", lines),
    failed=said,
  )


def flags(parser) -> None:
  """What is drawn, and where it runs."""
  runner.seed_flag(parser)
  parser.add_argument("--plain", type=int, default=2, help="of each kind")
  parser.add_argument("--list", action="store_true", help="print, run nothing")
  parser.add_argument("--work", type=pathlib.Path, default="runs/command_lines")


BENCHMARKS = {
  "command_lines": runner.Benchmark(
    run,
    tables,
    dict(number=200, workers=2),
    flags,
    resumes=True,
    fails=lambda record: any(case["faults"] for case in record["cases"]),
  )
}
