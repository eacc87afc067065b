"""The training step of a game whose players take turns.

A game is a tuple of turns, played in order at every step. A turn updates one
player's parameters, by the gradient of its own loss with respect to these
alone, and may read every player's parameters. A diffusion model is a game of
one turn (`single`); a GAN or a max-min transport map has two.

  key = fold_in(fold_in(fold_in(state.key, state.step), turn), inner step)

depends on the state alone, so a resumed run repeats the unbroken one.

Parameters may be complex: for a leaf x + i y, an optimizer receives
dL/dx + i dL/dy, the direction of steepest ascent, which is the conjugate of
JAX's gradient.
"""

import collections
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from jaxgen.training import accumulation, ema
from jaxgen.training.state import Player, State

# Steps of a loop, and programs of a step, that may be under way at once.
# Several devices of one CPU wait for one another in a step; with 32 programs
# under way, jaxlib 0.10.2 starts no other on a device, and a second thread's
# (the loader's) can then block all for ever.
AHEAD = 4


class Turn(NamedTuple):
  """A player's updates within a step.

  Attributes:
    player: name of the player.
    loss_fn: (params of all players {name: params}, extras, key, batch, step)
      -> (loss [], (metrics {name: []}, extras)); extras may be updated, but
      keep their structure. step [] counts the game's steps from 0: schedules
      are functions of it.
    optimizer: an optax gradient transformation.
    num_steps: number of inner steps. If more than one, the batch's leaves have
      a leading axis of this length, with one slice per inner step. If one, the
      batch is passed unchanged.
    project: params -> params after each update, such as weight clipping.
    averages: {name: rule of `ema`}, the averages of the player's parameters,
      updated after each optimizer step, including inner steps, which the rules
      count; None for no averages.
    accumulate: number of parts that a batch is split into along its first axis,
      which must be a multiple of it. The parts are computed one after the
      other, each with a key of its own, and their gradients, losses and metrics
      are averaged: one update, in less memory. The loss must be a mean over the
      batch.
  """

  player: str
  loss_fn: Callable
  optimizer: optax.GradientTransformation
  num_steps: int = 1
  project: Callable | None = None
  averages: Mapping[str, ema.Rule] | None = None
  accumulate: int = 1


def single(
  loss_fn: Callable,
  optimizer: optax.GradientTransformation,
  averages: Mapping[str, ema.Rule] | None = None,
  accumulate: int = 1,
) -> tuple[Turn, ...]:
  """The game of one player, named "model".

  Args:
    loss_fn: (params, key, batch) -> (loss [], metrics {name: []}).
    optimizer: an optax gradient transformation.
    averages: {name: rule of `ema`}, or None for no average.
    accumulate: number of parts of a batch, as in Turn.

  Returns:
    The game's turns, for state.init and make_train_step. Pass {"model": batch}
    to the step.
  """

  def turn_loss(params, extras, key, batch, step):
    result = loss_fn(params["model"], key, batch)
    if not (isinstance(result, tuple) and len(result) == 2):
      raise ValueError(
        f"loss_fn: expected (loss, metrics), got {jax.tree.structure(result)}"
      )
    loss, metrics = result
    return loss, (metrics, extras)

  turn = Turn("model", turn_loss, optimizer, averages=averages)
  return (turn._replace(accumulate=accumulate),)


