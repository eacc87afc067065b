"""A copy of a script: its runs belong to it, in experiments/ and outside."""

import os
import pathlib
import shutil

import numpy as np
import pytest

from experiments import edm, encode, evaluate, sample
from experiments.lib import run as runs
from experiments.lib import scripts
from tests import processes
from tests.experiments import scripts as made_up

ROOT = pathlib.Path(edm.__file__).parents[1]
OWN = "return diffusion.experiment_of(config, data, model, loss_fn)"
SEVENS = (
  "sample=lambda params, extras, key, label: (None, jax.numpy.full(2, 7.0))"
)
FLAGS = [*made_up.FLAGS, "--num-steps", "2", "--run-dir"]


def _copy(place):
  """experiments.edm with another sampling: every sample is (7, 7)."""
  text = pathlib.Path(edm.__file__).read_text()
  assert text.count(OWN) == 1
  changed = OWN.replace("return", "ex =") + f"\n  return ex._replace({SEVENS})"
  place.write_text(text.replace(OWN, changed))
  return place


def _python(*arguments, first=ROOT):
  paths = os.pathsep.join(map(str, (first, ROOT)))
  env = os.environ | {"PYTHONPATH": paths}
  done = processes.python(*arguments, env=env, cwd=first)
  assert done.returncode == 0, done.stderr
  return done


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
  """(the copy, a run of it that its path was given for)."""
  folder = tmp_path_factory.mktemp("mine")
  script, run_dir = _copy(folder / "mine.py"), folder / "run"
  _python(script, *FLAGS, run_dir)
  return script, run_dir


def test_a_run_belongs_to_the_file(mine):
  script, run_dir = mine
  record = runs.read_config(run_dir)
  assert record["experiment"] == "mine.py"
  assert record["script_digest"] == scripts.digest(script)
  found = sample.run(str(run_dir), sample.Config(number=3, script=str(script)))
  np.testing.assert_array_equal(found, np.full((3, 2), 7.0))
  how = dict(number=20, draws=1, script=str(script))
  assert evaluate.run(str(run_dir), evaluate.Config(**how))["step"] == 2
  how = dict(number=2, between=2, script=str(script))
  decoded = encode.run(str(run_dir), encode.Config(**how)).decoded
  assert np.isfinite(decoded).all()  # its flow is still the original's


def test_without_the_file_one_line_says_what_to_do(mine, exits):
  script, run_dir = mine
  for command in (sample, evaluate, encode):
    code, printed = exits(command.main, run_dir)
    assert code == 2 and len(printed.splitlines()) == 1
    assert "'mine.py' is not in experiments/" in printed
    assert "give its path, --script PATH" in printed
  for other in (edm.__file__, script.with_name("none.py")):
    with pytest.raises((ValueError, OSError), match=r"mine\.py|none\.py"):
      sample.run(str(run_dir), sample.Config(number=3, script=str(other)))


def test_a_changed_file_prints_a_line(mine, tmp_path, capsys):
  script, run_dir = mine
  changed = shutil.copy(script, tmp_path / "mine.py")
  pathlib.Path(changed).write_text(script.read_text().replace("7.0", "8.0"))
  capsys.readouterr()
  found = sample.run(str(run_dir), sample.Config(number=2, script=str(changed)))
  np.testing.assert_array_equal(found, np.full((2, 2), 8.0))
  said = capsys.readouterr().err.splitlines()
  line = f"{run_dir}: mine.py has changed since this run began"
  assert said.count(line) == 1
  sample.run(str(run_dir), sample.Config(number=2, script=str(script)))
  assert "has changed" not in capsys.readouterr().err


def test_a_copy_in_experiments_needs_no_path(tmp_path):
  ignore = shutil.ignore_patterns("__pycache__")
  shutil.copytree(ROOT / "experiments", tmp_path / "experiments", ignore=ignore)
  _copy(tmp_path / "experiments" / "mine.py")
  run_dir = tmp_path / "run"
  code = (
    "import sys; from experiments import mine, sample;"
    "from experiments.lib import command_line;"
    "command_line.main(mine.__file__, mine.PRESETS, mine.run);"
    f"sample.run({str(run_dir)!r}, sample.Config(number=3))"
  )
  _python("-c", code, *FLAGS, run_dir, first=tmp_path)
  assert runs.read_config(run_dir)["experiment"] == "experiments.mine"
  assert np.all(np.load(run_dir / "drawn.npz")["samples"] == 7)
