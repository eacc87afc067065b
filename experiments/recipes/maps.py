"""Transport maps between distributions at minimal squared distance, as games.

  kind       how the map is learned
  semi_dual  grad phi of a smooth potential, conjugates by Newton's method
  max_min    a network that pays |x - T(x)|^2 / 2 against a potential
  makkuva    the same game with two convex potentials, T = grad psi
  w2gn       grad phi of two convex potentials with inverse gradients
  entropic   the conditional mean of the entropic plan, from two potentials

RECIPES has the number of steps, the batch size and the rates of each kind.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.lib import choices
from jaxgen import costs
from jaxgen.losses import max_min, transport_maps, wasserstein
from jaxgen.models import icnn, potentials
from jaxgen.training import ema, step


class Recipe(NamedTuple):
  """Training settings of a kind of map.

  Attributes:
    num_steps: number of steps of the game; each has inner_steps map steps.
    batch_size: number of unpaired samples of each distribution.
    learning_rate: initial rate of Adam, with a cosine decay to a hundredth.
    features: widths of the hidden layers.
    decay: decay of the default average.
    inner_steps: number of map steps per step, if the map is another player.
  """

  num_steps: int
  batch_size: int
  learning_rate: float
  features: tuple[int, ...]
  decay: float = 0.99
  inner_steps: int = 1


RECIPES = {
  "semi_dual": Recipe(1000, 1024, 1e-2, (64, 64)),
  "max_min": Recipe(2000, 256, 1e-3, (128, 128), 0.999, 10),
  "makkuva": Recipe(2000, 256, 1e-2, (64, 64, 64), 0.999, 10),
  "w2gn": Recipe(3000, 512, 1e-2, (64, 64, 64)),
  "entropic": Recipe(2000, 512, 3e-3, (128, 128)),
}
# Kinds whose map is a separate player.
GAMES = [name for name, recipe in RECIPES.items() if recipe.inner_steps > 1]
NEWTON_STEPS = 4
NEGATIVITY = 0.1  # weight of makkuva's penalty on psi


class MapGame(NamedTuple):
  """A game that learns a map.

  Attributes:
    turns: the turns of the players; batches are (source [B, *D], target [B,
      *D]).
    init: (key, x [*D]) -> {player: params}.
    of: params of the map's player -> T, [*D] -> [*D].
    player: name of the map's player.
    potential: params of the map's player -> phi, [*D] -> [], if T is grad phi.
  """

  turns: tuple[step.Turn, ...]
  init: Callable
  of: Callable
  player: str
  potential: Callable | None = None


def half_square(x: Any, y: Any) -> Any:
  """|x - y|^2 / 2."""
  return costs.square(x, y) / 2


def make(
  kind: str,
  recipe: Recipe,
  dim: int,
  *,
  epsilon: float = 1.0,
  averages: Mapping[str, ema.Rule] | None = None,
) -> MapGame:
  """The game of a kind of map.

  Args:
    kind: a name of RECIPES.
    recipe: its training settings.
    dim: D.
    epsilon: regularisation of the entropic plan, in units of |x - y|^2.
    averages: averages of the map's player, by name; None for "mean", with the
      recipe's decay.

  Raises:
    ValueError: no such kind.
  """
  choices.lookup(RECIPES, kind, "method")
  if kind == "semi_dual":
    game = _semi_dual(recipe)
  elif kind == "max_min":
    game = _max_min(recipe)
  elif kind == "makkuva":
    game = _makkuva(recipe)
  elif kind == "w2gn":
    game = _w2gn(recipe, dim)
  else:
    game = _entropic(recipe, epsilon)
  kept = {"mean": ema.warmup(recipe.decay)} if averages is None else averages
  averaged = lambda t: (
    t._replace(averages=kept) if t.player == game.player else t
  )
  return game._replace(turns=tuple(map(averaged, game.turns)))


def _turn(player, recipe, loss, *, inner=1, project=None):
  """A turn with Adam."""
  steps = inner * recipe.num_steps
  rate = optax.cosine_decay_schedule(recipe.learning_rate, steps, 0.01)

  def loss_fn(params, extras, key, batch, step):
    return loss(params, *batch), ({}, extras)

  optimizer = optax.adam(rate, b2=0.99)
  return step.Turn(player, loss_fn, optimizer, inner, project)


def _semi_dual(recipe):
  net = potentials.Potential(recipe.features, quadratic=1.0)
  phi = lambda params: lambda x: net.apply(params, x)

  def loss(params, source, target):
    flat = lambda x: x.reshape(len(x), -1)
    return transport_maps.semi_dual(
      phi(params["potential"]),
      flat(source),
      flat(target),
      num_steps=NEWTON_STEPS,
    )

  return MapGame(
    (_turn("potential", recipe, loss),),
    lambda key, x: {"potential": net.init(key, x)},
    lambda params: jax.grad(phi(params)),
    "potential",
    phi,
  )


def _max_min(recipe):
  net = potentials.Potential(recipe.features, jax.nn.relu, quadratic=0.0)
  mover = potentials.Map(recipe.features, jax.nn.relu, linear=1.0)
  start = dict(map=mover.init, potential=net.init)
  return _game(recipe, start, net.apply, mover.apply, half_square)


def _makkuva(recipe):
  net = icnn.ICNN(recipe.features)
  start = dict(map=net.init, potential=net.init)
  f = lambda params, y: -net.apply(params, y)
  move = jax.grad(net.apply, argnums=1)
  soft = lambda params: NEGATIVITY * icnn.negativity(params)
  return _game(
    recipe, start, f, move, costs.inner, soft=soft, project=icnn.nonnegative
  )._replace(potential=lambda params: functools.partial(net.apply, params))


def _game(recipe, start, f, move, cost, *, soft=None, project=None):
  """A map against a potential f; soft is added to the map's loss."""
  of_map, of_potential = max_min.against(f, move, cost)

  def map_loss(params, source, target):
    loss = of_map(params["map"], params["potential"], source, target)
    return loss if soft is None else loss + soft(params["map"])

  def potential_loss(params, source, target):
    return of_potential(params["map"], params["potential"], source, target)

  def init(key, x):
    keys = jax.random.split(key)
    return {
      name: fn(k, x) for (name, fn), k in zip(start.items(), keys, strict=True)
    }

  turns = (
    _turn("map", recipe, map_loss, inner=recipe.inner_steps),
    _turn("potential", recipe, potential_loss, project=project),
  )
  of = lambda params: functools.partial(move, params)
  return MapGame(turns, init, of, "map")


