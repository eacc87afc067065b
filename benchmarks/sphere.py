"""The sphere: log-densities of flows to a mixture of von Mises-Fisher.

  python -m benchmarks sphere     about eight minutes on one CPU core

Three components of concentrations 20, 8 and 3. The exact field of flow matching
from uniform points (data.spheres) and a network trained by losses.riemannian on
samples alone, both integrated by RK4 on the sphere, in float32. Judged on new
samples of the mixture and on uniform points, by the exact log-density; the
number of training steps was fixed beforehand.
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import pages, runner
from jaxgen import curved_likelihood, fields, manifolds, samplers, traces
from jaxgen.data import spheres
from jaxgen.losses import riemannian
from jaxgen.models import mlp
from jaxgen.training import ema

GOAL, ON_SPHERE = 1e-3, 1e-6
NUMBER = 1000  # of points of each kind
STEPS = (8, 16, 32)  # of RK4
TRAINING = dict(num_steps=12_000, batch=512, rate=2e-3, average=1e-3)
SPHERE = manifolds.sphere()
NET = mlp.MLP((128, 128, 128), embedding_width=16, max_frequency=8.0)


def mixture():
  """The data."""
  means = np.array([[0.0, 0.6, 0.8], [-0.8, 0.0, -0.6], [0.8, -0.6, 0.0]])
  kappas = np.array([20.0, 8.0, 3.0])
  weights = np.array([0.4, 0.35, 0.25])
  return spheres.VonMisesFisher(*map(np.float32, (weights, means, kappas)))


def prior(x):
  """The log-density of the uniform distribution."""
  return jnp.asarray(spheres.LOG_UNIFORM, x.dtype)


def pairs(key, number):
  """Data, uniform sources and times, one for each of the keys."""
  data_key, source_key, t_key = jax.random.split(key, 3)
  each = lambda key: jax.random.split(key, number)
  data = jax.vmap(mixture().sample)(each(data_key))
  source = jax.vmap(spheres.uniform)(each(source_key))
  return data, source, jax.random.uniform(t_key, (number,))


def train(key):
  """The averaged parameters of the network."""
  how = TRAINING
  init_key, run_key = jax.random.split(key)
  params = NET.init(init_key, jnp.zeros(3), jnp.zeros(()))
  rate = optax.cosine_decay_schedule(how["rate"], how["num_steps"])
  optimizer = optax.adam(rate)

  def loss_fn(params, key):
    velocity_fn = functools.partial(NET.apply, params)
    one = lambda *pair: riemannian.flow_matching(
      velocity_fn, *pair, manifold=SPHERE
    )
    return jax.vmap(one)(*pairs(key, how["batch"])).mean()

  @jax.jit
  def step(state, number):
    params, average, memory = state
    grads = jax.grad(loss_fn)(params, jax.random.fold_in(run_key, number))
    updates, memory = optimizer.update(grads, memory)
    params = optax.apply_updates(params, updates)
    return params, ema.update(average, params, how["average"]), memory

  state = params, params, optimizer.init(params)
  for number in range(how["num_steps"]):
    state = step(state, number)
  return state[1]


def judge(field, num_steps, points):
  """Errors of log-densities of points {kind: [N, 3]}, and lengths' errors."""

  @jax.jit
  def run(x):
    times, key = jnp.linspace(0.0, 1.0, num_steps + 1), jax.random.key(0)
    one = lambda x: curved_likelihood.log_prob(
      *(samplers.rk4(), field, x, times, key),
      **dict(manifold=SPHERE, prior=prior, trace=traces.exact()),
    )
    found = jax.lax.map(one, x, batch_size=100)
    return found.log_prob - jax.vmap(mixture().log_prob)(x), found.end

  record, lengths = {}, 0.0
  for kind, x in points.items():
    error, end = (np.float64(a) for a in run(x))
    off = np.abs(np.linalg.norm(end, axis=1) - 1).max()
    record |= {f"{kind} mean": np.abs(error).mean()}
    record |= {f"{kind} max": np.abs(error).max()}
    lengths = max(lengths, float(off))
    if kind == "samples":
      record["kl"], spread = -error.mean(), error.std(ddof=1)
      record["kl_error"] = spread / np.sqrt(len(error))
  return {name: float(v) for name, v in record.items()} | dict(off=lengths)


def run(args) -> dict:
  """Trains and measures."""
  del args
  point_key, uniform_key, train_key = jax.random.split(jax.random.key(0), 3)
  each = lambda fn, key: jax.vmap(fn)(jax.random.split(key, NUMBER))
  points = dict(
    samples=each(mixture().sample, point_key),
    uniform=each(spheres.uniform, uniform_key),
  )
  record = dict(machine=runner.machine(), rows=[])

  def add(name, field, num_steps, seconds=0.0):
    row = dict(name=name, steps=num_steps, seconds=seconds)
    record["rows"].append(row | judge(field, num_steps, points))
    print(record["rows"][-1], flush=True)

  for num_steps in STEPS:
    add("exact field", mixture().field(), num_steps)
  begun = time.perf_counter()
  params = jax.block_until_ready(train(train_key))
  seconds = time.perf_counter() - begun
  net = fields.from_velocity(functools.partial(NET.apply, params))
  add("trained network", net, STEPS[-1], seconds)
  return record


def tables(record: dict) -> dict:
  """The parts of the page."""
  rows = []
  for r in record["rows"]:
    kl = f"{r['kl']:.1e} +- {r['kl_error']:.0e}"
    cells = (r[k] for k in ("samples mean", "samples max", "uniform max"))
    errors = tuple(f"{value:.1e}" for value in cells)
    rows.append((r["name"], r["steps"], *errors, kl, f"{r['off']:.0e}"))
  head = "field | RK4 steps | mean error | largest | on uniform points | KL"
  exact = record["rows"][-2]
  worst = max(exact["samples max"], exact["uniform max"])
  off = max(r["off"] for r in record["rows"])
  says = lambda fine: "met" if fine else "**missed**"
  return dict(
    made=f"`python -m benchmarks sphere` on {record['machine']}; training took"
    f" {record['rows'][-1]['seconds']:.0f} s.",
    errors=pages.table(f"{head} | off the sphere", rows),
    met=f"The exact field's log-density within {GOAL} at every point:"
    f" {says(worst <= GOAL)}. Points on the sphere to {ON_SPHERE}:"
    f" {says(off <= ON_SPHERE)}.",
  )


BENCHMARKS = {"sphere": runner.Benchmark(run, tables)}
