"""experiments.transport_map: runs, their subcommands, and what is refused."""

import dataclasses
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from experiments import encode, evaluate, sample, transport_map
from experiments.experiment import Trained
from experiments.lib import averages, command_line, datasets, samples
from jaxgen.data import oracles, toy
from tests import trees

TINY = transport_map.Config(
  run_dir="",
  source="moons",
  features=(8,),
  num_steps=4,
  batch_size=16,
  log_every=2,
  save_every=2,
  samples_every=4,
)
METHODS = ("semi_dual", "max_min", "makkuva", "w2gn", "entropic")
POINTS = {"samples", "trajectory", "paths", "map", "curves"}


def _tiny(**changes):
  return dataclasses.replace(TINY, **changes)


def _source(config):
  if config.source == "gaussian":
    return datasets.noise((2,))
  return datasets.load(config, "source")


def _game(ex):
  return transport_map.make_game(ex.config, ex.data)


def _map(ex, params):
  game = _game(ex)
  return game.of(params[game.player])


def _pictures(directory):
  return {path.stem for path in directory.glob("*.png")}


@pytest.fixture(scope="module", params=METHODS)
def trained(request, tmp_path_factory):
  directory = tmp_path_factory.mktemp("maps") / request.param
  inner = 3 if request.param == "max_min" else None
  config = _tiny(
    run_dir=str(directory), method=request.param, inner_steps=inner
  )
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(transport_map, "NUM_CLOUD", 50)
    return directory, config, transport_map.run(config)


def test_a_run_leaves_its_files(trained):
  assert _pictures(trained[0]) == POINTS
  assert (trained[0] / "sheets" / "000004.png").exists()
  assert not (trained[0] / "result.json.part").exists()


def test_an_interrupted_run_ends_like_the_unbroken_one(
  trained, tmp_path, monkeypatch
):
  def cut(*given, real=transport_map.games.zipped):
    batch_fn = real(*given)

    def until(step):
      if step >= 3:
        raise RuntimeError("cut off")
      return batch_fn(step)

    return until

  _, config, unbroken = trained
  config = dataclasses.replace(config, run_dir=str(tmp_path / "cut"))
  with monkeypatch.context() as patch:
    patch.setattr(transport_map.games, "zipped", cut)
    with pytest.raises(RuntimeError, match="cut off"):
      transport_map.run(config)
  again = transport_map.run(config)
  for name, player in unbroken.players.items():
    trees.assert_equal(again.players[name], player)


def test_states_run_straight_from_the_source_to_the_map(trained):
  ex = samples.read(trained[0])
  params, _ = averages.load(ex)
  key = jax.random.key(5)
  states, ends = samples.make_sampler(ex)(
    params, {}, jax.random.split(key, 64), None
  )
  states = np.asarray(states)
  assert states.shape == (64, 9, 2)
  np.testing.assert_array_equal(states[:, -1], ends)
  np.testing.assert_allclose(np.diff(states, 2, axis=1), 0, atol=1e-5)
  mapped = jax.vmap(_map(ex, params))(states[:, 0])
  np.testing.assert_allclose(ends, mapped, atol=1e-5)
  assert np.abs(states[:, -1] - states[:, 0]).max() > 1e-3
  moons = datasets.load(_tiny(data="moons")).real[0]
  np.testing.assert_allclose(states[:, 0].mean(0), moons.mean(0), atol=1.0)


def test_the_result_is_that_of_its_clouds(trained):
  """Against assignments of SciPy's, on distances in NumPy."""
  ex = samples.read(trained[0])
  params, _ = averages.load(ex)
  source = _source(ex.config)
  x = np.float64(transport_map.held_out(ex.config, source, 50))
  mapped = np.float64(jax.vmap(_map(ex, params))(np.float32(x)))
  real = np.float64(ex.data.real[0][:50])

  def squared(a, b):
    cost = ((a[:, None] - b[None]) ** 2).sum(-1)
    return cost[optimize.linear_sum_assignment(cost)].mean()

  found = json.loads((trained[0] / "result.json").read_text())
  expected = dict(
    number=50,
    cost=((x - mapped) ** 2).sum(1).mean(),
    w2_source_real=squared(x, real),
    w2_mapped_real=squared(mapped, real),
  )
  floor = found.pop("w2_real_real")
  assert found == pytest.approx(expected, rel=1e-4)
  assert 0 < floor < found["w2_source_real"]


def test_subcommands(trained):
  directory = str(trained[0])
  assert sample.run(directory, sample.Config(number=7)).shape == (7, 2)
  record = evaluate.run(directory, evaluate.Config(number=64, draws=2))
  assert record["calls"] == 1 and record["step"] == 4
  with pytest.raises(ValueError, match="samples by one call"):
    sample.run(directory, sample.Config(solver="heun"))
  with pytest.raises(ValueError, match="samples by one call"):
    encode.run(directory, encode.Config(number=2, solver="rk4"))
  with pytest.raises(ValueError, match="has no encoder"):
    encode.run(directory, encode.Config(number=2))


