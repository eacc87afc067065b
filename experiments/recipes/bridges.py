"""Two drifts between data and a source, as a game.

t = 0 is data and t = 1 the source. The players learn the drift to the data and
that to the source (jaxgen.losses.bridges), each from pairs: of the batch's own
coupling at first, and then simulated by the other player's diffusion (DSBM). A
player's pairs begin at true examples of the end that its diffusion leads to.

The simulated pairs are kept in the state, as the last `pool` batches: every
`refresh` steps the pairs that begin at the step's batch replace the oldest.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lib import averages, checks, choices, datasets, training
from experiments.recipes import networks
from jaxgen import bridge_fields, fields, levels, paths, samplers
from jaxgen.data import pairs
from jaxgen.losses import bridges
from jaxgen.training import step

PLAYERS = ("to_data", "to_source")
LEFT = dict(ratio_min=1e-3, ratio_max=1e3)  # times of training, on linear()


class Drifts(NamedTuple):
  """Two drifts by two networks of one kind, and how they are simulated.

  Attributes:
    net: a Flax module for one example.
    shape: of an example, *D.
    std: of the Brownian motion, per square root of time.
    spread: t -> standard deviation of x_t, if the ends are independent.
    speed: scale of a network's output.
    solver: of samples.
    times: of samples, from 1 to 0, [N + 1].
    start: key -> an example of the source, [*D].
  """

  net: Any
  shape: tuple[int, ...]
  std: float
  spread: Callable
  speed: float
  solver: samplers.Solver
  times: Any
  start: Callable

  def players(self, key: jax.Array) -> dict[str, Any]:
    """Initial parameters of both."""
    like = jnp.zeros(self.shape), jnp.zeros(())
    split = jax.random.split(key)
    return {
      p: self.net.init(k, *like) for p, k in zip(PLAYERS, split, strict=True)
    }

  def drift(self, params: Any, **how: Any) -> Callable:
    """(x [*D], t []) -> drift [*D], of one player's parameters."""

    def drift_fn(x, t):
      scaled = x / self.spread(t)
      return self.speed * self.net.apply(params, scaled, t, None, **how)

    return drift_fn

  def field(self, params: dict[str, Any]) -> fields.Field:
    """Velocity and score, from both players' parameters."""
    drifts = (self.drift(params[name]) for name in ("to_source", "to_data"))
    return bridge_fields.from_drifts(*drifts, self.std)

  def sample(self, params, key: jax.Array) -> tuple[Any, Any]:
    """The states at all times [T, *D] and the data [*D], for one key."""
    start_key, solver_key = jax.random.split(key)
    states = samplers.trajectory(
      self.solver,
      self.field(params),
      self.start(start_key),
      self.times,
      solver_key,
    )
    return states, states[-1]

  def flow(self, params, x: jax.Array, times: Any) -> jax.Array:
    """The end of the probability flow from x, along times, [*D]."""
    key = jax.random.key(0)  # not used, as the solver is deterministic
    return samplers.integrate(self.solver, self.field(params), x, times, key)


def diffusion(std: float) -> samplers.Solver:
  """The solver that simulates either diffusion, by the grid's direction."""
  return samplers.euler_maruyama(lambda t: std**2 / 2 + 0 * t)


def make(config: Any, data: datasets.Data, source: datasets.Data) -> Drifts:
  """Validates the settings of the network and builds the parts."""
  config = networks.resolve(config, data)
  std, wide, far = config.bridge_std, data.std, source.std
  spread = lambda t: jnp.sqrt(
    ((1 - t) * wide) ** 2 + (t * far) ** 2 + std**2 * t * (1 - t)
  )
  name, solver = config.solver, diffusion(std)
  if name != "euler_maruyama":
    solver = choices.lookup(choices.FLOW_SOLVERS, name, "solver")()
  return Drifts(
    networks.make(config, data),
    data.shape,
    std,
    spread,
    float(np.hypot(wide, far)),
    solver,
    jnp.linspace(1.0, 0.0, config.sample_steps + 1),
    source.draw,
  )


def simulate(
  model: Drifts,
  params: Any,
  x: jax.Array,
  key: jax.Array,
  *,
  steps: int,
  to_data: bool,
) -> jax.Array:
  """The ends [B, *D] of a diffusion from x [B, *D], without a gradient.

  params: {player: parameters}; only the drift of this direction is evaluated.
  """
  own = params["to_data" if to_data else "to_source"]
  drift = model.drift(jax.lax.stop_gradient(own))
  field = bridge_fields.from_drift(drift, to_data)
  times = jnp.linspace(1.0, 0.0, steps + 1)
  times = times if to_data else times[::-1]

  def one(x, key):
    return samplers.integrate(diffusion(model.std), field, x, times, key)

  return jax.vmap(one)(x, jax.random.split(key, len(x)))


