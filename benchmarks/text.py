"""Bits per byte of text: models of bytes beside compressors and an n-gram.

  python -m benchmarks text                    all: minutes for each training
  python -m benchmarks text --only             compressors and the n-gram alone
  python -m benchmarks text --only transformer GRU

Times are on one CPU core. The text is Python's help text, and all are measured
on the same split. Trains under runs/quality; finished runs are not trained
again, and rows that are not asked for keep their figures. The n-gram
interpolates orders 0 to 5 with absolute discounting,

  P_k(b | context of k bytes) = (max(c(context b) - d, 0)
                                 + d types(context) P_(k-1)(b)) / c(context),

with P_(-1) = 1 / 256, types the number of different bytes after a context, and
P_k = P_(k-1) after contexts that do not occur in the training text. One
discount d in (0, 1], chosen on validation, serves all orders.
"""

import gzip
import json
import lzma
import math
from typing import NamedTuple

import jax
import numpy as np

from benchmarks import pages, quality, runner, trained
from jaxgen.data import text
from jaxgen.training import logging

ORDER = 5
DISCOUNTS = np.arange(1, 21) / 20
CHUNK = 64  # bytes over whose means the n-gram's standard error is taken
SPLITS = ("validation", "test")
# Near 480 thousand parameters each, and about as many seconds.
TRAININGS = {
  "transformer": "text docs",
  "transformer of pieces": "text docs --vocabulary 1024 --width 104",
  "GRU": "text docs --model gru --width 232 --num-blocks 1 --num-steps 5000",
  "LSTM": "text docs --model lstm --width 208 --num-blocks 1 --num-steps 5000",
  "masked transformer": "text docs --model masked --dropout 0",
}


class Counts(NamedTuple):
  """What occurs in a text, for one order.

  Attributes:
    grams: codes of contexts followed by a byte, sorted, and counts of each.
    counts: their numbers of occurrences.
    contexts: codes of contexts, sorted.
    totals: their numbers of occurrences.
    types: numbers of different bytes after them.
  """

  grams: np.ndarray
  counts: np.ndarray
  contexts: np.ndarray
  totals: np.ndarray
  types: np.ndarray


def codes(body: bytes, order: int) -> np.ndarray:
  """The number whose digits are a byte and those before it, for each byte.

  256 is the base; bytes before the text are 0. At most order 7 fits.
  """
  padded = np.frombuffer(bytes(order) + body, np.uint8).astype(np.uint64)
  windows = np.lib.stride_tricks.sliding_window_view(padded, order + 1)
  return windows @ np.array([256**k for k in range(order, -1, -1)], np.uint64)


def fit(body: bytes, order: int) -> list[Counts]:
  """The counts of a text for orders 0, ..., order."""
  every, found = codes(body, order), []
  for k in range(order + 1):
    grams, counts = np.unique(_last(every, k + 1), return_counts=True)
    contexts, first = np.unique(grams >> np.uint64(8), return_index=True)
    totals = np.add.reduceat(counts, first)
    types = np.diff(first, append=len(grams))
    found.append(Counts(grams, counts, contexts, totals, types))
  return found


def probabilities(
  counts: list[Counts], every: np.ndarray, discount: float
) -> np.ndarray:
  """P of the last byte of each code given the bytes before it, [N]."""
  p = np.full(len(every), 1 / 256)
  for k, of in enumerate(counts):
    grams = _last(every, k + 1)
    contexts = grams >> np.uint64(8)
    count = _look_up(of.grams, of.counts, grams)
    total = _look_up(of.contexts, of.totals, contexts)
    types = _look_up(of.contexts, of.types, contexts)
    mixed = np.maximum(count - discount, 0) + discount * types * p
    p = np.where(total > 0, mixed / np.maximum(total, 1), p)
  return p


def _last(every, number):
  """The codes of the last bytes."""
  return every & np.uint64(256**number - 1)


def _look_up(names, values, wanted):
  """The values of the wanted names, 0 for those that are not in names."""
  place = np.minimum(np.searchsorted(names, wanted), len(names) - 1)
  return np.where(names[place] == wanted, values[place], 0)


