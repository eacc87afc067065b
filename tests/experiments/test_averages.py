"""Which averages a run keeps, and EDM2's recombined after training."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from experiments import edm, sample
from experiments.lib import averages
from experiments.lib import run as runs
from jaxgen.training import checkpoint
from tests import expect, trees
from tests.experiments import scripts

EVERY = dict(save_every=6, samples_every=12, snapshot_every=4)
MEANS = dict(ema_decay=(0.9, 0.5), ema_length=(0.1, 0.2))
CONFIG = scripts.small("edm", "", num_steps=12, **EVERY, **MEANS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """(the run's averages, how to load one of them)."""
  directory = tmp_path_factory.mktemp("averages") / "run"
  config = dataclasses.replace(CONFIG, run_dir=str(directory))
  means = edm.run(config).players["model"].ema
  ex = edm.experiment(config)

  def load(changed=config, **which):
    params, extras = averages.load(ex._replace(config=changed), **which)
    assert extras == {}
    return params["model"]

  return config, means, load


def test_every_average_is_kept_and_read_by_name(trained):
  _, means, load = trained
  assert list(means) == ["0.5", "0.9", "power_0.1", "power_0.2"]
  for name, mean in means.items():
    trees.assert_equal(load(average=name), mean)
  trees.assert_equal(load(), means["0.9"])  # the first given
  flat = [np.asarray(jax.tree.leaves(mean)[-1]) for mean in means.values()]
  assert all(np.any(a != b) for a, b in itertools.pairwise(flat))


def test_a_kept_length_is_recombined_from_the_snapshots_exactly(trained):
  config, means, load = trained
  directory = runs.snapshots(config.run_dir)
  assert checkpoint.steps(directory) == [4, 8, 12]
  again = load(average="power_0.10")  # not by its name
  trees.assert_close(again, means["power_0.1"], atol=1e-6)


def test_an_earlier_step(trained):
  _, _, load = trained
  early = load(average="power_0.15", step=9)
  late = load(average="power_0.15")
  leaf = lambda tree: np.asarray(jax.tree.leaves(tree)[-1])
  assert np.any(leaf(early) != leaf(late))


def test_sampling_takes_an_average_by_name(trained, monkeypatch):
  config, _, load = trained
  asked, params = [], load()

  def read(ex, step, average):
    asked.append(average)
    return {"model": params}, {}

  monkeypatch.setattr(averages, "load", read)
  sample.run(config.run_dir, sample.Config(number=4, average="power_0.15"))
  assert asked == ["power_0.15"]


@pytest.mark.parametrize(
  "average, message",
  [
    ("0.99", r"average: expected .*power_0\.2 or power_LENGTH, got '0\.99'"),
    ("power_x", "average: expected"),
    ("power_0.5", "^average: expected above 0"),
  ],
)
def test_no_such_average(trained, average, message):
  expect.error(message, trained[2], average=average)


def test_a_run_without_snapshots(trained):
  config = dataclasses.replace(trained[0], ema_length=())
  config = dataclasses.replace(config, run_dir=config.run_dir + "/none")
  with pytest.raises(FileNotFoundError, match="train with --ema-length"):
    trained[2](config, average="power_0.1")


def test_a_run_needs_an_average():
  config = dataclasses.replace(CONFIG, ema_decay=(), ema_length=())
  expect.error(r"^ema_decay, ema_length: expected", averages.rules, config)
