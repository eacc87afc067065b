"""Flows of particles to a known mixture, by the driver of every solver.

  python -m benchmarks particles        3 minutes on one CPU core

A cloud of 500 points of N(0, 4 I) flows to a mixture of three Gaussians on the
plane, by Euler steps of samplers.integrate on the whole cloud. Its squared
energy distance to exact samples of the same number, the mean over 50 of them,
is compared with that of two exact samples. The sliced flow and those of the MMD
know 4,000 exact samples, SVGD and the JKO steps the density, the discriminators
new exact samples in every training step. Discriminators and convex networks are
trained in each stage on a cloud of 4,000, of which 500 are measured.
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import pages, runner
from jaxgen import fields, particles, paths, samplers
from jaxgen.data import oracles
from jaxgen.losses import adversarial, clouds, jko
from jaxgen.models import gan, icnn

NUMBER, MANY, NUM_SETS, BATCH = 500, 4000, 50, 500
GOAL = 1.5  # of the energy distance, relative to that of two exact samples
START_STD = 2.0
# {flow: (end time, Euler steps)} of flows without training.
PLANS = {
  "sliced Wasserstein": (20.0, 100),
  "MMD, energy kernel": (100.0, 400),
  "MMD, inverse multiquadric": (600.0, 600),
  "SVGD": (200.0, 400),
}
# {flow: (stages, length of a stage, training steps in each)}.
STAGES = {"discriminators": (60, 0.1, 40), "JKO steps": (12, 0.5, 250)}


def mixture():
  """The target: three Gaussians that overlap a little, unequal in weight."""
  means = [[-1.5, -0.5], [1.5, -0.5], [0.0, 1.75]]
  return oracles.Mixture(
    np.float32([0.4, 0.35, 0.25]), np.float32(means), np.float32([0.7] * 3)
  )


@functools.partial(jax.jit, static_argnums=1)
def exact(key, number):
  """Exact samples, [number, 2]."""
  return jax.vmap(mixture().sample)(jax.random.split(key, number))


def log_prob(x):
  """log p of the target."""
  return mixture().log_prob(paths.linear(), x, 0.0)


def flow(field, x, end, steps):
  """The cloud at time `end`, by Euler's method of the driver."""
  times = jnp.linspace(0.0, end, steps + 1)
  key = jax.random.key(0)  # unused by a deterministic solver
  return samplers.integrate(samplers.euler(), field, x, times, key)


def fixed_fields(key):
  """{flow: its field} of flows without training."""
  target_key, direction_key = jax.random.split(key)
  target = exact(target_key, MANY)
  along = particles.directions(direction_key, 64, 2)
  wide = particles.inverse_multiquadric(1.0)
  return dict(
    zip(
      PLANS,
      (
        particles.sliced_wasserstein(target, along),
        particles.mmd(target, particles.energy),
        particles.mmd(target, wide),
        particles.stein(log_prob),
      ),
      strict=True,
    )
  )


def trainer(loss_fn, num_steps, rate, project=lambda params: params):
  """(params, cloud, key) -> params after Adam on minibatches of the cloud.

  loss_fn: (params, batch [BATCH, 2], key) -> [].
  """
  optimizer = optax.adam(optax.cosine_decay_schedule(rate, num_steps))

  def step(carry, key, cloud):
    params, state = carry
    row_key, loss_key = jax.random.split(key)
    batch = cloud[jax.random.randint(row_key, (BATCH,), 0, len(cloud))]
    grads = jax.grad(loss_fn)(params, batch, loss_key)
    updates, state = optimizer.update(grads, state)
    return (project(optax.apply_updates(params, updates)), state), None

  @jax.jit
  def train(params, cloud, key):
    start = params, optimizer.init(params)
    keys = jax.random.split(key, num_steps)
    body = functools.partial(step, cloud=cloud)
    return jax.lax.scan(body, start, keys)[0][0]

  return train


def by_discriminators(key, x):
  """The cloud after stages of a discriminator and a short flow."""
  stages, length, steps = STAGES["discriminators"]
  net = gan.Discriminator((64, 64))
  game = adversarial.original()
  key, init_key = jax.random.split(key)

  def loss_fn(params, batch, key):
    score = jax.vmap(lambda x: net.apply(params, x))
    real, made = score(exact(key, BATCH)), score(batch)
    return jax.vmap(game.discriminator)(real, made).mean()

  @jax.jit
  def move(params, x):
    field = particles.discriminator(lambda x: net.apply(params, x))
    return flow(field, x, length, 2)

  train = trainer(loss_fn, steps, 3e-3)
  params = net.init(init_key, jnp.zeros(2))
  for stage_key in jax.random.split(key, stages):
    params = train(params, x, stage_key)
    x = move(params, x)
  return x


