"""Codebooks learned by moving averages beside k-means, on the same vectors.

  python -m benchmarks quantizers             about 2 minutes on one CPU core

The vectors are the 2 x 2 patches of the digits, 4 numbers in [-1, 1]: 16 of
each image, 20112 of train and 5760 of test, none left out, so that the patches
of the background are there as often as in the images.

k-means is scikit-learn's KMeans with 10 starts and its other defaults, fitted
to train. Ours is what a VQ-VAE learns its codebook with, alone: k-means++ on
train, then batches of 4096 vectors, each of which updates the moving averages,
the codes, and restarts codes that lose their vectors. Both are evaluated on
test by the mean squared distance of a vector to the nearest code.
"""

import functools
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import pages, runner
from jaxgen import codebooks, quantizers
from jaxgen.data import digits

SIZES = (16, 64, 256, 512)
SIDE = 2  # of a patch, in pixels
NUM_STARTS = 10  # of k-means
BATCH = 4096
DECAY, SMOOTHING = 0.99, 1e-5
RESTART = 0.005  # share of the mean count below which a code restarts
GOAL, USED = 1.05, 0.9


def patches(split: str) -> np.ndarray:
  """The patches of all digits of a split, [N, 4]."""
  images = digits.load(split)[0][..., 0]
  number, height, width = images.shape
  shape = number, height // SIDE, SIDE, width // SIDE, SIDE
  return images.reshape(shape).swapaxes(2, 3).reshape(-1, SIDE * SIDE)


@functools.partial(jax.jit, static_argnums=(2, 3))
def learn(key, data, num_codes: int, num_steps: int):
  """A codebook [K, D] of vectors [N, D]."""
  start_key, step_key = jax.random.split(key)
  codebook = codebooks.kmeans_plus_plus(start_key, data, num_codes)

  def step(carry, n):
    statistics, codebook = carry
    batch_key, restart_key = jax.random.split(jax.random.fold_in(step_key, n))
    z = data[jax.random.randint(batch_key, (BATCH,), 0, len(data))]
    indices = quantizers.nearest(z, codebook).indices
    statistics = codebooks.update(statistics, z, indices, DECAY)
    codebook = codebooks.means(statistics, codebook, SMOOTHING)
    places = jax.random.choice(restart_key, z, (num_codes,))
    codebook, statistics = codebooks.restart(
      codebook, statistics, places, RESTART * BATCH / num_codes
    )
    return (statistics, codebook), None

  start = codebooks.start(codebook), codebook
  (_, codebook), _ = jax.lax.scan(step, start, jnp.arange(num_steps))
  return codebook


def judged(codebook: np.ndarray, train: np.ndarray, test: np.ndarray) -> dict:
  """Errors on both sets, and the use of the codes on train."""
  nearest = jax.jit(quantizers.nearest)
  codebook = jnp.asarray(codebook, jnp.float32)

  def error(z):
    away = z - np.asarray(nearest(z, codebook).value, np.float64)
    return float((away**2).sum(-1).mean())

  indices = nearest(train, codebook).indices
  counts = jnp.bincount(indices, length=len(codebook))
  return dict(
    train=error(train),
    test=error(test),
    usage=float(codebooks.usage(counts)),
    perplexity=float(codebooks.perplexity(counts)),
  )


def measure(num_codes: int, seed: int, num_steps: int, train, test) -> dict:
  """k-means and ours for one number of codes and one seed."""
  from sklearn import cluster

  kmeans = cluster.KMeans(num_codes, n_init=NUM_STARTS, random_state=seed)
  began = time.process_time()
  centres = kmeans.fit(train).cluster_centers_
  middle = time.process_time()
  key = jax.random.key(seed)
  own = np.asarray(learn(key, jnp.asarray(train), num_codes, num_steps))
  found = dict(
    kmeans=judged(centres, train, test) | dict(cpu=middle - began),
    ours=judged(own, train, test) | dict(cpu=time.process_time() - middle),
  )
  print(num_codes, seed, found, flush=True)
  return found


def run(args) -> dict:
  """Measures every size with every seed."""
  train, test = patches("train"), patches("test")
  cells = {
    str(size): [
      measure(size, seed, args.steps, train, test) for seed in range(args.seeds)
    ]
    for size in SIZES
  }
  words = f"--seeds {args.seeds} --steps {args.steps}"
  return dict(
    command=f"python -m benchmarks quantizers {words}",
    machine=runner.machine(),
    num_train=len(train),
    num_test=len(test),
    distinct=len(np.unique(train, axis=0)),
    cells=cells,
  )


def tables(record: dict) -> dict:
  """The parts of the page."""
  rows, ratios, used = [], [], []
  for size, seeds in record["cells"].items():
    ratio = [seed["ours"]["test"] / seed["kmeans"]["test"] for seed in seeds]
    ratios, used = ratios + ratio, used + [s["ours"]["usage"] for s in seeds]
    for method, title in (("kmeans", "k-means"), ("ours", "ours")):
      of = lambda name, m=method: [seed[m][name] for seed in seeds]
      shown = f"{statistics.fmean(ratio):.3f} ({min(ratio):.3f} to "
      shown += f"{max(ratio):.3f})"
      cells = (
        f"{statistics.fmean(of(name)):.4f}" for name in ("train", "test")
      )
      rows.append(
        (
          size,
          title,
          *cells,
          shown if method == "ours" else "1",
          f"{statistics.fmean(of('usage')):.3f}",
          f"{statistics.fmean(of('perplexity')):.1f}",
          f"{statistics.fmean(of('cpu')):.1f}",
        )
      )
  head = "codes | method | train | test | test, relative to k-means"
  head += " | usage | perplexity | CPU seconds"
  met = lambda fine: "met" if fine else "not met"
  return dict(
    made=f"`{record['command']}`, {record['machine']}.",
    vectors=(
      f"{record['num_train']} patches of train ({record['distinct']} distinct)"
      f" and {record['num_test']} of test"
    ),
    table=pages.table(head, rows),
    goals=(
      f"Highest error relative to k-means: {max(ratios):.3f} (goal: at most"
      f" {GOAL}, {met(max(ratios) <= GOAL)}). Lowest usage: {min(used):.3f}"
      f" (goal: above {USED}, {met(min(used) > USED)})."
    ),
  )


BENCHMARKS = {
  "quantizers": runner.Benchmark(run, tables, dict(seeds=2, steps=1000))
}
