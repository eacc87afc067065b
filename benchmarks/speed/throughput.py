"""Train step and forward of our networks, beside torch eager and in images/s.

  pip install -r benchmarks/requirements.txt          # for torch's columns
  python -m benchmarks throughput                     # about 6 minutes

On a CPU: the networks of the presets digits and digits-dit beside the same ones
in torch (benchmarks/peers/torch_networks.py), weights copied across, outputs
compared. Both use all cores and are called in turn within one process: as it
is; with glibc's allocator told to keep large blocks; and with JAX's CPU divided
into a device a core besides, over which a batch is split. On an accelerator:
images/s, share of the matrix product's measured peak, memory.
"""

import argparse
import dataclasses
import importlib.metadata
import importlib.util
import itertools
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import pages, runner, trained
from benchmarks.speed import overhead
from jaxgen.models import unet
from jaxgen.training import sharding, state, step

GOAL = 1.0
TOLERANCE = 1e-4
PRESETS = {"U-Net": "digits", "DiT": "digits-dit"}
BATCHES = (64, 128)
ALLOCATOR = {
  "MALLOC_MMAP_THRESHOLD_": "4000000000",
  "MALLOC_TRIM_THRESHOLD_": "4000000000",
  "MALLOC_TOP_PAD_": "500000000",
}
DEVICES = "JAX_NUM_CPU_DEVICES"


def settings(preset, batch_size, **changes):
  """The preset's configuration, its data's statistics pinned."""
  config = trained.edm.PRESETS[preset][1]
  changes |= dict(run_dir="", sigma_data=0.75, batch_size=batch_size)
  return dataclasses.replace(config, **changes)


def random_batch(shape, num_classes, size):
  """Images [B, H, W, C], noise levels [B] and labels [B], as NumPy has them."""
  rng = np.random.default_rng(0)
  images = rng.normal(size=(size, *shape)).astype("float32")
  t = rng.normal(size=size).astype("float32")
  return images, t, rng.integers(0, num_classes, size).astype("int32")


def init(model, shape):
  """Parameters moved off the zeros that networks start with."""
  params = jax.jit(model.init)(jax.random.key(0), jnp.zeros(shape), 0.0)
  rng = np.random.default_rng(0)
  move = lambda p: p + 0.03 * rng.normal(size=p.shape).astype("float32")
  return jax.tree.map(move, params)


def ours(config, data, params, batch):
  """{work: (jitted function, its arguments)}, the step as experiments.edm's.

  Batches are split over all devices, as the experiments do.
  """
  config, method, turns = trained.prepare(config, data)
  mesh = sharding.mesh()
  start = state.init(jax.random.key(0), {"model": params}, turns)
  places = sharding.shardings(start, mesh, sharding.replicate)
  start, params = jax.device_put((start, params), sharding.whole(mesh))
  images, t, labels = jax.device_put(batch, sharding.split(mesh))
  forward = jax.jit(jax.vmap(method.net.apply, (None, 0, 0, 0)))
  train_step = step.make_train_step(turns, places)
  return dict(
    step=(train_step, (start, {"model": (images, labels)})),
    forward=(forward, (params, images, t, labels)),
  )


def calling(work, program, arguments):
  """() -> the result; a step goes on from the state that the last one left."""
  if work == "forward":
    return lambda: program(*arguments)
  carry = list(arguments)

  def run():
    carry[0], metrics = program(*carry)
    return metrics["loss"]

  return run


def theirs(config, model, shape, params, batch):
  """The same in torch, in the faster layout: its output, {work: call}."""
  import torch

  from benchmarks.peers import torch_networks

  torch.set_num_threads(len(os.sched_getaffinity(0)))
  images, t, labels = (torch.from_numpy(value) for value in batch)

  def calls(layout):
    is_unet = isinstance(model, unet.UNet)
    kind = torch_networks.UNet if is_unet else torch_networks.DiT
    net = torch_networks.load(kind(model, shape), params)
    net = net.to(memory_format=layout)
    output = net(images, t, labels).detach().numpy()
    forward = torch.inference_mode()(lambda: net(images, t, labels))
    train_step = torch_networks.train_step(net, config, images, labels)
    return output, dict(step=train_step, forward=forward)

  layouts = torch.contiguous_format, torch.channels_last
  return min(map(calls, layouts), key=lambda pair: seconds(pair[1]["step"], 10))


