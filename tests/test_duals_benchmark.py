"""W1, W2 and ring: their pairs, their measures, their pages and commands."""

import jax
import numpy as np
import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import pages, runner
from benchmarks.published import maps, w1
from experiments import gan
from jaxgen.metrics import transport


def test_every_column_has_its_own_pair_and_seeds_differ():
  for column in w1.COLUMNS[:-1]:
    first, second = (w1.make_pair(column, seed) for seed in (0, 1))
    key = jax.random.key(0)
    draw = np.stack(jax.jit(first.sample)(key))
    dim = int(column.split()[0][1:])
    assert draw.shape == (2, dim)
    if "N" in column:
      other = np.stack(jax.jit(second.sample)(jax.random.key(0)))
      assert not np.allclose(draw, other)


def test_swapped_columns_turn_the_funnels_round():
  plain = w1.make_pair("D16 N64", 0)
  swapped = w1.make_pair("D16 N64 swapped", 0)
  x, y = plain.sample(jax.random.key(0))
  y_first, x_first = swapped.sample(jax.random.key(0))
  np.testing.assert_array_equal(x, x_first)
  np.testing.assert_array_equal(y, y_first)


def test_the_linear_map_is_the_truth_of_gaussians_and_not_of_others():
  uvp = {}
  for column in ("Gaussian D16", "hard D8"):
    pair = maps.PAIRS[column](jax.random.key(100))
    keys = jax.random.split(jax.random.key(7), 2000)
    x, y = jax.jit(jax.vmap(pair.sample))(keys)
    moved = jax.vmap(maps.linear(pair, 0))(x)
    clouds = np.asarray(moved), np.asarray(y)
    uvp[column] = transport.unexplained_variance(*clouds)
  assert uvp["Gaussian D16"] < 0.5 and uvp["hard D8"] > 20


def test_the_rings_score_of_its_own_draws():
  points = maps.samples("truth", 0, {})
  found = maps.score(points)
  assert found["modes"] == 8
  # A Rayleigh law within 3 std: 1 - exp(-9 / 2), and its second moment.
  np.testing.assert_allclose(found["good"], 1 - np.exp(-4.5), atol=4e-3)
  inside = 1 - 5.5 * np.exp(-4.5)
  std = 0.1 * np.sqrt(inside / (1 - np.exp(-4.5)))
  np.testing.assert_allclose(found["std"], std, rtol=0.01)
  far = maps.score(points + 10)
  assert far["modes"] == 0 and far["good"] == 0 and far["std"] == 0
  half = points[points[:, 0] > 0]
  assert 3 <= maps.score(half)["modes"] <= 5


@pytest.mark.parametrize("method", maps.FLAGS)
def test_every_game_of_the_ring_is_one_that_can_be_played(method):
  how = maps.ring_settings("", method, 0.5)
  tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in how.items()}
  config = gan.Config(**tuples)
  updates = config.num_steps * (1 + config.critic_steps)
  assert abs(updates - gan.PRESETS["ring"][1].num_steps) <= 4
  gan.experiment(config)


def test_a_small_budget_fills_a_page(tmp_path, monkeypatch, capsys):
  flags = "w1 --seeds 1 --budget .001 --store"
  kept = tmp_path / "kept"
  words = [*flags.split(), str(kept), "--out", str(tmp_path)]
  methods = ("gradient", "lipschitz")
  monkeypatch.setattr(w1, "METHODS", methods)
  with pytest.raises(SystemExit) as stop:
    benchmarks.main([*words, "--pairs", "D2 N4"])
  assert not stop.value.code
  page = (tmp_path / "w1.md").read_text()
  assert "## D2 N4" in page and ".84/.09/.86" in page
  assert "## D16 N4\n\n<!-- D16 N4, truth -->\nNot measured.\n" in page
  stored = runner.read(kept / "w1.json")
  assert set(stored) >= {f"D2 N4/{method}/0" for method in methods}


def test_an_unknown_pair_is_one_line(capsys):
  with pytest.raises(SystemExit) as stop:
    benchmarks.main(["w2", "--pairs", "D3"])
  assert stop.value.code == 2
  assert "--pairs: expected some of Gaussian D16" in capsys.readouterr().err


def test_pages_show_means_and_every_seed():
  def page(name, record):
    return pages.page(name, benchmarks.load(name)[1].tables(record))

  values = dict(uvp=1.0, cosine=0.9, cost=2.0, true=2.0, cpu=3.0)
  row = [values, values | dict(uvp=3.0)]
  record = dict(command="c", machine="m", cells={"hard D8": {"w2gn": row}})
  assert "| W2GN | 2 | 1, 3 | 0.9000 |" in page("w2", record)
  digits = dict(value=2.0, error=0.1, clouds=4.0, number=360, cpu=5.0)
  cell = {w1.DIGITS: {"features": [digits]}}
  text = page("w1", record | dict(cells=cell))
  assert "| cones on orthogonal features (ours) | 2.000 | 0.100 | 5 |" in text
  values = dict(modes=8, good=0.96, least=0.1, most=0.13, std=0.08, cpu=9.0)
  text = page("ring", record | dict(cells={"r": {"r3gan": [values]}}))
  assert "| relativistic, R1 + R2 (R3GAN) | 8 | 0.960 | 0.960 |" in text
