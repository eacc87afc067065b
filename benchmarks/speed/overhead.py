"""What jaxgen's frame costs: its sampler against bare forwards, its train step
against one written by hand.

  python -m benchmarks overhead          about 3 minutes on two CPU cores

Every figure is a ratio of times measured in one run, in turn (ours, theirs,
ours, ...); the median over repetitions, with the quartiles beside it.
"""

import functools

import jax
import jax.numpy as jnp
import optax

from benchmarks import pages, runner, trained
from jaxgen import fields, levels, paths, predictions, samplers
from jaxgen.models import mlp, unet

NUM_STEPS = 17
SIGMA_DATA = 0.75
BATCH = 64


def networks(**settings):
  """{name: (model, shape of one example)}: the demo's U-Net and the toy MLP."""
  return {
    "U-Net": (unet.UNet(attention=(4,), **settings), (8, 8, 1)),
    "MLP": (mlp.MLP((128, 128, 128)), (2,)),
  }


def init(model, shape):
  """Parameters of a network, moved off the zeros of its last layers."""
  params = jax.jit(model.init)(jax.random.key(0), jnp.zeros(shape), 0.0)
  return jax.tree.map(lambda p: p + 0.01, params)


def sampler_of(model, path, times):
  """(params, x [B, *D], keys [B]) -> states at the last time, jitted."""

  def one(params, x, key):
    net = lambda x, c: model.apply(params, x, c)
    predict_fn, row = predictions.preconditioned(net, path, SIGMA_DATA)
    field = fields.from_prediction(predict_fn, path, row)
    return samplers.integrate(samplers.heun(), field, x, times, key)

  return jax.jit(jax.vmap(one, in_axes=(None, 0, 0)))


def sampling(name, model, shape, limit, repeats):
  """17 Heun steps beside 34 calls of the jitted network."""
  path = paths.edm()
  times = samplers.grids.karras(path, NUM_STEPS)
  params = init(model, shape)
  x = jax.random.normal(jax.random.key(1), (BATCH, *shape))
  keys = jax.random.split(jax.random.key(2), BATCH)
  sample = sampler_of(model, path, times)
  forward = jax.jit(
    jax.vmap(lambda params, x, c: model.apply(params, x, c), (None, 0, None))
  )
  c = jnp.zeros(())

  def forwards():
    y = x
    for _ in range(2 * NUM_STEPS):
      y = forward(params, y, c)
    return y

  sample_all = lambda: sample(params, x, keys)
  seconds = runner.in_turn((sample_all, forwards), repeats)
  title = f"{NUM_STEPS} Heun steps / {2 * NUM_STEPS} forwards, {name}"
  return runner.compared(title, seconds, limit)


def step_by_hand(config, model, sigma_data):
  """The demo's train step without jaxgen's frame: EDM, Adam, EMA, batched."""
  optimizer = trained.training.make_optimizer(config)
  apply = jax.vmap(
    lambda params, x, c, y: model.apply(params, x, c, y),
    in_axes=(None, 0, 0, 0),
  )

  def loss_fn(params, key, images, labels):
    level_key, noise_key = jax.random.split(key)
    sigma = levels.logit_normal(  # the times of EDM's path are its levels
      level_key,
      paths.edm(),
      (len(images),),
      config.level_mean,
      config.level_std,
    )
    s = sigma[:, None, None, None]
    noisy = images + s * jax.random.normal(noise_key, images.shape)
    scale = jnp.sqrt(s**2 + sigma_data**2)
    out = apply(params, noisy / scale, jnp.log(sigma) / 4, labels)
    skip, gain = sigma_data**2 / scale**2, s * sigma_data / scale
    weight = 1 / gain**2
    return jnp.mean(weight * (skip * noisy + gain * out - images) ** 2)

  @functools.partial(jax.jit, donate_argnums=0)
  def train_step(carry, images, labels):
    i, key, params, opt_state, mean = carry
    loss, grads = jax.value_and_grad(loss_fn)(
      params, jax.random.fold_in(key, i), images, labels
    )
    updates, opt_state = optimizer.update(grads, opt_state, params)
    params = optax.apply_updates(params, updates)
    decay = jnp.minimum(config.ema_decay[0], (1.0 + i) / (10.0 + i))
    mean = jax.tree.map(lambda m, p: m + (1 - decay) * (p - m), mean, params)
    return (i + 1, key, params, opt_state, mean), loss

  def start(params):
    copy = functools.partial(jax.tree.map, jnp.copy)
    i, key = jnp.zeros((), jnp.int32), jax.random.key(0)
    return i, key, copy(params), optimizer.init(params), copy(params)

  return start, train_step


def train_step(repeats, inner):
  """The demo's step through jaxgen beside the one written by hand."""
  data = trained.datasets.load_data("digits")
  config = trained.edm.Config(
    run_dir="", sigma_data=SIGMA_DATA, batch_size=BATCH
  )
  run_ours, method, params = trained.step_call(config, data, init)
  batch = jax.device_put(data.batches(jax.random.key(0), BATCH)(0))
  begin, theirs = step_by_hand(config, method.model, SIGMA_DATA)
  carry = [begin(params)]

  def run_theirs():
    carry[0], loss = theirs(carry[0], *batch)
    return loss

  calls = [runner.many(call, inner) for call in (run_ours, run_theirs)]
  seconds = runner.in_turn(calls, repeats) / inner
  return runner.compared("train step / by hand, U-Net", seconds, 1.03)


def temporaries():
  """Bytes that the compiled sampler holds besides its inputs, per N."""
  model, shape = networks()["U-Net"]
  path, found = paths.edm(), {}
  params = init(model, shape)
  x = jnp.zeros((BATCH, *shape))
  keys = jax.random.split(jax.random.key(0), BATCH)
  for num_steps in (16, 64, 256):
    times = samplers.grids.karras(path, num_steps)
    compiled = sampler_of(model, path, times).lower(params, x, keys).compile()
    found[num_steps] = compiled.memory_analysis().temp_size_in_bytes
  return found


def run(args) -> dict:
  """Measures."""
  (unet_model, unet_shape), (mlp_model, mlp_shape) = networks().values()
  rows = [
    sampling("U-Net", unet_model, unet_shape, 1.02, args.repeats),
    sampling("MLP", mlp_model, mlp_shape, 1.0, 5 * args.repeats),
    train_step(args.repeats, inner=10),
  ]
  return dict(machine=runner.machine(), rows=rows, temporaries=temporaries())


def beside(rows, head: str) -> list[str]:
  """The table of rows of two times."""
  numbers = lambda r: [f"{r[k]:.2f}" for k in ("limit", "ours_ms", "theirs_ms")]
  lines = [(r["name"], runner.spread(r), *numbers(r)) for r in rows]
  return pages.table(head, lines)


def tables(record: dict) -> dict:
  """The parts of the page."""
  memory = record["temporaries"].items()
  head = "ours / theirs | ratio | goal | ours, ms | theirs, ms"
  return dict(
    made=f"`python -m benchmarks overhead` on {record['machine']}.",
    ratios=beside(record["rows"], head),
    temporaries=[f"- {n} steps: {size:,} bytes" for n, size in memory],
  )


BENCHMARKS = {"overhead": runner.Benchmark(run, tables, dict(repeats=60))}
