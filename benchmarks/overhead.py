"""What the frame costs: our sampler against bare forwards, our train step
against one written by hand.

  python -m benchmarks.overhead          about 3 minutes on two CPU cores

Every figure is a ratio of times measured in one run, in turn (ours, theirs,
ours, ...); the median over repetitions, with the quartiles beside it. Writes
docs/results/overhead.md and overhead.json.
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import results
from experiments import edm
from experiments.lib import build, datasets, training
from jaxgen import fields, levels, paths, predictions, samplers
from jaxgen.models import mlp, unet
from jaxgen.training import state, step

NUM_STEPS = 17
SIGMA_DATA = 0.75
BATCH = 64


def networks():
  """{name: (model, shape of one example)}: the demo's U-Net and the toy MLP."""
  return {
    "U-Net": (unet.UNet(attention=(4,)), (8, 8, 1)),
    "MLP": (mlp.MLP((128, 128, 128)), (2,)),
  }


def paired(ours, theirs, repeats):
  """Seconds of each, [repeats, 2], called in turn and each waited for."""
  jax.block_until_ready((ours(), theirs()))
  seconds = np.zeros((repeats, 2))
  for i in range(repeats):
    for j in (0, 1) if i % 2 else (1, 0):
      begun = time.perf_counter()
      jax.block_until_ready((ours, theirs)[j]())
      seconds[i, j] = time.perf_counter() - begun
  return seconds


def row(name, seconds, limit):
  """One line of the table: the median of ratios and its quartiles."""
  low, ratio, high = np.quantile(
    seconds[:, 0] / seconds[:, 1], [0.25, 0.5, 0.75]
  )
  ours, theirs = 1e3 * np.median(seconds, 0)
  return dict(
    name=name,
    ratio=ratio,
    low=low,
    high=high,
    limit=limit,
    ours_ms=ours,
    theirs_ms=theirs,
  )


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

  seconds = paired(lambda: sample(params, x, keys), forwards, repeats)
  title = f"{NUM_STEPS} Heun steps / {2 * NUM_STEPS} forwards, {name}"
  return row(title, seconds, limit)


def step_by_hand(config, model, sigma_data):
  """The demo's train step without jaxgen's frame: EDM, Adam, EMA, batched."""
  optimizer = training.make_optimizer(config)
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
  data = datasets.load_data("digits")
  config = edm.Config(run_dir="", sigma_data=SIGMA_DATA, batch_size=BATCH)
  method = build.method(config, data)
  params = init(method.model, data.shape)
  batch = jax.device_put(data.batches(jax.random.key(0), BATCH)(0))
  turns = training.make_turns(config, edm.make_loss(config, method, data))
  ours = step.make_train_step(turns)
  begin, theirs = step_by_hand(config, method.model, SIGMA_DATA)
  carries = [
    state.init(jax.random.key(0), {"model": params}, turns),
    begin(params),
  ]

  def run_ours():
    for _ in range(inner):
      carries[0], metrics = ours(carries[0], {"model": batch})
    return metrics["loss"]

  def run_theirs():
    for _ in range(inner):
      carries[1], loss = theirs(carries[1], *batch)
    return loss

  seconds = paired(run_ours, run_theirs, repeats) / inner
  return row("train step / by hand, U-Net", seconds, 1.03)


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


def page(record):
  """The results page."""
  lines = [
    "# Overhead",
    "",
    f"`python -m benchmarks.overhead` on {record['machine']}.",
    f"Batch {BATCH}; ratios within one run, median (quartiles) of interleaved",
    "repetitions.",
    "",
    "| ours / theirs | ratio | goal | ours, ms | theirs, ms |",
    "|---|---|---|---|---|",
  ]
  for r in record["rows"]:
    lines.append(
      f"| {r['name']} | {r['ratio']:.3f} ({r['low']:.3f}-{r['high']:.3f}) |"
      f" {r['limit']:.2f} | {r['ours_ms']:.2f} | {r['theirs_ms']:.2f} |"
    )
  lines += ["", "Temporaries of the compiled U-Net sampler (Heun):", ""]
  memory = record["temporaries"].items()
  lines += [f"- {n} steps: {size:,} bytes" for n, size in memory]
  return "\n".join(lines) + "\n"


def main():
  """Measures, prints and writes."""
  args = results.parser(__doc__, repeats=60).parse_args()
  (unet_model, unet_shape), (mlp_model, mlp_shape) = networks().values()
  rows = [
    sampling("U-Net", unet_model, unet_shape, 1.02, args.repeats),
    sampling("MLP", mlp_model, mlp_shape, 1.0, 5 * args.repeats),
    train_step(args.repeats, inner=10),
  ]
  record = dict(machine=results.machine(), rows=rows, temporaries=temporaries())
  results.write(args.out, "overhead", page(record), record)


if __name__ == "__main__":
  main()
