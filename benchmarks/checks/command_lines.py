"""Random command lines of every script: right ones run, wrong ones say why.

  python -m benchmarks command_lines            about an hour on two CPU cores
  python -m benchmarks command_lines --seed 1 --only vae vqvae --list

Half of the lines are right by construction: values of command_draws that go
together, at 2 to 5 steps. The others have one thing wrong: the value of a flag,
a flag or preset that does not exist, settings that do not fit together, a file
that is missing or damaged, the directory of another run. Of the default number,
at least three lines have any flag of a script. A line passes under these
conditions:

  right  exit code 0
  wrong  exit code 2, nothing written, and a message of one line (or tyro's
         box) that names a flag of the line
  both   no traceback and no warning of Python

A line runs in a fork of a process that has imported the libraries but has not
started JAX's backend. The first --plain lines of each kind run as commands too,
and must end alike. --workers is the number of lines that run at once; --resume
keeps the lines that passed before, those of other scripts too.
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

LIMIT = 400  # seconds that a line may take
TYRO = 30  # lines of tyro's box, which lists flags of similar names


def fork(script: str, words: list[str], place: pathlib.Path) -> dict:
  """Runs a line in a child process: its exit code, its output, its seconds."""
  begun, said = time.monotonic(), place / "said"
  child = os.fork()
  if child == 0:
    code = 1
    signal.alarm(LIMIT)
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
  _, status = os.waitpid(child, 0)
  return dict(
    code=os.waitstatus_to_exitcode(status),
    said=said.read_text(errors="replace"),
    seconds=round(time.monotonic() - begun, 1),
  )


def command(script: str, words: list[str], place: pathlib.Path) -> dict:
  """Runs a line as a command: its exit code and its output."""
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


def contents(*places: pathlib.Path) -> dict[pathlib.Path, str]:
  """{path: hash} of every file below some directories; folders have none."""
  paths = [path for place in places for path in place.rglob("*")]
  digest = lambda path: hashlib.sha256(path.read_bytes()).hexdigest()
  return {path: digest(path) if path.is_file() else "" for path in paths}


def faults_of(line: dict, found: dict, same: bool) -> list[str]:
  """What is wrong with how a line ended; `same`: it has written nothing."""
  text = " ".join(found["said"].replace("│", " ").split())
  faults = []
  if "Traceback (most recent call last)" in text:
    faults.append("a traceback")
  if "Warning: " in text:
    faults.append("a warning of Python")
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
  """Runs a line by `fork` or `command` in a new folder."""
  shutil.rmtree(where, ignore_errors=True)
  (where / "here").mkdir(parents=True)
  return how(script, words, where)


def prepare(place: pathlib.Path) -> None:
  """Makes the files and trains the runs that lines name, once."""
  import numpy as np

  files, runs, new = (place / name for name in ("files", "trained", "new"))
  for folder in (runs, files / "empty"):
    folder.mkdir(parents=True, exist_ok=True)
  points = np.random.default_rng(0).normal(size=(400, 2))
  np.savez(files / "points.npz", points=points)
  (files / "damaged.npz").write_bytes(b"PK damaged")
  (files / "text.txt").write_text("A sentence, and one more. " * 400)
  for name, text in command_draws.TRAINED.items():
    if (runs / name).exists():
      continue
    text = text.replace("TRAINED", str(runs)).replace("FILES", str(files))
    script, *words = text.split()
    shutil.rmtree(new, ignore_errors=True)
    words += ["--run-dir", str(new)]
    found = _run(fork, script, words, place / f"for-{name}")
    if found["code"]:
      raise RuntimeError(f"{text}: {found['said']}")
    new.rename(runs / name)  # whole, or not there


def judge(place: pathlib.Path, line: dict, plain: bool) -> dict:
  """Runs a line, and as a command too if `plain`; the line and how it ended."""
  where, files = place / line["name"], place / "files"
  shutil.rmtree(where, ignore_errors=True)
  own = shutil.copytree(place / "trained", where / "trained")
  places = dict(TRAINED=own, FILES=files, SCRIPTS=runner.ROOT / "experiments")

  def full(words):
    for name, directory in places.items():
      words = [word.replace(name, str(directory)) for word in words]
    return words

  script, words = line["script"], full(line["words"])
  before = contents(own, files)
  found = _run(fork, script, words, where / "forked")
  same = contents(own, files) == before
  same &= not any((where / "forked" / "here").iterdir())
  faults = faults_of(line | dict(names=full(line["names"])), found, same)
  case = line | found | dict(faults=faults)
  if plain:
    again = _run(command, script, words, where / "plain")
    alike = line["right"] or _told(found) == _told(again)
    case["as_command"] = found["code"] == again["code"] and alike
  shutil.rmtree(where)
  for known in (place, place.parent, runner.ROOT):
    case["said"] = case["said"].replace(f"{known}/", "")[-2000:]
  return case


def _told(ended):
  """The first lines of a message; a box's others depend on the docstrings."""
  return [text.strip("╭─╮│ ") for text in ended["said"].splitlines()[:2]]


