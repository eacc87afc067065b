"""What jaxgen costs beside bare code: its sampler against forward passes alone,
its train step against one written by hand, its loader against the train step.

  python -m benchmarks overhead          about 3 minutes on two CPU cores
  python -m benchmarks loading           about 3 minutes on two CPU cores

loading: one thread makes each batch when it is asked for: it samples images,
mirrors them where the row says so and scales them to float32 in [-1, 1]. The
step is that of the preset (digits, photos) on such batches.

benchmarks/speed/timing.py says what the figures are.
"""

import dataclasses
import functools
import itertools
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import pages, runner, trained
from benchmarks.speed import timing
from jaxgen import fields, levels, paths, predictions, samplers
from jaxgen.data import tfds
from jaxgen.models import mlp, unet
from jaxgen.training import state, step

NUM_STEPS = 17
SIGMA_DATA = 0.75
BATCH = 64
GOAL = 5  # batches that the loader is to make during a step


def networks(**settings):
  """{name: (model, shape of one example)}: the demo's U-Net and the toy MLP."""
  return {
    "U-Net": (unet.UNet(attention=(4,), **settings), (8, 8, 1)),
    "MLP": (mlp.MLP((128, 128, 128)), (2,)),
  }


def init(model, shape):
  """Parameters of a network, not at the zeros of its last layers."""
  params = jax.jit(model.init)(jax.random.key(0), jnp.zeros(shape), 0.0)
  return jax.tree.map(lambda p: p + 0.01, params)


def step_call(config, data):
  """(() -> the loss of one more step of experiments.edm, model, parameters)."""
  config, model, turns = trained.prepare(config, data)
  params = init(model.net, data.shape)
  batch = data.batches(jax.random.key(0), config.batch_size)(0)
  start = state.init(jax.random.key(1), {"model": params}, turns)
  train_step = step.make_train_step(turns)
  call = timing.stepping(train_step, start, {"model": jax.device_put(batch)})
  return call, model, params


def sampler_of(model, path, times):
  """(params, x [B, *D], keys [B]) -> states at the last time, jitted."""

  def one(params, x, key):
    net = lambda x, c: model.apply(params, x, c)
    predict_fn, row = predictions.preconditioned(net, path, SIGMA_DATA)
    field = fields.from_prediction(predict_fn, path, row)
    return samplers.integrate(samplers.heun(), field, x, times, key)

  return jax.jit(jax.vmap(one, in_axes=(None, 0, 0)))


def sampling(name, limit, repeats):
  """17 Heun steps beside 34 calls of the jitted network."""
  model, shape = networks()[name]
  path = paths.edm()
  params = init(model, shape)
  x = jax.random.normal(jax.random.key(1), (BATCH, *shape))
  keys = jax.random.split(jax.random.key(2), BATCH)
  sample = sampler_of(model, path, samplers.grids.karras(path, NUM_STEPS))
  forward = jax.jit(jax.vmap(model.apply, (None, 0, None)))

  def forwards():
    y = x
    for _ in range(2 * NUM_STEPS):
      y = forward(params, y, jnp.zeros(()))
    return y

  title = f"{NUM_STEPS} Heun steps / {2 * NUM_STEPS} forwards, {name}"
  ours = lambda: sample(params, x, keys)
  return timing.beside(title, ours, forwards, repeats, limit=limit)


def step_by_hand(config, model, sigma_data):
  """The demo's train step without jaxgen's losses and games, on batches."""
  optimizer = trained.training.adam(config)
  apply = jax.vmap(model.apply, in_axes=(None, 0, 0, 0))

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


def demo_step(repeats):
  """The demo's step through jaxgen beside the one written by hand."""
  data = trained.datasets.load_data("digits")
  config = trained.edm.Config(
    run_dir="", sigma_data=SIGMA_DATA, batch_size=BATCH
  )
  ours, method, params = step_call(config, data)
  batch = jax.device_put(data.batches(jax.random.key(0), BATCH)(0))
  begin, by_hand = step_by_hand(config, method.net, SIGMA_DATA)
  carry = [begin(params)]

  def theirs():
    carry[0], loss = by_hand(carry[0], *batch)
    return loss

  name = "train step / by hand, U-Net"
  return timing.beside(name, ours, theirs, repeats, inner=10, limit=1.03)


def temporaries():
  """{steps: bytes that the compiled sampler holds besides its inputs}."""
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
  """Measures the ratios and the memory."""
  rows = [
    sampling("U-Net", 1.02, args.repeats),
    sampling("MLP", 1.0, 5 * args.repeats),
    demo_step(args.repeats),
  ]
  return dict(machine=runner.machine(), rows=rows, temporaries=temporaries())


def tables(record: dict) -> dict:
  """The parts of the page."""
  memory = record["temporaries"].items()
  head = "ours / theirs | ratio | goal | ours, ms | theirs, ms"
  return dict(
    made=f"`python -m benchmarks overhead` on {record['machine']}.",
    ratios=timing.ratios(record["rows"], head),
    temporaries=[f"- {n} steps: {size:,} bytes" for n, size in memory],
  )


def load_row(name, config, data, repeats, inner=50):
  """A row: batches/s of the loader, steps/s, their ratio."""
  batch_fn = data.batches(jax.random.key(2), config.batch_size)
  steps = itertools.count()
  load = timing.many(lambda: batch_fn(next(steps)), inner)
  seconds = timing.in_turn((load, step_call(config, data)[0]), repeats)
  seconds /= inner, 1
  low, ratio, high = np.quantile(
    seconds[:, 1] / seconds[:, 0], timing.QUARTILES
  )
  loader, step_rate = 1 / np.median(seconds, 0)
  found = dict(name=name, batch_size=config.batch_size)
  found |= dict(batches_per_second=loader, steps_per_second=step_rate)
  return found | dict(low=low, ratio=ratio, high=high)


def loading(args) -> dict:
  """Digits from memory, digits row by row from tfds, and photos mirrored."""
  datasets, presets = trained.datasets, trained.edm.PRESETS
  demo, photo = presets["digits"][1], presets["photos"][1]
  in_memory = datasets.load_data("digits")
  rows = [load_row("digits", demo, in_memory, args.repeats)]
  with tempfile.TemporaryDirectory() as data_dir:
    tfds.prepare_digits(data_dir)
    sources = tfds.load("digits", data_dir, memory_limit=0)
    data = datasets.image_data(*sources)
    name = "digits, tfds row by row"
    rows.append(load_row(name, demo, data, args.repeats, inner=5))
  photos = datasets.load_data("photos", flip=True)
  for batch_size in (64, 128):
    config = dataclasses.replace(photo, batch_size=batch_size)
    name = "photos 32 x 32 x 3, mirrored"
    rows.append(load_row(name, config, photos, args.repeats))
  return dict(machine=runner.machine(), goal=GOAL, rows=rows)


def loading_tables(record: dict) -> dict:
  """The parts of the page."""
  lines = []
  for r in record["rows"]:
    rates = f"{r['batches_per_second']:,.0f}", f"{r['steps_per_second']:.3g}"
    lines.append(
      (r["name"], r["batch_size"], *rates, timing.ratio_of(r, ",.0f"))
    )
  return dict(
    made=f"`python -m benchmarks loading` on {record['machine']}.",
    loading=pages.table("data | batch | batches/s | steps/s | ratio", lines),
  )


BENCHMARKS = {
  "overhead": runner.Benchmark(run, tables, dict(repeats=60)),
  "loading": runner.Benchmark(loading, loading_tables, dict(repeats=20)),
}