def make_train_step(
  turns: tuple[Turn, ...],
  shardings: State | None = None,
  compiler_options: dict[str, Any] | None = None,
) -> Callable:
  """The step of a game, with one compiled program per turn.

  Every turn is one jitted function, called from Python for each of its inner
  steps; gradients are not computed inside a scan. The state passed in is
  donated: its buffers are consumed, so use the returned one. The call waits for
  the device only if it starts more than AHEAD programs.

  Args:
    turns: the game, in the order of play, with one turn per player.
    shardings: shardings of every leaf of the state (sharding.shardings), which
      the step preserves: parameters and extras are gathered for the loss, and
      each device updates its part. None keeps the arguments' placement.
    compiler_options: as of jax.jit, or None.

  Returns:
    (state, {player: batch}) -> (state, metrics). Metrics are device arrays []
    of each turn's last inner step: the loss function's and "loss", prefixed
    with "player/" if there are several turns.

  Raises:
    ValueError: there is no turn, a player has two, or num_steps is below 1;
      from the step: batches do not match the players, and at trace time the
      loss is not a real scalar, metrics are not scalars, or the structure,
      shapes or dtypes of extras change.
  """
  _check_turns(turns)
  how = dict(donate_argnums=0, compiler_options=compiler_options)
  programs = [_program(turns, i, shardings, how) for i in range(len(turns))]
  if len(turns) == 1 and turns[0].num_steps == 1:
    return programs[0]

  def train_step(
    state: State, batches: Mapping[str, Any]
  ) -> tuple[State, dict[str, Array]]:
    batches = jax.device_put(batches)  # once, not in every inner step
    metrics: dict[str, Array] = {}
    sent: collections.deque = collections.deque()
    for turn, program in zip(turns, programs, strict=True):
      for inner in range(turn.num_steps):
        which = () if turn.num_steps == 1 else (inner,)
        state, of_turn = program(state, batches, *which)
        sent.append(of_turn)
        if len(sent) > AHEAD:
          jax.block_until_ready(sent.popleft())
      metrics |= of_turn
    return state, metrics

  return train_step


def _program(turns, index, shardings, how):
  """One inner step of one turn, jitted: (state, batches, inner) -> the same.

  If there is only one inner step, its number 0 is the default, so that calls
  need not transfer it.
  """
  turn, last = turns[index], index == len(turns) - 1

  def inner_step(state, batches, inner=0):
    key = jax.random.fold_in(state.key, state.step)
    key = jax.random.fold_in(jax.random.fold_in(key, index), inner)
    batch = _own_batch(turns, turn, batches, inner)
    count = state.step * turn.num_steps + inner  # the player's updates so far
    player, extras, metrics = _play(turn, state, count, key, batch, shardings)
    if len(turns) > 1:
      metrics = {f"{turn.player}/{name}": m for name, m in metrics.items()}
    players = state.players | {turn.player: player}
    done = last & (inner == turn.num_steps - 1)
    step = state.step + jnp.int32(done)
    return State(step, state.key, players, extras), metrics

  places = None if shardings is None else (shardings, None)
  return jax.jit(inner_step, out_shardings=places, **how)


def _play(turn, state, count, key, batch, shardings):
  """One update of the turn's player: (player, extras, metrics)."""
  player = state.players[turn.player]
  everyone = {name: p.params for name, p in state.players.items()}

  def own_loss(own, extras, key, batch):
    read = everyone | {turn.player: own}, extras
    if shardings is not None:  # step is a scalar, and so replicated
      read = jax.lax.with_sharding_constraint(read, shardings.step)
    result = turn.loss_fn(*read, key, batch, state.step)
    return _check_result(turn, result, state.extras)

  gradient = jax.value_and_grad(own_loss, has_aux=True)
  if turn.accumulate > 1:
    gradient = accumulation.accumulated(gradient, turn.accumulate)
  found = gradient(player.params, state.extras, key, batch)
  (loss, (metrics, extras)), grads = found
  grads = jax.tree.map(jnp.conj, grads)  # steepest ascent of complex leaves
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
    raise ValueError(f"turns: expected one turn per player, got {names}")
  for turn in turns:
    if turn.num_steps < 1:
      raise ValueError(
        f"{turn.player}: expected num_steps of at least 1, got {turn.num_steps}"
      )
    if turn.accumulate < 1:
      raise ValueError(
        f"{turn.player}: expected accumulate of at least 1, got"
        f" {turn.accumulate}"
      )


def _own_batch(turns, turn, batches, inner):
  """The turn's batch for an inner step."""
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
  """The result of a loss function, after validating its structure."""
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
  """Paths, shapes and dtypes on one line."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return ", ".join(
    f"{jax.tree_util.keystr(path)}: {jnp.asarray(x).dtype}{jnp.shape(x)}"
    for path, x in leaves
  )
