"""Our solvers beside those of diffusers, k-diffusion, torchdiffeq and diffrax:
the same denoiser, the same grid, the same number of evaluations (NFE).

  python -m benchmarks peers --parts error             about 10 minutes
  python -m benchmarks peers --parts overhead cold      on a quiet machine

error      8 Gaussians (radius 1, std .05) with their exact denoiser in
           float64, 2000 points: per-coordinate RMSE to DOP853's solution.
overhead   a sampler's time over that of its NFE forward passes alone.
cold       seconds from a new process to the first sample, imports included.

Needs benchmarks/requirements.txt; a library that is not installed is left out,
with a line that says so. Parts that are not run keep their last figures. The
networks that are timed have the same layers and weights in JAX and in PyTorch.
"""

import functools
import os
import pathlib
import subprocess
import sys
import time
import tomllib

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import pages, runner
from benchmarks.peers import errors, first_sample
from benchmarks.speed import overhead, timing
from jaxgen import paths, samplers

BUDGET = 35
NAMES = tomllib.loads(
  pathlib.Path(__file__).with_name("pairs.toml").read_text()
)


preconditioned = functools.partial(
  first_sample.preconditioned, sigma_data=overhead.SIGMA_DATA
)


def jax_calls(model, params, x):
  """((sample, sigmas) -> a call that samples, number -> one of forwards)."""

  def sampling(sample, sigmas):
    def one(params, x, sigmas):
      net = functools.partial(model.apply, params)
      return sample(preconditioned(net, log=jnp.log, sqrt=jnp.sqrt), x, sigmas)

    run = jax.jit(jax.vmap(one, (None, 0, None)))
    return lambda: run(params, x, sigmas)

  forward = jax.jit(jax.vmap(model.apply, (None, 0, None)))

  def forwards(num_calls):
    y = x
    for _ in range(num_calls):
      y = forward(params, y, jnp.zeros(()))
    return y

  return sampling, lambda number: functools.partial(forwards, number)


def torch_calls(model, params, x):
  """The same as jax_calls for samplers of PyTorch."""
  import torch

  from benchmarks.peers import torch_networks

  torch.set_num_threads(len(os.sched_getaffinity(0)))
  net = torch_networks.twin(model, params, x.shape)
  denoise = preconditioned(net, log=torch.log, sqrt=torch.sqrt)
  x = torch.from_numpy(np.array(x))

  def sampling(sample, sigmas):
    sigmas = torch.from_numpy(np.array(sigmas))
    return torch.no_grad()(lambda: sample(denoise, x, sigmas))

  @torch.no_grad()
  def forwards(num_calls):
    y, t = x, torch.zeros(())
    for _ in range(num_calls):
      y = net(y, t)
    return y

  return sampling, lambda number: functools.partial(forwards, number)


def overheads(repeats):
  """Rows: library, sampler, network, and the ratio with its quartiles."""
  rows = []
  for network, (model, shape) in overhead.networks(num_classes=10).items():
    params = overhead.init(model, shape)
    x = jax.random.normal(jax.random.key(1), (overhead.BATCH, *shape))
    for library, table in errors.libraries().items():
      make = jax_calls if library in errors.JAX else torch_calls
      sampling, forwards = make(model, params, x)
      for name in NAMES["timed"][library]:
        sample, *count = table[name]
        num_steps, num_calls = errors.steps_within(BUDGET, *count)
        sigmas = samplers.grids.karras(paths.edm(), num_steps)
        pair = sampling(sample, sigmas), forwards(num_calls)
        row = timing.beside(name, *pair, repeats, limit=1.02)
        rows.append(dict(row, library=library, network=network))
        print(network, library, name, f"{row['ratio']:.3f}", flush=True)
  return rows


def cold(starts):
  """Rows: library, and the seconds of each start; the libraries take turns."""
  found = {}
  for _ in range(starts):
    for library in errors.JAX + errors.TORCH:
      seconds = start(library)
      if seconds is not None:
        found.setdefault(library, []).append(seconds)
  return [dict(library=k, seconds=v) for k, v in found.items()]


