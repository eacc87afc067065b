"""What samplers cost, for peers.py: over their forwards, and from a cold start.

The networks are those of benchmarks/overhead.py, the torch ones with the same
layers and weights. Both libraries use all cores and are called in turn.
"""

import functools
import os
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import overhead, peer_samplers
from jaxgen import paths, samplers
from jaxgen.models import mlp, unet

BUDGET = 35
# {library: the samplers that are timed}.
TIMED = dict(
  jaxgen=("heun", "dpmpp_2m", "unipc(3)", "rk4"),
  diffrax=("Heun", "Tsit5"),
  diffusers=("HeunDiscrete", "DPMSolverMultistep 2", "UniPC 3"),
  k_diffusion=("heun", "dpmpp_2m"),
  torchdiffeq=("heun2", "rk4"),
)
COLD = ("jaxgen", "diffrax", "diffusers", "k_diffusion", "torchdiffeq")


def networks():
  """{name: (model, shape of one example)}."""
  return {
    "U-Net": (unet.UNet(attention=(4,), num_classes=10), (8, 8, 1)),
    "MLP": (mlp.MLP((128, 128, 128)), (2,)),
  }


def preconditioned(net, log, sqrt):
  """EDM's denoiser: data = c_skip x + c_out F(c_in x, log(sigma) / 4)."""
  sd = overhead.SIGMA_DATA

  def denoise(x, sigma):
    total = sigma**2 + sd**2
    raw = net(x / sqrt(total), log(sigma) / 4)
    return sd**2 / total * x + sigma * sd / sqrt(total) * raw

  return denoise


def jax_calls(model, params, x, table):
  """{name: (sampler, forwards alone)}: calls without arguments."""

  def timed(sample, per_step, besides):
    num_steps = (BUDGET - 1 - besides) // per_step
    sigmas = samplers.grids.karras(paths.edm(), num_steps)

    def one(params, x, sigmas):
      net = lambda x, c: model.apply(params, x, c)
      return sample(preconditioned(net, jnp.log, jnp.sqrt), x, sigmas)

    run = jax.jit(jax.vmap(one, (None, 0, None)))
    num_calls = num_steps * per_step + besides + 1
    return lambda: run(params, x, sigmas), functools.partial(bare, num_calls)

  forward = jax.jit(jax.vmap(model.apply, (None, 0, None)))

  def bare(num_calls):
    y = x
    for _ in range(num_calls):
      y = forward(params, y, jnp.zeros(()))
    return y

  return {name: timed(*row) for name, row in table.items()}


def torch_calls(model, params, x, table):
  """As jax_calls."""
  import torch

  torch.set_num_threads(len(os.sched_getaffinity(0)))
  net = torch_network(model, params, x.shape)
  x = torch.from_numpy(np.array(x))

  def timed(sample, per_step, besides):
    num_steps = (BUDGET - 1 - besides) // per_step
    sigmas = samplers.grids.karras(paths.edm(), num_steps)
    sigmas = torch.from_numpy(np.array(sigmas))
    denoise = preconditioned(net, torch.log, torch.sqrt)
    num_calls = num_steps * per_step + besides + 1
    run = torch.no_grad()(lambda: sample(denoise, x, sigmas))
    return run, functools.partial(bare, num_calls)

  @torch.no_grad()
  def bare(num_calls):
    y, t = x, torch.zeros(())
    for _ in range(num_calls):
      y = net(y, t)
    return y

  return {name: timed(*row) for name, row in table.items()}


def torch_network(model, params, shape):
  """(x [B, *D], t []) -> [B, *D], the model's twin, its weights copied."""
  import torch

  from benchmarks import torch_peers

  if isinstance(model, unet.UNet):
    net = torch_peers.load(torch_peers.UNet(model, shape[1:]), params)
    label = torch.full(shape[:1], model.num_classes)
    return lambda x, t: net(x.float(), t.float().expand(shape[0]), label)
  features = torch_peers.Time(model.embedding_width, model.max_frequency)
  layers = [
    [torch.from_numpy(np.array(layer[k])) for k in ("bias", "kernel")]
    for _, layer in sorted(params["params"].items())  # hidden_0 ... out
  ]

  def forward(x, t):
    h = torch.cat([x.float(), features(t.float().expand(len(x)))], -1)
    for bias, kernel in layers[:-1]:
      h = torch.nn.functional.silu(torch.addmm(bias, h, kernel))
    bias, kernel = layers[-1]
    return torch.addmm(bias, h, kernel)

  return forward


def overheads(repeats):
  """Rows: library, sampler, network, and the ratio with its quartiles."""
  rows = []
  for network, (model, shape) in networks().items():
    params = overhead.init(model, shape)
    x = jax.random.normal(jax.random.key(1), (overhead.BATCH, *shape))
    for library, table in peer_samplers.libraries().items():
      make = jax_calls if library in peer_samplers.JAX else torch_calls
      table = {name: table[name] for name in TIMED[library]}
      for name, pair in make(model, params, x, table).items():
        seconds = overhead.paired(*pair, repeats)
        row = overhead.row(name, seconds, 1.02)
        rows.append(dict(row, library=library, network=network))
        print(network, library, name, f"{row['ratio']:.3f}", flush=True)
  return rows


def cold(starts):
  """Rows: library, and the seconds of each start, the libraries in turn."""
  found = {}
  for _ in range(starts):
    for library in COLD:
      seconds = start(library)
      if seconds is not None:
        found.setdefault(library, []).append(seconds)
  return [dict(library=k, seconds=v) for k, v in found.items()]


def start(library):
  """Seconds of a new process that prints one sample; None where it cannot."""
  command = [sys.executable, "-W", "ignore", "-m"]
  begun = time.perf_counter()
  done = subprocess.run(
    [*command, "benchmarks.first_sample", library],
    capture_output=True,
    text=True,
    env={k: v for k, v in os.environ.items() if "COMPILATION_CACHE" not in k},
  )
  seconds = time.perf_counter() - begun
  if done.returncode:
    last = (done.stderr.strip().splitlines() or ["no output"])[-1]
    print(f"{library}: {last}; its cold start is left out")
    return None
  return seconds
