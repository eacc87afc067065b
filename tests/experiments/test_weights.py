"""Weights from another run or file, and a trained run in Python."""

import os
import pathlib
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from experiments import edm, export, load
from experiments.lib import averages, datasets, samples, weights
from experiments.lib import run as runs
from experiments.recipes import teachers
from jaxgen.training import checkpoint, leaves, state
from tests import expect, processes, trees
from tests.experiments import scripts

ROOT = pathlib.Path(edm.__file__).parents[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  directory = tmp_path_factory.mktemp("weights") / "run"
  how = dict(num_steps=3, ema_decay=(0.9, 0.5))
  return scripts.trained("edm images", directory, **how)


def begin(directory, place, **changes):
  """The state of a run that starts from a place, before its first step."""
  config = scripts.small(
    "edm images", directory, start=str(place), samples_every=100, **changes
  )
  ex = edm.experiment(config)
  keys = ex.keys(jax.random.key(config.seed))
  new = state.init(keys.state, ex.players(keys.players), ex.turns)
  return new, weights.start(str(place), new)


def test_a_start_has_the_weights_and_averages(run, tmp_path, capsys):
  directory, last = run
  new, found = begin(tmp_path, directory, seed=5, ema_decay=(0.9, 0.7))
  own, theirs = found.players["model"], last.players["model"]
  trees.assert_equal(own.params, theirs.params)
  trees.assert_equal(own.ema["0.9"], theirs.ema["0.9"])
  trees.assert_equal(own.ema["0.7"], theirs.params)  # not there: the weights
  trees.assert_equal(own.opt_state, new.players["model"].opt_state)
  assert int(found.step) == 0
  number = len(jax.tree.leaves(theirs.params))
  said = capsys.readouterr().err
  assert said == f"start: {number} of {number} weights of {directory}\n"


def test_what_does_not_fit_is_named_and_keeps_its_start(run, tmp_path, capsys):
  """The same network for data without labels, with another attention."""
  directory, last = run
  new, found = begin(tmp_path, directory, data="digits:3", attention=(4,))
  flat = lambda now: leaves.flatten(now.players["model"].params)
  mine, first, theirs = flat(found), flat(new), flat(last)
  assert mine.keys() == first.keys() != theirs.keys()
  said = capsys.readouterr().err
  for name, value in mine.items():
    fits = name in theirs and theirs[name].shape == first[name].shape
    np.testing.assert_array_equal(value, (theirs if fits else first)[name])
    assert (f"start: model/{name} does not fit: " in said) == (not fits)
  for name in theirs.keys() - mine.keys():
    assert f"start: model/{name} does not fit: nothing here, float32" in said


def test_training_from_a_start_resumes_without_it(run, tmp_path):
  """The start is recorded, and no longer needed after the first checkpoint."""
  source = tmp_path / "source"
  shutil.copytree(run[0], source)
  wanted = checkpoint.digest(runs.checkpoints(source))
  directory, _ = scripts.trained(
    "edm images", tmp_path / "run", start=str(source), num_steps=3
  )
  record = runs.read_config(directory)["reads"]["start"]
  assert record == dict(run_dir=str(source), step=3, digest=wanted)
  shutil.rmtree(source)
  before = checkpoint.digest(runs.checkpoints(directory))
  scripts.trained("edm images", directory, start=str(source), num_steps=3)
  assert checkpoint.digest(runs.checkpoints(directory)) == before
  made = load.run(directory).sample(jax.random.key(0), None, 2)
  assert np.isfinite(made).all()


def test_starts_that_are_rejected(run, tmp_path):
  scripts.trained("edm", tmp_path / "points")
  for place, said in (
    (tmp_path / "none", "^start: .*no such run directory"),
    (tmp_path / "none.safetensors", "^start: .*no such file"),
    (tmp_path / "points", "^start: no weight of .* fits this run's networks"),
  ):
    config = scripts.small("edm images", tmp_path / "new", start=str(place))
    with pytest.raises((ValueError, FileNotFoundError), match=said):
      edm.run(config)
  assert not (tmp_path / "new").exists()
  bad = tmp_path / "bad.safetensors"
  bad.write_bytes(b"not one")
  expect.error("not a safetensors file", weights.read, str(bad))


def test_a_file_holds_the_average_and_is_read_back(run, tmp_path):
  directory, last = run
  place = tmp_path / "mine.safetensors"
  export.run(str(directory), export.Config(file=str(place), average="0.5"))
  mean = last.players["model"].ema["0.5"]
  # By the library alone: names are places, values are equal.
  alone = safetensors.numpy.load_file(place)
  flat = leaves.flatten({"model": mean})
  assert alone.keys() == flat.keys()
  for name, value in flat.items():
    assert alone[name].dtype == value.dtype
    np.testing.assert_array_equal(alone[name], value)
  _, about = weights.read_file(place)
  assert about["average"] == "0.5" and about["step"] == 3
  assert about["config"] == runs.read_config(directory)
  trees.assert_equal(weights.fill(place, {"model": mean}), {"model": mean})
  other = {"model": jax.tree.map(lambda x: x[None], mean)}
  expect.error("expected float32", weights.fill, place, other)
  # As a start, and in Python in place of the checkpoint.
  _, found = begin(tmp_path / "new", place)
  trees.assert_equal(found.players["model"].params, mean)
  own = load.run(directory, average="0.5").sample(jax.random.key(1), None, 2)
  same = load.run(directory, file=str(place))
  np.testing.assert_array_equal(same.sample(jax.random.key(1), None, 2), own)


def test_export_writes_into_the_run_and_checks_the_ending(run, monkeypatch):
  directory, _ = run
  monkeypatch.setattr(sys, "argv", ["export", str(directory)])
  export.main()
  assert (directory / "weights.safetensors").is_file()
  config = export.Config(file="weights.bin")
  message = "^file: expected an ending .safetensors, got weights.bin"
  expect.error(message, export.run, str(directory), config)


def test_a_run_without_averages_is_named(tmp_path):
  directory, _ = scripts.trained("wasserstein", tmp_path / "run")
  said = "run: a run of this script keeps no averages$"
  expect.error(said, export.run, str(directory), export.Config())
  config = scripts.small("flow map", tmp_path, teacher=str(directory))
  data = datasets.load(config)
  expect.error(f"^teacher: .*{said}", teachers.read, config, data, None)


def test_a_run_in_python_has_field_and_samples(run):
  directory, _ = run
  found = load.run(directory, sample_steps=4)
  ex = samples.read(directory)
  trained = averages.load(ex)
  x = jax.random.normal(jax.random.key(0), ex.data.shape)
  expected = ex.field(*trained, jnp.int32(3))(x, 0.7)
  trees.assert_equal(found.field(3)(x, 0.7), expected)
  drawn = found.sample(jax.random.key(2), np.arange(3), 3)
  assert drawn.shape == (3, *ex.data.shape)
  assert found.experiment.num_calls == 9
  message = "^steps: expected one of solver, churn, "
  expect.error(message, load.run, directory, steps=3)


THREE = """
from experiments import load
run = load.run("moved")
field = run.field(3)
import jax, jax.numpy as jnp
print(field(jnp.zeros((8, 8, 1)), 1.0).data.shape)
print(run.sample(jax.random.key(0), jnp.array([3]), 1).shape)
"""


def test_three_lines_outside_of_the_repository(run, tmp_path):
  """On a run that was moved."""
  shutil.copytree(run[0], tmp_path / "moved")
  env = os.environ | {"PYTHONPATH": str(ROOT)}
  done = processes.python("-c", THREE, env=env, cwd=tmp_path)
  assert done.returncode == 0, done.stderr
  assert done.stdout.split("\n")[:2] == ["(8, 8, 1)", "(1, 8, 8, 1)"]
