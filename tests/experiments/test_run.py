"""Whose a run directory is: one configuration's, one process's at a time."""

import dataclasses
import json
import types

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import edm
from experiments.lib import checks, scripts
from experiments.lib import run as runs
from tests import expect

CONFIG = edm.Config(run_dir="")


def _open(path, reads=None, script=edm.__file__):
  config = dataclasses.replace(CONFIG, run_dir=str(path))
  return runs.open_directory(config, script, reads)


def _refused(path, message):
  """Opening says so in a line; whatever was there is as it was."""
  before = {p: p.read_bytes() for p in path.parent.rglob("*") if p.is_file()}
  with pytest.raises(ValueError, match=message) as caught, _open(path):
    pass
  assert str(path) in str(caught.value) and "\n" not in str(caught.value)
  after = {p: p.read_bytes() for p in path.parent.rglob("*") if p.is_file()}
  assert before == after


def test_a_directory_of_something_else_is_refused(tmp_path):
  (tmp_path / "thesis.tex").write_text("dear to someone")
  _refused(tmp_path, "not a run directory")


def test_a_file_is_refused(tmp_path):
  (tmp_path / "runs").write_text("a file")
  _refused(tmp_path / "runs", "not a run directory")


@pytest.mark.parametrize("text", [b'{"seed": 0', b"[1]", b"", b"\xff\xfe"])
def test_a_damaged_configuration_is_refused(tmp_path, text):
  (tmp_path / "config.json").write_bytes(text)
  _refused(tmp_path, r"config\.json: damaged")


@pytest.mark.parametrize("left", [(), ("lock",), ("lock", "config.json.part")])
def test_a_directory_left_at_once_is_begun(tmp_path, left):
  """By a process killed before it wrote its configuration."""
  for name in left:
    (tmp_path / name).write_text("{")
  with _open(tmp_path) as directory:
    assert runs.read_config(directory)["seed"] == 0
    assert {p.name for p in directory.iterdir()} == {"config.json", "lock"}


def test_a_second_run_in_the_directory_is_refused(tmp_path):
  with _open(tmp_path):
    _refused(tmp_path, "another process is training")
  with _open(tmp_path):  # free again
    (tmp_path / "config.json").unlink()  # as if not written yet
    _refused(tmp_path, "another process is training")


@pytest.mark.parametrize("error", [ValueError, MemoryError, KeyboardInterrupt])
def test_a_run_that_recorded_nothing_leaves_nothing(tmp_path, error):
  (tmp_path / "mine").mkdir()
  for name in ("new", "deep/er", "mine"):
    with pytest.raises(error), _open(tmp_path / name) as directory:
      runs.checkpoints(directory).mkdir()
      raise error("before the first step")
  assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoints/10"])
def test_a_run_that_recorded_something_stays(tmp_path, name):
  for _ in range(2):  # the second time, it is not a new run's
    with pytest.raises(ValueError), _open(tmp_path / "run") as directory:
      (directory / name).mkdir(parents=True, exist_ok=True)
      raise ValueError("later")
    assert (directory / name).exists()
    assert runs.read_config(directory)["seed"] == 0
  (directory / name).rmdir()
  with pytest.raises(ValueError), _open(directory):
    raise ValueError("of a run that another process began")
  assert (directory / "config.json").exists()


@pytest.mark.parametrize("to", [lambda x: np.asarray(x)[()], jnp.asarray])
def test_scalars_of_array_libraries_are_settings(tmp_path, to):
  """What is written is what Python's own numbers write, and resumes."""
  given = dict(seed=3, churn=0.5, flip=True, width=16)
  plain = edm.Config(str(tmp_path), ema_decay=(0.5, 0.75), **given)
  odd = {name: to(value) for name, value in given.items()}
  odd["ema_decay"] = tuple(map(to, plain.ema_decay))
  config = checks.plain(dataclasses.replace(plain, **odd))
  assert config == plain and hash(config) == hash(plain)
  for name, value in given.items():
    assert type(getattr(config, name)) is type(value)
  for each in (config, config, plain):
    with runs.open_directory(each, edm.__file__):
      written = json.loads((tmp_path / "config.json").read_text())
  assert written["ema_decay"] == [0.5, 0.75] and written["churn"] == 0.5


@pytest.mark.parametrize("seed", [-1, 2**32, 2**32 + 1, 2**63, 10**30])
def test_a_seed_has_32_bits(seed):
  """JAX makes one key of 1 and 2^32 + 1, and NumPy takes no more."""
  wrong = dataclasses.replace(CONFIG, seed=seed)
  expect.error(rf"seed: expected 0 to .* got {seed}$", checks.plain, wrong)
  assert checks.plain(CONFIG) == CONFIG
  highest = dataclasses.replace(CONFIG, seed=2**32 - 1)
  assert checks.plain(highest) == highest


def test_a_run_belongs_to_the_runs_that_it_reads(tmp_path):
  """Another checkpoint of theirs is another configuration."""
  read = dict(run_dir="runs/a", step=10, digest="one")
  for _ in range(2):
    with _open(tmp_path, {"reflow": read}):
      pass
  assert runs.read_config(tmp_path)["reads"] == {"reflow": read}
  changed = {"reflow": read | dict(digest="other")}
  with pytest.raises(ValueError, match=r"configuration \(reads .*other"):
    with _open(tmp_path, changed):
      pass


def test_a_command_is_no_script_of_runs(tmp_path):
  for name in ("sample", "settings", "experiment"):
    record = {"experiment": f"experiments.{name}"}
    expect.error("trains no model", scripts.of_run, record, tmp_path)


def test_a_changed_script_is_said_and_no_obstacle(tmp_path, capsys):
  script = tmp_path / "mine.py"
  for text, lines in (("A = 1", 0), ("A = 1", 0), ("A = experiment = 2", 1)):
    script.write_text(text)
    with _open(tmp_path / "run", script=script):
      pass
    assert capsys.readouterr().err.count("mine.py has changed since") == lines
  record = runs.read_config(tmp_path / "run")
  assert record["experiment"] == "mine.py"
  of_run = scripts.of_run, record, tmp_path / "run"
  expect.error("'mine.py' is not in experiments/", *of_run)
  expect.error("script: expected the file of mine.py", *of_run, edm.__file__)
  module = scripts.of_run(record, tmp_path / "run", str(script))
  assert module.A == 2 and scripts.load(script) is module
  own = {"experiment": "experiments.edm"}
  assert scripts.of_run(own, tmp_path) is edm


def test_another_number_of_devices_is_recorded(tmp_path, monkeypatch, capsys):
  path = tmp_path / "run"
  with _open(path):
    assert runs.read_config(path)["devices"] == 1
  mesh = types.SimpleNamespace(size=2)
  monkeypatch.setattr(runs.sharding, "mesh", lambda: mesh)
  for _ in range(2):
    with _open(path):
      pass
  record = runs.read_config(path)
  assert record["devices"] == 2
  assert record["history"] == [dict(step=0, changes=dict(devices=[1, 2]))]
  printed = capsys.readouterr().err
  assert printed.count("from step 0 on: devices 1 -> 2") == 1
  assert printed.count("values differ by rounding") == 1


def test_settings_of_the_process_are_not_recorded(tmp_path):
  with _open(tmp_path / "run"):
    record = runs.read_config(tmp_path / "run")
  assert not runs.UNRECORDED & record.keys()
  again = runs.config_from(record, edm.Config, "elsewhere")
  assert again == dataclasses.replace(CONFIG, run_dir="elsewhere")
