"""What autoencoders lose: errors, sharpness and distances of reconstructions.

  python -m benchmarks codecs                  all: an hour on one CPU core
  python -m benchmarks codecs --only kl-digits vqgan-digits

First stages of two-stage models, of three kinds, on digits and photos. Trains
under runs/quality; finished runs are not trained again, and rows that are not
asked for keep their figures.

The squared error is per coordinate, of images in [-1, 1]; the sharpness is
jaxgen.metrics.sharpness, in decibels from the originals. The Frechet distance
and KID compare the reconstructions with the originals themselves, in the
features of the classifier of `evaluate` (for photos: of temple and flower). As
these are pairs, KID leaves out the kernel of an image and its own
reconstruction, and both distances are 0 for a perfect codec. Use is the share
of codes that occur, or of coordinates that are active.
"""

import json

import jax
import numpy as np

from benchmarks import pages, quality, runner, trained
from jaxgen.metrics import frechet, kernel, latents, sharpness
from jaxgen.training import logging

SPLITS = ("validation", "test")
PART = 64  # images that are coded together
TRAININGS = {
  "vqvae-digits": "vqvae digits",
  "vqgan-digits": "vqgan digits",
  "kl-digits": "vqvae digits-kl",
  "vqvae-photos": "vqvae photos",
  "vqgan-photos": "vqgan photos",
  "vqgan-photos-momentum": (
    "vqgan photos --adam-b1 0.9 --game-weight 0.5 --feature-weight 1"
  ),
  "kl-photos": "vqvae photos-kl",
}
DATA = ("digits", "photos")


def reconstructed(ex, now, examples: np.ndarray) -> tuple:
  """(latents [N, ...], reconstructions [N, H, W, C]) of images."""

  def one(x):
    latent = ex.encode(*now, x, None)
    return latent, ex.decode(*now, latent, None)

  run = jax.jit(lambda x: jax.lax.map(one, x, batch_size=PART))
  return tuple(np.asarray(part) for part in run(examples))


def use(ex, found: np.ndarray) -> float:
  """The share of codes that occur, or of coordinates that are active."""
  if ex.num_codes is None:
    means = found.reshape(len(found), -1)
    return int(latents.active_units(means).number) / means.shape[1]
  stages = np.moveaxis(found, 1, 0)
  return float(np.mean([len(np.unique(s)) / ex.num_codes for s in stages]))


def paired(a: np.ndarray, b: np.ndarray) -> float:
  """The squared kernel distance of paired features [N, K] each.

    mean over i != j of k(a_i, a_j) + k(b_i, b_j) - k(a_i, b_j) - k(b_i, a_j)

  Reference: Gretton et al. 2012, JMLR 13, lemma 6 and eq. 4.
  """
  number = len(a)

  def mean(x, y):
    table = kernel.polynomial(x, y)
    return (table.sum() - np.trace(table)) / (number * (number - 1))

  return float(mean(a, a) + mean(b, b) - 2 * mean(a, b))


def judged(ex, now, split: str) -> dict:
  """The figures of one split."""
  ref = trained.quality.reference(ex.data, split)
  real = np.asarray(ref.held_out[0])
  found, made = reconstructed(ex, now, real)
  features = np.asarray(ref.features(made), np.float64)
  return dict(
    number=len(real),
    squared_error=float(np.mean((np.float64(made) - real) ** 2)),
    sharpness=float(sharpness.sharpness(made, real)),
    frechet=frechet.distance(features, ref.held_out_features),
    kid=paired(features, ref.held_out_features),
    use=use(ex, found),
  )


def measure(name: str) -> dict:
  """The row of one training."""
  run_dir, command = quality.train(name, TRAININGS[name])
  ex = trained.samples.read(run_dir)
  now = trained.averages.load(ex)
  record = json.loads((run_dir / "result.json").read_text())
  seconds = logging.read(run_dir / "metrics.jsonl")[-1]["seconds"]
  size = f"{np.prod(record['latent'])} numbers"
  if "bits_per_image" in record:
    size = f"{record['bits_per_image']:.0f} bits"
  found: dict = dict(command=command, seconds=seconds, size=size)
  for split in SPLITS:
    found[split] = judged(ex, now, split)
    print(name, split, found[split], flush=True)
  return found


def tables(record: dict) -> dict:
  """The parts of the page."""
  rows, parts = record["rows"], {"machine": f"On {record['machine']}."}
  head = "codec | latent | squared error | sharpness, dB | Frechet | KID | use"
  columns = dict(squared_error=".5f", sharpness=".2f", frechet=".3f")
  columns |= dict(kid=".4f", use=".0%")
  for data in DATA:
    lines = []
    for name in TRAININGS:
      codec, own, *more = name.split("-")
      if own != data:
        continue
      codec = ", ".join((codec, *more))
      row = rows.get(name)
      if row is None:
        lines.append((codec, "Not measured.", *[""] * len(columns)))
        continue
      pair = lambda key, form, row=row: " / ".join(
        f"{row[split][key]:{form}}" for split in SPLITS
      )
      cells = (pair(key, form) for key, form in columns.items())
      lines.append((codec, row["size"], *cells))
    parts[data] = pages.table(head, lines)
  parts["runs"] = [
    f"- {name}: `{row['command']}`, {row['seconds']:.0f} s"
    for name, row in rows.items()
  ]
  return parts


BENCHMARKS = {
  "codecs": runner.of_rows("codecs", tuple(TRAININGS), measure, tables)
}
