"""experiments.edm from one end to the other, whole and interrupted."""

import dataclasses
import json
import signal

import chex
import jax
import matplotlib.image
import numpy as np
import pytest

from experiments import edm
from experiments.lib import datasets
from experiments.pictures import sheets
from jaxgen.data import loaders
from jaxgen.training import checkpoint, logging, loop
from tests import trees

TOY = edm.Config(
  run_dir="",
  data="eight_gaussians",
  width=16,
  num_blocks=1,
  num_steps=12,
  batch_size=16,
  warmup_steps=2,
  sample_steps=3,
  log_every=2,
  save_every=5,
  samples_every=6,
)
# Dropout and null labels are drawn in training: their keys must resume too.
DIGITS = edm.Config(
  run_dir="",
  data="digits",
  width=8,
  multipliers=(1, 1),
  attention=(),
  dropout=0.2,
  label_dropout=0.3,
  num_steps=8,
  batch_size=4,
  warmup_steps=2,
  sample_steps=2,
  log_every=2,
  save_every=3,
  samples_every=8,
)
PICTURES = ("samples.png", "trajectory.png", "curves.png")
ON_THE_PLANE = ("paths.png", "fields.png")


def _in(directory, config, **changes):
  return dataclasses.replace(config, run_dir=str(directory), **changes)


def _files(directory):
  """Every file and what is in it."""
  return {
    str(path.relative_to(directory)): path.read_bytes()
    for path in sorted(directory.rglob("*"))
    if path.is_file()
  }


def _records(directory):
  """metrics.jsonl without the seconds, as text: equal NaNs are equal."""
  records = logging.read(directory / "metrics.jsonl")
  return [json.dumps(r | {"seconds": 0}) for r in records]


def _host(state):
  """On the host, keys as their data: what may be compared bit for bit."""
  unkeyed = state._replace(key=jax.random.key_data(state.key))
  return jax.tree.map(np.asarray, unkeyed)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
  directory = tmp_path_factory.mktemp("edm") / "deep" / "toy"
  return directory, _host(edm.run(_in(directory, TOY)))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
  directory = tmp_path_factory.mktemp("edm") / "digits"
  return directory, _host(edm.run(_in(directory, DIGITS)))


@pytest.mark.parametrize("name, config", [("toy", TOY), ("images", DIGITS)])
def test_a_run_leaves_everything(name, config, request):
  directory, state = request.getfixturevalue(name)
  pictures = (*PICTURES, *(ON_THE_PLANE if name == "toy" else ()))
  assert {path.name for path in directory.iterdir()} == {
    "config.json",
    "lock",
    "metrics.jsonl",
    "checkpoints",
    "sheets",
    *pictures,
  }
  record = json.loads((directory / "config.json").read_text())
  assert record["experiment"] == "experiments.edm"
  assert record["data"] == config.data and record["path"] == "edm"
  measured = round(datasets.load_data(config.data).std, 3)
  assert record["sigma_data"] == measured
  records = logging.read(directory / "metrics.jsonl")
  steps = list(range(2, config.num_steps + 1, 2))
  assert [r["step"] for r in records] == steps
  assert all(np.isfinite(r["loss"]) and r["seconds"] >= 0 for r in records)
  assert checkpoint.steps(directory / "checkpoints")[-1] == config.num_steps
  assert state.step == config.num_steps
  sheets = sorted(path.name for path in (directory / "sheets").iterdir())
  every = range(config.samples_every, config.num_steps + 1)
  expected = [f"{n:06}.png" for n in every[:: config.samples_every]]
  assert sheets == expected
  for picture in pictures:
    pixels = matplotlib.image.imread(directory / picture)[..., :3]
    assert min(pixels.shape[:2]) > 150 and pixels.std() > 0.03
  chex.assert_tree_all_finite(state)


def test_the_parameters_and_their_average_moved(toy):
  _, state = toy
  player = state.players["model"]
  biases = [x for x in jax.tree.leaves(player.params) if x.ndim == 1]
  assert biases and all(np.any(x != 0) for x in biases)  # all start at zero
  (mean,) = player.ema.values()
  differ = jax.tree.map(lambda p, e: np.any(p != e), player.params, mean)
  assert all(jax.tree.leaves(differ))


def test_the_seed_matters(toy, tmp_path, monkeypatch):
  monkeypatch.setattr(sheets, "common", lambda *args: [])
  directory, _ = toy
  few = _in(tmp_path / "few", TOY, seed=1, num_steps=4, samples_every=100)
  edm.run(few)
  assert _records(tmp_path / "few")[0] != _records(directory)[0]


def test_the_same_configuration_again_is_done(toy, monkeypatch):
  directory, state = toy
  before = _files(directory)

  def never(*args):
    raise AssertionError("trained a run that was finished")

  real = datasets.load_data(TOY.data)
  idle = real._replace(batches=lambda key, size: never)
  monkeypatch.setattr(datasets, "load_data", lambda *_, **__: idle)
  trees.assert_equal(_host(edm.run(_in(directory, TOY))), state)
  after = _files(directory)
  assert before.keys() == after.keys()
  changed = {name for name in before if before[name] != after[name]}
  assert not {n for n in changed if not n.endswith(".png")}


@pytest.mark.parametrize(
  "change, message",
  [
    ({"seed": 5}, r"another configuration \(seed 0 -> 5\); give another"),
    ({"path": "vp"}, r"path 'edm' -> 'vp'"),
    ({"num_steps": 24}, r"num_steps 12 -> 24"),
    ({"sigma_data": 2.0}, r"sigma_data .* -> 2.0"),
    ({"data": "moons", "width": 8}, r"data .*'moons', sigma_data .*, width"),
  ],
)
def test_another_configuration_is_refused(toy, change, message):
  directory, _ = toy
  before = _files(directory)
  with pytest.raises(ValueError, match=message) as caught:
    edm.run(_in(directory, TOY, **change))
  assert str(directory) in str(caught.value)
  assert "\n" not in str(caught.value)
  assert _files(directory) == before


