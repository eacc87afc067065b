"""Two stages beside one: decoded samples of latents and tokens, and their cost.

  python -m benchmarks two_stages                    all: half an hour on a core
  python -m benchmarks two_stages --only digits
  python -m benchmarks two_stages --only --repeats 9     the cost alone

Trains under runs/quality, the first stages too; finished runs are not trained
again, and rows that are not asked for keep their figures. The rows of one
stage, EDM of pixels, are those of the page of quality, which are not trained
here. The cost of a sample is that of one call of the jitted sampler of a batch,
the decoder included, beside EDM's of pixels with the same solver and steps; it
does not depend on the weights.
"""

import dataclasses
import json

import jax
import numpy as np

from benchmarks import codecs, pages, quality, runner, trained
from benchmarks.speed import timing

PIXELS = {"digits": ("digits", "seed 0"), "photos": ("photos", "EDM")}
# Row: (first stage, run, flags).
TRAININGS = {
  "digits": {
    "latent diffusion": (
      "kl-digits",
      "latent-digits",
      "latent_diffusion digits",
    ),
    "masked tokens": ("vqvae-digits", "masked-tokens", "masked tokens"),
    **{
      f"masked tokens, seed {seed}": (
        "vqvae-digits",
        f"masked-tokens-{seed}",
        f"masked tokens --seed {seed}",
      )
      for seed in (1, 2)
    },
    "causal tokens": (
      "vqvae-digits",
      "causal-tokens",
      "autoregressive tokens",
    ),
  },
  "photos": {
    "latent diffusion": (
      "kl-photos",
      "latent-photos",
      "latent_diffusion photos",
    ),
  },
}
BATCH = 36  # samples of a call
LIMIT = 0.5  # of the cost of a sample of pixels


def measure(data: str, row: str) -> dict:
  """The row of one second stage; its first stage is trained before it."""
  first, run, flags = TRAININGS[data][row]
  codec, _ = quality.train(first, codecs.TRAININGS[first])
  return quality.measure(run, f"{flags} --codec {codec}")


def cost(data: str, repeats: int) -> dict:
  """The time of a batch of latent samples beside one of pixels."""
  first = TRAININGS[data]["latent diffusion"][0]
  codec, _ = quality.train(first, codecs.TRAININGS[first])
  latent = trained.latent_diffusion.PRESETS[data][1]
  latent = dataclasses.replace(latent, run_dir="", codec=str(codec))
  pixel = dataclasses.replace(trained.edm.PRESETS[data][1], run_dir="")
  calls = (
    _sampler(trained.latent_diffusion.experiment(latent)),
    _sampler(trained.edm.experiment(pixel)),
  )
  return timing.beside(data, *calls, repeats, limit=LIMIT)


def _sampler(ex):
  """() -> BATCH samples, with initial parameters."""
  params = {"model": ex.players(jax.random.key(0))["model"]}
  sample = trained.samples.make_sampler(ex)
  keys = jax.random.split(jax.random.key(1), BATCH)
  labels = np.arange(BATCH) % ex.data.num_classes
  many = jax.jit(lambda params: sample(params, {}, keys, labels)[1])
  return lambda: many(params)


def tables(record: dict) -> dict:
  """The parts of the page."""
  parts = {"machine": f"On {record['machine']}."}
  head = "data | ratio | limit | latent, ms | pixels, ms"
  parts["cost"] = timing.ratios(record["cost"], head)
  for data, rows in record["rows"].items():
    for split in quality.SPLITS:
      parts[f"{data}, {split}"] = quality.block(rows, split)
    parts[f"{data}, runs"] = [
      f"- {name}: `{row['command']}`, {row['seconds']:.0f} s"
      for name, row in rows.items()
    ]
  return parts


def run(args) -> dict:
  """Trains and measures what is asked for, and keeps the page's other rows."""
  found = pages.stored(args.out, "two_stages")
  one_stage = pages.stored(args.out, "quality")
  rows = found.get("rows", {})
  names = TRAININGS if args.only is None else args.only
  machines = runner.machines(found, names)
  for data in names:
    part, name = PIXELS[data]
    rows[data] = {"EDM of pixels": one_stage[part]["rows"][name]}
    for row in TRAININGS[data]:
      rows[data][row] = measure(data, row)
  costs = [cost(data, args.repeats) for data in TRAININGS]
  record = dict(machine=machines, rows=rows, cost=costs)
  return json.loads(json.dumps(record))


def flags(parser) -> None:
  """Adds --only."""
  what = "data sets, all by default; without names, none"
  parser.add_argument("--only", nargs="*", choices=list(TRAININGS), help=what)


BENCHMARKS = {
  "two_stages": runner.Benchmark(run, tables, {"repeats": 9}, flags)
}
