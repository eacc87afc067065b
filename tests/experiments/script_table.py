"""The table of every script, with a small run of each."""

from typing import Any

from experiments import (
  autoregressive,
  edm,
  flow_matching,
  gan,
  glann,
  information_bottleneck,
  latent_diffusion,
  masked,
  normalizing_flow,
  score_matching,
  text,
  transport_map,
  vae,
  vqgan,
  vqvae,
)
from tests.experiments import more_rows
from tests.experiments.script_parts import (
  IMAGES,
  LATENT,
  MAP,
  NETWORK,
  NO_SAMPLES,
  NO_SAMPLES_BUT_CODES,
  ONE_CALL,
  PICTURES,
  PLANE,
  RATE,
  SIZES,
  SMALL_CODEC,
  SMALL_GAN,
  SMALL_NEIGHBOURS,
  SMALL_VAE,
  Script,
)


def of_map(method: str, *players: str, **changes: Any) -> Script:
  """The transport map of a method."""
  sizes = SIZES | dict(features=(8,), num_steps=4, samples_every=4) | changes
  config = transport_map.Config("", source="moons", method=method, **sizes)
  losses = tuple(f"{player}/loss" for player in players) or ("loss",)
  return Script(transport_map, config, MAP, losses, ONE_CALL)


SCRIPTS = {
  "edm": Script(edm, edm.Config("", **PLANE), PICTURES),
  # Dropout and null labels are drawn in training: their keys must resume too.
  "edm images": Script(
    edm, edm.Config("", **IMAGES, dropout=0.2, label_dropout=0.3), PICTURES[:2]
  ),
  # It stops inside a pool of coupled batches.
  "flow": Script(
    flow_matching,
    flow_matching.Config(
      "", source="moons", coupling="exact", coupled_batches=2, **PLANE
    ),
    (*PICTURES, "straightness.png"),
  ),
  "score": Script(
    score_matching,
    score_matching.Config(
      "", loss="sliced_vr", solver="annealed", corrections=2, **PLANE
    ),
    PICTURES,
  ),
  "gan": Script(
    gan,
    gan.Config("", **SMALL_GAN),
    ("samples.png", "modes.png"),
    (
      *("discriminator/loss", "discriminator/gap", "discriminator/penalty"),
      "generator/loss",
    ),
    ONE_CALL,
  ),
  "o-gan": Script(
    gan,
    gan.Config("", latent=3, correlation=0.5, **SMALL_GAN),
    ("samples.png", "modes.png", "reconstructions.png", "result.json"),
    (
      *("discriminator/correlation", "discriminator/loss"),
      *("discriminator/gap", "discriminator/penalty", "generator/loss"),
    ),
  ),
  # It stops in both stages; noise and the rows of latents must resume too.
  "glann": Script(
    glann,
    glann.Config("", data="moons", latent=3, glo_steps=2, **SMALL_NEIGHBOURS),
    ("samples.png", "reconstructions.png", "result.json"),
    ("generator/loss", "map/loss"),
    ONE_CALL,
  ),
  "imle": Script(
    glann,
    glann.Config(
      "",
      method="imle",
      distance="features",
      glo_steps=0,
      epsilon=0.5,
      **SMALL_NEIGHBOURS,
    ),
    ("samples.png", "result.json"),
    rejected=ONE_CALL,
  ),
  "normalizing flow": Script(
    normalizing_flow,
    normalizing_flow.Config(
      "", data="moons", width=8, num_blocks=2, depth=1, num_bins=3, **RATE
    ),
    (*PICTURES[:3], "density.png"),
  ),
  # Labels, dropout and both kinds of noise have keys in training.
  "tarflow": Script(
    normalizing_flow,
    normalizing_flow.Config(
      "",
      model="tarflow",
      width=8,
      num_blocks=2,
      depth=1,
      dropout=0.2,
      label_dropout=0.3,
      noise=0.1,
      guidance=1.5,
      **RATE | dict(batch_size=4),
    ),
    PICTURES[:2],
  ),
  # The running error of the decoder must resume too.
  "vae": Script(
    vae,
    vae.Config(
      "",
      data="eight_gaussians",
      likelihood="gaussian",
      std="calibrated",
      free_bits=0.1,
      **SMALL_VAE,
    ),
    LATENT,
    ("kl", "loss"),
  ),
  # Hidden coordinates, dropout and null labels are drawn in training.
  "vae images": Script(
    vae,
    vae.Config(
      "",
      data="binary_digits",
      objective="dreg",
      likelihood="bernoulli",
      num_draws=3,
      hidden=0.3,
      dropout=0.2,
      label_dropout=0.5,
      **SMALL_VAE,
    ),
    (*LATENT, "traversals.png"),
    ("kl", "loss"),
  ),
  "bottleneck": Script(
    information_bottleneck,
    information_bottleneck.Config(
      "", betas=(0.01, 0.5), width=8, num_blocks=1, dropout=0.2, **SIZES
    ),
    ("curve.png", "result.json"),
    ("loss", "rate"),
    NO_SAMPLES,
  ),
  # The codebooks and their statistics must resume too; restarts have keys.
  "residual vqvae": Script(
    vqvae,
    vqvae.Config("", quantizer="residual", restart=0.9, **SMALL_CODEC),
    ("reconstructions.png", "usage.png", "result.json"),
    ("commitment", "distortion", "loss", "perplexity"),
    NO_SAMPLES_BUT_CODES,
  ),
  # The noise of the latents has a key.
  "gaussian vqvae": Script(
    vqvae,
    vqvae.Config("", quantizer="gaussian", **SMALL_CODEC),
    ("reconstructions.png", "result.json"),
    ("distortion", "kl", "loss"),
    NO_SAMPLES_BUT_CODES,
  ),
  # The game begins between two checkpoints; both players must resume.
  "vqgan": Script(
    vqgan,
    vqgan.Config("", start_step=2, patch_width=4, **SMALL_CODEC),
    ("reconstructions.png", "usage.png", "result.json"),
    (
      *("discriminator/gap", "discriminator/loss", "model/commitment"),
      *("model/generator", "model/loss", "model/perplexity"),
      *("model/reconstruction", "model/weight"),
    ),
    NO_SAMPLES_BUT_CODES,
  ),
  # Orders, and the grid of points, are in training and in the density.
  "made": Script(
    autoregressive,
    autoregressive.Config(
      "",
      data="moons",
      model="made",
      num_bins=6,
      num_orders=2,
      width=8,
      num_blocks=1,
      **RATE,
    ),
    ("samples.png", "density.png"),
    rejected=ONE_CALL,
  ),
  # Labels and dropout have keys in training; samples have a cache.
  "causal transformer": Script(
    autoregressive,
    autoregressive.Config(
      "",
      data="binary_digits",
      model="transformer",
      width=8,
      num_heads=2,
      num_blocks=1,
      window=3,
      dropout=0.2,
      label_dropout=0.3,
      **RATE | dict(batch_size=4),
    ),
    ("samples.png",),
    rejected=ONE_CALL,
  ),
  # Masks, labels and dropout have keys in training; solvers in samples.
  "masked": Script(
    masked,
    masked.Config(
      "",
      data="binary_digits",
      model="mlp",
      width=8,
      num_blocks=1,
      dropout=0.2,
      label_dropout=0.3,
      sampler="confident",
      sample_steps=3,
      guidance=1.5,
      **RATE | dict(batch_size=4),
    ),
    ("samples.png", "trajectory.png", "infilling.png", "result.json"),
    rejected=ONE_CALL,
  ),
  # The codec is the run of another row; scripts.ready trains it.
  "latent": Script(
    latent_diffusion,
    latent_diffusion.Config(
      "",
      codec="vae images",
      data="binary_digits",
      label_dropout=0.3,
      **NETWORK,
      **SIZES,
    ),
    ("samples.png", "trajectory.png"),
  ),
  # Windows, masks and dropout have keys in training; there are no pictures.
  "text": Script(
    text,
    text.Config(
      "",
      model="masked",
      length=8,
      width=8,
      num_heads=2,
      num_blocks=1,
      dropout=0.2,
      sample_steps=3,
      **RATE | dict(batch_size=4),
    ),
    ("samples.txt", "result.json"),
    rejected=ONE_CALL,
  ),
  "map semi_dual": of_map("semi_dual"),
  "map max_min": of_map("max_min", "map", "potential", inner_steps=3),
  "map makkuva": of_map("makkuva", "map", "potential", inner_steps=2),
  "map w2gn": of_map("w2gn"),
  "map entropic": of_map("entropic", "duals", "map"),
  **more_rows.ROWS,
}
