"""What jaxgen's frame costs: its sampler against bare forwards, its train step
against one written by hand.

  python -m benchmarks overhead          about 3 minutes on two CPU cores
  python -m benchmarks loading           about 3 minutes on two CPU cores

loading: a batch is drawn, mirrored where it says so and made float32 in
[-1, 1], in one thread, nothing ahead; the step is that of the preset (digits,
photos) on such batches. Loader and step are timed in turn, in one run.

Every figure is a ratio of times measured in one run, in turn (ours, theirs,
ours, ...); the median over repetitions, with the quartiles beside it.
"""

import dataclasses
import functools
import itertools
import tempfile
import time
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import pages, runner, trained
from jaxgen import fields, levels, paths, predictions, samplers
from jaxgen.data import tfds
from jaxgen.models import mlp, unet

NUM_STEPS = 17
SIGMA_DATA = 0.75
BATCH = 64
QUARTILES = (0.25, 0.5, 0.75)
GOAL = 5  # of the loader, times what a step takes


def in_turn(calls: Iterable[Callable], repeats: int) -> np.ndarray:
  """Seconds of each call, [repeats, calls], in turn and each waited for."""
  calls = list(calls)
  for call in calls:
    jax.block_until_ready((call(), call()))
  seconds = np.zeros((repeats, len(calls)))
  for i in range(repeats):
    for j in np.roll(np.arange(len(calls)), i):
      begun = time.perf_counter()
      jax.block_until_ready(calls[j]())
      seconds[i, j] = time.perf_counter() - begun
  return seconds


def many(call: Callable, inner: int) -> Callable:
  """`inner` calls, the last one's result."""

  def run():
    for _ in range(inner - 1):
      call()
    return call()

  return run


def compared(name: str, seconds: np.ndarray, limit: float) -> dict:
  """A row: the median of the ratios of two columns, and its quartiles."""
  low, ratio, high = np.quantile(seconds[:, 0] / seconds[:, 1], QUARTILES)
  ours, theirs = 1e3 * np.median(seconds, 0)
  found = dict(name=name, ratio=ratio, low=low, high=high, limit=limit)
  return found | dict(ours_ms=ours, theirs_ms=theirs)


def spread(row: dict, digits: int = 3) -> str:
  """The ratio of a row and its quartiles."""
  ratio, low, high = (f"{row[k]:.{digits}f}" for k in ("ratio", "low", "high"))
  return f"{ratio} ({low}-{high})"


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
  seconds = in_turn((sample_all, forwards), repeats)
  title = f"{NUM_STEPS} Heun steps / {2 * NUM_STEPS} forwards, {name}"
  return compared(title, seconds, limit)


def step_by_hand(config, model, sigma_data):
  """The demo's train step without jaxgen's frame: EDM, Adam, EMA, batched."""
  optimizer = trained.training.adam(config)
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
  begin, theirs = step_by_hand(config, method.net, SIGMA_DATA)
  carry = [begin(params)]

  def run_theirs():
    carry[0], loss = theirs(carry[0], *batch)
    return loss

  calls = [many(call, inner) for call in (run_ours, run_theirs)]
  seconds = in_turn(calls, repeats) / inner
  return compared("train step / by hand, U-Net", seconds, 1.03)


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
  lines = [(r["name"], spread(r), *numbers(r)) for r in rows]
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


def load_row(name, config, data, repeats, inner=50):
  """One line of the table: batches/s of the loader, steps/s, their ratio."""
  batch_fn = data.batches(jax.random.key(2), config.batch_size)
  steps = itertools.count()

  def load():
    for _ in range(inner):
      batch_fn(next(steps))

  train = trained.step_call(config, data, init)[0]
  seconds = in_turn((load, train), repeats)
  seconds /= inner, 1
  ratios = np.quantile(seconds[:, 1] / seconds[:, 0], QUARTILES)
  loader, step_rate = 1 / np.median(seconds, 0)
  return dict(
    name=name,
    batch_size=config.batch_size,
    batches_per_second=loader,
    steps_per_second=step_rate,
    **dict(zip(("low", "ratio", "high"), ratios, strict=True)),
  )


def loading(args) -> dict:
  """Digits from memory and row by row from tfds, photos mirrored."""
  demo, repeats = trained.edm.PRESETS["digits"][1], args.repeats
  datasets = trained.datasets
  found = [load_row("digits", demo, datasets.load_data("digits"), repeats)]
  with tempfile.TemporaryDirectory() as data_dir:
    tfds.prepare_digits(data_dir)
    sources = tfds.load("digits", data_dir, memory_limit=0)
    data = datasets.image_data(*sources)
    name = "digits, tfds row by row"
    found.append(load_row(name, demo, data, repeats, inner=5))
  photos = datasets.load_data("photos", flip=True)
  for batch_size in (64, 128):
    preset = trained.edm.PRESETS["photos"][1]
    config = dataclasses.replace(preset, batch_size=batch_size)
    name = "photos 32 x 32 x 3, mirrored"
    found.append(load_row(name, config, photos, repeats))
  return dict(machine=runner.machine(), goal=GOAL, rows=found)


def loading_tables(record: dict) -> dict:
  """The parts of the page."""
  lines = []
  for r in record["rows"]:
    rates = f"{r['batches_per_second']:,.0f}", f"{r['steps_per_second']:.3g}"
    ratio = f"{r['ratio']:,.0f} ({r['low']:,.0f}-{r['high']:,.0f})"
    lines.append((r["name"], r["batch_size"], *rates, ratio))
  return dict(
    made=f"`python -m benchmarks loading` on {record['machine']}.",
    loading=pages.table("data | batch | batches/s | steps/s | ratio", lines),
  )


BENCHMARKS = {
  "overhead": runner.Benchmark(run, tables, dict(repeats=60)),
  "loading": runner.Benchmark(loading, loading_tables, dict(repeats=20)),
}
