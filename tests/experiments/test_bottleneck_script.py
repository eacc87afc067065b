"""experiments.information_bottleneck: independent models, and their curve."""

import jax
import numpy as np
import pytest

from experiments import information_bottleneck as script
from experiments.experiment import Trained
from tests import expect

BETAS = (0.01, 0.5)


def config(**changes):
  small = dict(latent=2, width=8, num_blocks=1, betas=BETAS)
  return script.Config("", **small | changes)


@pytest.fixture(scope="module")
def started():
  ex = script.experiment(config())
  params = jax.jit(ex.players)(jax.random.key(0))
  return ex, jax.tree.map(lambda p: p + 0.05, params)


def test_models_do_not_influence_one_another(started):
  """The gradient of one model does not change with another's parameters."""
  ex, params = started
  batch = ex.batches(jax.random.key(1))(0)["model"]

  @jax.jit
  def grads(params):
    fn = lambda p: ex.turns[0].loss_fn(p, {}, jax.random.key(2), batch, 0)[0]
    return jax.grad(fn)(params)

  moved = jax.tree.map(lambda p: p.at[1].add(0.3), params)
  one, other = (jax.tree.leaves(grads(p)) for p in (params, moved))
  for a, b in zip(one, other, strict=True):
    np.testing.assert_allclose(a[0], b[0], rtol=1e-4, atol=1e-6)
  assert any(
    np.abs(a[1] - b[1]).max() > 1e-3 for a, b in zip(one, other, strict=True)
  )


def test_the_loss_is_the_sum_of_the_models(started):
  ex, params = started
  batch = ex.batches(jax.random.key(1))(0)["model"]
  value, (metrics, _) = jax.jit(ex.turns[0].loss_fn)(
    params, {}, jax.random.key(2), batch, 0
  )
  record, _ = ex.measure(Trained({}, params, {}))
  rough = sum(
    record["train"]["distortions"][n] + beta * record["train"]["rates"][n]
    for n, beta in enumerate(BETAS)
  )
  np.testing.assert_allclose(value, rough, rtol=0.1)
  np.testing.assert_allclose(
    metrics["rate"], np.mean(record["train"]["rates"]), rtol=0.2
  )


def test_what_is_recorded(started):
  ex, params = started
  record, text = ex.measure(Trained({}, params, {}))
  assert record["betas"] == list(BETAS)
  for name, number in (("train", 1257), ("validation", 180)):
    part = record[name]
    assert part["number"] == number
    assert all(len(part[k]) == 2 for k in ("rates", "distortions", "errors"))
    assert min(part["rates"]) > 0 and max(part["errors"]) <= 1
  assert len(text.splitlines()) == 5


def test_the_entropy_of_labels():
  entropy = script.label_entropy(np.array([0, 0, 1, 2]))
  np.testing.assert_allclose(entropy, 1.5 * np.log(2), rtol=1e-12)


def test_settings_are_checked():
  call = lambda **changes: script.experiment(config(**changes))
  for betas in ((), (0.0,), (0.2, 0.1), (0.1, 0.1), (float("nan"),)):
    expect.error("betas: expected positive numbers", call, betas=betas)
  expect.error("data: expected a dataset with classes", call, data="moons")
  for name in ("latent", "width", "num_blocks", "num_steps"):
    expect.error(f"{name}: expected at least 1", call, **{name: 0})
  expect.error("dropout: expected", call, dropout=1.0)
