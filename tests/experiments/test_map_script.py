"""experiments.transport_map: its maps, their result and rejections."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from experiments import transport_map
from experiments.lib import averages, datasets, samples
from jaxgen.data import oracles, toy
from tests import trees
from tests.experiments import scripts

METHODS = ("semi_dual", "max_min", "makkuva", "w2gn", "entropic")


def _tiny(run_dir="", method="semi_dual", **changes):
  return scripts.small(f"map {method}", run_dir, **changes)


def _parts(config):
  """(the settings, the data, the source, the game)."""
  ex = transport_map.experiment(config)
  source = datasets.load_source(ex.config, ex.data)
  game = transport_map.make_game(ex.config, ex.data)
  return ex, source, game


@pytest.fixture(scope="module", params=METHODS)
def trained(request, tmp_path_factory):
  directory = tmp_path_factory.mktemp("maps") / request.param
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(transport_map, "NUM_CLOUD", 50)
    scripts.trained(f"map {request.param}", directory)
  ex, source, game = _parts(samples.read(directory).config)
  params, extras = averages.load(ex)
  assert not extras
  return directory, ex, source, game.of(params[game.player]), params


def test_states_run_straight_from_the_source_to_the_map(trained):
  _, ex, _, move, params = trained
  keys = jax.random.split(jax.random.key(5), 64)
  states, ends = samples.make_sampler(ex)(params, {}, keys, None)
  states = np.asarray(states)
  assert states.shape == (64, 9, 2)
  np.testing.assert_array_equal(states[:, -1], ends)
  np.testing.assert_allclose(np.diff(states, 2, axis=1), 0, atol=1e-5)
  mapped = jax.vmap(move)(states[:, 0])
  np.testing.assert_allclose(ends, mapped, atol=1e-5)
  assert np.abs(states[:, -1] - states[:, 0]).max() > 1e-3
  moons = datasets.load_data("moons").real[0]
  np.testing.assert_allclose(states[:, 0].mean(0), moons.mean(0), atol=1.0)


def test_the_result_is_that_of_its_clouds(trained):
  """Against assignments of SciPy's, on distances in NumPy."""
  directory, ex, source, move, _ = trained
  x = np.asarray(transport_map.held_out(ex.config, source, 50), np.float64)
  mapped = np.asarray(jax.vmap(move)(np.float32(x)), np.float64)
  real = np.asarray(ex.data.real[0][:50], np.float64)

  def squared(a, b):
    cost = ((a[:, None] - b[None]) ** 2).sum(-1)
    return cost[optimize.linear_sum_assignment(cost)].mean()

  found = json.loads((directory / "result.json").read_text())
  expected = dict(
    number=50,
    cost=((x - mapped) ** 2).sum(1).mean(),
    w2_source_real=squared(x, real),
    w2_mapped_real=squared(mapped, real),
  )
  floor = found.pop("w2_real_real")
  assert found == pytest.approx(expected, rel=1e-4)
  assert 0 < floor < found["w2_source_real"]


def test_images_move_along_film_strips(tmp_path):
  config = _tiny(tmp_path / "run", data="digits:8", source="digits:0")
  transport_map.run(config)
  pictures = {path.stem for path in (tmp_path / "run").glob("*.png")}
  assert pictures == {"samples", "trajectory", "curves"}
  found = json.loads((tmp_path / "run" / "result.json").read_text())
  held = [len(datasets.load_data(f"digits:{n}").real[0]) for n in (0, 8)]
  assert found["number"] == min(held)


def test_every_distribution_has_samples_of_its_own():
  ex, *_ = _parts(_tiny(method="max_min", inner_steps=2))
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
  ex, _, game = _parts(_tiny(method=method))
  params = ex.players(jax.random.key(0))[game.player]
  phi, move = game.potential(params), game.of(params)
  x, step = jnp.float32([0.3, -1.2]), 0.01
  moves = step * jnp.eye(2, dtype=x.dtype)
  difference = [(phi(x + e) - phi(x - e)) / (2 * step) for e in moves]
  np.testing.assert_allclose(move(x), difference, atol=1e-3)


def test_a_known_map_is_found(tmp_path, monkeypatch):
  """N(0, I) to N(m, s^2 I): T(x) = m + s x, W2^2 = |m|^2 + 2 (1 - s)^2."""
  mean, std = np.float32([3.0, -1.0]), 0.5
  law = oracles.Mixture(np.ones(1), mean[None], np.array([std]))
  monkeypatch.setitem(datasets.TOYS, "moved", lambda: toy.from_mixture(law))
  scripts.without_pictures(monkeypatch)
  every = dict(log_every=100, save_every=400, samples_every=400)
  rates = dict(num_steps=400, learning_rate=3e-2, ema_decay=(0.98,))
  sets = dict(data="moved", source="gaussian", batch_size=512, features=(16,))
  config = _tiny(tmp_path / "run", **sets, **rates, **every)
  now = transport_map.run(config)
  ex, source, game = _parts(config)
  params = averages.sampled(ex, now)
  x = transport_map.held_out(ex.config, source, 500)
  mapped = jax.vmap(game.of(params[game.player]))(x)
  error = np.mean(np.sum((mapped - (mean + std * x)) ** 2, 1))
  assert error < 0.03 * 2 * std**2  # of the variance; x + m has its whole
  found = json.loads((tmp_path / "run" / "result.json").read_text())
  least = float((mean**2).sum() + 2 * (1 - std) ** 2)
  assert found["cost"] == pytest.approx(least, rel=0.05)
  assert found["w2_source_real"] == pytest.approx(least, rel=0.1)
  assert found["w2_mapped_real"] < 3 * found["w2_real_real"]
