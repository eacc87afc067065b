"""Train step, forward and samples, beside torch eager and in images/s.

  pip install -r benchmarks/requirements.txt          # for torch's columns
  python -m benchmarks throughput                     # about 8 minutes

On a CPU: the networks of the presets digits and digits-dit beside the same ones
in torch (benchmarks/peers/torch_networks.py), with the same weights and equal
outputs. Both use all cores and are called in turn within one process, twice: as
the commands run (experiments/lib/machine.py), and with --no-tune-cpu. Samples
are 360 digits by 17 Heun steps, in torch by k-diffusion. On an accelerator:
images/s, share of the measured peak of a matrix product, memory.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import pages, runner, trained
from benchmarks.speed import timing
from jaxgen.models import unet
from jaxgen.training import sharding, state, step

GOAL = 1.0
TOLERANCE = 1e-4
PRESETS = {"U-Net": "digits", "DiT": "digits-dit"}
BATCHES = (64, 128)
SAMPLES = 360
# Variables of the environment that would replace the commands' own settings.
OWN = {*trained.machine.MALLOPT, "JAX_NUM_CPU_DEVICES", "XLA_FLAGS"}


def settings(preset, batch_size, **changes):
  """The preset's configuration, at a fixed sigma_data."""
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
  """Parameters without the zeros that networks start with."""
  params = jax.jit(model.init)(jax.random.key(0), jnp.zeros(shape), 0.0)
  rng = np.random.default_rng(0)
  move = lambda p: p + 0.03 * rng.normal(size=p.shape).astype("float32")
  return jax.tree.map(move, params)


def ours(config, data, params, batch):
  """{work: (jitted function, its arguments)}, batches over all devices."""
  config, method, turns = trained.prepare(config, data)
  mesh = sharding.mesh()
  start = state.init(jax.random.key(0), {"model": params}, turns)
  places = sharding.shardings(start, mesh, sharding.replicate)
  start, params = jax.device_put((start, params), sharding.whole(mesh))
  images, t, labels = jax.device_put(batch, sharding.split(mesh))
  forward = jax.jit(jax.vmap(method.net.apply, (None, 0, 0, 0)))
  quick = trained.machine.compiler_options(config)
  train_step = step.make_train_step(turns, places, quick)
  return dict(
    step=(train_step, (start, {"model": (images, labels)})),
    forward=(forward, (params, images, t, labels)),
  )


def calling(work, program, arguments):
  """() -> the result; a step goes on from the state of the last one."""
  if work == "step":
    return timing.stepping(program, *arguments)
  return lambda: program(*arguments)


def samples(config, data, params):
  """() -> samples of our Heun solver."""
  _, method, _ = trained.prepare(config, data)
  one = lambda params, key, label: method.sample(params, key, label)[1]
  many = sharding.spread(jax.vmap(one, (None, 0, 0)), sharding.mesh())
  keys = jax.random.split(jax.random.key(0), SAMPLES)
  labels = jnp.arange(SAMPLES) % data.num_classes
  return lambda: many(params, keys, labels)


def theirs_sampled(net, config, data):
  """() -> samples of k-diffusion's Heun solver, or None."""
  import torch

  from benchmarks.peers import first_sample, torch_schedulers

  labels = torch.arange(SAMPLES) % data.num_classes
  raw = lambda x, level: net(x, level.expand(SAMPLES), labels)
  denoise = first_sample.preconditioned(
    raw, config.sigma_data, torch.log, torch.sqrt
  )
  if timing.version("k-diffusion") is None:
    return None
  heun = torch_schedulers.k_diffusion_samplers()["heun"][0]
  sigmas = torch.from_numpy(first_sample.karras()).float()
  start = 80 * torch.randn(SAMPLES, *data.shape)
  return torch.inference_mode()(lambda: heun(denoise, start, sigmas))


def theirs(config, model, data, params, batch):
  """The same in torch, in its faster layout: (output, {work: call})."""
  import torch

  from benchmarks.peers import torch_networks

  torch.set_num_threads(len(os.sched_getaffinity(0)))
  images, t, labels = (torch.from_numpy(value) for value in batch)

  def calls(layout):
    is_unet = isinstance(model, unet.UNet)
    kind = torch_networks.UNet if is_unet else torch_networks.DiT
    net = torch_networks.load(kind(model, data.shape), params)
    net = net.to(memory_format=layout)
    output = net(images, t, labels).detach().numpy()
    forward = torch.inference_mode()(lambda: net(images, t, labels))
    train_step = torch_networks.train_step(net, config, images, labels)
    sample = theirs_sampled(net, config, data)
    return output, dict(step=train_step, forward=forward, samples=sample)

  layouts = torch.contiguous_format, torch.channels_last
  return min(map(calls, layouts), key=lambda pair: seconds(pair[1]["step"], 10))


def seconds(call, repeats):
  """The median seconds of a call."""
  return float(np.median(timing.in_turn([call], repeats)))


