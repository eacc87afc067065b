"""The same runs on one device and on eight simulated ones."""

import contextlib
import dataclasses
import shutil

import jax
import numpy as np
import pytest

from benchmarks.speed import steps
from experiments import edm, sample
from experiments.lib import choices
from experiments.pictures import figures, sheets
from jaxgen.training import checkpoint, logging, sharding, step
from tests import expect, trees
from tests.experiments import scripts

NUM = 8
pytestmark = pytest.mark.skipif(
  len(jax.devices()) < NUM, reason=f"needs {NUM} devices"
)
SMOKE = edm.PRESETS["smoke"][1]
SIZES = dict(width=32, num_blocks=2, log_every=1, samples_every=100)
TOY = scripts.small("edm", "", data="moons", shard="full", **SIZES)


def _train(directory, config, num, **changes):
  """A run on so many devices, without pictures: (its state, its losses)."""
  config = dataclasses.replace(config, run_dir=str(directory), **changes)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sheets, "sheet", lambda *args: None)
    patch.setattr(sheets, "common", lambda *args: [])
    patch.setattr(figures, "curves", lambda *args: None)
    with jax.default_device(None if num == NUM else jax.devices()[0]):
      state = edm.run(config)
  records = logging.read(directory / "metrics.jsonl")
  return state, [record["loss"] for record in records]


def _train_and_read(directory, config, num, **changes):
  """The same without checkpoints, and the text of the compiled step."""
  real, programs = step.make_train_step, []

  def spied(*args):
    train_step = real(*args)

    def compiled(now, batch):
      if not programs:
        programs.append(train_step.lower(now, batch).compile())
      return train_step(now, batch)

    return compiled

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(step, "make_train_step", spied)
    unsaved = lambda *_, **__: contextlib.nullcontext(lambda state: None)
    patch.setattr(checkpoint, "saver", unsaved)
    found = _train(directory, config, num, **changes)
  return *found, programs[0].as_text()


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
  """The preset on one device, and on eight in both ways."""
  directory = tmp_path_factory.mktemp("smoke")
  return {
    name: _train_and_read(directory / name, SMOKE, num, shard=shard)
    for name, num, shard in (
      ("one", 1, "replicated"),
      ("replicated", NUM, "replicated"),
      ("full", NUM, "full"),
    )
  }


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
  """{devices: (directory, losses)} of a run on one device and on eight."""
  found = {}
  for num in (1, NUM):
    directory = tmp_path_factory.mktemp("toy") / "run"
    found[num] = directory, _train(directory, TOY, num)[1]
  return found


def _split(tree):
  return sum(not x.sharding.is_fully_replicated for x in jax.tree.leaves(tree))


@pytest.mark.parametrize("shard", ["replicated", "full"])
def test_eight_devices_train_as_one(smoke, shard):
  state, losses, _ = smoke[shard]
  expected, curve, _ = smoke["one"]
  assert len(losses) == 4 and curve[0] - curve[-1] > 0.05
  np.testing.assert_allclose(losses, curve, rtol=1e-5)
  player = state.players["model"]
  trees.assert_close(  # 20 steps of Adam on summed gradients
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
  found = {name: steps.collectives(smoke[name][2]) for name in smoke}
  assert found == {
    "one": {},
    "replicated": {"all-reduce": 1},
    "full": {"all-reduce": 1, "all-gather": 8},
  }


def test_only_the_expected_collectives_of_a_transformer():
  config = dataclasses.replace(
    SMOKE, model="dit", width=16, num_blocks=1, num_heads=2, dropout=0.1
  )
  mesh = sharding.mesh(jax.devices()[:NUM])
  places, program = steps.lower(
    steps.parts(config), mesh, sharding.longest_axis(64)
  )
  player = places.players["model"]
  number = sum(bool(place.spec) for place in jax.tree.leaves(player.params))
  assert number > 10
  found = steps.collectives(program.compile().as_text())
  assert found == {"all-reduce": 1, "all-gather": number}


def test_the_demo_takes_a_sixth_of_a_device():
  mesh = sharding.mesh(jax.devices()[:NUM])
  shapes = steps.parts(edm.PRESETS["digits"][1]).shapes
  sizes = {}
  for shard, rule in choices.SHARDS.items():
    places = sharding.shardings(shapes, mesh, rule)
    sizes[shard] = sharding.bytes_per_device(shapes, places)
  assert sizes["full"] <= sizes["replicated"] / 6


def test_a_run_moves_between_eight_devices_and_one(toy, tmp_path):
  """Each goes on from the other's step 3, and ends as if it had not moved."""
  _, expected = toy[1]
  for begun, num in ((NUM, 1), (1, NUM)):
    directory, losses = toy[begun]
    moved = shutil.copytree(directory, tmp_path / str(num))
    shutil.rmtree(moved / "checkpoints" / "6")
    state, again = _train(moved, TOY, num)
    assert again[:3] == losses[:3]  # as they were
    np.testing.assert_allclose(again, expected, rtol=1e-5)
    assert _split(state.players["model"].params) == (2 if num == NUM else 0)


def test_samples_do_not_depend_on_the_number_of_devices(toy):
  """Thirteen, which eight do not divide."""
  directory, _ = toy[NUM]
  drawn = []
  for device in (None, jax.devices()[0]):
    with jax.default_device(device):
      drawn.append(sample.run(str(directory), sample.Config(number=13)))
  assert drawn[0].shape == (13, 2) and drawn[0].std() > 0.1
  np.testing.assert_allclose(drawn[0], drawn[1], rtol=1e-5, atol=1e-5)


def test_a_batch_that_the_devices_do_not_divide_is_refused(tmp_path):
  run_dir = str(tmp_path / "run")
  config = dataclasses.replace(TOY, run_dir=run_dir, batch_size=20)
  message = "^batch_size: expected a multiple of the 8 devices, got 20$"
  with jax.default_device(None):
    expect.error(message, edm.run, config)
  assert not any(tmp_path.iterdir())


def test_bfloat16_trains_as_float32(toy, tmp_path):
  _, expected = toy[1]
  run_dir = tmp_path / "run"
  state, losses, text = _train_and_read(run_dir, TOY, 1, dtype="bfloat16")
  np.testing.assert_allclose(losses, expected, rtol=0.02)
  assert losses != expected and "bf16" in text
  for leaf in jax.tree.leaves(state.players):
    assert leaf.dtype in (np.float32, np.int32)
