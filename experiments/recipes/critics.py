"""Critics that measure W1 between two distributions; each is a small game.

  kind                 what bounds the critic's slope, and the kind of bound
  cones, features,
  orthogonal, spectral the network: a lower bound (features: cones on the
                       features of an orthogonal network)
  gradient, lipschitz  a penalty: no bound
  clipping, divergence, quadratic
                       measure other quantities than W1
  c_transform          the conjugate over the batch: a bound only for the batch
  max_min, reversed    a map that computes the conjugate (MM, MM-R): no bound

RECIPES has the number of steps, the batch size and the learning rate of each
kind, WEIGHTS the weight of its penalty.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.lib import choices, datasets
from jaxgen import costs
from jaxgen.losses import max_min, wasserstein
from jaxgen.models import lipschitz, potentials
from jaxgen.training import step

relu = jax.nn.relu


class Recipe(NamedTuple):
  """Training settings of a kind of critic.

  Attributes:
    num_steps: number of steps of the game; each has inner_steps map steps.
    batch_size: number of unpaired samples of each distribution.
    learning_rate: initial rate of each player's Adam, with a cosine decay to 0;
      constant rate of RMSProp for clipping.
    betas: decays of Adam's moments.
    inner_steps: number of map steps per step, if there is a map.
    bound: "below" if the value on new samples is a lower bound of W1, "neither
      side" if it is no bound, "nothing" if it measures something else.
  """

  num_steps: int
  batch_size: int = 256
  learning_rate: float = 1e-3
  betas: tuple[float, float] = (0.0, 0.9)
  inner_steps: int = 1
  bound: str = "neither side"


RECIPES = {
  "cones": Recipe(2000, 1024, 3e-2, (0.9, 0.99), bound="below"),
  "features": Recipe(1500, 512, 1e-2, (0.9, 0.99), bound="below"),
  "orthogonal": Recipe(2500, 256, 3e-3, (0.9, 0.99), bound="below"),
  "spectral": Recipe(5000, bound="below"),
  "gradient": Recipe(5000),
  "lipschitz": Recipe(5000),
  "divergence": Recipe(5000, bound="nothing"),
  "quadratic": Recipe(5000, bound="nothing"),
  "clipping": Recipe(5000, learning_rate=5e-5, bound="nothing"),
  "c_transform": Recipe(3000, 256),
  "max_min": Recipe(2000, inner_steps=10),
  "reversed": Recipe(2000, inner_steps=10),
}
FEATURES = (128, 128, 64)  # layer widths of the network of kind features
# Temperature of the cones in the first step, and over sqrt(D) in the last.
TEMPERATURES = (0.3, 0.003)
PART = 128  # number of examples that `mean` computes together
WEIGHTS = {"gradient": 10.0, "lipschitz": 10.0, "divergence": 2.0}


class Critic(NamedTuple):
  """A game whose critic measures W1.

  Attributes:
    turns: the players "critic" and, for some kinds, "map".
    init: (key, data [K, D], other [K, D]) -> {player: params}.
    of: params of all players -> f, [D] -> [], high on data.
  """

  turns: tuple[step.Turn, ...]
  init: Callable
  of: Callable


def make(
  kind: str,
  recipe: Recipe,
  dim: int,
  *,
  num_cones: int = 512,
  cone_scales: tuple[float, float] = (1.0, 1.0),
) -> Critic:
  """The game of a kind of critic; its batches are (data, other), [B, D] each.

  Args:
    kind: a name of RECIPES.
    recipe: its training settings.
    dim: D.
    num_cones: number of cones of each of the two families.
    cone_scales: factors on the spread about the mean of the samples at which
      cones start: of data for falling, of other for rising cones.

  Raises:
    ValueError: no such kind.
  """
  choices.lookup(RECIPES, kind, "critic")
  if kind in ("cones", "features"):
    return _cones(kind, recipe, dim, num_cones, cone_scales)
  if kind in ("max_min", "reversed"):
    return _max_min(recipe, dim, reverse=kind == "reversed")
  net = _network(kind, dim)
  of = lambda params: lambda x: net.apply(params["critic"], x)

  def loss_fn(params, extras, key, batch, step):
    data, other = batch
    critic_fn = of(params)
    if kind == "c_transform":
      how = dict(cost=costs.distance)
      loss = wasserstein.semi_dual(critic_fn, data, other, **how)
    else:
      mix = jax.random.uniform(key, (len(data),))
      one = functools.partial(_pair_loss, kind, critic_fn)
      loss = jnp.mean(jax.vmap(one)(data, other, mix))
    return loss, ({}, extras)

  project = None
  if kind == "clipping":
    project = functools.partial(wasserstein.clip_weights, bound=0.01)
  turn = step.Turn("critic", loss_fn, _optimizer(kind, recipe), project=project)
  init = lambda key, data, other: {"critic": net.init(key, data[0])}
  return Critic((turn,), init, of)


def _pair_loss(kind, critic_fn, data, other, mix):
  if kind == "quadratic":
    return wasserstein.quadratic(critic_fn, data, other)
  loss = wasserstein.dual(critic_fn, data, other)
  if kind in WEIGHTS:
    penalty_fn = choices.PENALTIES[kind]
    loss += WEIGHTS[kind] * penalty_fn(critic_fn, data, other, mix)
  return loss


def _network(kind, dim):
  features = (max(2 * dim, 128),) * 2
  if kind == "orthogonal":
    return lipschitz.Network(features)
  if kind == "spectral":
    how = dict(constrain=lipschitz.normalised, activation=relu)
    return lipschitz.Network(features, **how)
  return potentials.Potential(features, relu)


def _optimizer(kind, recipe):
  if kind == "clipping":
    return optax.rmsprop(recipe.learning_rate)
  rate = optax.cosine_decay_schedule(recipe.learning_rate, recipe.num_steps)
  return optax.adam(rate, *recipe.betas)


def _cones(kind, recipe, dim, num_cones, scales):
  """Cones on the points, or on their features from a 1-Lipschitz network."""
  seen_dim = FEATURES[-1] if kind == "features" else dim
  schedule = temperatures(recipe.num_steps, seen_dim)
  last = TEMPERATURES[1] * seen_dim**0.5
  net = lipschitz.Network(FEATURES[:-1], num_outputs=FEATURES[-1])

  def see(params, x):
    return x.ravel() if params is None else net.apply(params, x)

  def of_at(params, t):
    seen, cones = params["critic"]
    return lambda x: lipschitz.cones(cones, see(seen, x), t)

  def loss_fn(params, extras, key, batch, step):
    t = jnp.asarray(schedule)[step]
    one = functools.partial(wasserstein.dual, of_at(params, t))
    return mean(one, *batch), ({}, extras)

  def init(key, data, other):
    seen = net.init(key, data[0]) if kind == "features" else None

    def tips(x, scale):
      x = jax.vmap(functools.partial(see, seen))(x[:num_cones])
      mean = jnp.mean(x, axis=0, keepdims=True)
      return mean + scale * (x - mean)

    cones = lipschitz.init_cones(*map(tips, (data, other), scales))
    return {"critic": (seen, cones)}

  turn = step.Turn("critic", loss_fn, _optimizer(kind, recipe))
  return Critic((turn,), init, lambda params: of_at(params, last))


def _max_min(recipe, dim, reverse):
  """A map from other to data against a critic that is high on data; or, in
  reverse, from data to other against one that is high on other.
  """
  features = (max(2 * dim, 128),) * 2
  net = potentials.Potential(features, relu)
  mover = potentials.Map(features, relu, linear=1.0)
  sign = -1.0 if reverse else 1.0

  losses = max_min.against(net.apply, mover.apply, costs.distance)

  def loss(index, params, extras, key, batch, step):
    data, other = batch
    source, target = (data, other) if reverse else (other, data)
    both = params["map"], params["critic"]
    return losses[index](*both, source, target), ({}, extras)

  map_loss, critic_loss = (functools.partial(loss, i) for i in (0, 1))

  def init(key, data, other):
    critic_key, map_key = jax.random.split(key)
    return {
      "critic": net.init(critic_key, data[0]),
      "map": mover.init(map_key, data[0]),
    }

  of_map = recipe._replace(num_steps=recipe.inner_steps * recipe.num_steps)
  turns = (
    step.Turn(
      "map",
      map_loss,
      _optimizer("max_min", of_map),
      num_steps=recipe.inner_steps,
    ),
    step.Turn("critic", critic_loss, _optimizer("max_min", recipe)),
  )
  of = lambda params: lambda x: sign * net.apply(params["critic"], x)
  return Critic(turns, init, of)


def temperatures(num_steps: int, dim: int) -> np.ndarray:
  """The temperature of cones at each step, [num_steps], falling to the last."""
  first, last = TEMPERATURES[0], TEMPERATURES[1] * dim**0.5
  parts = [number / num_steps for number in range(num_steps)]
  return np.float32([first * (last / first) ** part for part in parts])


def mean(fn: Callable, *batch: Any) -> Any:
  """mean_i fn(x_i, y_i, ...), [], computed in parts of the batch.

  The memory of the forward and backward pass is that of PART examples. On a CPU
  a part then fits in the cache, and cones take a third of the time. Each part
  has examples of every device's share of the batch.

  Args:
    fn: (x, y, ...) of one example each -> [].
    batch: arrays [B, ...]; not split if B is not a multiple of PART.
  """
  number = len(batch[0])
  size = number if number % PART else PART
  apart = lambda x: jnp.moveaxis(x.reshape(size, -1, *x.shape[1:]), 1, 0)
  part = jax.checkpoint(lambda part: jnp.mean(jax.vmap(fn)(*part)))
  return jnp.mean(jax.lax.map(part, tuple(map(apart, batch))))


def noised(data: datasets.Data, std: float) -> datasets.Data:
  """x + std z, with new noise in every step and fixed noise for splits."""
  add = jax.jit(lambda key, x: x + std * jax.random.normal(key, x.shape))

  def batches(key, number):
    data_key, noise_key = jax.random.split(key)
    batch_fn = data.unlabelled(data_key, number)
    of_step = lambda step: jax.random.fold_in(noise_key, step)
    return lambda step: (add(of_step(step), batch_fn(step)), None)

  def split(name):
    return np.asarray(add(jax.random.key(0), data.split(name)[0])), None

  return datasets.without_labels(math.hypot(data.std, std), batches, split)
