"""Wall time to a validation loss, compilation included, beside torch.

  pip install -r benchmarks/requirements.txt
  python -m benchmarks time_to_loss                   # about 15 minutes

The demo (`experiments.edm digits`) and the same training in torch, eager and by
torch.compile: the same network, initial weights, batches, schedule, Adam (fused
in torch), average and distribution of the noise. Each training is a process of
its own with all cores; ours runs twice, without compiled programs and with
those that its first run has cached, as the commands do; torch.compile without.
Its clock starts when imports are done and data are loaded, before the first
program is compiled (torch's also after its networks are built, with our initial
weights), and stands still while the validation loss is evaluated, which is that
of the averaged parameters with the same noise and levels in both libraries.
"""

import argparse
import dataclasses
import functools
import json
import os
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
import optax
from scipy import stats

from benchmarks import pages, runner, trained
from benchmarks.speed import timing
from jaxgen.data import loaders
from jaxgen.training import ema, sharding, state, step

STEP = 1500  # of the demo, whose validation loss is the one to reach
EVERY = 50  # steps between evaluations
DRAWS = 16  # of noise for each validation image
OURS = "jaxgen, first run", "jaxgen, second run"  # with the first's programs
SYSTEMS = (*OURS, "torch eager", "torch.compile")


def demo(seed: int):
  """(the demo's configuration, its model, its turns, the data)."""
  config = trained.edm.PRESETS["digits"][1]
  config = dataclasses.replace(config, run_dir="", seed=seed)
  trained.machine.prepare(config, vars(config))
  data = trained.datasets.load_data(config.data)
  return *trained.prepare(config, data), data


def held_out(config, data):
  """(inputs [N, *D], conditioning [N], labels [N], targets [N, *D])."""
  images, labels = (np.repeat(a, DRAWS, 0) for a in data.split("validation"))
  rng = np.random.default_rng(0)
  ends = np.log([config.ratio_min, config.ratio_max])
  ends = (ends - config.level_mean) / config.level_std
  z = stats.truncnorm.rvs(*ends, size=len(images), random_state=rng)
  z = config.level_mean + config.level_std * z
  sigma, sd = np.exp(z)[:, None, None, None], config.sigma_data
  noisy = images + sigma * rng.normal(size=images.shape)
  scale = np.sqrt(sigma**2 + sd**2)
  target = scale / (sigma * sd) * images - sd / (sigma * scale) * noisy
  single = lambda x: np.asarray(x, np.float32)
  return single(noisy / scale), single(z / 4), labels, single(target)


def host_batches(config, data):
  """step -> (images, labels), arrays of NumPy."""
  keys = trained.split_keys(jax.random.key(config.seed))
  return data.batches(keys.batches, config.batch_size)


def ours(config, model, turns, data):
  """(step number -> None, () -> validation loss)."""
  keys, mesh = trained.split_keys(jax.random.key(config.seed)), sharding.mesh()
  start = lambda: state.init(
    keys.state, {"model": model.init(keys.players)}, turns
  )
  places = sharding.shardings(jax.eval_shape(start), mesh, sharding.replicate)
  options = trained.machine.compiler_options
  how = dict(out_shardings=places, compiler_options=options(config, 0))
  carry = [jax.jit(start, **how)()]
  train_step = step.make_train_step(turns, places, options(config))
  place = lambda batch: {"model": jax.device_put(batch, sharding.split(mesh))}
  batch_fn = loaders.prefetch(host_batches(config, data), place)
  *given, target = held_out(config, data)
  forward = sharding.spread(jax.vmap(model.net.apply, (None, 0, 0, 0)), mesh)

  def train(number):
    carry[0], metrics = train_step(carry[0], batch_fn(number))
    if (number + 1) % EVERY == 0:
      jax.block_until_ready(metrics)

  def loss():
    (params,) = carry[0].players["model"].ema.values()
    return float(np.square(np.asarray(forward(params, *given)) - target).mean())

  return train, loss


def theirs(config, model, data, compiled: bool):
  """The same in torch; initial weights are ours."""
  import torch

  from benchmarks.peers import torch_networks

  torch.set_num_threads(len(os.sched_getaffinity(0)))
  torch.manual_seed(config.seed)
  keys = trained.split_keys(jax.random.key(config.seed))
  params = jax.jit(model.init)(keys.players)
  layout = dict(memory_format=torch.channels_last)
  net = torch_networks.UNet(model.net, data.shape)
  net = torch_networks.load(net, params).to(**layout)
  frozen = torch_networks.UNet(model.net, data.shape).to(**layout)
  one_step, means = torch_networks.trainer(net, config)
  tensors = lambda arrays: tuple(map(torch.from_numpy, map(np.array, arrays)))
  batch_fn = loaders.prefetch(host_batches(config, data), tensors)
  *given, target = tensors(held_out(config, data))
  rule = ema.warmup(config.ema_decay[0])
  count = np.arange(config.num_steps)
  rates = optax.warmup_cosine_decay_schedule(
    0.0, config.learning_rate, config.warmup_steps, config.num_steps
  )
  rates, shares = (np.asarray(fn(count)).tolist() for fn in (rates, rule))
  if compiled:
    net.compile()

  def train(number):
    one_step(*batch_fn(number), rates[number], shares[number])

  @torch.inference_mode()
  def loss():
    for p, mean in zip(frozen.parameters(), means, strict=True):
      p.copy_(mean)
    return float((frozen(*given) - target).square().mean())

  return train, loss


