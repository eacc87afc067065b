"""benchmarks.entropic_plans: rows, page, training and couplings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import entropic_plans, plan_models
from jaxgen.data import bridge_plans

CELL = dict(uvp=0.5, variance=-0.01, seconds=1.0)


def record(best):
  cells = {
    column: {m: [dict(CELL)] for m in entropic_plans.rows(column)}
    for column in entropic_plans.COLUMNS
  }
  for column, values in cells.items():
    kind = "exact" if column == "64/0.1" else "entropic"
    values["[SF]2M"][0] |= dict(uvp=best, coupling=kind)
  for method in ("LightSB", "LightSB, diagonal", "DSBM-IMF"):
    cells["64/1"][method][0]["uvp"] = 3.0
  return dict(command="c", machine="m", cells=cells)


@pytest.mark.parametrize("best, says", [(0.7, "met"), (1.2, "**missed**")])
def test_the_page_says_whether_the_best_learned_row_has_the_goal(best, says):
  parts = entropic_plans.tables(record(best))
  said = f"At most 1 % in 64 dimensions at eps 1: {says}, by [SF]2M ({best:.2f}"
  assert parts["met"].startswith(said)
  assert parts["met"].endswith(f"the best is [SF]2M ({best:.2f} %).")
  assert parts["coupling"] == "the optimal assignment instead at 64, 0.1"
  row = next(line for line in parts["uvp"] if line.startswith("| DSBM-IMF"))
  cells = row.split("|")[3:-1]
  assert [c.strip() for c in cells[:3]] == ["", "0.50", ""]
  assert len(cells) == len(entropic_plans.COLUMNS)


def test_settings_scale_the_steps_and_tell_rows_apart():
  rows = entropic_plans.rows("64/1")
  assert set(rows) - set(entropic_plans.rows("64/10")) == {
    *(entropic_plans.ORACLE, "LightSB, diagonal", "DSBM-IMF")
  }
  of = lambda m, budget=1.0: entropic_plans.settings("64/1", m, budget)
  learned = [m for m in rows if m not in entropic_plans.FLOORS]
  assert len({str(of(m)) for m in learned}) == len(learned)
  for method in learned:
    assert of(method, 0.5)["num_steps"] == of(method)["num_steps"] // 2


def test_training_averages_and_its_steps_are_inputs():
  loss = lambda w, key, y: jnp.sum((w - y) ** 2)
  train = plan_models.trainer(loss)
  start, y, key = jnp.zeros(2), jnp.array([0.5, -1.0]), jax.random.key(0)
  found = train(start, key, y, 0.1, 600)
  np.testing.assert_allclose(found, y, atol=3e-3)
  # One step of Adam, at the full rate: the sign of the slope.
  np.testing.assert_allclose(train(start, key, y, 0.1, 1), [0.1, -0.1], 1e-4)


def test_exact_pairs_and_minibatch_pairs_of_two_dimensions():
  plan = bridge_plans.draw(jax.random.key(0), 2, 1.0)
  how = dict(pools=2, pool=256)
  one, other = (
    plan_models.coupled(plan, jax.random.key(1), how | more)
    for more in ({}, dict(oracle=True))
  )
  assert (one[2], other[2]) == ("entropic", "plan")
  keys = jax.random.split(jax.random.key(2), 4000)
  data, source = jax.vmap(bridge_plans.sample, (None, 0))(plan, keys)
  cross = lambda data, source: np.mean(np.sum(np.float64(data * source), 1))
  truth = cross(data, source)
  for data, source, _ in (one, other):
    assert data.shape == source.shape == (512, 2)
    assert cross(data, source) == pytest.approx(truth, abs=0.4)
