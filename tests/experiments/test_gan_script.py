"""experiments.gan: runs of two players, whole, interrupted and refused."""

import dataclasses
import itertools
import json
import signal
import sys

import chex
import jax
import matplotlib.image
import numpy as np
import pytest

from benchmarks.checks import crashes
from experiments import encode, evaluate, gan, sample
from experiments.lib import command_line, datasets
from experiments.lib import run as runs
from jaxgen.data import loaders
from jaxgen.models import gan as models
from jaxgen.training import checkpoint, logging, loop
from tests import trees

RING = gan.Config(
  run_dir="",
  data="ring",
  width=8,
  num_blocks=1,
  penalty_last=0.5,
  penalty_every=2,
  critic_steps=3,
  num_steps=8,
  batch_size=8,
  log_every=2,
  save_every=3,
  samples_every=8,
)
SMOKE = gan.PRESETS["smoke"][1]
SCRIPT = "experiments.gan"
PLAYERS = ("discriminator", "generator")


def _in(directory, config=RING, **changes):
  return dataclasses.replace(config, run_dir=str(directory), **changes)


def _records(directory):
  """metrics.jsonl without the seconds."""
  records = logging.read(directory / "metrics.jsonl")
  return [json.dumps(r | {"seconds": 0}) for r in records]


def _host(state):
  unkeyed = state._replace(key=jax.random.key_data(state.key))
  return jax.tree.map(np.asarray, unkeyed)


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
  directory = tmp_path_factory.mktemp("gan") / "ring"
  return directory, _host(gan.run(_in(directory)))


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
  directory = tmp_path_factory.mktemp("gan") / "smoke"
  return directory, _host(gan.run(_in(directory, SMOKE)))


@pytest.mark.parametrize("name, config", [("ring", RING), ("smoke", SMOKE)])
def test_a_run_leaves_everything(name, config, request):
  directory, state = request.getfixturevalue(name)
  pictures = {"samples.png", "curves.png"}
  pictures |= {"modes.png"} if name == "ring" else set()
  others = {"config.json", "lock", "metrics.jsonl", "checkpoints", "sheets"}
  assert {path.name for path in directory.iterdir()} == pictures | others
  record = json.loads((directory / "config.json").read_text())
  assert record["experiment"] == "experiments.gan"
  records = logging.read(directory / "metrics.jsonl")
  every = config.log_every
  steps = list(range(every, config.num_steps + 1, every))
  assert [r["step"] for r in records] == steps
  names = {f"{player}/loss" for player in PLAYERS}
  names |= {"discriminator/gap", "discriminator/penalty"}
  for record in records:
    assert record.keys() == names | {"step", "seconds"}
    assert all(np.isfinite(record[name]) for name in names)
  assert checkpoint.steps(runs.checkpoints(directory))[-1] == config.num_steps
  sheets = {path.name for path in (directory / "sheets").iterdir()}
  drawn = range(config.samples_every, config.num_steps + 1)
  assert sheets == {f"{n:06}.png" for n in drawn[:: config.samples_every]}
  for picture in pictures:
    pixels = matplotlib.image.imread(directory / picture)[..., :3]
    assert min(pixels.shape[:2]) > 150 and pixels.std() > 0.03
  chex.assert_tree_all_finite(state)
  assert state.step == config.num_steps


def test_both_players_moved_and_the_generator_alone_is_averaged(ring):
  _, now = ring
  key = jax.random.split(jax.random.key(RING.seed), 4)[0]
  start = jax.jit(gan.experiment(RING).players)(key)
  assert set(now.players) == set(PLAYERS)
  for name, player in now.players.items():
    moved = jax.tree.map(
      lambda p, q: bool(np.any(p != q)), player.params, start[name]
    )
    if name == "discriminator":  # a difference of scores has no bias
      assert not moved["params"]["out"].pop("bias")
    assert all(jax.tree.leaves(moved)), name
  assert not now.players["discriminator"].ema
  assert list(now.players["generator"].ema) == ["0.999"]
  counts = {
    name: {int(x) for x in jax.tree.leaves(p.opt_state) if np.ndim(x) == 0}
    for name, p in now.players.items()
  }
  assert counts == {"discriminator": {24}, "generator": {8}}


def test_sample_draws_from_both_runs(ring, smoke):
  drawn = sample.run(str(smoke[0]), sample.Config(number=11, chunk=4, label=3))
  assert drawn.shape == (11, 8, 8, 1) and np.abs(drawn).max() <= 1
  again = sample.run(str(smoke[0]), sample.Config(number=2, label=3))
  np.testing.assert_allclose(again, drawn[:2], atol=1e-6)
  points = sample.run(str(ring[0]), sample.Config(number=5))
  assert points.shape == (5, 2) and np.isfinite(points).all()
  # By hand, of the averaged generator.
  _, now = ring
  (mean,) = now.players["generator"].ema.values()
  key = jax.random.fold_in(jax.random.key(0), 4)
  z = jax.random.normal(key, (RING.latent,))
  net = models.Generator((2,), (RING.width,) * RING.num_blocks, 0)
  one = net.apply(mean, z)
  np.testing.assert_allclose(points[4], one, atol=1e-6)


def test_evaluate_measures_a_run_of_one_call(ring, capsys):
  found = evaluate.run(str(ring[0]), evaluate.Config(number=50, draws=1))
  assert found["calls"] == 1 and found["solver"] is None
  values = [row["samples"] for row in found["metrics"].values()]
  measured = [value for value in values if value is not None]
  assert measured and np.isfinite(measured).all()
  assert "1 network calls each" in capsys.readouterr().out


