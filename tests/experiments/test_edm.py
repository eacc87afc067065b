"""experiments.edm: what is its own, and one run that diverges."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from experiments import edm
from experiments.lib import run as runs
from jaxgen.training import checkpoint, logging, loop
from tests.experiments import scripts


def _toy(directory, **changes):
  return scripts.small("edm", directory, **changes)


def test_the_parameters_their_average_and_the_seed(tmp_path, monkeypatch):
  scripts.without_pictures(monkeypatch)
  short = dict(num_steps=4, samples_every=100)
  state = edm.run(_toy(tmp_path / "0", **short))
  player = state.players["model"]
  biases = [x for x in jax.tree.leaves(player.params) if x.ndim == 1]
  assert biases and all(np.any(x != 0) for x in biases)  # all start at zero
  (mean,) = player.ema.values()
  differ = jax.tree.map(lambda p, e: np.any(p != e), player.params, mean)
  assert all(jax.tree.leaves(differ))
  edm.run(_toy(tmp_path / "1", seed=1, **short))
  first, other = (
    logging.read(tmp_path / name / "metrics.jsonl")[0]["loss"] for name in "01"
  )
  assert first != other


@pytest.mark.parametrize(
  "change, message",
  [
    ({"path": "vp"}, r"path 'edm' -> 'vp'"),
    ({"sigma_data": 2.0}, r"sigma_data .* -> 2.0"),
    ({"data": "moons", "width": 8}, r"data .*'moons', sigma_data .*, width"),
  ],
)
def test_another_configuration_is_rejected(tmp_path, change, message):
  """Each setting that differs is named, what was measured included."""
  for changes in ({}, change):
    config = edm.experiment(_toy(tmp_path, **changes)).config
    if not changes:
      with runs.open_directory(config, edm.__file__):
        pass
  with (
    pytest.raises(ValueError, match=message),
    runs.open_directory(config, edm.__file__),
  ):
    pass


def test_a_diverged_run_keeps_its_last_good_checkpoint(tmp_path, monkeypatch):
  nan = lambda batch: jax.tree.map(lambda x: np.nan * x, batch)
  spoilt = lambda number, batch: nan(batch) if number == 8 else batch
  scripts.spoil(monkeypatch, spoilt)
  config = _toy(tmp_path, num_steps=20, warmup_steps=1, save_every=5)
  for _ in range(2):  # the same command again tells the same story
    with pytest.raises(loop.Diverged, match="model: loss is nan at step 9"):
      edm.run(config)
    assert checkpoint.steps(tmp_path / "checkpoints") == [5]
    assert len(logging.read(tmp_path / "metrics.jsonl")) == 4


def test_what_is_measured_is_a_setting():
  """config.json holds it, and a run of the record is the same run."""
  ex = edm.experiment(_toy(""))
  assert ex.config.sigma_data == round(ex.data.std, 3)
  record = json.loads(json.dumps(dataclasses.asdict(ex.config)))
  for name in runs.UNRECORDED:
    del record[name]
  again = runs.config_from(record, edm.Config, "")
  assert again == ex.config == edm.experiment(again).config
