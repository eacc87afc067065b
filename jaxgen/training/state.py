"""The state that a training run carries from one step to the next.

A State is a pytree. A resumed run needs only a checkpoint of it, and the data
as a function of the step.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, PyTree

from jaxgen import keys
from jaxgen.training import ema


class Player(NamedTuple):
  """One player of a game.

  Attributes:
    params: the player's parameters.
    opt_state: the state of its optimizer; () without a turn.
    ema: the averages of params by name, if the player's turn has any.
  """

  params: PyTree
  opt_state: PyTree
  ema: dict[str, PyTree]


class State(NamedTuple):
  """A run at one step.

  Attributes:
    step: steps done.
    key: the run's key, never changed.
    players: the players by name.
    extras: further state of the losses, such as batch statistics.
  """

  step: Int[Array, ""]
  key: Key[Array, ""]
  players: dict[str, Player]
  extras: dict[str, Any]


def init(
  key: Any,
  params: Mapping[str, PyTree],
  turns: Sequence,
  extras: Mapping[str, Any] | None = None,
) -> State:
  """The state before the first step.

  Every leaf has its own buffer, so that the step may consume the state while
  the arrays given here stay valid.

  Args:
    key: the run's key, [], from jax.random.key.
    params: each player's parameters by name. A player without a turn is
      frozen: it has no optimizer state and no averages.
    turns: the game, as given to make_train_step.
    extras: initial extras, by name.

  Returns:
    The state at step 0: optimizers are initialised, and each average is a copy
    of its parameters.

  Raises:
    ValueError: key is a legacy uint32 key or an array of keys, or a turn's
      player has no params.
  """
  keys.require_typed(key)
  by_player = {turn.player: turn for turn in turns}
  missing = sorted(by_player.keys() - params.keys())
  if missing:
    raise ValueError(
      f"params: expected parameters of every player in turns, missing {missing}"
    )

  def build(params, extras):
    players = {
      name: _player(own, by_player.get(name)) for name, own in params.items()
    }
    return _strong((players, extras))

  start = jax.jit(build)(dict(params), dict(extras or {}))
  state = State(jnp.zeros((), jnp.int32), key, *start)
  return jax.device_put(state, may_alias=False)


def _player(params, turn):
  if turn is None:
    return Player(params, (), {})
  means = {name: ema.init(params) for name in turn.averages or {}}
  return Player(params, turn.optimizer.init(params), means)


def _strong(tree):
  """Makes dtypes strong: weak ones would change in the step and retrace it."""
  return jax.tree.map(lambda x: jnp.asarray(x, jnp.asarray(x).dtype), tree)