@pytest.mark.parametrize(
  "main, arguments",
  [
    (sample.main, ["--solver", "heun"]),
    (evaluate.main, ["--solver", "heun"]),
    (sample.main, ["--churn", "1"]),
    (sample.main, ["--sample-steps", "3"]),
    (encode.main, []),
  ],
)
def test_solvers_and_encoding_are_refused(
  monkeypatch, capsys, ring, main, arguments
):
  directory, _ = ring
  before = set(directory.iterdir())
  monkeypatch.setattr(sys, "argv", ["command", str(directory), *arguments])
  with pytest.raises(SystemExit) as caught:
    main()
  printed = "".join(capsys.readouterr())
  assert caught.value.code == 2 and len(printed.splitlines()) == 1
  assert printed.startswith("error: ")
  said = f"{arguments[0]}: expected " if arguments else "has no encoder"
  assert said in printed and str(directory) in printed
  assert set(directory.iterdir()) == before


def _patched(monkeypatch, config, change):
  """Data whose batches of a step come through `change(step, examples)`."""
  real = datasets.load_data(config.data)

  def batches(key, size):
    batch_fn = real.batches(key, size)

    def changed(step):
      examples, labels = batch_fn(step)
      return change(step, examples), labels

    return changed

  patched = real._replace(batches=batches)
  monkeypatch.setattr(datasets, "load_data", lambda *_, **__: patched)
  # Drawn in its own turn, so that what happens happens at that step.
  monkeypatch.setattr(loaders, "prefetch", lambda batch_fn, *_, **__: batch_fn)


def _assert_same_run(directory, state, unbroken):
  there, expected = unbroken
  trees.assert_equal(_host(state), expected)
  assert _records(directory) == _records(there)
  picture = "samples.png"
  assert (directory / picture).read_bytes() == (there / picture).read_bytes()


@pytest.mark.parametrize("at", [0, 5])
def test_an_interrupted_run_ends_as_the_unbroken_one(
  ring, tmp_path, monkeypatch, at
):
  config = _in(tmp_path / "run")

  def stop(step, examples):
    if step == at:
      signal.raise_signal(signal.SIGINT)
    return examples

  with monkeypatch.context() as patch:
    _patched(patch, config, stop)
    with pytest.raises(loop.Interrupted) as caught:
      gan.run(config)
  assert caught.value.step == at + 1
  assert not (tmp_path / "run" / "samples.png").exists()
  _assert_same_run(tmp_path / "run", gan.run(config), ring)


def test_a_killed_process_ends_as_the_unbroken_one(tmp_path):
  """SIGKILL, while a checkpoint is being written if that can be met."""
  flags = (
    "ring --width 16 --num-blocks 1 --batch-size 8 --critic-steps 2"
    " --penalty-every 2 --num-steps 200 --save-every 10 --log-every 5"
    " --samples-every 1000 --ema-decay 0.9"
  )
  cache, whole, run_dir = (tmp_path / n for n in ("cache", "whole", "run"))
  crashes.finish(flags, whole, cache, SCRIPT)
  process = crashes.start(flags, run_dir, cache, SCRIPT)
  assert crashes.wait_for(process, crashes.completed(run_dir))
  (ended,) = crashes.end(process, run_dir, signal.SIGKILL, in_save=True)
  assert ended["code"] == -signal.SIGKILL and 0 < ended["step"] < 200
  crashes.finish(flags, run_dir, cache, SCRIPT)
  expected = crashes.contents(whole)
  assert crashes.differing(crashes.contents(run_dir), expected) == []
  assert sum(name.startswith("metrics") for name in expected) == 40
  for player, part in itertools.product(PLAYERS, ("params", "opt_state")):
    assert any(player in name and part in name for name in expected)


def test_edm2s_averages_are_the_generators(tmp_path):
  changes = dict(ema_decay=(), ema_length=(0.1, 0.2), snapshot_every=2)
  config = _in(tmp_path, **changes)
  gan.run(config)
  assert checkpoint.steps(runs.snapshots(tmp_path)) == [2, 4, 6, 8]
  drawn = sample.run(
    str(tmp_path), sample.Config(number=3, average="power_0.15")
  )
  assert drawn.shape == (3, 2) and np.isfinite(drawn).all()


def test_a_diverged_run_names_the_discriminator(tmp_path, monkeypatch):
  """Its batches are no numbers from step 7 on: checkpoint 3 and 6 are kept."""
  config, inner = _in(tmp_path / "run"), RING.critic_steps * RING.batch_size

  def spoil(step, examples):
    bad = step >= 6 and len(examples) == inner
    return np.nan * examples if bad else examples

  _patched(monkeypatch, config, spoil)
  for _ in range(2):  # the same command again tells the same story
    with pytest.raises(loop.Diverged) as caught:
      gan.run(config)
    said = str(caught.value)
    assert said == "discriminator: loss is nan at step 7"
    assert checkpoint.steps(runs.checkpoints(config.run_dir)) == [3, 6]


def test_a_rate_without_measure_diverges_in_one_line(
  monkeypatch, capsys, tmp_path
):
  """The first loss that is no number is named: here the generator's, of the
  discriminator that the same step has thrown away.
  """
  flags = (
    "ring --width 8 --num-blocks 1 --batch-size 8 --num-steps 12"
    " --critic-steps 2 --objective wasserstein --learning-rate 1e30"
    f" --run-dir {tmp_path / 'run'}"
  )
  monkeypatch.setattr(sys, "argv", ["gan", *flags.split()])
  with pytest.raises(SystemExit) as caught:
    command_line.main(gan.__file__, gan.PRESETS, gan.run)
  *_, last = "".join(capsys.readouterr()).strip().splitlines()
  assert caught.value.code == 2
  assert last.startswith(("error: discriminator: l", "error: generator: l"))
  assert "loss is " in last and "lower --learning-rate" in last
  assert not checkpoint.steps(runs.checkpoints(tmp_path / "run"))