def seconds(call, repeats):
  """Of one call, the median."""
  return float(np.median(overhead.in_turn([call], repeats)))


def side_by_side(repeats, inner):
  """Rows of the CPU's table, in this process."""
  has_torch = importlib.util.find_spec("torch") is not None
  data, rows = trained.datasets.load_data("digits"), []
  for (name, preset), size in itertools.product(PRESETS.items(), BATCHES):
    config = settings(preset, size)
    model = trained.networks.make(config, data)
    params = init(model, data.shape)
    batch = random_batch(data.shape, data.num_classes, size)
    programs = ours(config, data, params, batch)
    mine = {work: calling(work, *pair) for work, pair in programs.items()}
    if has_torch:
      output, peer = theirs(config, model, data.shape, params, batch)
      require_equal(name, np.asarray(mine["forward"]()), output)
    for work, call in mine.items():
      title, call = f"{name}, {work}, batch {size}", overhead.many(call, inner)
      if has_torch:
        calls = call, overhead.many(peer[work], inner)
        times = overhead.in_turn(calls, repeats)
        rows.append(overhead.compared(title, times / inner, GOAL))
      else:
        milliseconds = 1e3 * seconds(call, repeats) / inner
        rows.append(dict(name=title, ours_ms=milliseconds))
  return rows


def require_equal(name, mine, output):
  """Rejects networks that do not compute the same, before they are timed."""
  gap = np.abs(mine - output).max() / np.abs(output).max()
  if not gap < TOLERANCE:
    raise ValueError(f"{name}: expected torch's outputs, got {gap:.1e} off")


def measured_peak(dtype, size):
  """FLOP/s of a product of two square matrices."""
  a = jnp.ones((size, size), dtype)
  multiply = jax.jit(lambda a, b: a @ b)
  return 2 * size**3 / seconds(lambda: multiply(a, a), 20)


