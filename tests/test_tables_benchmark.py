"""benchmarks.published: the store, distributions, measures and small flows."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import pages, runner
from benchmarks.published import c2ot, flows, tong, tong_tables
from jaxgen import assignment, couplings
from jaxgen.losses import flow_matching
from tests import expect


def some_cells():
  return [runner.Cell("N->moons", "method", seed) for seed in range(3)]


def test_complete_goes_on_and_starts_anew(tmp_path):
  path, asked = tmp_path / "folder" / "cells.json", []

  def measure(row):
    for cell in row:
      asked.append(cell.seed)
      if len(asked) == 2:
        raise KeyboardInterrupt
      yield dict(w2=cell.seed / 2)

  with pytest.raises(KeyboardInterrupt):
    runner.complete(path, some_cells(), dict(steps=1), measure)
  assert [*path.parent.iterdir()] == [path]
  found = runner.complete(path, some_cells(), dict(steps=1), measure)
  assert asked == [0, 1, 1, 2]
  assert found == [dict(w2=seed / 2, seed=seed) for seed in range(3)]
  assert runner.complete(path, some_cells(), dict(steps=1), None) == found
  assert not runner.complete(path, some_cells(), dict(steps=2), None)
  runner.complete(path, some_cells()[:1], dict(steps=2), measure)
  assert asked[4:] == [0]
  name = some_cells()[1].name()
  assert runner.known(path, name, dict(steps=1)) == dict(w2=0.5)


def test_a_page_names_the_machines_of_all_its_rows(tmp_path, monkeypatch):
  rows = runner.of_rows("page", ("first", "last"), str.upper, None)

  def measured_on(machine, *words):
    monkeypatch.setattr(runner, "machine", lambda: machine)
    words = ["--out", str(tmp_path), *words]
    record = rows.run(rows.parse("page", None, words))
    (tmp_path / "page.json").write_text(json.dumps(record))
    assert record["rows"] == dict(first="FIRST", last="LAST")
    return record["machine"]

  assert measured_on("one") == "one"
  assert measured_on("two", "--only", "last") == "one; two"
  assert measured_on("one", "--only", "first") == "one; two"
  assert measured_on("two") == "two"


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": 1}', '{"a": {}}'])
def test_a_file_that_is_no_store(tmp_path, text, capsys):
  (tmp_path / "tong.json").write_text(text)
  expect.error("delete it to start anew", runner.read, tmp_path / "tong.json")
  with pytest.raises(SystemExit):
    benchmarks.main(["tong", "--store", str(tmp_path)])
  assert "delete it to start anew" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("words", [["--sides", "1"], ["--seeds", "0"]])
def test_a_typo_is_one_line(words, capsys):
  with pytest.raises(SystemExit):
    benchmarks.main(["tong", *words])
  assert "error:" in capsys.readouterr().err.splitlines()[-1]


def test_moons_know_their_label():
  points, label = flows.moons(np.random.default_rng(0), 501)
  assert label.sum() == 251
  # Less u (1, 1), u in [0, .2], every point lies on its own half circle.
  curve = (points.astype(np.float64) + 1) / 3
  centre = np.where(label[:, None] == 1, [[1.0, 0.5]], [[0.0, 0.0]])
  sign = np.where(label == 1, -1.0, 1.0)
  moved = curve[:, None] - np.linspace(0, 0.2, 1001)[:, None] - centre[:, None]
  off = np.abs(np.hypot(*moved.transpose(2, 0, 1)) - 1)
  off[moved[..., 1] * sign[:, None] < -1e-6] = np.inf
  assert off.min(1).max() < 3e-4
  kinds = {"discrete": 2 * label - 1, "continuous": points[:, 0]}
  for kind, condition in kinds.items():
    found = c2ot.conditions(kind, points, label)
    assert np.array_equal(found, condition)


def test_ring_has_the_published_variance():
  points = c2ot.ring(np.random.default_rng(0), 100_000).astype(np.float64)
  second = 25 + 2 * 0.1**0.5
  assert abs((points**2).sum(1).mean() / second - 1) < 0.005


def test_times():
  times = jax.jit(flows.times, static_argnums=(1, 2))
  t = np.asarray(times(jax.random.key(0), 64, True))
  assert np.array_equal(np.sort(np.floor(t * 64)), np.arange(64))
  t = np.asarray(times(jax.random.key(0), 4096, False))
  assert 0 < t.min() and t.max() < 1 and abs(t.mean() - 0.5) < 0.02


def test_train_learns_a_shift():
  """Data = source + (1, -2): the velocity is (-1, 2) everywhere."""
  shift = np.array([1.0, -2.0], np.float32)

  def batches(seed):
    def batch_fn(step):
      draw = np.random.default_rng([seed, step]).standard_normal((32, 2))
      source = draw.astype(np.float32)
      return source + shift, None, source

    return batch_fn

  init = lambda key: flows.dense(key, 3, 2)
  apply = lambda params, x, t, _: flows.linear(params, jnp.append(x, t))
  bridge = flow_matching.constant(0.0)
  setup = flows.Setup(init, apply, optax.adam(0.1), bridge, True, 0.0)
  last, mean = flows.train(setup, [0, 1], [batches(0), batches(1)], 800)
  np.testing.assert_allclose(last["b"], np.tile(-shift, (2, 1)), atol=1e-3)
  np.testing.assert_allclose(last["w"], 0, atol=1e-3)
  assert jax.tree.all(jax.tree.map(jnp.array_equal, last, mean))
  given = setup, [0], [batches(0)], 150
  expect.error("multiple of 100, got 150", flows.train, *given)


def test_kept_pairs_are_optimal_and_used_once_an_epoch():
  rng = np.random.default_rng(0)
  found = {
    name: rng.standard_normal((512, 2)).astype(np.float32)
    for name in ("train_data", "train_source")
  }
  exact = lambda key, data, source, label: couplings.exact(data, source)
  batch_fn = flows.kept_pairs(found, 3, exact, 256, 1)
  pairs = [batch_fn(i) for i in range(2)]
  data, source = (np.concatenate([p[k] for p in pairs]) for k in (0, 2))
  for name, x in (("train_data", data), ("train_source", source)):
    assert np.array_equal(np.sort(x, 0), np.sort(found[name], 0))
  pool = flows.pool(found["train_data"], 6, 256)(0)
  rows = [np.flatnonzero((data == x).all(1))[0] for x in pool]
  cost = couplings.costs(data[rows], source[rows])
  best = cost[np.arange(256), assignment.assign(cost)].sum()
  assert np.trace(cost) == pytest.approx(best)


def test_measures_of_the_optimal_flow():
  rng = np.random.default_rng(0)
  source, data = rng.standard_normal((2, 50, 2))
  order = couplings.exact(source, data)
  time = np.linspace(0, 1, 5)[:, None]
  states = source[:, None] * (1 - time) + data[order][:, None] * time
  found = dict(test_source=source, test_data=data)
  values = tong.measures(states, found)
  assert max(values.values()) < 1e-6
  bent = states + np.sin(np.pi * time)
  assert tong.measures(bent, found)["signed"] > 0.1


def test_solves_of_a_constant_velocity():
  params = c2ot.init(jax.random.key(0), "discrete")
  params = jax.tree.map(jnp.zeros_like, params)
  params["out"]["b"] = jnp.array([1.0, -2.0])
  source = jnp.ones((250, 2))
  for points in (
    c2ot.one_step(params, source, jnp.ones(250)),
    c2ot.adaptive(params, source, jnp.ones(250), 1e-4)[0],
  ):
    np.testing.assert_allclose(points, np.tile([0.0, 3.0], (250, 1)), atol=1e-5)


def test_pages():
  values = [dict(w2=0.5, npe=0.1, signed=0.1, seed=seed) for seed in range(2)]
  rows = {m: dict.fromkeys(tong.COLUMNS, values) for m in tong.METHODS}
  record = dict(command="c", machine="m", cells=rows)
  page = lambda record: pages.page("tong", tong_tables.tables(record))
  words = lambda record: " ".join(page(record).split())
  assert "in 8 of 8 cells" in words(record)
  part = {tong_tables.PEER: rows["floor"]}
  assert "in 8 of" not in words(record | dict(cells=part))
  found = dict(euler=0.01, adaptive=0.02, num_calls=7)
  rows = {"discrete": {"C2OT": [dict(last=found, mean=found)]}}
  text = pages.page("c2ot", c2ot.tables(record | dict(cells=rows)))
  assert "euler, published 0.048: 0.0100 by the last weights (at or" in text
  assert "adaptive, published 0.018: 0.0200 by the last weights (above)" in text
  json.dumps(record)