def side_by_side(repeats, inner, size, tuned):
  """Rows of the CPU's table for one batch size, in this process."""
  changes, rows = dict(tune_cpu=tuned, cache_programs=False), []
  config = settings("digits", size, **changes)
  trained.machine.prepare(config, vars(config))
  data = trained.datasets.load_data("digits")
  for name, preset in PRESETS.items():
    config = settings(preset, size, **changes)
    model = trained.networks.make(config, data)
    params = init(model, data.shape)
    batch = random_batch(data.shape, data.num_classes, size)
    programs = ours(config, data, params, batch)
    mine, peer = {work: calling(work, *p) for work, p in programs.items()}, {}
    if timing.version("torch"):
      output, peer = theirs(config, model, data, params, batch)
      gap = np.abs(np.asarray(mine["forward"]()) - output).max()
      if not (gap := gap / np.abs(output).max()) < TOLERANCE:
        raise ValueError(f"{name}: expected torch's outputs, got {gap:.1e} off")
    for work, call in mine.items():
      title = f"{name}, {work}, batch {size}"
      pair = call, peer.get(work)
      rows.append(timing.beside(title, *pair, repeats, inner, GOAL))
    if name == "U-Net" and size == BATCHES[0]:
      pair = samples(config, data, params), peer.get("samples")
      title = f"{name}, {SAMPLES} samples"
      rows.append(timing.beside(title, *pair, 5, 1, 0.9))
  return rows


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
  unet = dict(width=128 // scale)
  dit = dict(model="dit", width=768 // scale, num_blocks=12, num_heads=12)
  dit |= dict(patch=2, learning_rate=1e-4)
  half = dict(dtype="bfloat16")
  cases = [
    ("EDM U-Net, float32", "cifar10", pixels, unet),
    ("EDM U-Net, bfloat16", "cifar10", pixels, unet | half),
    ("DiT-B/2, float32", "digits", latents, dit),
    ("DiT-B/2, bfloat16", "digits", latents, dit | half),
  ]
  if jax.default_backend() == "gpu":
    fused = dit | half | dict(attention_implementation="cudnn")
    cases.append(("DiT-B/2, bfloat16, cuDNN", "digits", latents, fused))
  dtypes, rows = ("float32", "bfloat16"), []
  peaks = {dtype: measured_peak(dtype, 8192 // scale) for dtype in dtypes}
  for title, preset, data, changes in cases:
    size = 256 // scale
    config = settings(preset, size, **changes)
    params = init(trained.networks.make(config, data), data.shape)
    batch = random_batch(data.shape, data.num_classes, size)
    for work, pair in ours(config, data, params, batch).items():
      name = f"{title}, {work}, batch {size}"
      rows.append(accelerated_row(name, work, *pair, size, peaks[config.dtype]))
  stats = jax.devices()[0].memory_stats() or {}
  return dict(rows=rows, peaks=peaks, peak_bytes=stats.get("peak_bytes_in_use"))


def accelerated_row(name, work, program, arguments, size, peak):
  """Images/s, share of the peak and memory of a compiled program."""
  lowered = program.lower(*arguments)
  compiled = lowered.compile()
  took = seconds(calling(work, compiled, arguments), 20)
  memory = compiled.memory_analysis()
  return dict(
    name=name,
    images=size / took,
    share=lowered.cost_analysis()["flops"] / took / peak,
    bytes=memory.temp_size_in_bytes + memory.argument_size_in_bytes,
  )


def in_process_of_its_own(arguments, size, tuned):
  """side_by_side in a new process."""
  bare = {k: v for k, v in os.environ.items() if k not in OWN}
  command = [sys.executable, "-m", "benchmarks", "throughput", *arguments]
  command += [f"--rows={size}", *([] if tuned else ["--plain"])]
  done = subprocess.run(command, env=bare, stdout=subprocess.PIPE, check=True)
  return json.loads(done.stdout.splitlines()[-1])


def run(args) -> dict | None:
  """Measures; with --rows, prints the rows of this process."""
  if args.rows:
    counts = args.repeats, args.inner
    print(json.dumps(side_by_side(*counts, args.rows, not args.plain)))
    return None
  found, counts = {}, [f"--repeats={args.repeats}", f"--inner={args.inner}"]
  on_cpu = jax.default_backend() == "cpu"
  for tuned, name in ((True, "default"), (False, "--no-tune-cpu")):
    for size in BATCHES if on_cpu else ():
      rows = in_process_of_its_own(counts, size, tuned)
      found[name] = found.get(name, []) + rows
  return dict(
    machine=f"{runner.machine()}, torch {timing.version('torch') or 'none'}",
    side_by_side=found,
    accelerated=None if on_cpu else accelerated(),
  )


def _beside_torch(found):
  """A table for the default and one for --no-tune-cpu."""
  lines = []
  for flags, rows in found.items():
    lines += ["", f"Settings: `{flags}`", ""]
    if "ratio" not in rows[0]:
      times = [(r["name"], f"{r['ours_ms']:.2f}") for r in rows]
      lines += pages.table("network | ms", times)
      lines += ["", "torch is not installed: its columns are left out."]
      continue
    head = "ours / torch | ratio | goal | ours, ms | torch, ms"
    lines += timing.ratios(rows, head)
  return lines[1:]


def _accelerator(found):
  """The accelerator's table and the peaks of its shares."""
  lines = []
  for r in found["rows"]:
    cells = f"{r['images']:,.0f}", f"{r['share']:.2f}"
    lines.append((r["name"], *cells, f"{r['bytes'] / 2**30:.1f}"))
  peaks = ", ".join(f"{k} {v / 1e12:.1f}" for k, v in found["peaks"].items())
  lines = pages.table("network | images/s | share of peak | GiB", lines)
  return [*lines, "", f"Peak of a matrix product, TFLOP/s: {peaks}."]


def tables(record: dict) -> dict:
  """The parts of the page."""
  found, absent = record["accelerated"], "Not measured: no accelerator."
  return dict(
    made=f"`python -m benchmarks throughput` on {record['machine']}.",
    cpu=_beside_torch(record["side_by_side"]),
    accelerator=_accelerator(found) if found else absent,
  )


def flags(parser) -> None:
  """Adds flags for the processes that this benchmark starts."""
  parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
  parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)


BENCHMARKS = {
  "throughput": runner.Benchmark(run, tables, dict(repeats=25, inner=4), flags)
}
