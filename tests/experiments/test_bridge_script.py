"""experiments.bridge: the pairs that are kept, and what is measured."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from experiments import bridge
from experiments.lib import datasets
from experiments.recipes import bridge_measures, bridges, restoration
from tests import expect
from tests.experiments import scripts

SMALL = dict(refresh=2, pool=3, pair_steps=4, coupled_steps=4)
ENDS = dict(data="gaussian:3:-0.1", source="gaussian:3:0.1")


def model_of(**changes):
  config = scripts.small("bridge", "", **SMALL, **changes)
  data, source = map(datasets.load_data, (config.data, config.source))
  return config, bridges.make(config, data, source)


@pytest.mark.parametrize("player", bridges.PLAYERS)
def test_pairs_are_the_couplings_and_then_simulated(player):
  config, model = model_of()
  to_data = player == "to_data"
  chosen = jax.jit(bridges.make_pairs(config, model, to_data))
  params = model.players(jax.random.key(0))
  shifts = dict(to_data=[40.0, 0.0], to_source=[0.0, -40.0])
  for name, shift in shifts.items():
    params[name]["params"]["out"]["bias"] = jnp.array(shift) / model.speed
  moved = shifts["to_source" if to_data else "to_data"]
  kept = bridges.make_extras(config, model)[player]
  rng, seen = np.random.default_rng(0), []
  for step in range(10):
    pair = tuple(jnp.asarray(rng.normal(size=(2, 16, 2)), jnp.float32))
    key = jax.random.fold_in(jax.random.key(1), step)
    drawn, kept = chosen(params, kept, key, pair, step)
    pair, drawn, now = jax.device_get((pair, drawn, kept))
    if step % 2 == 0:
      slot = step // 2 % 3
      seen.append(pair)
      np.testing.assert_array_equal(now[0][slot], pair[0])  # true ends
      same = np.array_equal(now[1][slot], pair[1])
      assert same == (step < 4)
      if step >= 4:  # by the other player's drift
        gaps = now[1][slot] - now[0][slot]
        np.testing.assert_allclose(gaps.mean(0), moved, atol=1.5)
    if step < 4:
      for one, other in zip(drawn, pair, strict=True):
        np.testing.assert_array_equal(one, other)
      continue
    rows = np.concatenate([ends for ends, _ in seen[-3:]])
    found = {row.tobytes() for row in rows}
    assert all(row.tobytes() in found for row in drawn[0])
    flat = np.asarray(kept[0]).reshape(-1, 2), np.asarray(kept[1])
    at = [
      np.flatnonzero((flat[0] == row).all(1))[0] for row in np.asarray(drawn[0])
    ]
    np.testing.assert_array_equal(drawn[1], flat[1].reshape(-1, 2)[at])


@pytest.mark.parametrize("player", bridges.PLAYERS)
def test_a_diffusion_has_the_drift_of_the_player_that_leads_there(player):
  """Constant drifts b: x + b + std z, with nothing of the other drift."""
  _, model = model_of(bridge_std=0.5)
  params = model.players(jax.random.key(0))
  shifts = dict(to_data=[3.0, 0.0], to_source=[0.0, -4.0])
  for name, shift in shifts.items():
    params[name]["params"]["out"]["bias"] = jnp.array(shift) / model.speed
  to_data = player == "to_data"
  x, how = jnp.zeros((4000, 2)), dict(steps=4, to_data=to_data)
  made = bridges.simulate(model, params, x, jax.random.key(2), **how)
  made = np.asarray(made)
  np.testing.assert_allclose(made.mean(0), shifts[player], atol=0.04)
  np.testing.assert_allclose(made.std(0), 0.5, rtol=0.05)


def test_inputs_and_outputs_of_the_networks_have_unit_scale():
  """x_t of independent ends: (1 - t)^2 A + t^2 B + std^2 t (1 - t)."""
  config, model = model_of(bridge_std=0.5)
  wide, far = (
    datasets.load_data(name).std for name in (config.data, config.source)
  )
  assert abs(wide - far) > 0.5
  found = [float(model.spread(t)) for t in (0.0, 0.25, 1.0)]
  middle = (0.75 * wide) ** 2 + (0.25 * far) ** 2 + 0.25 * 0.25 * 0.75
  np.testing.assert_allclose(found, [wide, middle**0.5, far], rtol=1e-5)
  np.testing.assert_allclose(model.speed, np.hypot(wide, far), rtol=1e-6)


def test_no_gradient_flows_through_the_simulation():
  _, model = model_of()
  params = model.players(jax.random.key(0))

  def total(params):
    x, key = jnp.ones((2, 2)), jax.random.key(1)
    how = dict(steps=2, to_data=True)
    return bridges.simulate(model, params, x, key, **how).sum()

  slopes = jax.tree.leaves(jax.grad(total)(params))
  assert all(np.all(slope == 0) for slope in slopes)


def test_the_exact_bridge_and_its_divergences():
  """KL by SciPy's entropy and the definition, coordinate by coordinate."""
  config = types.SimpleNamespace(bridge_std=1.0, **ENDS)
  ends = tuple(map(datasets.load_data, (config.data, config.source)))
  truth = bridge_measures.exact(config, *ends)
  golden = (np.sqrt(5) - 1) / 2
  np.testing.assert_allclose(truth.cross, golden * np.eye(3), rtol=1e-6)
  np.testing.assert_allclose(truth.data_mean, [-0.1] * 3, rtol=1e-6)
  rng, times = np.random.default_rng(0), np.float32([1.0, 0.5, 0.0])
  states = rng.normal(0.3, 1.4, (500, 3, 3))
  found = bridge_measures.divergences(states, times, truth)
  for t, value, x in zip(times, found, states.swapaxes(0, 1), strict=True):
    total, variance = 0.0, float(truth.covariance(t)[0, 0])
    for coordinate in x.T:
      mean, spread = coordinate.mean(), coordinate.var(ddof=1)
      cross = 0.5 * np.log(2 * np.pi * variance) + 0.5 / variance * (
        spread + (mean - 0.2 * t + 0.1) ** 2
      )
      total += cross - stats.norm(mean, np.sqrt(spread)).entropy()
    np.testing.assert_allclose(value, total, rtol=1e-5)
  floor = bridge_measures.states_of(truth, times, 4000)
  floor = bridge_measures.divergences(floor, times, truth)
  assert 0 < floor.mean() < 4 * 3 / 4000  # D / N in expectation
  moons = datasets.load_data("moons")
  assert bridge_measures.exact(config, moons, ends[1]) is None
  assert bridge_measures.exact(config, ends[0], moons) is None


