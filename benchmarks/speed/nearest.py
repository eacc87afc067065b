"""What nearest neighbours under jit cost beside faiss: time, memory, rows.

  pip install faiss-cpu==1.15.1                  # for its column
  python -m benchmarks nearest          3 minutes on one CPU core

Two sets of 50,000 points in 64 dimensions, standard normal, and the digits'
pixels with noise: jaxgen.nearest and faiss.IndexFlatL2 (exact, float32; its
time includes adding the reference), in turn, on the cores that the process may
use. Memory is what the process's peak grows by in our first call, compilation
included, in a process of its own.
"""

import multiprocessing
import os
import resource

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import pages, runner
from benchmarks.speed import timing
from jaxgen import nearest
from jaxgen.data import digits

NUMBER, SIZE, LIMIT_MIB = 50_000, 64, 1024


def sets(name):
  """Points and reference, each [NUMBER, SIZE]."""
  rng = np.random.default_rng(0)
  found = rng.standard_normal((2, NUMBER, SIZE), "float32")
  if name == "digits + noise":
    pixels = digits.load("train")[0].reshape(-1, SIZE)
    rows = rng.integers(len(pixels), size=(2, NUMBER))
    found = pixels[rows] + np.float32(0.1) * found
  return found


def ours():
  """(points, reference) -> rows."""
  run = jax.jit(lambda x, y: nearest.nearest(x, y).rows)
  return lambda x, y: run(jnp.asarray(x), jnp.asarray(y))


def by_faiss():
  """(points, reference) -> rows, on as many threads as there are cores."""
  import faiss

  faiss.omp_set_num_threads(len(os.sched_getaffinity(0)))

  def run(points, reference):
    index = faiss.IndexFlatL2(SIZE)
    index.add(reference)
    return index.search(points, 1)[1][:, 0]

  return run


def _grown(pipe):
  """Sends by how many MiB the peak memory grows in one call of ours."""
  points, reference = sets("normal")
  peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
  run, before = ours(), peak()
  jax.block_until_ready(run(points, reference))
  pipe.send(peak() - before)


def grown():
  """MiB by which our first call grows a new process."""
  context = multiprocessing.get_context("spawn")
  receive, send = context.Pipe(duplex=False)
  process = context.Process(target=_grown, args=(send,))
  process.start()
  found = receive.recv()
  process.join()
  return found


def disagreements(points, reference, first, second):
  """(rows that differ, the largest of our squares over theirs, less one).

  Squares are computed in float64 from the rows of both.
  """
  square = lambda rows: np.sum(
    np.subtract(points, reference[rows], dtype=np.float64) ** 2, 1
  )
  differ = np.flatnonzero(first != second)
  ratio = square(first) / np.maximum(square(second), 1e-300)
  return len(differ), float(ratio.max() - 1)


def run(args) -> dict:
  """Measures times, memory and the rows that differ."""
  cores = len(os.sched_getaffinity(0))
  record = dict(machine=runner.machine(), faiss=timing.version("faiss-cpu"))
  record |= dict(cores=cores, limit=LIMIT_MIB, mib=grown(), rows=[])
  find = ours()
  theirs = by_faiss() if record["faiss"] else None
  for name in ("normal", "digits + noise"):
    both = sets(name)
    other = None if theirs is None else (lambda both=both: theirs(*both))
    row = timing.beside(
      name, lambda both=both: find(*both), other, args.repeats
    )
    if theirs is not None:
      rows = np.asarray(find(*both)), theirs(*both)
      row["differ"], row["worse"] = disagreements(*both, *rows)
    record["rows"].append(row)
    print(row, flush=True)
  return record


def tables(record: dict) -> dict:
  """The parts of the page."""
  lines = []
  for r in record["rows"]:
    if "ratio" not in r:
      lines.append((r["name"], "-", "-", f"{r['ours_ms'] / 1e3:.2f}", *"---"))
      continue
    seconds = (f"{r[k] / 1e3:.2f}" for k in ("ours_ms", "theirs_ms"))
    ratio = timing.ratio_of(r), f"{r['limit']:g}"
    lines.append(
      (r["name"], *ratio, *seconds, r["differ"], f"{r['worse']:.0e}")
    )
  head = "points | ours / faiss | goal | ours, s | faiss, s | rows that differ"
  peer = record["faiss"] or "not installed"
  return dict(
    made=f"`python -m benchmarks nearest` on {record['machine']},"
    f" {record['cores']} of its cores used, faiss-cpu {peer}.",
    times=pages.table(f"{head} | largest excess", lines),
    memory=f"{record['mib']:.0f} MiB (goal: below {record['limit']})",
  )


BENCHMARKS = {"nearest": runner.Benchmark(run, tables, dict(repeats=5))}
