"""Command lines: bad input is a short message and code 2, a signal resumes."""

import dataclasses
import errno
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from experiments import edm, encode, evaluate, sample
from experiments.lib import command_line
from experiments.lib import run as runs
from jaxgen.training import checkpoint, logging, loop
from tests.experiments import scripts

ROOT = pathlib.Path(__file__).parents[2]
EDM = "experiments.edm"


def _main(run):
  """The command of experiments.edm with another function that trains."""
  return lambda: command_line.main(edm.__file__, edm.PRESETS, run)


@pytest.mark.parametrize(
  "arguments, part",
  [
    (["toy", "--widht", "8"], "--widht: no such flag (did you mean --width?)"),
    (
      ["toy", "--num_stesp=8"],
      "(did you mean --num-steps?)",
    ),
    (["toy", "--qqqq", "8"], "--qqqq: no such flag; --help lists all"),
    (["tyo"], "got 'tyo' (did you mean toy?)"),
    ([], "Missing"),
    (["toy", "--num-steps", "-1"], "--num-steps: expected at least 1, got -1"),
    (["toy", "--num-steps", "many"], "many"),
    (["toy", "--samples-every", "0"], "--samples-every: expected at least 1"),
    (
      ["toy", "--sample-steps", "-2"],
      "--sample-steps: expected at least 1, got -2",
    ),
    (
      ["toy", "--ratio-min", "2", "--ratio-max", "1"],
      "--ratio-min, --ratio-max: expected 0 < ratio_min < ratio_max < inf",
    ),
    (["toy", "--ratio-min", "-1"], "--ratio-min, --ratio-max: expected"),
    (["toy", "--path", "vpp"], "got 'vpp' (did you mean vp?)"),
    (
      ["toy", "--solver=heum"],
      "--solver: expected one of euler, heun, mid",
    ),
    (
      ["toy", "--model", "q"],
      "--model: expected one of auto, unet, dit",
    ),
    (
      ["toy", "--ema-decay", ".9", ".9"],
      "--ema-decay: expected different",
    ),
    (["toy", "--width", 10**9], "--width: expected at most 65536, got 100000"),
    (["toy", "--learning-rate", "nan"], "--learning-rate: expected a positive"),
    (["toy", "--learning-rate", "0"], "--learning-rate: expected a positive"),
    (["toy", "--level-std", "0"], "--level-std: expected a positive"),
    (["toy", "--batch-size", "0"], "--batch-size: expected at least 1"),
    (["toy", "--dropout", "2"], "--dropout: expected 0 to below 1, got 2.0"),
    (["toy", "--seed", 2**63], "--seed: expected 0 to 4294967295"),
    (["toy", "--num-steps", 10**11], "--num-steps: expected at most 21474"),
    (
      ["toy", "--sample-steps", 10**12],
      "--sample-steps: expected at most 10000",
    ),
    (["toy", "--batch-size", 10**12], "--batch-size: expected at most 1048576"),
  ],
)
def test_bad_input_is_refused(exits, monkeypatch, tmp_path, arguments, part):
  run_dir = tmp_path / "run"
  arguments = [*arguments, "--run-dir", run_dir] if arguments else []
  monkeypatch.chdir(tmp_path)
  code, printed = exits(_main(edm.run), *arguments)
  assert code == 2 and part in printed
  assert len(printed.strip().splitlines()) <= 40  # tyro's box
  if printed.startswith("error:"):
    assert len(printed.strip().splitlines()) == 1
  assert not any(tmp_path.iterdir())


EACH = [
  (["missing"], "missing: no such run directory"),
  (["."], "not a run directory"),
  ([], "required"),
]
COMMANDS = {
  sample: [
    ([".", "--number", "0"], "--number: expected at least 1, got 0"),
    ([".", "--number", 10**12], "--number: expected at most 2147483647"),
    ([".", "--seed", -1], "--seed: expected 0 to 4294967295"),
    ([".", "--solver", "heum"], "got 'heum' (did you mean heun?)"),
    ([".", "--numer", "3"], "--numer: no such flag (did you mean --number?)"),
  ],
  encode: [([".", "--solver", "ancestral"], "expected a deterministic solver")],
  evaluate: [
    ([".", "--split", "train"], "train"),
    ([".", "--draws", "0"], "draws: expected at least 1, got 0"),
  ],
}


