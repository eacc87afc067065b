"""Runs that go on with more steps, and what may and may not change."""

import json
import sys

import numpy as np
import pytest

from experiments import edm, flow_matching, resume
from experiments.lib import run as runs
from experiments.lib import samples
from jaxgen.training import checkpoint
from tests import expect
from tests.experiments import scripts

CONSTANT = dict(schedule="constant", ema_length=(0.1,), snapshot_every=2)


def train(directory, **changes):
  return scripts.trained("edm", directory, **CONSTANT | changes)


def go_on(directory, **changes):
  with pytest.MonkeyPatch.context() as patch:
    scripts.without_pictures(patch)
    return resume.run(str(directory), resume.Config(**changes))


def digest(directory):
  return checkpoint.digest(runs.checkpoints(directory))


def test_a_longer_run_is_the_unbroken_one(tmp_path, capsys):
  """Bit for bit, also after it is killed in its second part."""
  whole, _ = train(tmp_path / "whole", num_steps=10)
  directory, _ = train(tmp_path / "run", num_steps=5)
  config = scripts.small(
    "edm", directory, **CONSTANT, num_steps=10, samples_every=100
  )
  with pytest.MonkeyPatch.context() as patch:
    scripts.without_pictures(patch)
    scripts.kill(edm, config, 7)
  assert checkpoint.steps(runs.checkpoints(directory))[-1] == 6
  go_on(directory)
  assert digest(directory) == digest(whole)
  record = json.loads((directory / "config.json").read_text())
  history = record.pop("history")
  assert history == [dict(step=5, changes={"num_steps": [5, 10]})]
  assert record == json.loads((whole / "config.json").read_text())
  # Under a constant schedule nothing else depends on the number of steps.
  said = capsys.readouterr().err
  assert f"{directory}: from step 5 on: num_steps 5 -> 10\n" in said
  assert "what depends on num_steps" not in said


def test_every_change_is_in_the_history(tmp_path, capsys):
  directory, _ = scripts.trained("edm", tmp_path / "run", num_steps=4)
  changes = dict(num_steps=6, log_every=3, keep=1, solver="ddim")
  go_on(directory, **changes, sample_steps=2)
  record = runs.read_config(directory)
  (entry,) = record["history"]
  assert entry["step"] == 4
  assert entry["changes"] == {
    "num_steps": [4, 6],
    "log_every": [2, 3],
    "keep": [2, 1],
    "solver": ["heun", "ddim"],
    "sample_steps": [3, 2],
  }
  assert {name: record[name] for name in changes} == changes
  assert samples.read(directory).num_calls == 3  # two of ddim, a denoising
  assert checkpoint.steps(runs.checkpoints(directory)) == [6]
  # A cosine schedule is that of the new number of steps.
  assert "the learning rate, is from step 4 on that of a run of 6" in (
    capsys.readouterr().err
  )
  go_on(directory, keep=2)
  later = runs.read_config(directory)["history"]
  assert later == [entry, dict(step=6, changes={"keep": [1, 2]})]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
  return train(tmp_path_factory.mktemp("resume") / "run", num_steps=4)[0]


def test_what_may_not_change_is_rejected(done):
  before = (done / "config.json").read_bytes()
  message = "num_steps: expected at least 4, as .* has trained as many, got 3"
  expect.error(message, go_on, done, num_steps=3)
  config = scripts.small(
    "edm", done, **CONSTANT, num_steps=8, keep=9, learning_rate=0.5
  )
  said = r"another configuration \(learning_rate 0.003 -> 0.5\); choose"
  expect.error(said, edm.run, config)
  expect.error("solver: expected one of", go_on, done, solver="typo")
  assert (done / "config.json").read_bytes() == before
  assert checkpoint.steps(runs.checkpoints(done)) == [3, 4]


def test_a_script_without_the_setting_says_so(tmp_path):
  directory, _ = scripts.trained("gan", tmp_path / "gan")
  message = "^solver: runs of this script have no such setting"
  expect.error(message, go_on, directory, solver="heun")
  go_on(directory, num_steps=8)
  assert checkpoint.steps(runs.checkpoints(directory))[-1] == 8


def test_a_script_adds_its_own_sampling_settings(tmp_path):
  config = scripts.small("flow", tmp_path / "flow", samples_every=100)
  with pytest.MonkeyPatch.context() as patch:
    scripts.without_pictures(patch)
    flow_matching.run(config)
    flow_matching.run(
      scripts.small("flow", tmp_path / "flow", samples_every=100, eps=2.0)
    )
  changes = runs.read_config(tmp_path / "flow")["history"][0]["changes"]
  assert changes == {"eps": [1.0, 2.0]}


def test_the_command(done, monkeypatch, exits, capsys):
  scripts.without_pictures(monkeypatch)
  monkeypatch.setattr(sys, "argv", ["resume", str(done), "--num-steps", "5"])
  resume.main()
  assert checkpoint.steps(runs.checkpoints(done))[-1] == 5
  capsys.readouterr()
  code, printed = exits(resume.main, done, "--num-steps", 3)
  assert code == 2 and printed.startswith("error: --num-steps: expected at")
  assert len(printed.splitlines()) == 1
  code, printed = exits(resume.main, done.parent / "none")
  assert code == 2 and "no such run directory" in printed
  records = (done / "metrics.jsonl").read_text().splitlines()
  assert np.all(np.diff([json.loads(r)["step"] for r in records]) > 0)
