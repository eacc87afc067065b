"""The parts of experiments.gan: batches, losses, weights, and its refusals."""

import collections
import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import gan
from experiments.lib import choices, datasets
from experiments.pictures import figures, modes
from experiments.recipes import adversarial
from jaxgen.training import state, step
from tests import trees

RING = gan.Config(
  run_dir="", data="ring", width=8, num_blocks=1, num_steps=40, batch_size=8
)
DIGITS = dataclasses.replace(RING, data="digits", latent=4)
PENALTIES = itertools.cycle(choices.PENALTIES)
PAIRS = [
  (objective, next(PENALTIES), number)
  for number, objective in enumerate(choices.OBJECTIVES)
]


def game(config):
  """(the experiment, step -> batches, state at the start)."""
  ex = gan.experiment(config)
  players = ex.players(jax.random.key(2))
  start = state.init(jax.random.key(3), players, ex.turns)
  return ex, ex.batches(jax.random.key(1)), start


@pytest.mark.parametrize("inner", [1, 3])
@pytest.mark.parametrize("config", [RING, DIGITS], ids=["ring", "digits"])
def test_batches_have_the_inner_steps_in_front(config, inner):
  config = dataclasses.replace(config, critic_steps=inner)
  ex = gan.experiment(config)
  batch_fn, data = ex.batches(jax.random.key(0)), ex.data
  batch, lead = batch_fn(5), () if inner == 1 else (inner,)
  assert set(batch) == {"discriminator", "generator"}
  examples, labels = batch["discriminator"]
  assert examples.shape == (*lead, 8, *data.shape)
  own, own_labels = batch["generator"]
  assert own.shape == (8, *data.shape)
  if config is RING or not data.num_classes:
    assert labels is None and own_labels is None
  else:
    assert labels.shape == (*lead, 8) and own_labels.shape == (8,)
  # A function of the step and the key; every inner step sees others.
  trees.assert_equal(batch, batch_fn(5))
  other = ex.batches(jax.random.key(9))(5)
  for again in (batch_fn(6), other):
    assert np.any(again["discriminator"][0] != examples)
    assert np.any(again["generator"][0] != own)
  rows = np.concatenate([examples.reshape(-1, *data.shape), own])
  flat = rows.reshape(len(rows), -1)
  seen = collections.Counter(map(tuple, flat.tolist()))
  assert len(seen) > 0.9 * len(flat)


def weights(**changes):
  return adversarial.penalty_weights(dataclasses.replace(RING, **changes))


def test_the_penaltys_weight_is_as_documented():
  """Falls geometrically in the first half; lazily, as many times as much."""
  np.testing.assert_array_equal(weights(penalty_weight=7.0), 7)
  np.testing.assert_array_equal(weights(penalty="none"), np.zeros(40))
  found = weights(penalty_weight=8.0, penalty_last=0.5)
  truth = np.append(np.geomspace(8, 0.5, 21), np.full(19, 0.5))
  np.testing.assert_allclose(found, truth, rtol=1e-6)
  lazy = weights(penalty_weight=8.0, penalty_last=0.5, penalty_every=4)
  np.testing.assert_allclose(lazy[3::4], 4 * found[3::4], rtol=1e-6)
  assert np.count_nonzero(lazy) == 10


@pytest.mark.parametrize("objective, penalty, number", PAIRS)
def test_every_objective_and_penalty_trains_both(objective, penalty, number):
  base, shift = (DIGITS, 0.5) if number % 2 else (RING, 0.0)
  game_of = dict(objective=objective, penalty=penalty, shift=shift)
  # No warm-up: the first step's rate is not 0.
  rates = dict(num_steps=8, learning_rate=1e-3)
  config = dataclasses.replace(base, **game_of, **rates)
  ex, batch_fn, start = game(config)
  before = {k: p.params for k, p in start.players.items()}
  before = jax.tree.map(np.asarray, before)
  now, metrics = step.make_train_step(ex.turns)(start, batch_fn(0))
  assert all(np.isfinite(value) for value in metrics.values())
  assert penalty == "none" or metrics["discriminator/penalty"] > 0
  for name, player in now.players.items():
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(player.params))
    kernel = lambda params: params["params"]["hidden_0"]["kernel"]
    assert np.any(kernel(player.params) != kernel(before[name]))