def curve(args) -> list[tuple[int, float, float]]:
  """(steps, seconds, validation loss) of one training, in this process.

  It ends when the loss is at most args.target; without a target, at STEP.
  """
  config, model, turns, data = demo(args.seed)
  if args.system in OURS:
    begun = time.perf_counter()
    train, loss = ours(config, model, turns, data)
  else:
    train, loss = theirs(config, model, data, args.system == SYSTEMS[-1])
    begun = time.perf_counter()
  paused, found = 0.0, []
  for number in range(config.num_steps if args.target else STEP):
    train(number)
    if (number + 1) % EVERY == 0:
      now = time.perf_counter()
      found.append((number + 1, now - begun - paused, loss()))
      paused += time.perf_counter() - now
      if args.target and found[-1][2] <= args.target:
        break
  return found


def in_process_of_its_own(folder: str, system: str, seed: int, target=0.0):
  """The curve of a training in a new process, which caches in a folder."""
  own = {*trained.machine.MALLOPT, "JAX_NUM_CPU_DEVICES", "XLA_FLAGS"}
  bare = {k: v for k, v in os.environ.items() if k not in own}
  command = [sys.executable, "-m", "benchmarks", "time_to_loss"]
  command += [f"--system={system}", f"--seed={seed}", f"--target={target!r}"]
  bare |= dict(XDG_CACHE_HOME=folder, TORCHINDUCTOR_CACHE_DIR=folder)
  done = subprocess.run(command, env=bare, stdout=subprocess.PIPE, check=True)
  return json.loads(done.stdout.splitlines()[-1])


def run(args) -> dict | None:
  """Trains all systems; with --system, prints the curve of this process."""
  if args.system:
    print(json.dumps(curve(args)))
    return None
  systems = SYSTEMS if timing.version("torch") else OURS
  rows = []
  for seed in range(args.seeds):
    with tempfile.TemporaryDirectory() as folder:
      train = functools.partial(in_process_of_its_own, folder)
      first = train(OURS[0], seed)
      target = first[-1][2]
      others = {name: train(name, seed, target) for name in systems[1:]}
    curves = {OURS[0]: first} | others
    rows.append(dict(seed=seed, target=target, curves=curves))
  return dict(
    machine=runner.machine(), torch=timing.version("torch"), rows=rows
  )


def reached(found, target: float):
  """(steps, seconds) at the first loss that is at most the target, or None."""
  return next((tuple(row[:2]) for row in found if row[2] <= target), None)


def cells(row: dict):
  """A line of the table for each system of a seed."""
  mine = reached(row["curves"][OURS[0]], row["target"])
  for system, found in row["curves"].items():
    at = reached(found, row["target"])
    first = row["seed"], f"{row['target']:.4f}", system
    (start, begun, _), (end, ended, last) = found[0], found[-1]
    later = 1e3 * (ended - begun) / (end - start)
    parts = f"{begun:.1f}", f"{later:.1f}"
    if at is None:
      yield *first, f"not in {end} ({last:.4f})", f"{ended:.1f}", *parts, ""
    else:
      ratio = f"{mine[1] / at[1]:.2f}"
      yield *first, at[0], f"{at[1]:.1f}", *parts, ratio


def tables(record: dict) -> dict:
  """The parts of the page."""
  rows = [line for row in record["rows"] for line in cells(row)]
  head = "seed | validation loss | system | steps | seconds | the first 50"
  head += " | ms a later step | first run / this"
  said = f"`python -m benchmarks time_to_loss` on {record['machine']}"
  return dict(
    made=f"{said}, torch {record['torch'] or 'not installed'}.",
    seconds=pages.table(head, rows),
  )


def flags(parser) -> None:
  """Adds flags for the processes that this benchmark starts."""
  hidden = dict(help=argparse.SUPPRESS)
  parser.add_argument("--system", choices=SYSTEMS, **hidden)
  parser.add_argument("--seed", type=int, **hidden)
  parser.add_argument("--target", type=float, **hidden)


BENCHMARKS = {
  "time_to_loss": runner.Benchmark(run, tables, dict(seeds=3), flags)
}
