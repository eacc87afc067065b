"""The training step of a game: players who take turns.

A game is a tuple of turns, played in order at every step. A turn changes one
player's parameters, by the gradient of its own loss with respect to them
alone, and may read every player's. A diffusion model is a game of one turn
(`single`); a GAN or a max-min transport map has two.

  key = fold_in(fold_in(fold_in(state.key, state.step), turn), inner step)

depends on the state alone, so a resumed run repeats the unbroken one.

Parameters may be complex: an optimizer is given dL/dx + i dL/dy of a leaf
x + i y, the direction in which the loss rises fastest. JAX's gradient is the
conjugate of it.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from jaxgen.training import ema
from jaxgen.training.state import Player, State


class Turn(NamedTuple):
  """What one player does in a step.

  player: its name.
  loss_fn: (params of all players {name: params}, extras, key, batch, step) ->
    (loss [], (metrics {name: []}, extras)); extras return changed or as
    they came, in the same structure. step [] counts the game's steps from 0:
    schedules are functions of it.
  optimizer: an optax gradient transformation.
  num_steps: inner steps. More than one: the batch's leaves have a leading
    axis of this length, one slice an inner step. One: the batch is passed
    as it is.
  project: params -> params after each update, such as weight clipping.
  averages: {name: rule of `ema`}, the averages of the player's parameters,
    updated after each step of the optimizer, inner ones too, which the rules
    count; None keeps none.
  """

  player: str
  loss_fn: Callable
  optimizer: optax.GradientTransformation
  num_steps: int = 1
  project: Callable | None = None
  averages: Mapping[str, ema.Rule] | None = None


def single(
  loss_fn: Callable,
  optimizer: optax.GradientTransformation,
  averages: Mapping[str, ema.Rule] | None = None,
) -> tuple[Turn, ...]:
  """The game of one player, named "model".

  Args:
    loss_fn: (params, key, batch) -> (loss [], metrics {name: []}).
    optimizer: an optax gradient transformation.
    averages: {name: rule of `ema`}, or None for no average.

  Returns:
    Its one turn, in a tuple: give it to state.init and make_train_step, and
    {"model": batch} to the step.
  """

  def turn_loss(params, extras, key, batch, step):
    result = loss_fn(params["model"], key, batch)
    if not (isinstance(result, tuple) and len(result) == 2):
      raise ValueError(
        f"loss_fn: expected (loss, metrics), got {jax.tree.structure(result)}"
      )
    loss, metrics = result
    return loss, (metrics, extras)

  return (Turn("model", turn_loss, optimizer, averages=averages),)


def make_train_step(
  turns: tuple[Turn, ...], shardings: State | None = None
) -> Callable:
  """The step of a game, compiled once a turn.

  Every turn is one jitted program, called from Python for each of its inner
  steps; no gradient sits in a scan. The state passed in is donated: its
  buffers are consumed, use the one returned. Nothing waits for the device.

  Args:
    turns: the game, in the order of play; one turn a player.
    shardings: of every leaf of the state (sharding.shardings), which then
      keeps them: parameters and extras are gathered whole for the loss, and
      each device updates its part. None: wherever the arguments are.

  Returns:
    (state, {player: batch}) -> (state, metrics). Metrics are device arrays []
    of each turn's last inner step: the loss function's and "loss", with
    "player/" before the name where there are several turns.

  Raises:
    ValueError: no turn, two turns of one player, num_steps below 1; from the
      step: batches not those of the players, and at trace time a loss that
      is not a real scalar, metrics that are not scalars, extras whose
      structure, shapes or dtypes change.
  """
  _check_turns(turns)
  programs = [_program(turns, i, shardings) for i in range(len(turns))]
  if len(turns) == 1 and turns[0].num_steps == 1:
    return programs[0]

  def train_step(
    state: State, batches: Mapping[str, Any]
  ) -> tuple[State, dict[str, Array]]:
    batches = jax.device_put(batches)  # once, not at every inner step
    metrics: dict[str, Array] = {}
    for turn, program in zip(turns, programs, strict=True):
      for inner in range(turn.num_steps):
        which = () if turn.num_steps == 1 else (inner,)
        state, of_turn = program(state, batches, *which)
      metrics |= of_turn
    return state, metrics

  return train_step


def _program(turns, index, shardings):
  """One inner step of one turn, jitted: (state, batches, inner) -> the same.

  Where there is one inner step only, its number 0 is the default and not an
  argument that every call would have to send.
  """
  turn, last = turns[index], index == len(turns) - 1

  def inner_step(state, batches, inner=0):
    key = jax.random.fold_in(state.key, state.step)
    key = jax.random.fold_in(jax.random.fold_in(key, index), inner)
    batch = _own_batch(turns, turn, batches, inner)
    count = state.step * turn.num_steps + inner  # of the player's updates
    player, extras, metrics = _play(turn, state, count, key, batch, shardings)
    if len(turns) > 1:
      metrics = {f"{turn.player}/{name}": m for name, m in metrics.items()}
    players = state.players | {turn.player: player}
    done = last & (inner == turn.num_steps - 1)
    step = state.step + jnp.int32(done)
    return State(step, state.key, players, extras), metrics

  places = None if shardings is None else (shardings, None)
  return jax.jit(inner_step, donate_argnums=0, out_shardings=places)


def _play(turn, state, count, key, batch, shardings):
  """One update of the turn's player: (player, extras, metrics)."""
  player = state.players[turn.player]
  everyone = {name: p.params for name, p in state.players.items()}

  def own_loss(own):
    read = everyone | {turn.player: own}, state.extras
    if shardings is not None:  # a scalar, such as step, is never split
      read = jax.lax.with_sharding_constraint(read, shardings.step)
    result = turn.loss_fn(*read, key, batch, state.step)
    loss, (metrics, extras) = _check_result(turn, result, state.extras)
    return loss, (metrics, extras)

  gradient = jax.value_and_grad(own_loss, has_aux=True)
  (loss, (metrics, extras)), grads = gradient(player.params)
  grads = jax.tree.map(jnp.conj, grads)  # of complex leaves: uphill
  optimizer = optax.with_extra_args_support(turn.optimizer)
  updates, opt_state = optimizer.update(
    grads, player.opt_state, player.params, value=loss
  )
  params = optax.apply_updates(player.params, updates)
  if turn.project is not None:
    params = turn.project(params)
  means = {
    name: ema.update(player.ema[name], params, rule(count))
    for name, rule in (turn.averages or {}).items()
  }
  return Player(params, opt_state, means), extras, {"loss": loss} | metrics