def test_losses_of_a_discriminator_that_knows_nothing():
  """Scores 0: log 2 of the relativistic game, no gap, no slope."""
  ex, batch_fn, start = game(DIGITS)
  params = {name: player.params for name, player in start.players.items()}
  flat = jax.tree.map(jnp.zeros_like, params["discriminator"])
  params |= {"discriminator": flat}
  for turn in ex.turns:
    given = params, {}, jax.random.key(0), batch_fn(0)[turn.player], 0
    value, (metrics, extras) = jax.jit(turn.loss_fn)(*given)
    np.testing.assert_allclose(value, np.log(2), rtol=1e-6)
    assert extras == {} and not any(metrics.values())


def test_the_penalty_enters_with_the_weight_of_the_step():
  penalty = dict(penalty_weight=8.0, penalty_last=0.5, penalty_every=4)
  config = dataclasses.replace(RING, **penalty)
  ex, batch_fn, start = game(config)
  params = {name: player.params for name, player in start.players.items()}
  loss_fn, found = jax.jit(ex.turns[0].loss_fn), {}
  for number in (0, 3, 39):  # one batch, three steps
    batch = batch_fn(0)["discriminator"]
    key = jax.random.key(0)
    value, (metrics, _) = loss_fn(params, {}, key, batch, number)
    found[number] = value, metrics["penalty"]
  assert found[0][1] == 0 < found[3][1] == found[39][1]
  for number, weight in ((3, 4 * 8 / 16**0.15), (39, 2.0)):
    gain = found[number][0] - found[0][0]
    np.testing.assert_allclose(gain, weight * found[3][1], rtol=1e-4)


@pytest.mark.parametrize("inner", [1, 3])
def test_each_turn_is_compiled_once(inner):
  """Over steps with the penalty and without it."""
  changes = dict(critic_steps=inner, penalty_every=2, clip=0.05)
  config = dataclasses.replace(RING, **changes)
  ex, batch_fn, now = game(config)
  traces = collections.Counter()

  def counted(turn):
    def loss_fn(*args):
      traces[turn.player] += 1
      return turn.loss_fn(*args)

    return turn._replace(loss_fn=loss_fn)

  train_step = step.make_train_step(tuple(map(counted, ex.turns)))
  penalties = []
  for number in range(4):
    now, metrics = train_step(now, batch_fn(number))
    penalties.append(float(metrics["discriminator/penalty"]))
  assert traces == {"discriminator": 1, "generator": 1}
  assert penalties[1] > 0 < penalties[3] and penalties[0] == penalties[2] == 0
  largest = {
    name: max(np.abs(x).max() for x in jax.tree.leaves(player.params))
    for name, player in now.players.items()
  }
  assert largest["discriminator"] <= 0.05 < largest["generator"]


def test_presets_can_be():
  for _, config in gan.PRESETS.values():
    ex, batch_fn, start = game(dataclasses.replace(config, width=8))
    jax.eval_shape(step.make_train_step(ex.turns), start, batch_fn(0))


@pytest.mark.parametrize("data, half", [("ring", 2.7), ("gaussian", 4.0)])
def test_modes_are_plotted_in_a_window_around_them(data, half, monkeypatch):
  """Of one Gaussian at 0 too, whose means span no window."""
  kept = []
  monkeypatch.setattr(figures, "save", lambda figure, path: kept.append(figure))
  mixture = datasets.load(dataclasses.replace(RING, data=data)).mixture
  modes.plot(None, lambda x: jnp.sum(x), np.zeros((3, 2)), mixture)
  limits = kept[0].axes[0].get_xlim() + kept[0].axes[0].get_ylim()
  np.testing.assert_allclose(limits, 2 * (-half, half), rtol=1e-6)