def test_images_move_along_film_strips(tmp_path):
  config = _tiny(
    run_dir=str(tmp_path / "run"), data="digits:8", source="digits:0"
  )
  transport_map.run(config)
  assert _pictures(tmp_path / "run") == {"samples", "trajectory", "curves"}
  found = json.loads((tmp_path / "run" / "result.json").read_text())
  held = len(datasets.load_data("digits:0").real[0])
  assert found["number"] == min(
    held, len(datasets.load_data("digits:8").real[0])
  )


def test_every_law_has_draws_of_its_own():
  ex = transport_map.experiment(_tiny(method="max_min", inner_steps=2))
  batch_fn = ex.batches(jax.random.key(0))
  first, second = batch_fn(0), batch_fn(1)
  assert first["map"][0].shape == (2, 16, 2)
  assert first["potential"][1].shape == (16, 2)
  seen = [
    x.reshape(-1, 2) for b in (first, second) for p in b.values() for x in p
  ]
  assert len(np.unique(np.concatenate(seen), axis=0)) == 2 * 2 * (32 + 16)
  trees.assert_equal(batch_fn(1), second)


@pytest.mark.parametrize("method", ("semi_dual", "makkuva", "w2gn"))
def test_the_map_is_the_gradient_of_its_potential(method):
  ex = transport_map.experiment(_tiny(method=method))
  game, players = _game(ex), ex.players(jax.random.key(0))
  phi = game.potential(players[game.player])
  move = game.of(players[game.player])
  x, step = jnp.float32([0.3, -1.2]), 0.01
  difference = [
    (phi(x + e) - phi(x - e)) / (2 * step)
    for e in step * jnp.eye(2, dtype=x.dtype)
  ]
  np.testing.assert_allclose(move(x), difference, atol=1e-3)


def test_a_known_map_is_found(tmp_path, monkeypatch):
  """N(0, I) to N(m, s^2 I): T(x) = m + s x, W2^2 = |m|^2 + 2 (1 - s)^2."""
  mean, std = np.float32([3.0, -1.0]), 0.5
  law = oracles.Mixture(np.ones(1), mean[None], np.array([std]))
  monkeypatch.setitem(datasets.TOYS, "moved", lambda: toy.from_mixture(law))
  config = _tiny(
    run_dir=str(tmp_path / "run"),
    data="moved",
    source="gaussian",
    features=(16,),
    num_steps=400,
    batch_size=512,
    learning_rate=3e-2,
    ema_decay=(0.98,),
    log_every=100,
    save_every=400,
    samples_every=400,
  )
  now = transport_map.run(config)
  ex = transport_map.experiment(config)
  params, source = averages.sampled(ex, now), _source(config)
  x = transport_map.held_out(ex.config, source, 500)
  mapped = jax.vmap(_map(ex, params))(x)
  error = np.mean(np.sum((mapped - (mean + std * x)) ** 2, 1))
  assert error < 0.03 * 2 * std**2  # of the variance; x + m has its whole
  found, _ = ex.measure(Trained(params, {}, {}))
  least = float((mean**2).sum() + 2 * (1 - std) ** 2)
  assert found["cost"] == pytest.approx(least, rel=0.05)
  assert found["w2_source_real"] == pytest.approx(least, rel=0.1)
  assert found["w2_mapped_real"] < 3 * found["w2_real_real"]


@pytest.mark.parametrize(
  "changes, match",
  [
    (dict(source="digits:0"), r"^source, data: expected examples \[2\]"),
    (dict(source="mons"), "source: expected one of"),
    (dict(data="digits", source="digits"), "data: expected none with labels"),
    (dict(method="semidual"), "method: expected one of"),
    (dict(epsilon=0.0), "epsilon: expected a positive"),
    (dict(epsilon=-1.0), "epsilon: expected a positive"),
    (dict(learning_rate=float("nan")), "learning_rate: expected a positive"),
    (dict(features=(8, 0)), "features: expected widths"),
    (dict(features=()), "features: expected widths"),
    (dict(inner_steps=3), "^inner_steps, method: expected 1 but for max_min"),
    (dict(method="max_min", inner_steps=0), "inner_steps: expected at least"),
    (dict(num_steps=0), "num_steps: expected at least 1"),
    (dict(batch_size=0), "batch_size: expected at least 1"),
    (dict(log_every=0), "log_every: expected at least 1"),
    (dict(ema_decay=(2.0,)), "^ema_decay: expected a number in"),
    (dict(ema_decay=()), "^ema_decay, ema_length: expected at least one"),
    (dict(flip=True), "^flip, data: expected images"),
  ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
  changes, match, tmp_path
):
  config = _tiny(run_dir=str(tmp_path / "run"), **changes)
  with pytest.raises(ValueError, match=match) as caught:
    transport_map.run(config)
  assert "\n" not in str(caught.value) and not any(tmp_path.iterdir())


def test_a_bad_command_line_is_one_line(monkeypatch, capsys, tmp_path):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, "argv", ["transport_map", "smoke", "--epsilon", "0"])
  with pytest.raises(SystemExit) as caught:
    command_line.main(
      transport_map.__file__, transport_map.PRESETS, transport_map.run
    )
  printed = capsys.readouterr().err
  assert caught.value.code == 2 and len(printed.splitlines()) == 1
  assert not any(tmp_path.iterdir())