def accelerated(scale=1):
  """Rows of the accelerator's table; scale divides the sizes, for trials."""
  unread = None, None  # batches, one example
  pixels = trained.datasets.Data((32, 32, 3), 10, 0.5, *unread)
  latents = trained.datasets.Data((32, 32, 4), 1000, 0.5, *unread)
  base = dict(model="dit", width=768 // scale, num_blocks=12, num_heads=12)
  base |= dict(patch=2, learning_rate=1e-4)
  thin = dict(width=128 // scale)
  half = dict(dtype="bfloat16")
  cases = [
    ("EDM U-Net, float32", "cifar10", pixels, thin),
    ("EDM U-Net, bfloat16", "cifar10", pixels, thin | half),
    ("DiT-B/2, float32", "digits", latents, base),
    ("DiT-B/2, bfloat16", "digits", latents, base | half),
  ]
  if jax.default_backend() == "gpu":
    fused = dict(attention_implementation="cudnn")
    row = ("DiT-B/2, bfloat16, cuDNN", "digits", latents, base | half | fused)
    cases.append(row)
  peaks = {
    name: measured_peak(name, 8192 // scale) for name in ("float32", "bfloat16")
  }
  rows = []
  for title, preset, data, changes in cases:
    size = 256 // scale
    config = settings(preset, size, **changes)
    params = init(trained.networks.make(config, data), data.shape)
    batch = random_batch(data.shape, data.num_classes, size)
    for work, pair in ours(config, data, params, batch).items():
      lowered = pair[0].lower(*pair[1])
      compiled = lowered.compile()
      took = seconds(calling(work, compiled, pair[1]), 20)
      memory = compiled.memory_analysis()
      rows.append(
        dict(
          name=f"{title}, {work}, batch {size}",
          images=size / took,
          share=lowered.cost_analysis()["flops"] / took / peaks[config.dtype],
          bytes=memory.temp_size_in_bytes + memory.argument_size_in_bytes,
        )
      )
  stats = jax.devices()[0].memory_stats() or {}
  return dict(rows=rows, peaks=peaks, peak_bytes=stats.get("peak_bytes_in_use"))


def in_process_of_its_own(arguments, variables):
  """side_by_side of a fresh Python with these variables set."""
  own = ALLOCATOR.keys() | {DEVICES}
  bare = {k: v for k, v in os.environ.items() if k not in own}
  words = ["-m", "benchmarks", "throughput", "--rows", *arguments]
  settings = dict(env=bare | variables, stdout=subprocess.PIPE, check=True)
  done = subprocess.run([sys.executable, *words], **settings)
  return json.loads(done.stdout)


def run(args) -> dict | None:
  """Measures; with --rows, prints the rows of this process."""
  if args.rows:
    print(json.dumps(side_by_side(args.repeats, args.inner)))
    return None
  found, counts = {}, [f"--repeats={args.repeats}", f"--inner={args.inner}"]
  cores, on_cpu = len(os.sched_getaffinity(0)), jax.default_backend() == "cpu"
  if on_cpu:
    for variables in ({}, ALLOCATOR, ALLOCATOR | {DEVICES: str(cores)}):
      name = " ".join(f"{k}={v}" for k, v in variables.items()) or "none"
      found[name] = in_process_of_its_own(counts, variables)
  has_torch = importlib.util.find_spec("torch") is not None
  version = importlib.metadata.version("torch") if has_torch else "none"
  return dict(
    machine=f"{runner.machine()}, torch {version}",
    side_by_side=found,
    accelerated=None if on_cpu else accelerated(),
  )


def _beside_torch(found):
  """A table for each setting of the environment's variables."""
  lines = []
  for variables, rows in found.items():
    lines += ["", f"Variables of the environment: `{variables}`", ""]
    if "ratio" not in rows[0]:
      times = [(r["name"], f"{r['ours_ms']:.2f}") for r in rows]
      lines += pages.table("network | ms", times)
      lines += ["", "torch is not installed: its columns are left out."]
      continue
    head = "ours / torch | ratio | goal | ours, ms | torch, ms"
    lines += overhead.beside(rows, head)
    slower = [r["name"] for r in rows if r["ratio"] > r["limit"]]
    if slower:
      lines += ["", f"Slower than torch: {'; '.join(slower)}."]
  return lines[1:]


def _accelerator(found):
  """The accelerator's table, and the peaks that it is compared with."""
  lines = []
  for r in found["rows"]:
    cells = f"{r['images']:,.0f}", f"{r['share']:.2f}"
    lines.append((r["name"], *cells, f"{r['bytes'] / 2**30:.1f}"))
  peaks = ", ".join(f"{k} {v / 1e12:.1f}" for k, v in found["peaks"].items())
  return [
    *pages.table("network | images/s | share of peak | GiB", lines),
    "",
    f"Peak of a matrix product, TFLOP/s: {peaks}. Share: XLA's count of the",
    "program's operations before optimisation, over time, over that peak. GiB:",
    "arguments and temporaries of the program.",
  ]


def tables(record: dict) -> dict:
  """The parts of the page."""
  found, absent = record["accelerated"], "Not measured: no accelerator."
  return dict(
    made=f"`python -m benchmarks throughput` on {record['machine']}.",
    cpu=_beside_torch(record["side_by_side"]),
    accelerator=_accelerator(found) if found else absent,
  )


def flags(parser) -> None:
  """--rows, of a process that this benchmark starts."""
  parser.add_argument("--rows", action="store_true", help=argparse.SUPPRESS)


BENCHMARKS = {
  "throughput": runner.Benchmark(run, tables, dict(repeats=25, inner=4), flags)
}
