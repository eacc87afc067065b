"""The same runs on one device and on eight simulated ones."""

import dataclasses
import shutil

import chex
import jax
import numpy as np
import pytest

from benchmarks import devices
from experiments import edm, sample
from experiments.lib import report, tables
from jaxgen.training import logging, sharding, step

NUM = 8
pytestmark = pytest.mark.skipif(
  len(jax.devices()) < NUM, reason=f"needs {NUM} devices"
)
SMOKE = edm.PRESETS["smoke"][1]
TOY = edm.Config(
  run_dir="",
  data="moons",
  width=32,
  num_blocks=2,
  num_steps=6,
  batch_size=16,
  warmup_steps=2,
  sample_steps=3,
  log_every=1,
  save_every=3,
  samples_every=100,
)


def _train(directory, config, num, monkeypatch, **changes):
  """A run on so many devices: (its state, its losses, its program's text)."""
  config = dataclasses.replace(config, run_dir=str(directory), **changes)
  real, text = step.make_train_step, []

  def spied(*args):
    program = real(*args)

    def train_step(now, batch):
      if not text:
        text.append(program.lower(now, batch).compile().as_text())
      return program(now, batch)

    return train_step

  with monkeypatch.context() as patch:
    patch.setattr(step, "make_train_step", spied)
    patch.setattr(report, "sheet", lambda *args: None)
    patch.setattr(report, "pictures", lambda *args, **kwargs: None)
    with jax.default_device(None if num == NUM else jax.devices()[0]):
      state = edm.run(config)
  return state, _losses(directory), text[0]


def _losses(directory):
  return [r["loss"] for r in logging.read(directory / "metrics.jsonl")]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  return tmp_path_factory.mktemp("smoke")


@pytest.fixture(scope="module")
def smoke(directory):
  """The preset on one device, and on eight in both ways."""
  with pytest.MonkeyPatch.context() as patch:
    return {
      name: _train(directory / name, SMOKE, num, patch, shard=shard)
      for name, num, shard in (
        ("one", 1, "replicated"),
        ("replicated", NUM, "replicated"),
        ("full", NUM, "full"),
      )
    }


def _split(tree):
  return sum(not x.sharding.is_fully_replicated for x in jax.tree.leaves(tree))


@pytest.mark.parametrize("shard", ["replicated", "full"])
def test_eight_devices_train_as_one(smoke, shard):
  state, losses, _ = smoke[shard]
  expected, curve, _ = smoke["one"]
  assert len(losses) == 4 and curve[0] - curve[-1] > 0.05
  np.testing.assert_allclose(losses, curve, rtol=1e-5)
  player = state.players["model"]
  chex.assert_trees_all_close(  # 20 steps of Adam on summed gradients
    jax.tree.map(np.asarray, player.params),
    jax.tree.map(np.asarray, expected.players["model"].params),
    atol=1e-4,
  )
  for leaf in jax.tree.leaves(state):
    assert len(leaf.sharding.device_set) == NUM
  number = _split(player.params)
  assert number == (8 if shard == "full" else 0)
  assert _split(player.ema) == number
  assert _split(player.opt_state) == 2 * number  # Adam's two moments


def test_only_the_expected_collectives(smoke):
  """Gradients and loss in one sum, and a gather of each split parameter."""
  found = {name: devices.collectives(smoke[name][2]) for name in smoke}
  assert found == {
    "one": {},
    "replicated": {"all-reduce": 1},
    "full": {"all-reduce": 1, "all-gather": 8},
  }


def test_only_the_expected_collectives_of_a_transformer():
  config = dataclasses.replace(
    SMOKE, model="dit", width=16, num_blocks=1, num_heads=2, dropout=0.1
  )
  rule = sharding.longest_axis(64)
  with jax.default_device(None):
    mesh = sharding.mesh()
    shapes, places, program = devices.train_step(config, mesh, rule)
  player = places.players["model"]
  number = sum(bool(place.spec) for place in jax.tree.leaves(player.params))
  assert number > 10
  found = devices.collectives(program.compile().as_text())
  assert found == {"all-reduce": 1, "all-gather": number}


def test_the_demo_takes_a_sixth_of_a_device():
  config = edm.PRESETS["digits"][1]
  mesh = sharding.mesh(jax.devices()[:NUM])
  sizes = {}
  for shard, rule in tables.SHARDS.items():
    shapes, places, _ = devices.train_step(config, mesh, rule)
    sizes[shard] = sharding.bytes_per_device(shapes, places)
  assert sizes["full"] <= sizes["replicated"] / 6


def test_a_run_moves_between_eight_devices_and_one(tmp_path, monkeypatch):
  """Each goes on from the other's step 3, and ends as if it had not moved."""
  whole = {}
  for name, num in (("eight", NUM), ("one", 1)):
    where = tmp_path / name
    whole[name] = _train(where, TOY, num, monkeypatch, shard="full")[1]
    shutil.rmtree(where / "checkpoints" / "6")
  np.testing.assert_allclose(whole["eight"], whole["one"], rtol=1e-5)
  for name, num in (("eight", 1), ("one", NUM)):
    where = tmp_path / name
    state, losses, _ = _train(where, TOY, num, monkeypatch, shard="full")
    assert losses[:3] == whole[name][:3]  # as they were
    np.testing.assert_allclose(losses, whole["one"], rtol=1e-5)
    assert _split(state.players["model"].params) == (1 if num == NUM else 0)


def test_samples_do_not_depend_on_the_number_of_devices(smoke, directory):
  """Thirteen, which eight do not divide, from parameters that are split."""
  drawn = []
  for device in (None, jax.devices()[0]):
    with jax.default_device(device):
      settings = sample.Config(number=13, sample_steps=2)
      drawn.append(sample.run(str(directory / "full"), settings))
  assert drawn[0].shape == (13, 8, 8, 1) and drawn[0].std() > 0.1
  np.testing.assert_allclose(drawn[0], drawn[1], rtol=1e-4, atol=1e-4)


def test_a_batch_that_the_devices_do_not_divide_is_refused(tmp_path):
  config = dataclasses.replace(
    TOY, run_dir=str(tmp_path / "run"), batch_size=20
  )
  message = "^batch_size: expected a multiple of the 8 devices, got 20$"
  with jax.default_device(None):
    with pytest.raises(ValueError, match=message):
      edm.run(config)
  assert not any(tmp_path.iterdir())


def test_bfloat16_trains_as_float32(smoke, tmp_path, monkeypatch):
  state, losses, text = _train(
    tmp_path / "run", SMOKE, 1, monkeypatch, dtype="bfloat16"
  )
  curve = smoke["one"][1]
  np.testing.assert_allclose(losses, curve, rtol=0.02)
  assert losses != curve and "bf16" in text
  for leaf in jax.tree.leaves(state.players):
    assert leaf.dtype in (np.float32, np.int32)
  expected = smoke["one"][0].players["model"].params
  chex.assert_trees_all_equal_shapes_and_dtypes(
    state.players["model"].params, expected
  )
