"""experiments.edm on the data of others: tfds, archives, folders."""

import dataclasses
import json

import jax
import matplotlib.image
import numpy as np
import tensorflow_datasets as testbed

from experiments import edm, sample
from experiments.lib import datasets
from experiments.pictures import sheets
from jaxgen.data import tfds
from jaxgen.training import logging
from tests import trees
from tests.experiments import scripts

EVERY = dict(log_every=1, save_every=4, samples_every=100)
SMOKE = scripts.small("edm images", "", num_steps=4, sample_steps=2, **EVERY)


def losses(run_dir):
  return [record["loss"] for record in logging.read(run_dir / "metrics.jsonl")]


def test_prepared_digits_train_as_the_embedded_ones(tmp_path, monkeypatch):
  """The same images in the same order, and a run from end to end."""
  tfds.prepare_digits(tmp_path / "prepared")
  given = dict(data="tfds:digits", data_dir=str(tmp_path / "prepared"))
  config = dataclasses.replace(SMOKE, run_dir=str(tmp_path / "run"), **given)
  ours, embedded = datasets.load(config), datasets.load_data("digits")
  assert ours[:3] == embedded[:3]
  one = ours.batches(jax.random.key(0), 64)
  other = embedded.batches(jax.random.key(0), 64)
  for step in (0, 19, 7):  # 19 straddles two epochs
    trees.assert_equal(one(step), other(step))
  monkeypatch.setattr(sheets, "common", lambda *_: [])
  edm.run(config)
  values = losses(tmp_path / "run")
  assert len(set(values)) == 4 and np.all(np.isfinite(values))
  drawn = sample.run(config.run_dir, sample.Config(number=10))
  assert drawn.shape == (10, 8, 8, 1) and np.all(np.isfinite(drawn))


def test_mocked_cifar10_trains_to_the_end(tmp_path):
  """Mirrored, with fewer held-out images than there are classes."""
  given = dict(data="tfds:cifar10", flip=True, multipliers=(1,))
  config = dataclasses.replace(SMOKE, run_dir=str(tmp_path), **given)
  with testbed.testing.mock_data(num_examples=12):
    edm.run(config)
  assert np.all(np.isfinite(losses(tmp_path)))
  record = json.loads((tmp_path / "config.json").read_text())
  assert record["data"] == "tfds:cifar10" and record["flip"] is True
  # Levels of uniform noise: their standard deviation is known.
  expected = 1 / np.sqrt(3)
  np.testing.assert_allclose(record["sigma_data"], expected, rtol=0.02)
  picture = matplotlib.image.imread(tmp_path / "samples.png")
  assert min(picture.shape[:2]) > 300