@pytest.mark.parametrize(
  "command, arguments, part",
  [(c, *row) for c, rows in COMMANDS.items() for row in EACH + rows],
)
def test_commands_refuse(
  exits, monkeypatch, tmp_path, command, arguments, part
):
  monkeypatch.chdir(tmp_path)
  code, printed = exits(command.main, *arguments)
  assert code == 2 and part in printed and not any(tmp_path.iterdir())


@pytest.mark.parametrize(
  "words, warmup",
  [
    ([], 100),
    (["--num-steps", "50"], 5),
    (["--num-steps", "9"], 0),
    (["--num-steps", "50000"], 100),
    (["--num-steps", "50", "--warmup-steps", "49"], 49),
    (["--num_steps=50", "--warmup_steps=100"], 100),
  ],
)
def test_a_warmup_that_is_not_given_fits(monkeypatch, tmp_path, words, warmup):
  found = []
  words = ["edm", "toy", *words, "--run-dir", str(tmp_path / "run")]
  monkeypatch.setattr(sys, "argv", words)
  _main(found.append)()
  assert found[0].warmup_steps == warmup
  # A run that exists keeps its own.
  (tmp_path / "run").mkdir()
  (tmp_path / "run/config.json").write_text('{"warmup_steps": 3}')
  _main(found.append)()
  given = any(word.startswith("--warmup") for word in words)
  assert found[1].warmup_steps == (warmup if given else 3)


def test_another_configuration_is_refused(exits, tmp_path):
  toy = dataclasses.replace(edm.PRESETS["toy"][1], run_dir=str(tmp_path))
  with runs.open_directory(edm.experiment(toy).config, edm.__file__):
    pass
  before = (tmp_path / "config.json").read_bytes()
  arguments = ["toy", "--seed", "3", "--run-dir", tmp_path]
  code, printed = exits(_main(edm.run), *arguments)
  assert code == 2 and "(seed 0 -> 3); choose another" in printed
  assert len(printed.strip().splitlines()) == 1
  assert {path.name for path in tmp_path.iterdir()} == {"config.json", "lock"}
  assert (tmp_path / "config.json").read_bytes() == before


def _command(module, *arguments, **settings):
  return subprocess.Popen(
    [sys.executable, "-m", module, *map(str, arguments)],
    cwd=ROOT,
    env=os.environ | {"PYTHONPATH": str(ROOT)},
    stderr=subprocess.PIPE,
    text=True,
    **settings,
  )


def test_a_real_process_refuses_with_code_2(tmp_path):
  run_dir = tmp_path / "run"
  process = _command(EDM, "toy", "--run-dir", run_dir, "--width", "0")
  _, printed = process.communicate(timeout=300)
  assert process.returncode == 2 and "Traceback" not in printed
  assert printed.startswith("error: ") and len(printed.splitlines()) == 1
  assert not run_dir.exists()


def test_ctrl_c_says_how_to_resume(exits, monkeypatch, tmp_path):
  run_dir = tmp_path / "a run"
  stop = lambda: signal.raise_signal(signal.SIGINT)
  scripts.at_step(monkeypatch, 1, stop)
  code, printed = exits(_main(edm.run), *scripts.FLAGS, "--run-dir", run_dir)
  assert code == 130
  *_, last = printed.strip().splitlines()
  assert last.startswith("SIGINT: stopped and saved at step 2; resume with: ")
  flags = f"{' '.join(scripts.FLAGS)} --run-dir '{run_dir}'"
  assert last.endswith(f"python -m experiments.edm {flags}")
  assert checkpoint.steps(run_dir / "checkpoints")[-1] == 2


def _raises(error):
  """A function that fails in place of training."""

  def fail(config):
    raise error

  return fail


