"""Records of older versions are read as they were meant."""

import dataclasses
import json

import pytest

from experiments import (
  edm,
  flow_matching,
  gan,
  normalizing_flow,
  wasserstein,
)
from experiments.lib import records, samples
from experiments.lib import run as runs
from tests.experiments import scripts

# What versions before `convert` stored whatever the data were.
OLD = dict(image_size=32, attention=[4], model="auto")


@pytest.mark.parametrize(
  "stored, meant",
  [
    (dict(data="digits"), dict(image_size=None, attention=[4])),
    (dict(data="digits:8", source="digits:0"), dict(image_size=None)),
    (dict(data="folder:a", image_size=99), dict(image_size=None)),
    (dict(data="file:a.npz", attention=[]), dict(attention=[])),
    (dict(data="photos", attention=[8]), dict(image_size=None, attention=[8])),
    (dict(data="photos", image_size=64), dict(image_size=64)),
    (dict(data="digits", other="photos+0.5", image_size=8), dict(image_size=8)),
    (dict(data="folder:a", source="photos", image_size=8), dict(image_size=8)),
    (dict(data="moons"), dict(image_size=None, attention=None)),
    (dict(data="moons", model="mlp"), dict(attention=None)),
    (dict(data="digits", model="dit"), dict(attention=None)),
    (dict(data="digits", model="unet"), dict(attention=[4])),
  ],
)
def test_a_setting_that_was_not_used_is_open_now(stored, meant):
  found = records.current(OLD | stored)
  assert found == OLD | dict(image_size=None, convert=False) | stored | meant


def test_records_of_this_version_and_of_games_stay():
  new = dict(data="folder:a", image_size=32, convert=False, attention=[4])
  assert records.current(new) == new
  other = dict(data="moons", num_features=3)
  assert records.current(other) == other
  old = dict(data="ring", image_size=32)
  assert records.current(old) == dict(
    data="ring", image_size=None, convert=False
  )


CASES = [
  (edm, "digits", [4]),
  (edm, "photos", [8]),
  (edm, "digits-dit", [4]),
  (edm, "toy", [4]),
  (flow_matching, "pair", [4]),
  (gan, "ring", None),
  (wasserstein, "points", None),
  (normalizing_flow, "digits", None),
]


@pytest.mark.parametrize("module, preset, attention", CASES)
def test_an_old_run_is_read_and_resumed(tmp_path, module, preset, attention):
  """By the preset's own settings, which the directory still accepts."""
  config = dataclasses.replace(
    module.PRESETS[preset][1], run_dir=str(tmp_path / "run")
  )
  config = module.experiment(config).config
  record = json.loads(json.dumps(dataclasses.asdict(config)))
  for name in (*runs.UNRECORDED, "convert"):
    del record[name]
  for name, value in records.LATER.items():
    if name in record and record[name] == value:
      del record[name]
  record |= dict(image_size=32, experiment=module.__name__, script_digest="old")
  if attention is not None:
    record["attention"] = attention
  (tmp_path / "run").mkdir()
  (tmp_path / "run" / "config.json").write_text(json.dumps(record))
  found = samples.read(config.run_dir).config
  assert found == config
  with runs.open_directory(config, module.__file__):
    pass


def test_this_versions_records_are_resumed(tmp_path):
  config = scripts.small("edm images", tmp_path)
  for _ in range(2):
    with runs.open_directory(config, edm.__file__):
      pass