def _w2gn(recipe, dim):
  net = icnn.ICNN(recipe.features)
  weight = float(min(dim, 50))

  def loss(params, source, target):
    phi, psi = (
      lambda x, one=one: net.apply(one, x) for one in params["potentials"]
    )
    one = lambda x, y: transport_maps.non_minimax(
      phi, psi, x, y, cycle_weight=weight
    )
    return jnp.mean(jax.vmap(one)(source, target))

  def init(key, x):
    return {"potentials": [net.init(k, x) for k in jax.random.split(key)]}

  turn = _turn("potentials", recipe, loss, project=icnn.nonnegative)
  phi = lambda params: lambda x: net.apply(params[0], x)
  of = lambda params: jax.grad(phi(params))
  return MapGame((turn,), init, of, "potentials", phi)


def _entropic(recipe, epsilon):
  net = potentials.Potential(recipe.features)
  mover = potentials.Map(recipe.features, linear=1.0)
  move = lambda params: lambda x: mover.apply(params, x)

  def both(params):
    return tuple(
      lambda x, one=one: net.apply(one, x) for one in params["duals"]
    )

  def dual_loss(params, source, target):
    one = lambda x, y: wasserstein.entropic(
      *both(params), x, y, cost=costs.square, epsilon=epsilon
    )
    return jnp.mean(jax.vmap(one)(source, target))

  def map_loss(params, source, target):
    u, v = both(params)

    def one(x, y):
      slack = u(x) + v(y) - costs.square(x, y)
      density = wasserstein.entropic_density(slack, epsilon)
      return transport_maps.barycentric(move(params["map"]), x, y, density)

    return jnp.mean(jax.vmap(one)(source, target))

  def init(key, x):
    map_key, *keys = jax.random.split(key, 3)
    return {
      "duals": [net.init(k, x) for k in keys],
      "map": mover.init(map_key, x),
    }

  turns = (
    _turn("duals", recipe, dual_loss),
    _turn("map", recipe, map_loss),
  )
  return MapGame(turns, init, move, "map")
