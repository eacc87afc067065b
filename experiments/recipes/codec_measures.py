"""What a codec loses of images, and how it uses its latents."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import experiment
from experiments.lib import datasets
from experiments.recipes import codecs
from jaxgen import codebooks
from jaxgen.losses import variational
from jaxgen.metrics import latents, sharpness

NUM_MEASURED = 4096  # largest number of examples of a split
PART = 64  # examples that are measured together
NUM_SHOWN = 48  # images of a picture


class Codes(NamedTuple):
  """The use of codes.

  Attributes:
    counts: of each code, [M, K].
    usage: fraction of codes used, [M].
    perplexity: exp of the entropy of the codes' frequencies, [M].
  """

  counts: np.ndarray
  usage: np.ndarray
  perplexity: np.ndarray


class Posteriors(NamedTuple):
  """The use of Gaussian latents.

  Attributes:
    kl: KL of the posterior to N(0, I), mean over images of the sum, in nats.
    active: number of coordinates whose posterior mean depends on the image.
    std: standard deviation over images and coordinates of the means.
  """

  kl: float
  active: int
  std: float


class Measured(NamedTuple):
  """What a codec makes of a set of images.

  Attributes:
    number: number of images.
    squared_error: of the reconstruction, mean over images and coordinates.
    sharpness: of the reconstructions, in decibels from the originals; None if
      it is not finite.
    latents: Codes or Posteriors.
  """

  number: int
  squared_error: float
  sharpness: float | None
  latents: Any


def measure(
  codec: codecs.Codec, params: Any, extras: Any, examples: np.ndarray
) -> Measured:
  """The error of the reconstructions and the use of the latents."""

  @jax.jit
  def run(params, extras, examples):
    def one(x):
      latent = codec.latent(params, extras, x)
      made = codec.image(params, extras, latent)
      kl = jnp.zeros(())
      if codec.is_gaussian:
        kl = variational.kl(codec.posterior(params, x)).sum()
      return made, latent, kl

    return jax.lax.map(one, examples, batch_size=PART)

  made, found, kls = run(params, extras, jnp.asarray(examples))
  if codec.is_gaussian:
    means = found.reshape(len(found), -1)
    active = int(jax.jit(latents.active_units)(means).number)
    use: Any = Posteriors(_mean(kls), active, float(np.asarray(means).std()))
  else:
    counts = jax.jit(codec.counts)(found)
    each = lambda fn: np.asarray(jax.vmap(fn)(counts), np.float64)
    shares = each(codebooks.usage), each(codebooks.perplexity)
    use = Codes(np.asarray(counts), *shares)
  errors = (np.asarray(made, np.float64) - examples) ** 2
  sharp = float(jax.jit(sharpness.sharpness)(made, jnp.asarray(examples)))
  sharp = sharp if math.isfinite(sharp) else None
  return Measured(len(examples), _mean(errors), sharp, use)


def _mean(values):
  return float(np.asarray(values, np.float64).mean())


def latent_shape(codec: codecs.Codec) -> tuple[int, int, int]:
  """(M, h, w) of tokens, or (h, w, D) of numbers."""
  factor = codec.encoder.factor
  height, width = (side // factor for side in codec.shape[:2])
  if codec.is_gaussian:
    return height, width, codec.encoder.latent // 2
  return codec.num_stages, height, width


def size(codec: codecs.Codec) -> str:
  """The size of a latent in words: bits with all codes alike, or numbers."""
  number = math.prod(latent_shape(codec))
  if codec.num_codes is None:
    return f"{number} numbers"
  return f"{number * math.log2(codec.num_codes):.0f} bits"


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
  values: dict[str, Any] = dict(latent=list(latent_shape(codec)))
  if codec.num_codes is not None:
    number = math.prod(latent_shape(codec))
    values["num_codes"] = codec.num_codes
    values["bits_per_image"] = number * math.log2(codec.num_codes)
  lines = [f"{codec.quantizer}, {size(codec)} per image"]
  for split in ("train", "validation"):
    found = of_split(codec, data, now, split)
    use, text = _use(codec, found.latents)
    values[split] = dict(
      number=found.number,
      squared_error=found.squared_error,
      sharpness=found.sharpness,
      **use,
    )
    sharp = "none" if found.sharpness is None else f"{found.sharpness:.2f} dB"
    lines.append(
      f"{split:<11} squared error {found.squared_error:.5f}, sharpness {sharp},"
      f" {text}"
    )
  return values, "\n".join(lines)


def _use(codec, found):
  """The record of the use of latents, and its text."""
  if codec.is_gaussian:
    number = math.prod(latent_shape(codec))
    text = f"KL {found.kl:.1f} nats, active units {found.active} of {number}"
    return found._asdict(), text
  usage, spread = (
    " ".join(f"{x:{form}}" for x in part)
    for part, form in ((found.usage, ".0%"), (found.perplexity, ".1f"))
  )
  text = f"codes used {usage}, perplexity {spread} of {codec.num_codes}"
  parts = dict(usage=found.usage.tolist(), perplexity=found.perplexity.tolist())
  return parts, text


def shown(
  codec: codecs.Codec, data: datasets.Data, now: experiment.Trained
) -> tuple[np.ndarray, np.ndarray, str, str]:
  """Held-out images, their reconstructions, what these are, and a title."""
  examples = data.real[0][:NUM_SHOWN]
  params, extras = now.params["model"], now.extras

  @jax.jit
  @jax.vmap
  def made(x):
    return codec.image(params, extras, codec.latent(params, extras, x))

  title = f"held-out images from {size(codec)} each"
  return examples, np.asarray(made(examples)), "decoded", title


def counts(
  codec: codecs.Codec, data: datasets.Data, now: experiment.Trained
) -> dict[str, np.ndarray]:
  """{split: how often each code is used, [M, K]}."""
  splits = ("train", "validation")
  return {s: of_split(codec, data, now, s).latents.counts for s in splits}
