"""experiments.gan: what is particular to a run of two players."""

import functools
import itertools
import json
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.checks import crashes
from experiments import encode, gan, sample
from experiments.experiment import Trained
from experiments.lib import run as runs
from experiments.recipes import adversarial
from jaxgen.training import checkpoint, loop
from tests.experiments import scripts

PLAYERS = ("discriminator", "generator")


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
  directory = tmp_path_factory.mktemp("gan") / "ring"
  ex = gan.experiment(scripts.small("gan", directory))
  return *scripts.trained("gan", directory), ex


def test_both_players_moved_and_the_generator_alone_is_averaged(ring):
  _, now, ex = ring
  key = ex.keys(jax.random.key(0)).players
  start = jax.jit(ex.players)(key)
  assert set(now.players) == set(PLAYERS)
  differ = lambda p, q: bool(np.any(p != q))
  for name, player in now.players.items():
    moved = jax.tree.map(differ, player.params, start[name])
    if name == "discriminator":  # a difference of scores has no bias
      assert not moved["params"]["out"].pop("bias")
    assert all(jax.tree.leaves(moved)), name
  assert not now.players["discriminator"].ema
  assert list(now.players["generator"].ema) == ["0.999"]
  counts = {
    name: {int(x) for x in jax.tree.leaves(p.opt_state) if np.ndim(x) == 0}
    for name, p in now.players.items()
  }
  assert counts == {"discriminator": {18}, "generator": {6}}


def test_a_sample_is_one_call_of_the_averaged_generator(ring):
  directory, now, ex = ring
  points = sample.run(str(directory), sample.Config(number=5))
  (mean,) = now.players["generator"].ema.values()
  key = jax.random.fold_in(jax.random.key(0), 4)
  states, one = ex.sample({"generator": mean}, {}, key, None)
  assert states is None and ex.num_calls == 1
  np.testing.assert_allclose(points[4], one, atol=1e-6)


def test_images_of_a_class(tmp_path, monkeypatch):
  scripts.without_pictures(monkeypatch)
  smoke = gan.PRESETS["smoke"][1]
  short = dict(num_steps=2, samples_every=9, run_dir=str(tmp_path))
  now = gan.run(type(smoke)(**vars(smoke) | short))
  drawn = sample.run(str(tmp_path), sample.Config(number=11, chunk=4, label=3))
  assert drawn.shape == (11, 8, 8, 1) and np.abs(drawn).max() <= 1
  again = sample.run(str(tmp_path), sample.Config(number=2, label=3))
  np.testing.assert_allclose(again, drawn[:2], atol=1e-6)
  assert int(now.step) == 2


def test_the_terms_of_an_encoders_game(tmp_path):
  """By NumPy: the scores are means of encodings, the correlation is of each
  latent with the encoding of its example; labels are not known.
  """
  weights = dict(correlation=0.7, objective="wasserstein", penalty="none")
  config = scripts.small("o-gan", tmp_path, data="digits", **weights)
  ex = gan.experiment(config)
  assert ex.data.num_classes == 0
  model = adversarial.make_model(config, ex.data)
  params = jax.jit(model.players)(jax.random.key(0))
  batches, key = ex.batches(jax.random.key(1))(0), jax.random.key(2)
  parts = jax.tree.map(lambda x: x[0], batches["discriminator"])

  def encoded(x):
    apply = functools.partial(
      model.discriminator.apply, params["discriminator"]
    )
    return np.asarray(jax.vmap(apply)(x.reshape(len(x), -1)), np.float64)

  for turn, batch in zip(ex.turns, (parts, batches["generator"]), strict=True):
    (examples, labels), first = batch, turn.player == "discriminator"
    assert labels is None
    own = jax.random.clone(key)
    own = jax.random.split(own)[0] if first else own
    _, made, (z, again) = adversarial.views(config, model, params, own, *batch)
    np.testing.assert_array_equal(made, again)
    np.testing.assert_allclose(np.mean(z, 1), 0, atol=1e-6)
    np.testing.assert_allclose(np.std(z, 1), 1, rtol=1e-5)
    decoded = [model.generator.apply(params["generator"], a) for a in z]
    np.testing.assert_allclose(made, decoded, atol=1e-5)
    pairs = zip(z, encoded(made), strict=True)
    rho = np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs])
    truth = -encoded(made).mean() - 0.7 * rho
    if first:
      truth = encoded(made).mean() - encoded(examples).mean() - 0.7 * rho
    found, (metrics, _) = jax.jit(turn.loss_fn)(
      params, {}, jax.random.clone(key), batch, 0
    )
    np.testing.assert_allclose(found, truth, rtol=1e-4, atol=1e-5)
    if first:
      np.testing.assert_allclose(metrics["correlation"], rho, atol=1e-5)