def ngram(parts: dict[str, bytes]) -> dict:
  """The row of the n-gram."""
  counts = fit(parts["train"], ORDER)
  every = {name: codes(parts[name], ORDER) for name in SPLITS}
  bits = lambda name, d: -np.log2(probabilities(counts, every[name], d))
  best = min(DISCOUNTS, key=lambda d: bits("validation", d).mean())
  test = bits("test", best)
  chunks = test[: len(test) // CHUNK * CHUNK].reshape(-1, CHUNK).mean(1)
  return dict(
    kind="exact",
    validation=float(bits("validation", best).mean()),
    test=float(test.mean()),
    error=float(chunks.std(ddof=1) / math.sqrt(len(chunks))),
    settings=f"discount {best:.2f}",
  )


def compressor(compress, parts: dict[str, bytes]) -> dict:
  """The row of a compressor: the bytes that a part adds to the training text.

  It is the code length of the part, in bits per byte of it.
  """
  train, found = parts["train"], dict(kind="code length")
  for name in SPLITS:
    added = len(compress(train + parts[name])) - len(compress(train))
    found[name] = 8 * added / len(parts[name])
  return found


def classical(parts: dict[str, bytes]) -> dict:
  """The rows of what is not trained by gradients."""
  xz = lambda x: lzma.compress(x, preset=9 | lzma.PRESET_EXTREME)
  return {
    "gzip -9": compressor(lambda x: gzip.compress(x, 9), parts),
    "xz -9e": compressor(xz, parts),
    f"n-gram of order {ORDER}": ngram(parts),
  }


def model(name: str, flags: str) -> dict:
  """The row of one training."""
  run = f"text-{name.lower().replace(' ', '-')}"
  run_dir, command = quality.train(run, flags)
  ex = trained.samples.read(run_dir)
  players = jax.eval_shape(ex.players, jax.random.key(0))
  found: dict = dict(
    parameters=sum(leaf.size for leaf in jax.tree.leaves(players)),
    seconds=logging.read(run_dir / "metrics.jsonl")[-1]["seconds"],
    command=command,
  )
  for split in SPLITS:
    (row,) = quality.evaluate(run_dir, split=split)["log_likelihood"]
    found[split], found["kind"] = row["bits_per_dim"], row["kind"]
    unit = row["bits_per_dim"] / -row["nats"]
    found["error"] = row["standard_error"] * unit
  return found


def tables(record: dict) -> dict:
  """The parts of the page."""
  corpus, rows, lines = record["corpus"], record["rows"], []
  for name, row in sorted(rows.items(), key=lambda item: item[1]["test"]):
    size, error = row.get("parameters", ""), row.get("error")
    error = "" if error is None else f"{error:.3f}"
    figures = f"{row['validation']:.3f}", f"**{row['test']:.3f}**", error
    lines.append((name, row["kind"], size, *figures))
  for name in TRAININGS:
    if name not in rows:
      lines.append((name, "", "", "", "Not measured.", ""))
  head = "model | kind | parameters | validation | test | s.e."
  runs = [f"- {n}: {_made(row)}" for n, row in rows.items() if _made(row)]
  return {
    "corpus": (
      f"{corpus['bytes']} bytes ({corpus['train']} to train,"
      f" {corpus['validation']} to validate, {corpus['test']} to test), SHA-256"
      f" {corpus['sha256'][:16]}."
    ),
    "machine": f"On {record['machine']}.",
    "results": pages.table(head, lines),
    "runs": runs,
  }


def _made(row):
  """How a row was made, "" if its name says it."""
  if "command" in row:
    return f"`{row['command']}`, {row['seconds']:.0f} s"
  return row.get("settings", "")


def run(args) -> dict:
  """Measures, trains what is asked for, and keeps the page's other rows."""
  body = text.topics()
  corpus = trained.texts.describe(body)
  found = pages.stored(args.out, "text")
  kept = found if found.get("corpus") == corpus else {}
  new = classical(text.split(body))
  for name in TRAININGS if args.only is None else args.only:
    new[name] = model(name, TRAININGS[name])
  rows, machines = kept.get("rows", {}) | new, runner.machines(kept, new)
  found = dict(machine=machines, corpus=corpus, rows=rows)
  return json.loads(json.dumps(found))


def flags(parser) -> None:
  """Adds --only."""
  what = "trainings, all by default; without names, none"
  parser.add_argument("--only", nargs="*", choices=list(TRAININGS), help=what)


BENCHMARKS = {"text": runner.Benchmark(run, tables, flags=flags)}