def _check_turns(turns):
  names = [turn.player for turn in turns]
  if not names or len(set(names)) < len(names):
    raise ValueError(f"turns: expected one turn a player, got {names}")
  for turn in turns:
    if turn.num_steps < 1:
      raise ValueError(
        f"{turn.player}: expected num_steps of at least 1, got {turn.num_steps}"
      )


def _own_batch(turns, turn, batches, inner):
  """The turn's batch at an inner step."""
  players = sorted(turn.player for turn in turns)
  if not isinstance(batches, Mapping) or sorted(batches) != players:
    got = sorted(batches) if isinstance(batches, Mapping) else type(batches)
    raise ValueError(f"batches: expected players {players}, got {got}")
  batch = batches[turn.player]
  if turn.num_steps == 1:
    return batch
  for b in jax.tree.leaves(batch):
    if b.ndim == 0 or len(b) != turn.num_steps:
      raise ValueError(
        f"{turn.player}: expected batches with a leading axis of "
        f"num_steps = {turn.num_steps}, got shape {b.shape}"
      )
  return jax.tree.map(lambda b: b[inner], batch)


def _check_result(turn, result, extras):
  """What a loss function returned, with its static faults refused."""
  name = f"{turn.player}: loss_fn"
  pair = isinstance(result, tuple) and len(result) == 2
  if not (pair and isinstance(result[1], tuple) and len(result[1]) == 2):
    raise ValueError(
      f"{name}: expected (loss, (metrics, extras)), got "
      f"{jax.tree.structure(result)}"
    )
  loss, aux = jnp.asarray(result[0]), result[1]
  if loss.shape != () or not jnp.issubdtype(loss.dtype, jnp.floating):
    raise ValueError(
      f"{name}: expected a real scalar loss, got {loss.dtype} {loss.shape}"
    )
  metrics, new_extras = aux
  if not isinstance(metrics, dict) or "loss" in metrics:
    raise ValueError(
      f"{name}: expected metrics in a dict without 'loss', got "
      f"{sorted(metrics) if isinstance(metrics, dict) else type(metrics)}"
    )
  for metric, value in metrics.items():
    if jnp.shape(value) != ():
      raise ValueError(
        f"{name}: expected scalar metrics, got {metric} {jnp.shape(value)}"
      )
  if _signature(new_extras) != _signature(extras):
    raise ValueError(
      f"{name}: expected extras {_signature(extras)}, "
      f"got {_signature(new_extras)}"
    )
  return loss, aux


def _signature(tree):
  """Paths, shapes and dtypes, as one line."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return ", ".join(
    f"{jax.tree_util.keystr(path)}: {jnp.asarray(x).dtype}{jnp.shape(x)}"
    for path, x in leaves
  )