def test_a_diverged_run_keeps_its_last_good_checkpoint(tmp_path, monkeypatch):
  real = datasets.load_data(TOY.data)

  def batches(key, size):
    batch_fn = real.batches(key, size)

    def until(step):
      examples, labels = batch_fn(step)
      return (np.nan * examples if step == 8 else examples), labels

    return until

  config = _in(tmp_path / "run", TOY, num_steps=20, warmup_steps=1)
  patched = real._replace(batches=batches)
  monkeypatch.setattr(datasets, "load_data", lambda *_, **__: patched)
  for _ in range(2):  # the same command again tells the same story
    with pytest.raises(loop.Diverged, match="model: loss is nan at step 9"):
      edm.run(config)
    assert checkpoint.steps(tmp_path / "run" / "checkpoints") == [5]
    assert len(_records(tmp_path / "run")) == 4


@pytest.mark.parametrize(
  "change, message",
  [
    ({"num_steps": -3}, "num_steps: expected at least 1, got -3"),
    ({"samples_every": 0}, "samples_every: expected at least 1, got 0"),
    ({"keep": 0}, "keep: expected at least 1, got 0"),
    ({"sample_steps": -1}, "sample_steps: expected at least 1, got -1"),
    ({"learning_rate": float("nan")}, "learning_rate: expected a positive"),
    ({"learning_rate": float("inf")}, "learning_rate: expected a positive"),
    ({"level_mean": float("nan")}, "level_mean: expected finite"),
    ({"level_std": 0.0}, "level_std: expected a positive number, got 0.0"),
    ({"ratio_min": -1.0}, "expected 0 < ratio_min < ratio_max"),
    ({"ratio_min": 2.0, "ratio_max": 1.0}, "expected 0 < ratio_min"),
    ({"label_dropout": 1.5}, "label_dropout: expected 0 to 1, got 1.5"),
    ({"dropout": 1.5}, "dropout: expected"),
    ({"ema_decay": (1.5,)}, "^ema_decay: expected"),
    ({"warmup_steps": 12}, "^warmup_steps, num_steps: .* got 12 of 12"),
    ({"solver": "churn", "churn": -1.0}, "churn: expected"),
    ({"width": 0}, "^width: expected at least 1"),
    ({"data": "moon"}, "data: expected one of"),
  ],
)
def test_bad_values_are_refused_before_anything_is_written(
  tmp_path, change, message
):
  with pytest.raises(ValueError, match=message) as caught:
    edm.run(_in(tmp_path / "run", TOY, **change))
  assert "\n" not in str(caught.value)
  assert not any(tmp_path.iterdir())


def _interrupt(monkeypatch, config, at, number):
  """The run receives a signal while it asks for the batch of step `at`."""
  real = datasets.load_data(config.data)

  def batches(key, size):
    batch_fn = real.batches(key, size)

    def until(step):
      if step == at:
        signal.raise_signal(number)
      return batch_fn(step)

    return until

  patched = real._replace(batches=batches)
  with monkeypatch.context() as patch:
    patch.setattr(datasets, "load_data", lambda *_, **__: patched)
    # Drawn in its own turn, so that the signal comes at that step.
    patch.setattr(loaders, "prefetch", lambda batch_fn, *_, **__: batch_fn)
    with pytest.raises(loop.Interrupted) as caught:
      edm.run(config)
  assert caught.value.step == at + 1
  assert caught.value.signal_number == number


def _assert_same_run(directory, state, unbroken):
  there, expected = unbroken
  trees.assert_equal(_host(state), expected)
  assert _records(directory) == _records(there)
  for picture in ("samples.png", "trajectory.png"):
    assert (directory / picture).read_bytes() == (there / picture).read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_toy_ends_as_the_unbroken_one(
  toy, tmp_path, monkeypatch, number
):
  config = _in(tmp_path / "run", TOY)
  # Between two records, and before the first checkpoint or after it.
  _interrupt(monkeypatch, config, 2 if number == signal.SIGINT else 8, number)
  assert not (tmp_path / "run" / "samples.png").exists()
  _assert_same_run(tmp_path / "run", edm.run(config), toy)


def test_a_unet_interrupted_twice_ends_as_the_unbroken_one(
  images, tmp_path, monkeypatch
):
  config = _in(tmp_path / "run", DIGITS)
  _interrupt(monkeypatch, config, 0, signal.SIGTERM)
  _interrupt(monkeypatch, config, 4, signal.SIGINT)
  _assert_same_run(tmp_path / "run", edm.run(config), images)


def test_a_killed_run_ends_as_the_unbroken_one(toy, tmp_path, monkeypatch):
  """No handler ran: it goes on from the last checkpoint, records cut back."""
  real = datasets.load_data(TOY.data)

  def batches(key, size):
    batch_fn = real.batches(key, size)
    return lambda step: batch_fn(step) if step < 9 else 1 / 0

  config = _in(tmp_path / "run", TOY)
  with monkeypatch.context() as patch:
    dying = real._replace(batches=batches)
    patch.setattr(datasets, "load_data", lambda *_, **__: dying)
    with pytest.raises(ZeroDivisionError):
      edm.run(config)
  assert checkpoint.steps(tmp_path / "run" / "checkpoints") == [5]
  assert len(_records(tmp_path / "run")) == 4
  _assert_same_run(tmp_path / "run", edm.run(config), toy)