def by_jko(key, x):
  """The cloud after JKO steps, each the gradient of a convex network."""
  stages, tau, steps = STAGES["JKO steps"]
  net = icnn.ICNN((32, 32), strength=0.01)
  key, init_key = jax.random.split(key)
  energy_fn = lambda x: -log_prob(x)

  def loss_fn(params, batch, key):
    psi = functools.partial(net.apply, params)
    one = lambda x: jko.step(psi, x, energy_fn=energy_fn, tau=tau)
    return jax.vmap(one)(batch).mean()

  @jax.jit
  def move(params, x):
    transport = jax.vmap(jax.grad(functools.partial(net.apply, params)))
    return flow(fields.from_transport_map(transport, x), x, 1.0, 1)

  train = trainer(loss_fn, steps, 3e-3, icnn.nonnegative)
  params = icnn.nonnegative(net.init(init_key, jnp.zeros(2)))
  for stage_key in jax.random.split(key, stages):
    params = train(params, x, stage_key)
    x = move(params, x)
  return x


def judge(key):
  """(x [NUMBER, 2] -> energy distance to exact samples, that of them)."""
  keys = jax.random.split(key, (2, NUM_SETS))
  sets, others = jax.lax.map(
    lambda k: exact(k, NUMBER), keys.reshape(-1)
  ).reshape(2, NUM_SETS, NUMBER, 2)
  each = lambda pair: clouds.energy_distance(*pair)
  of = jax.jit(
    lambda x: jax.lax.map(lambda y: clouds.energy_distance(x, y), sets).mean()
  )
  floor = jax.jit(lambda a, b: jax.lax.map(each, (a, b)))(sets, others)
  return of, np.asarray(floor, np.float64)


def run(args) -> dict:
  """Flows clouds and measures them."""
  del args
  names = "start floor fields discriminators jko".split()
  keys = dict(zip(names, jax.random.split(jax.random.key(0), 5), strict=True))
  distance_of, floors = judge(keys["floor"])
  floor = float(floors.mean())
  x = START_STD * jax.random.normal(keys["start"], (MANY, 2))
  start = float(distance_of(x[:NUMBER]))
  record = dict(machine=runner.machine(), floor=floor, start=start, rows=[])
  record["floor_std"] = float(floors.std())
  calls = {
    name: lambda f=field, n=name: jax.jit(lambda x: flow(f, x, *PLANS[n]))(
      x[:NUMBER]
    )
    for name, field in fixed_fields(keys["fields"]).items()
  }
  calls["discriminators"] = lambda: by_discriminators(keys["discriminators"], x)
  calls["JKO steps"] = lambda: by_jko(keys["jko"], x)
  for name, call in calls.items():
    begun = time.perf_counter()
    made = jax.block_until_ready(call())[:NUMBER]
    seconds = time.perf_counter() - begun
    found = float(distance_of(made))
    row = dict(name=name, distance=found, ratio=found / floor, seconds=seconds)
    record["rows"].append(row)
    print(row, flush=True)
  return record


def tables(record: dict) -> dict:
  """The parts of the page."""
  lines = []
  for r in record["rows"]:
    if r["name"] in PLANS:
      end, steps = PLANS[r["name"]]
      plan = f"{steps} Euler steps to time {end:g}"
    else:
      stages, length, steps = STAGES[r["name"]]
      plan = f"{stages} stages of length {length:g}, {steps} updates each"
    ratio = f"{r['ratio']:.2f}"
    ratio = ratio if r["ratio"] <= GOAL else f"**{ratio}**"
    lines.append(
      (r["name"], plan, f"{r['distance']:.4f}", ratio, f"{r['seconds']:.0f}")
    )
  head = "flow | plan | energy distance | of the floor | seconds"
  met = sum(r["ratio"] <= GOAL for r in record["rows"])
  return dict(
    made=f"`python -m benchmarks particles` on {record['machine']}.",
    floor=f"{record['floor']:.4f} (standard deviation over pairs"
    f" {record['floor_std']:.4f}), that of the start {record['start']:.3f}",
    flows=pages.table(head, lines),
    met=f"At most {GOAL} times the floor: {met} of {len(lines)}.",
  )


BENCHMARKS = {"particles": runner.Benchmark(run, tables)}