def start(library):
  """Seconds of a new process that samples once; None if it fails."""
  command = [sys.executable, "-W", "ignore", "-m"]
  begun = time.perf_counter()
  done = subprocess.run(
    [*command, "benchmarks.peers.first_sample", library],
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


def versions():
  """{distribution: version} of the peers."""
  names = ("torch", "diffusers", "k-diffusion", "torchdiffeq", "diffrax")
  return {name: timing.version(name) or "not installed" for name in names}


def run(args) -> dict:
  """Runs the parts asked for."""
  record = pages.stored(args.out, "peers")
  measure = dict(
    error=errors.measure,
    overhead=lambda: overheads(args.repeats),
    cold=lambda: cold(args.starts),
  )
  for part in args.parts:
    made = dict(machine=runner.machine(), versions=versions())
    record[part] = made | dict(rows=measure[part]())
  return record


def label(row):
  """Library and name."""
  return f"{row['library']} {row['name']}"


def best(rows, grid, budget, of):
  """(the smallest error at a budget, its method), of rows for which `of`."""
  errors = [(row["rmse"][grid][budget], label(row)) for row in rows if of(row)]
  return min(found for found in errors if found[0] is not None)


def show(found):
  """An error and its method."""
  return f"{found[0]:.3g} {found[1]}"


def pairs_of(rows, columns):
  """(ours, theirs, the errors of both by column, why they differ)."""
  named = {label(row): row["rmse"] for row in rows}
  for mine, theirs, why in NAMES["pairs"]:
    if f"jaxgen {mine}" in named and theirs in named:
      a, b = named[f"jaxgen {mine}"], named[theirs]
      yield mine, theirs, [(a[g][n], b[g][n]) for g, n in columns], why


def ahead(rows, columns):
  """The pairs in which the peer's error is smaller by 1 %, and how often."""
  found = []
  for mine, theirs, both, _ in pairs_of(rows, columns):
    both = [pair for pair in both if None not in pair]
    if wins := sum(ours > 1.01 * peer for ours, peer in both):
      found.append(f"{theirs} (our {mine}) in {wins} of {len(both)} columns")
  return "; ".join(found) + "." if found else "none of them."


def tables_error(rows) -> dict:
  """The best of both sides, the same methods side by side, and all methods."""
  columns = [(grid, n) for grid, of in rows[0]["rmse"].items() for n in of]
  number = sum(row["library"] == "jaxgen" for row in rows)
  bests, same, every = [], [], []
  for grid, n in columns:
    ours = best(rows, grid, n, lambda row: row["library"] == "jaxgen")
    peer = best(rows, grid, n, lambda row: row["library"] != "jaxgen")
    ratio = f"{ours[0] / peer[0]:.3f}"
    bests.append((grid, n, show(ours), show(peer), ratio))
  for mine, theirs, both, why in pairs_of(rows, columns):
    cells = [
      "-" if None in pair else f"{pair[0] / pair[1]:.3f}" for pair in both
    ]
    same.append((mine, theirs, *cells, why))
  for row in rows:
    found = [row["rmse"][grid][n] for grid, n in columns]
    cells = ["-" if e is None else f"{e:.2g}" for e in found]
    order = "-" if row["order"] is None else f"{row['order']:.2f}"
    every.append((label(row), *cells, order))
  head = " | ".join(f"{grid} {n}" for grid, n in columns)
  best_head = "grid | NFE | best of ours | best peer | ours / peer, goal 1.01"
  return dict(
    best=pages.table(best_head, bests),
    numbers=[
      f"Each line has the best of our {number} rows and the best of the",
      f"peers' {len(rows) - number} for its column, chosen with hindsight.",
    ],
    same=pages.table(f"ours | theirs | {head} | where they differ", same),
    ahead=ahead(rows, columns),
    every=pages.table(f"method | {head} | order", every),
  )


def tables_overhead(rows) -> dict:
  """Ratios of the samplers and their forward passes."""
  times = lambda r: (f"{r['ours_ms']:.1f}", f"{r['theirs_ms']:.1f}")
  lines = [
    (r["network"], label(r), timing.ratio_of(r), *times(r)) for r in rows
  ]
  head = "network | method | ratio | sampler, ms | forwards, ms"
  return dict(overhead=pages.table(head, lines))


def tables_cold(rows) -> dict:
  """Seconds to the first sample."""
  ours = next(np.median(r["seconds"]) for r in rows if r["library"] == "jaxgen")
  lines = []
  for r in rows:
    quartiles = np.quantile(r["seconds"], timing.QUARTILES)
    spread = timing.spread(*quartiles)
    ratio = f"{quartiles[1] / ours:.2f}"
    lines.append((r["library"], spread, ratio))
  return dict(cold=pages.table("library | seconds | over ours", lines))


def tables(record: dict) -> dict:
  """The parts of the page, of every part that has been run."""
  found = {}
  makers = dict(error=tables_error, overhead=tables_overhead, cold=tables_cold)
  for part in makers.keys() & record.keys():
    names = ", ".join(f"{k} {v}" for k, v in record[part]["versions"].items())
    command = f"`python -m benchmarks peers --parts {part}`"
    made = f"{command} on {record[part]['machine']}; {names}."
    found |= makers[part](record[part]["rows"]) | {f"{part}, made": made}
  return found


def flags(parser) -> None:
  """Adds --parts."""
  parts = ("error", "overhead", "cold")
  parser.add_argument("--parts", nargs="+", choices=parts, default=parts)


BENCHMARKS = {
  "peers": runner.Benchmark(run, tables, dict(repeats=20, starts=7), flags)
}