def test_ctrl_c_outside_of_training_says_so_too(exits, tmp_path):
  main = _main(_raises(KeyboardInterrupt()))
  code, printed = exits(main, "toy", "--run-dir", tmp_path)
  assert code == 130 and len(printed.splitlines()) == 1
  assert "resume with: python -m experiments.edm toy --run-dir" in printed


@pytest.mark.parametrize(
  "error, parts",
  [
    (
      loop.Diverged("model", "loss is nan", 412),
      [
        "model: loss is nan at step 412; no checkpoint was saved before it",
        "--learning-rate",
      ],
    ),
    (
      MemoryError("Unable to allocate 3.64 TiB"),
      ["out of memory (Unable to allocate 3.64 TiB); lower the sizes"],
    ),
    (
      jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nmore"),
      ["out of memory (RESOURCE_EXHAUSTED: Out of memory); lower"],
    ),
    (
      OSError(errno.ENOSPC, "No space left on device", "a.png"),
      ["No space left on device: 'a.png'; free space and run the same comm"],
    ),
    (OSError("runs/x: a checkpoint could not be written"), ["error: runs/x"]),
  ],
)
def test_a_run_that_fails_is_one_line(exits, tmp_path, error, parts):
  code, printed = exits(_main(_raises(error)), "toy", "--run-dir", tmp_path)
  assert code == 2 and len(printed.splitlines()) == 1
  assert all(part in printed for part in ["error: ", *parts])


def test_a_diverged_run_says_what_is_kept(exits, tmp_path):
  def fail(config):
    for step in (100, 400):
      (tmp_path / "checkpoints" / str(step)).mkdir(parents=True)
    raise loop.Diverged("model", "loss is nan", 412)

  _, printed = exits(_main(fail), "toy", "--run-dir", tmp_path)
  assert "at step 412; the checkpoint of step 400 is kept: lower" in printed


def test_another_fault_of_the_runtime_is_not_hidden(monkeypatch, tmp_path):
  fail = _raises(jax.errors.JaxRuntimeError("INTERNAL: a bug"))
  arguments = ["edm.py", "toy", "--run-dir", str(tmp_path)]
  monkeypatch.setattr(sys, "argv", arguments)
  with pytest.raises(jax.errors.JaxRuntimeError, match="a bug"):
    _main(fail)()


def test_sigterm_saves_and_the_same_command_finishes(tmp_path):
  """Of a real process, which ends as one that nothing disturbed."""
  arguments = [*scripts.FLAGS, "--num-steps", 500, "--log-every", 10]
  arguments += ["--batch-size", 1024]
  stopped = [*arguments, "--run-dir", tmp_path / "stopped"]
  process = _command(EDM, *stopped)
  metrics = tmp_path / "stopped" / "metrics.jsonl"
  while process.poll() is None:  # ends by itself at the latest
    if metrics.exists() and metrics.read_text().count("\n") >= 2:
      process.send_signal(signal.SIGTERM)
      break
    time.sleep(0.02)
  _, printed = process.communicate(timeout=300)
  assert process.returncode == 143, printed
  *_, last = printed.strip().splitlines()
  assert last.startswith("SIGTERM: stopped and saved at step ")
  assert "resume with: python -m experiments.edm toy" in last
  assert "Traceback" not in printed

  both = [
    _command(EDM, *arguments, "--run-dir", tmp_path / name)
    for name in ("stopped", "unbroken")
  ]
  for process in both:
    _, printed = process.communicate(timeout=300)
    assert process.returncode == 0, printed
  ends = []
  for name in ("stopped", "unbroken"):
    records = logging.read(tmp_path / name / "metrics.jsonl")
    kept = [{k: v for k, v in r.items() if k != "seconds"} for r in records]
    assert checkpoint.steps(tmp_path / name / "checkpoints")[-1] == 500
    samples = sample.run(str(tmp_path / name), sample.Config(number=20))
    ends.append((kept, samples))
  assert ends[0][0] == ends[1][0] and len(ends[0][0]) == 50
  np.testing.assert_array_equal(ends[0][1], ends[1][1])