def test_the_record_of_the_divergences():
  """Exact samples are at the floor, and shifted ones above it."""
  config = scripts.small("bridge", "", sample_steps=4, **ENDS)
  ex = bridge.experiment(config)
  times = jnp.linspace(1.0, 0.0, 5)
  ends = tuple(map(datasets.load_data, (config.data, config.source)))
  truth = bridge_measures.exact(config, *ends)
  states = bridge_measures.states_of(truth, times, 500, seed=7)
  record, text = ex.measure(types.SimpleNamespace(states=states))
  assert record["number"] == 500 and len(record["kl"]) == 5
  np.testing.assert_allclose(np.mean(record["kl"]), record["mean_kl"])
  assert 0.3 < record["mean_kl"] / record["floor"] < 3
  assert f"{record['mean_kl']:.3g}" in text
  moved = ex.measure(types.SimpleNamespace(states=states + 1))[0]
  assert moved["mean_kl"] > 1 and moved["floor"] == record["floor"]
  flow = bridge.experiment(scripts.small("bridge", "", solver="heun", **ENDS))
  assert flow.measure is None and flow.num_calls == 2 * 2 * 3


def test_corruptions():
  x = np.arange(32.0, dtype=np.float32).reshape(1, 4, 8, 1)
  small = restoration.pooled(x)
  assert small.shape == x.shape and small.dtype == x.dtype
  np.testing.assert_allclose(small[0, :2, :2, 0], (0 + 1 + 8 + 9) / 4)
  np.testing.assert_allclose(small[0, 2:, 6:, 0], (22 + 23 + 30 + 31) / 4)
  half = restoration.masked(x)
  np.testing.assert_array_equal(half[:, :2], x[:, :2])
  assert not half[:, 2:].any() and x[:, 2:].all()


def points(path, number, seed):
  made = np.random.default_rng(seed).normal(size=(number, 3))
  np.savez(path, points=np.float32(made))
  return f"file:{path}", np.float32(made)


def test_pairs_of_two_files_and_unequal_lengths(tmp_path):
  data, examples = points(tmp_path / "data.npz", 20, 0)
  source, others = points(tmp_path / "source.npz", 20, 1)
  short, _ = points(tmp_path / "short.npz", 19, 2)
  how = dict(method="paired", data=data, width=8, num_blocks=1)
  config = bridge.Config(str(tmp_path / "run"), source=source, **how)
  ex = bridge.experiment(config)
  batch = ex.batches(jax.random.key(0))(0)["model"]
  for one, other in zip(*batch, strict=True):
    (row,) = np.flatnonzero((examples == one).all(1))
    np.testing.assert_array_equal(others[row], other)
  config = bridge.Config(str(tmp_path / "run"), source=short, **how)
  said = "^source, data: expected 16 examples to belong to those of .* 17 in"
  expect.error(said, bridge.run, config)
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("solver", ["heun", "ancestral"])
def test_restoration_starts_at_the_source(solver):
  """A perfect network returns the data, by stochastic and by flow steps."""
  config = scripts.small("paired", "", solver=solver, sample_steps=6)
  data = datasets.load_data("digits")
  pairs = restoration.partners(config, data)
  model = restoration.make(config, data, pairs)
  x, y = (jnp.asarray(part[0]) for part in pairs["validation"])
  perfect = types.SimpleNamespace(apply=lambda *args, **how: None)
  late = lambda t: 0.05 * (t - model.path.t_min)  # 0 in the last call alone
  known = lambda self, params, **how: lambda x_t, t, source: x + late(t)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(restoration.Restoration, "denoiser", known)
    run = jax.jit(model._replace(net=perfect).restore)
    states, made = run({}, y, jax.random.key(0))
  np.testing.assert_array_equal(states[0], y)
  assert states.shape == (7, 8, 8, 1)
  np.testing.assert_allclose(made, x, atol=1e-6)
  if solver == "ancestral":  # exact for known data, but for t_min = .01
    np.testing.assert_allclose(states[-1], x, atol=0.1)
  assert model.num_calls() == {"heun": 2 * 5 + 2, "ancestral": 7}[solver]
