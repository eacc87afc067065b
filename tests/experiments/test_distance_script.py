"""experiments.wasserstein: two datasets in, a value with its side, and rays."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from experiments import wasserstein
from experiments.lib import samples
from experiments.pictures import potential
from experiments.recipes import critics
from jaxgen.models import lipschitz
from jaxgen.training import games
from tests import expect

SMOKE = wasserstein.PRESETS["smoke"][1]


def _config(path, **changes):
  return dataclasses.replace(SMOKE, run_dir=str(path), **changes)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  """Two clouds on a line, 2 apart, as archives."""
  folder = tmp_path_factory.mktemp("points")
  rng = np.random.default_rng(0)
  for name, mean in (("a", 2.0), ("b", 0.0)):
    np.savez(folder / f"{name}.npz", points=rng.normal(mean, 1, (2000, 1)))
  return folder


def test_a_shift_is_measured_from_both_sides(files, tmp_path):
  clouds = dict(data=str(files / "a.npz"), other=str(files / "b.npz"))
  sizes = dict(num_cones=32, num_steps=150, batch_size=256)
  wasserstein.run(_config(tmp_path / "run", **clouds, **sizes))
  result = json.loads((tmp_path / "run" / "result.json").read_text())
  data, other = (np.load(files / f"{n}.npz")["points"] for n in "ab")
  assert result["bounds_from"] == "below"
  assert result["held_out"] == [200, 200] and result["clouds_size"] == 200
  # Of the same held-out draws: the critic's value cannot lie above.
  assert 1.7 < result["value"] <= result["clouds"] + 1e-4
  whole = stats.wasserstein_distance(data[:, 0], other[:, 0])
  np.testing.assert_allclose(result["clouds"], whole, atol=0.35)
  assert (tmp_path / "run" / "potential.png").exists()
  ex = samples.read(tmp_path / "run")
  expect.error("has no samples", samples.sampler, ex)


def test_the_exact_distance_is_scipys(files):
  config = _config("", data=str(files / "a.npz"), other=str(files / "b.npz"))
  sides = [wasserstein.load(config, name) for name in ("data", "other")]
  found = wasserstein.held_out(*sides)
  truth = stats.wasserstein_distance(found.data[:, 0], found.other[:, 0])
  np.testing.assert_allclose(found.lengths.mean(), truth, rtol=1e-5)


def test_rays_leave_along_the_critic_and_are_as_long_as_asked():
  x = np.random.default_rng(0).normal(size=(5, 2)).astype("f")
  found = potential.HeldOut(x + 1, x, (x + 1, x), np.full(5, 2.0))
  states = potential.rays(lambda x: 3 * x[0] + 4 * x[1], found, 5)
  moved = states[:, -1] - states[:, 0]
  np.testing.assert_allclose(moved, np.tile([1.2, 1.6], (5, 1)), rtol=1e-5)


@pytest.mark.parametrize("kind", critics.RECIPES)
def test_every_critic_plays_and_bounds_as_it_says(kind):
  recipe = critics.RECIPES[kind]._replace(num_steps=3, batch_size=8)
  game = critics.make(kind, recipe, 2, num_cones=4)
  draw = lambda key, number: tuple(
    jax.random.normal(k, (number, 2)) for k in jax.random.split(key)
  )
  pairs = games.batches(game.turns, 8, draw, jax.random.key(0))
  params = jax.jit(game.init)(jax.random.key(1), *draw(jax.random.key(2), 8))
  now = games.play(game.turns, params, pairs, 3, jax.random.key(3))
  critic_fn = game.of({k: p.params for k, p in now.players.items()})
  x, y = 3 * draw(jax.random.key(4), 64)[0], draw(jax.random.key(5), 64)[1]
  values = jax.jit(jax.vmap(critic_fn))
  assert values(x).shape == (64,)
  if recipe.bound == "below":
    apart = jnp.linalg.norm(x - y, axis=1)
    assert np.all(np.abs(values(x) - values(y)) <= apart * (1 + 1e-4))


def test_temperatures_fall_to_what_the_value_is_measured_at():
  first, last = critics.TEMPERATURES[0], critics.TEMPERATURES[1] * 2**0.5
  recipe = critics.RECIPES["cones"]._replace(num_steps=4)
  game = critics.make("cones", recipe, 2, num_cones=4)
  x, y, at = jax.random.normal(jax.random.key(0), (3, 8, 2))
  params = jax.jit(game.init)(jax.random.key(1), x, y)
  _, cones = params["critic"]
  loss_fn = jax.jit(game.turns[0].loss_fn)
  dual = lambda f: jnp.mean(jax.vmap(f)(y)) - jnp.mean(jax.vmap(f)(x))
  by_hand = jax.jit(lambda t: dual(lambda x: lipschitz.cones(cones, x, t)))
  for number in range(4):
    t = first * (last / first) ** (number / 4)
    batch = x, y
    loss, _ = loss_fn(params, {}, None, batch, jnp.array(number))
    expected = by_hand(t)
    np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=1e-5)
  values = jax.vmap(lambda x: lipschitz.cones(cones, x, last))(at)
  np.testing.assert_allclose(jax.vmap(game.of(params))(at), values, rtol=1e-5)


@pytest.mark.parametrize("kind", ["max_min", "reversed"])
def test_every_player_learns_to_the_end(kind):
  # A schedule that counts the game's steps alone would rest the map early.
  recipe = critics.RECIPES[kind]._replace(num_steps=8, inner_steps=4)
  game = critics.make(kind, recipe, 2)
  draw = lambda key, number: tuple(jax.random.normal(key, (2, number, 2)))
  batch_fn = games.batches(game.turns, 16, draw, jax.random.key(0))
  params = jax.jit(game.init)(jax.random.key(1), *draw(jax.random.key(2), 16))
  after = [
    games.play(game.turns, params, batch_fn, number, jax.random.key(3)).players
    for number in (6, 7)
  ]
  for name in ("map", "critic"):
    first, second = (jax.tree.leaves(now[name].params) for now in after)
    assert max(np.abs(a - b).max() for a, b in zip(first, second, strict=True))


def test_the_error_is_that_of_the_draws_dependent_or_not():
  rng = np.random.default_rng(0)
  first, second = rng.normal(size=(2, 500, 4000))
  truth = lambda x, y: np.std(x.mean(1) - y.mean(1))
  for x, y in ((first, second), (first, first + 0.1 * second)):
    found = np.mean(
      [wasserstein.standard_error(*each) for each in zip(x, y, strict=True)]
    )
    np.testing.assert_allclose(found, truth(x, y), rtol=0.1)
  found = wasserstein.standard_error(first[0], second[0, :1000])
  np.testing.assert_allclose(found, np.sqrt(1 / 4000 + 1 / 1000), rtol=0.05)
  assert np.isnan(wasserstein.standard_error(first[0, :1], second[0, :1]))


@pytest.mark.parametrize(
  "bound, said",
  [
    ("below", r"^W1\(a, b\) >= 2 \+- 0.1 "),
    ("neither side", r"^W1\(a, b\) about 2 "),
    ("nothing", r"^divergence\(a, b\), which is not W1: 2 "),
  ],
)
def test_the_line_says_what_was_measured(bound, said):
  config = _config("", data="a", other="b", critic="divergence")
  result = dict(value=2.0, standard_error=0.1, clouds=2.5, clouds_size=9)
  line = wasserstein.line(config, result | dict(bounds_from=bound))
  assert re.search(said, line) and "2.5 between 9 of each" in line


def test_noise_is_added_and_fresh():
  load = lambda name: wasserstein.load(_config("", data=name), "data")
  noised, plain = load("moons+0.5"), load("moons")
  noisy = noised.unlabelled(jax.random.key(0), 4000)
  data_key, _ = jax.random.split(jax.random.key(0))
  clean = plain.unlabelled(data_key, 4000)
  first, second = (np.asarray(noisy(n) - clean(n)) for n in (1, 2))
  np.testing.assert_allclose(first.std(), 0.5, rtol=0.05)
  assert abs(np.mean(first * second)) < 0.02


def test_bad_files_are_one_line(tmp_path):
  """tests/data/test_data_edges.py has all that a file may not be."""
  path = tmp_path / "points.npz"
  np.savez(path, points=np.full((9, 2), 1e39))
  config = _config("", data=str(path))
  expect.error("finite numbers of float32", wasserstein.load, config, "data")
  with pytest.raises(FileNotFoundError):
    missing = str(tmp_path / "none.npz")
    wasserstein.load(_config("", data=missing), "data")
