"""What a codec loses of images, and how it uses its codes."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import experiment
from experiments.lib import datasets
from experiments.recipes import codecs
from jaxgen import codebooks

NUM_MEASURED = 4096  # largest number of examples of a split
PART = 64  # examples that are measured together


class Measured(NamedTuple):
  """What a codec makes of a set of images.

  Attributes:
    number: number of images.
    squared_error: of the reconstruction, mean over images and coordinates.
    counts: of each code, [M, K].
    usage: fraction of codes used, [M].
    perplexity: exp of the entropy of the codes' frequencies, [M].
  """

  number: int
  squared_error: float
  counts: np.ndarray
  usage: np.ndarray
  perplexity: np.ndarray


def measure(
  codec: codecs.Codec, params: Any, extras: Any, examples: np.ndarray
) -> Measured:
  """The error of the reconstructions and the use of the codes."""

  @jax.jit
  def run(params, extras, examples):
    def one(x):
      tokens = codec.tokens(params, extras, x)
      made = codec.image(params, extras, tokens)
      return jnp.mean((made - x) ** 2), tokens

    errors, tokens = jax.lax.map(one, examples, batch_size=PART)
    return errors, codec.counts(tokens)

  errors, counts = run(params, extras, jnp.asarray(examples))
  each = lambda fn: np.asarray(jax.vmap(fn)(counts), np.float64)
  return Measured(
    len(examples),
    float(np.asarray(errors, np.float64).mean()),
    np.asarray(counts),
    each(codebooks.usage),
    each(codebooks.perplexity),
  )


def tokens_shape(codec: codecs.Codec) -> tuple[int, int, int]:
  """(M, h, w)."""
  factor = codec.encoder.factor
  height, width, _ = codec.shape
  return codec.num_stages, height // factor, width // factor


def bits(codec: codecs.Codec) -> float:
  """Bits of the tokens of an image, all codes counted alike."""
  return math.prod(tokens_shape(codec)) * math.log2(codec.num_codes)


def of_split(
  codec: codecs.Codec,
  data: datasets.Data,
  now: experiment.Trained,
  split: str,
) -> Measured:
  """`measure` of at most NUM_MEASURED examples of a split."""
  examples = np.asarray(data.split(split)[0][:NUM_MEASURED])
  return measure(codec, now.params["model"], now.extras, examples)


def record(
  codec: codecs.Codec,
  data: datasets.Data,
  now: experiment.Trained,
) -> tuple[dict[str, Any], str]:
  """The record of result.json, of train and validation, and its text."""
  values: dict[str, Any] = dict(
    num_codes=codec.num_codes,
    tokens=list(tokens_shape(codec)),
    bits_per_image=bits(codec),
  )
  lines = [f"{codec.quantizer}, {bits(codec):.0f} bits per image"]
  for split in ("train", "validation"):
    found = of_split(codec, data, now, split)
    values[split] = dict(
      number=found.number,
      squared_error=found.squared_error,
      usage=found.usage.tolist(),
      perplexity=found.perplexity.tolist(),
    )
    usage, spread = (
      " ".join(f"{x:{form}}" for x in part)
      for part, form in ((found.usage, ".0%"), (found.perplexity, ".1f"))
    )
    lines.append(
      f"{split:<11} squared error {found.squared_error:.5f}, codes used"
      f" {usage}, perplexity {spread} of {codec.num_codes}"
    )
  return values, "\n".join(lines)
