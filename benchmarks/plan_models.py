"""Models of entropic plans for benchmarks/entropic_plans.py, trained.

t = 0 is data and t = 1 the source N(0, I); eps = std^2. Each trainer takes the
exact plan for its samples alone, and returns a model of p(y | x).
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen import bridge_fields, couplings, entropic_plans, samplers
from jaxgen.data import bridge_plans
from jaxgen.losses import bridges, light_bridge
from jaxgen.models import mlp
from jaxgen.training import ema


@functools.partial(jax.jit, static_argnums=2)
def pairs(plan, key, number):
  """(data, source) of the plan, [number, D] each."""
  keys = jax.random.split(key, number)
  return jax.vmap(bridge_plans.sample, (None, 0))(plan, keys)


def unpaired(plan, key, number):
  """Data and sources that are independent of each other."""
  first, second = jax.random.split(key)
  dim = plan.means.shape[1]
  return pairs(plan, first, number)[0], jax.random.normal(second, (number, dim))


def trainer(loss_fn: Callable) -> Callable:
  """(params, key, inputs, rate, num_steps) -> averaged parameters after Adam.

  loss_fn: (params, key, inputs) -> []. The rate falls as a cosine; the average
  is over the last 200 steps or so. One program serves every rate and number.
  """
  optimizer = optax.scale_by_adam()

  @jax.jit
  def train(params, key, inputs, rate, num_steps):
    def step(number, carry):
      params, average, memory = carry
      step_key = jax.random.fold_in(key, number)
      grads = jax.grad(loss_fn)(params, step_key, inputs)
      updates, memory = optimizer.update(grads, memory)
      now = -rate * (1 + jnp.cos(jnp.pi * number / num_steps)) / 2
      params = jax.tree.map(lambda p, u: p + now * u, params, updates)
      share = jnp.maximum(0.005, 1 / (number + 1))
      return params, ema.update(average, params, share), memory

    carry = params, params, optimizer.init(params)
    return jax.lax.fori_loop(0, num_steps, step, carry)[1]

  return train


def light(plan, key, how: dict) -> tuple[entropic_plans.Potential, float]:
  """(LightSB's potential, its learning rate).

  The rate is the best in a fourth of the steps, by the loss on validation
  samples.
  """
  start_key, fit_key, check_key = jax.random.split(key, 3)
  shown = pairs(plan, start_key, how["components"])[0]
  std = float(plan.std)
  start = light_bridge.start(shown, std, turned=how["turned"])

  def mean_loss(params, data, source):
    made = light_bridge.potential(params, std)
    of = jax.vmap(light_bridge.light_bridge, (None, 0, 0))
    return of(made, data, source).mean()

  def loss_fn(params, key, plan):
    return mean_loss(params, *unpaired(plan, key, how["batch"]))

  train = trainer(loss_fn)

  def fitted(rate, num_steps):
    return train(start, fit_key, plan, rate, num_steps)

  checks, judge = unpaired(plan, check_key, 10_000), jax.jit(mean_loss)
  best = min(
    how["rates"],
    key=lambda rate: float(judge(fitted(rate, how["num_steps"] // 4), *checks)),
  )
  params = fitted(best, how["num_steps"])
  return light_bridge.potential(params, std), best


def network(how: dict, std: float, ends: tuple[float, float]):
  """(a network, params -> its drift (x, time left []) -> [D]).

  Inputs are scaled by the standard deviation of x_t of independent ends, whose
  variances are `ends`, that of the diffusion's end first.
  """
  net = mlp.MLP((how["width"],) * 2, embedding_width=16, max_frequency=8.0)

  def drift_of(params):
    def drift(x, t):
      scale = (1 - t) ** 2 * ends[0] + t**2 * ends[1] + std**2 * t * (1 - t)
      return net.apply(params, x / jnp.sqrt(scale), t)

    return drift

  return net, drift_of


def bridge_loss(drift, end, start, key, std: float):
  """Bridge matching of pairs [B, D] with the weight t, the time left."""
  noise_key, t_key = jax.random.split(key)
  noise = jax.random.normal(noise_key, end.shape)
  # At least half a thousandth, where the weight is as small.
  t = jax.random.uniform(t_key, (len(end),), minval=5e-4)
  one = lambda *rows: bridges.matching(
    drift, *rows, std=std, weight=lambda t: t
  )
  return jax.vmap(one)(end, start, noise, t).mean()


def coupled(plan, key, how: dict) -> tuple[jax.Array, jax.Array, str]:
  """Pairs of pools by couplings.entropic, [N, D] each, and which it was.

  Its cost is |x - y|^2, twice that of the plan, and so is its epsilon. Where
  Sinkhorn's iteration does not converge, the coupling is the optimal one. With
  how["oracle"] the pairs are those of the exact plan.
  """
  if how.get("oracle"):
    return *pairs(plan, key, how["pools"] * how["pool"]), "plan"
  std, kind, found = float(plan.std), "entropic", []
  for pool_key in jax.random.split(key, how["pools"]):
    draw_key, pair_key = jax.random.split(pool_key)
    data, source = map(np.asarray, unpaired(plan, draw_key, how["pool"]))
    if kind == "entropic":
      try:
        order = couplings.entropic(pair_key, data, source, epsilon=2 * std**2)
      except ValueError:
        kind, found = "exact", []
    if kind == "exact":
      order = couplings.exact(data, source)
    found.append((data, source[order]))
  data, source = map(np.concatenate, zip(*found, strict=True))
  return jnp.asarray(data), jnp.asarray(source), kind


def rows_of(pairs, key, batch: int):
  """A random batch of rows of two arrays [N, D], the same of both."""
  rows = jax.random.randint(key, (batch,), 0, len(pairs[0]))
  return pairs[0][rows], pairs[1][rows]


def matched(plan, key, how: dict) -> tuple[Callable, str]:
  """[SF]2M: bridge matching of coupled pairs: (drift, coupling)."""
  pool_key, init_key, fit_key = jax.random.split(key, 3)
  data, source, kind = coupled(plan, pool_key, how)
  dim, std = plan.means.shape[1], float(plan.std)
  net, drift_of = network(how, std, (float(data.var()), 1.0))

  def loss_fn(params, key, rows):
    row_key, loss_key = jax.random.split(key)
    batch = rows_of(rows, row_key, how["batch"])
    return bridge_loss(drift_of(params), *batch, loss_key, std)

  params = net.init(init_key, jnp.zeros(dim), jnp.zeros(()))
  budget = how["rate"], how["num_steps"]
  params = trainer(loss_fn)(params, fit_key, (data, source), *budget)
  return drift_of(params), kind


def simulate(drift, x, key, std: float, num_steps: int):
  """The ends [N, D] of dx = b |dt| + std dW from x [N, D]."""
  field = bridge_fields.from_drift(drift, to_data=True)
  solver = samplers.euler_maruyama(lambda t: std**2 / 2 + 0 * t)
  times = jnp.linspace(1.0, 0.0, num_steps + 1)
  one = lambda x, key: samplers.integrate(solver, field, x, times, key)
  return jax.vmap(one)(x, jax.random.split(key, len(x)))


def iterated(plan, key, how: dict) -> Callable:
  """DSBM-IMF: two drifts in turns, each from pairs that the other simulates.

  The first drift to the data is that of the independent coupling.
  """
  size, std = how["pool"] * how["pools"], float(plan.std)
  key, init_key, first_key = jax.random.split(key, 3)
  pair = unpaired(plan, first_key, size)  # (end, start) of the next drift
  spread = float(pair[0].var())
  like = jnp.zeros(plan.means.shape[1]), jnp.zeros(())
  tools, params = [], []
  for ends in ((spread, 1.0), (1.0, spread)):  # to the data, to the source
    net, drift_of = network(how, std, ends)
    init_key, one_key = jax.random.split(init_key)
    params.append(net.init(one_key, *like))

    def loss_fn(params, key, rows, drift_of=drift_of):
      row_key, loss_key = jax.random.split(key)
      batch = rows_of(rows, row_key, how["batch"])
      return bridge_loss(drift_of(params), *batch, loss_key, std)

    run = lambda params, x, key, drift_of=drift_of: simulate(
      drift_of(params), x, key, std, how["sde_steps"]
    )
    tools.append((trainer(loss_fn), jax.jit(run)))
  for turn in range(how["turns"]):
    turn_key = jax.random.fold_in(key, turn)
    data_key, fit_key, sim_key = jax.random.split(turn_key, 3)
    side = turn % 2
    steps = how["first_steps"] if turn < 2 else how["turn_steps"]
    train, run = tools[side]
    params[side] = train(params[side], fit_key, pair, how["rate"], steps)
    start = unpaired(plan, data_key, size)[1 - side]
    pair = start, run(params[side], start, sim_key)
  _, drift_of = network(how, std, (spread, 1.0))
  return drift_of(params[0])