def test_latents_of_an_encoder(tmp_path):
  """Standardised encodings, decoded; the walk is on the sphere. result.json has
  the error of the run and, by a singular value decomposition, of PCA.
  """
  changes = dict(data="digits", num_steps=3, latent=5)
  _, now = scripts.trained("o-gan", tmp_path, **changes)
  found = encode.run(str(tmp_path), encode.Config(number=180, between=3))
  config = scripts.small("o-gan", tmp_path, **changes)
  ex = gan.experiment(config)
  model = adversarial.make_model(config, ex.data)
  means = {name: p.ema["0.999"] for name, p in now.players.items()}
  z = model.discriminator.apply(
    means["discriminator"], jnp.asarray(found.examples[7]).ravel()
  )
  z = (z - z.mean()) / z.std()
  np.testing.assert_allclose(found.latents[7], z, rtol=1e-4, atol=1e-5)
  made = model.generator.apply(means["generator"], z)
  np.testing.assert_allclose(found.decoded[7], made, atol=1e-4)
  norms = np.linalg.norm(found.latents, axis=1)
  np.testing.assert_allclose(norms, np.sqrt(5), rtol=1e-5)
  record = json.loads((tmp_path / "result.json").read_text())
  assert record["number"] == 180 and record["latent"] == 5
  rms = lambda x: np.sqrt(np.mean(x**2))
  error = rms(found.decoded - found.examples)
  np.testing.assert_allclose(record["rms_error"], error, rtol=1e-4)
  train = np.float64(ex.data.split("train")[0]).reshape(-1, 64)
  held = np.float64(found.examples).reshape(-1, 64) - train.mean(0)
  axes = np.linalg.svd(train - train.mean(0), full_matrices=False)[2][:5]
  left = rms(held - held @ axes.T @ axes)
  np.testing.assert_allclose(record["pca_rms_error"], left, rtol=1e-6)
  assert -1 <= record["cosine"] <= 1
  probe = record["probe"]
  assert probe.keys() == {"encodings", "pixels", "pca", "untrained"}
  assert probe["pixels"] > 0.9 > probe["pca"] > 0.6 > 0.1 < probe["untrained"]
  other, _ = ex.measure(Trained(means, {}, {}), split="test")
  test = np.float64(ex.data.split("test")[0]).reshape(-1, 64) - train.mean(0)
  left = rms(test - test @ axes.T @ axes)
  assert other["number"] == len(test) == 360
  np.testing.assert_allclose(other["pca_rms_error"], left, rtol=1e-6)


def test_a_killed_process_ends_as_the_unbroken_one(tmp_path):
  """SIGKILL, while a checkpoint is being written if that can be met."""
  flags = (
    "ring --width 16 --num-blocks 1 --batch-size 8 --critic-steps 2"
    " --penalty-every 2 --num-steps 200 --save-every 10 --log-every 5"
    " --samples-every 1000 --ema-decay 0.9"
  )
  cache, whole, run_dir = (tmp_path / n for n in ("cache", "whole", "run"))
  crashes.finish(flags, whole, cache, "experiments.gan")
  process = crashes.start(flags, run_dir, cache, "experiments.gan")
  assert crashes.wait_for(process, crashes.completed(run_dir))
  (ended,) = crashes.end(process, run_dir, signal.SIGKILL, in_save=True)
  assert ended["code"] == -signal.SIGKILL and 0 < ended["step"] < 200
  crashes.finish(flags, run_dir, cache, "experiments.gan")
  expected = crashes.contents(whole)
  assert crashes.differing(crashes.contents(run_dir), expected) == []
  assert sum(name.startswith("metrics") for name in expected) == 40
  for player, part in itertools.product(PLAYERS, ("params", "opt_state")):
    assert any(player in name and part in name for name in expected)


def test_edm2s_averages_are_the_generators(tmp_path, monkeypatch):
  scripts.without_pictures(monkeypatch)
  changes = dict(ema_decay=(), ema_length=(0.1, 0.2), snapshot_every=2)
  gan.run(scripts.small("gan", tmp_path, **changes))
  assert checkpoint.steps(runs.snapshots(tmp_path)) == [2, 4, 6]
  config = sample.Config(number=3, average="power_0.15")
  drawn = sample.run(str(tmp_path), config)
  assert drawn.shape == (3, 2) and np.isfinite(drawn).all()


def test_a_diverged_run_names_the_discriminator(tmp_path, monkeypatch):
  """Its batches are no numbers from step 7 on: checkpoint 3 and 6 are kept."""

  def spoilt(number, batch):
    bad = lambda x: np.nan * x if number >= 6 else x
    critic = jax.tree.map(bad, batch["discriminator"])
    return batch | {"discriminator": critic}

  scripts.spoil(monkeypatch, spoilt)
  config = scripts.small("gan", tmp_path, num_steps=8, samples_every=99)
  said = "^discriminator: loss is nan at step 7$"
  for _ in range(2):  # the same command again tells the same story
    with pytest.raises(loop.Diverged, match=said):
      gan.run(config)
    assert checkpoint.steps(runs.checkpoints(tmp_path)) == [3, 6]


def test_a_rate_without_measure_diverges_in_one_line(exits, tmp_path):
  """The first loss that is no number is named: here the generator's, of the
  discriminator that the same step has thrown away.
  """
  flags = (
    "ring --width 8 --num-blocks 1 --batch-size 8 --num-steps 12"
    " --critic-steps 2 --objective wasserstein --learning-rate 1e30"
    f" --run-dir {tmp_path / 'run'}"
  )
  code, printed = exits(scripts.main_of(gan), *flags.split())
  *_, last = printed.strip().splitlines()
  assert code == 2
  assert last.startswith(("error: discriminator: l", "error: generator: l"))
  assert "loss is " in last and "lower --learning-rate" in last
  assert not checkpoint.steps(runs.checkpoints(tmp_path / "run"))
