"""Sampling of text with a cache, beside a full forward for every token.

  taskset -c 0 python -m benchmarks text_speed        # minutes of one CPU core

A causal transformer of bytes samples 256 of them, for one example and for 16:
by steps with a cache of keys and values, and by forwards of the whole window.
Each is one compiled program; both are called in turn in one process. Memory is
that of the temporaries of the cached program, for windows of several lengths.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import pages, runner
from benchmarks.speed import flows, timing
from jaxgen import outputs
from jaxgen.models import causal
from jaxgen.samplers import tokens

NUM_BYTES = 256
SIZE = dict(width=128, depth=2, num_heads=2, rotary=True)
LENGTH, LENGTHS = 256, (64, 128, 256, 512)
BATCHES = (1, 16)
GOAL = 15


def programs(length):
  """(cached, by forwards), both keys [B] -> bytes [B, T]."""
  net = causal.Transformer(length, NUM_BYTES, **SIZE)
  params = flows.noisy(net, jnp.zeros((length, NUM_BYTES)))
  output = outputs.categorical(NUM_BYTES)
  apply = functools.partial(net.apply, params)
  one_hot = lambda levels: jax.nn.one_hot(levels, NUM_BYTES)

  def cached(key):
    step = lambda cache, before, i: apply(
      cache, one_hot(before), i, method="step"
    )
    memory = apply(method="start")
    return tokens.autoregressive(step, memory, output, length, key)

  def by_forwards(key):
    params_fn = lambda levels: apply(one_hot(levels))
    return tokens.autoregressive_by_forwards(params_fn, output, (length,), key)

  return [jax.jit(jax.vmap(fn)) for fn in (cached, by_forwards)]


def speed_row(fns, batch_size, repeats):
  """Tokens a second of both, and their ratio."""
  keys = jax.random.split(jax.random.key(0), batch_size)
  found = [np.asarray(fn(keys)) for fn in fns]
  calls = [functools.partial(fn, keys) for fn in fns]
  seconds = timing.in_turn(calls, repeats, warm=1)
  quartiles = np.quantile(seconds[:, 1] / seconds[:, 0], timing.QUARTILES)
  rates = (batch_size * LENGTH / np.median(seconds, 0)).tolist()
  return dict(
    batch=batch_size,
    cached=rates[0],
    by_forwards=rates[1],
    ratio=quartiles.tolist(),
    same=float((found[0] == found[1]).mean()),
  )


def memory_row(length, batch_size):
  """Bytes of temporaries of the cached program, and of its cache alone."""
  keys = jax.random.split(jax.random.key(0), batch_size)
  used = programs(length)[0].lower(keys).compile().memory_analysis()
  floats = 2 * SIZE["depth"] * length * SIZE["width"] * batch_size
  return dict(
    length=length,
    batch=batch_size,
    temporary=used.temp_size_in_bytes,
    cache=4 * floats,
  )


def run(args) -> dict:
  """Measures speed and memory."""
  fns = programs(LENGTH)
  return dict(
    command=f"python -m benchmarks text_speed --repeats {args.repeats}",
    machine=runner.machine(),
    speed=[speed_row(fns, size, args.repeats) for size in BATCHES],
    memory=[memory_row(n, BATCHES[-1]) for n in LENGTHS],
  )


def tables(record: dict) -> dict:
  """The parts of the page."""
  speed = [
    (
      row["batch"],
      f"{row['cached']:.0f}",
      f"{row['by_forwards']:.0f}",
      timing.spread(*row["ratio"], form=".1f"),
      "met" if row["ratio"][1] >= GOAL else "**not met**",
      f"{100 * row['same']:.1f} %",
    )
    for row in record["speed"]
  ]
  memory = [
    (
      row["length"],
      f"{row['temporary'] / 2**10:.0f}",
      f"{row['cache'] / 2**10:.0f}",
      f"{(row['temporary'] - row['cache']) / 2**10:.0f}",
    )
    for row in record["memory"]
  ]
  head = f"batch | cached, tokens/s | by forwards | ratio | at least {GOAL}"
  return dict(
    made=f"`{record['command']}`, {record['machine']}.",
    speed=pages.table(f"{head} | equal", speed),
    memory=pages.table("positions | temporaries, KiB | cache | rest", memory),
  )


BENCHMARKS = {"text_speed": runner.Benchmark(run, tables, dict(repeats=5))}