def make_pairs(config: Any, model: Drifts, to_data: bool) -> Callable:
  """(params, kept, key, pair, step) -> (pairs of the step, all that are kept).

  A pair is (ends [B, *D], starts [B, *D]), where the ends are true examples of
  the data (of the source, unless to_data); kept are `pool` of them.
  """

  def chosen(params, kept, key, pair, step):
    new_key, row_key = jax.random.split(key)
    ends, every, own = pair[0], config.refresh, step < config.coupled_steps
    slot, size = step // every % config.pool, len(pair[0])

    def simulated():
      how = dict(steps=config.pair_steps, to_data=not to_data)
      return ends, simulate(model, params, ends, new_key, **how)

    def refreshed():
      new = jax.lax.cond(own, lambda: pair, simulated)
      return jax.tree.map(lambda all, x: all.at[slot].set(x), kept, new)

    kept = jax.lax.cond(step % every == 0, refreshed, lambda: kept)
    filled = jnp.minimum(step // every + 1, config.pool)
    rows = jax.random.randint(row_key, (size,), 0, filled * size)
    drawn = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[rows], kept)
    return jax.tree.map(lambda a, b: jnp.where(own, a, b), pair, drawn), kept

  return chosen


def make_loss(config: Any, model: Drifts, player: str) -> Callable:
  """The loss of a player, as step.Turn takes it, over a batch of pairs."""
  to_data = player == "to_data"
  chosen = make_pairs(config, model, to_data)

  def loss_fn(params, extras, key, batch, step):
    pair_key, t_key, noise_key, net_key = jax.random.split(key, 4)
    pair = batch if to_data else batch[::-1]  # (ends, starts)
    if config.method == "dsbm":
      pair, kept = chosen(params, extras[player], pair_key, pair, step)
      extras = extras | {player: kept}
    number = len(pair[0])
    left = levels.stratified(t_key, paths.linear(), (number,), **LEFT)
    noise = jax.random.normal(noise_key, pair[0].shape)
    net_keys = jax.random.split(net_key, number)

    def loss(end, start, noise, left, key):  # one pair
      how = dict(train=True, rngs={"dropout": key})
      drift_fn = model.drift(params[player], **how)
      return bridges.matching(
        drift_fn if to_data else bridges.to_source(drift_fn),
        end,
        start,
        noise,
        left,
        std=model.std,
        weight=lambda left: left,
      )

    losses = jax.vmap(loss)(*pair, noise, left, net_keys)
    return losses.mean() / model.speed**2, ({}, extras)

  return loss_fn


def make_turns(config: Any, model: Drifts) -> tuple[step.Turn, ...]:
  """The turn of the drift to the data, then that of the drift to the source."""
  return tuple(
    step.Turn(
      player,
      make_loss(config, model, player),
      training.adam(config),
      averages=averages.rules(config),
    )
    for player in PLAYERS
  )


def make_extras(config: Any, model: Drifts) -> dict[str, Any]:
  """The pairs that are kept, {player: (ends, starts)}, none at first."""
  if config.method != "dsbm":
    return {}
  shape = config.pool, config.batch_size, *model.shape
  return {p: (jnp.zeros(shape), jnp.zeros(shape)) for p in PLAYERS}


def make_batches(
  config: Any, data: datasets.Data, source: datasets.Data, key: jax.Array
) -> Callable[[int], dict[str, tuple]]:
  """step -> {player: (data [B, *D], source [B, *D])}, the same for both."""
  data_key, source_key, couple_key = jax.random.split(key, 3)
  couple = choices.COUPLINGS[config.coupling](config)
  make = pairs.batches(
    data.batches(data_key, config.batch_size),
    source.unlabelled(source_key, config.batch_size),
    couple_key,
    config.batch_size,
    couple,
  )

  def batch_fn(number):
    with checks.naming(config, epsilon="bridge_std"):
      examples, _, sources = make(number)
    return dict.fromkeys(PLAYERS, (examples, sources))

  if config.coupling == "entropic":
    batch_fn(0)  # Sinkhorn may not converge: fails before anything is written
  return batch_fn


def trajectories(model: Drifts, starts: np.ndarray) -> Callable:
  """params -> states [N, T, *D] of the diffusion from data to the source."""

  @jax.jit
  def run(params, keys, starts):
    field, times = model.field(params), model.times[::-1]

    def one(x, key):
      return samplers.trajectory(model.solver, field, x, times, key)

    return jax.vmap(one)(starts, keys)

  keys = jax.random.split(jax.random.key(0), len(starts))
  return lambda params: np.asarray(run(params, keys, starts))