def judged(store: pathlib.Path, lines: dict[str, dict]) -> dict[str, dict]:
  """{name: case} of the lines that the store has."""
  cases = {name: cell["values"] for name, cell in runner.read(store).items()}
  keys = "words", "right", "names"
  same = lambda name: all(cases[name][k] == lines[name][k] for k in keys)
  return {name: cases[name] for name in cases.keys() & lines if same(name)}


def run(args) -> dict | None:
  """Samples, runs and judges the lines; with --list, prints them."""
  drawn = command_draws.draw_lines(args.seed, args.number, args.only)
  lines = {line["name"]: line for line in drawn}
  if args.list:
    for line in drawn:
      print("right" if line["right"] else "wrong", command_draws.shown(line))
    return None
  place = (args.work / f"seed-{args.seed}").resolve()
  jax.config.update("jax_compilation_cache_dir", str(place.parent / "cache"))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
  _import_libraries()
  if not args.resume:
    shutil.rmtree(place, ignore_errors=True)
  prepare(place)
  store = place / "judged.json"
  _judge_all(args.workers, place, store, lines, [*lines][: 2 * args.plain])
  cases = judged(store, lines)
  words = f"command_lines --seed {args.seed} --number {args.number}"
  if args.only != [*command_draws.SHARES]:
    words += f" --only {' '.join(args.only)}"
  own = [cases[name] for name in lines]
  return dict(command=words, machine=runner.machine(), cases=own)


def _judge_all(number, place, store, lines, plain):
  """Judges the lines that have not passed before, by a number of workers."""
  passed = {k for k, case in judged(store, lines).items() if not case["faults"]}
  # Wrong lines first: they take seconds.
  order = sorted(lines.keys() - passed, key=lambda n: (lines[n]["right"], n))
  workers = []
  for share in range(number):
    workers.append(os.fork())
    if workers[-1] == 0:
      for name in order[share::number]:
        case = judge(place, lines[name], name in plain)
        runner.store(store, name, {}, case)
        print(name, case["seconds"], case["faults"], *case["words"], flush=True)
      os._exit(0)
  if any([os.waitpid(worker, 0)[1] for worker in workers]):
    sys.exit("a worker ended early; --resume goes on")


def _import_libraries():
  """Imports what every script imports, so that a child starts at once."""
  import tyro  # noqa: F401
  from sklearn import neural_network  # noqa: F401

  from benchmarks import trained  # noqa: F401


def tables(record: dict) -> dict:
  """The parts of the page."""
  cases, lines = record["cases"], []
  plain = [case["as_command"] for case in cases if "as_command" in case]
  for script in dict.fromkeys(case["script"] for case in cases):
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
  alike = f"{sum(plain)} of {len(plain)} lines that were run again as commands"
  return dict(
    made=f"`python -m benchmarks {record['command']}` on {record['machine']}.",
    alike=f"{alike} ended alike.",
    lines=pages.table(f"{head} | wrong | as they should", lines),
    failed=said,
  )


def flags(parser) -> None:
  """Adds --seed, --only, --plain, --list and --work."""
  runner.seed_flag(parser)
  add = parser.add_argument
  scripts, what = [*command_draws.SHARES], "scripts; the page has only these"
  add("--only", nargs="+", choices=scripts, default=scripts, help=what)
  add("--plain", type=int, default=2, help="lines of each kind run as commands")
  add("--list", action="store_true", help="print the lines and run nothing")
  add("--work", type=pathlib.Path, default="runs/command_lines")


BENCHMARKS = {
  "command_lines": runner.Benchmark(
    run,
    tables,
    dict(number=command_draws.NUMBER, workers=2),
    flags,
    resumes=True,
    fails=lambda record: any(case["faults"] for case in record["cases"]),
  )
}
