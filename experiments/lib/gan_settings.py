"""The settings of experiments.gan, and its presets."""

import dataclasses

from experiments.lib import tables


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of one run."""

  run_dir: str
  """Where the run's files go; the same settings resume it."""
  seed: int = 0
  """Of everything random."""
  data: str = "digits"
  """digits, ring, another toy, photos, tfds:NAME, file: or folder:PATH."""
  image_size: int = 32
  """Of photos."""
  flip: bool = False
  """Mirror half of the training images."""
  data_dir: str | None = None
  """Where tfds data sets are prepared."""

  objective: tables.ObjectiveName = "relativistic"
  """What the players make of the discriminator's scores."""
  penalty: tables.PenaltyName = "r1_r2"
  """On the discriminator's gradient."""
  penalty_weight: float = 1.0
  """Of the penalty's mean: 10 of gradient, 2 of divergence, gamma / 2 of r1."""
  penalty_last: float | None = None
  """The weight that it falls to, in the first half; None: it stays."""
  penalty_every: int = 1
  """Lazy: the penalty every so many steps, as many times the weight."""
  critic_steps: int = 1
  """Steps of the discriminator before each of the generator."""
  clip: float | None = None
  """Bound on the discriminator's weights."""
  shift: float = 0.0
  """Share of images moved by at most a pixel, real and generated alike."""

  latent: int = 2
  """Numbers that an example is made of."""
  width: int = 128
  """Features of each layer, of both players."""
  num_blocks: int = 3
  """Hidden layers of both."""
  shard: tables.ShardName = "replicated"
  """Parameters, optimizers, averages: on every device, or split over them."""

  num_steps: int = 8000
  """Steps of the generator."""
  batch_size: int = 128
  """Examples of a step."""
  learning_rate: float = 1e-2
  """Of both players' Adam, after 100 steps of warm-up at most."""
  last_rate: float = 0.02
  """Share of it that is left at the end of the cosine."""
  adam_b1: float = 0.0
  """Decay of Adam's first moment."""
  adam_b2: float = 0.9
  """Decay of its second."""
  ema_decay: tuple[float, ...] = (0.999,)
  """Of the generator's averages; the first is sampled."""
  ema_length: tuple[float, ...] = ()
  """Of EDM2's averages, relative to training."""
  snapshot_every: int = 100
  """Steps between snapshots of EDM2's averages."""

  log_every: int = 50
  """Steps between records of metrics.jsonl."""
  save_every: int = 1000
  """Steps between checkpoints."""
  keep: int = 2
  """Checkpoints kept, the latest."""
  samples_every: int = 1000
  """Steps between small sheets of samples."""


_RING = dict(data="ring")
_DIGITS = dict(
  data="digits",
  latent=32,
  width=384,
  shift=0.75,
  num_steps=4000,
  batch_size=64,
  learning_rate=1e-3,
  adam_b2=0.99,
  penalty_weight=5.0,
)
PRESETS = {
  "smoke": (
    "Digits in seconds: every part runs, nothing is learned.",
    Config(
      run_dir="runs/smoke-gan",
      data="digits",
      latent=8,
      width=16,
      num_blocks=1,
      shift=0.5,
      penalty_every=2,
      critic_steps=2,
      num_steps=20,
      batch_size=16,
      log_every=5,
      save_every=10,
      samples_every=10,
    ),
  ),
  "r3gan": (
    "R3GAN on the digits, a class asked for: minutes on two CPU cores.",
    Config(run_dir="runs/r3gan", **_DIGITS),
  ),
  "ring": (
    "R3GAN on eight narrow Gaussians: a minute on two CPU cores.",
    Config(
      run_dir="runs/ring", penalty_weight=0.15, penalty_last=0.05, **_RING
    ),
  ),
  "wgan-gp": (
    "WGAN with a gradient penalty on the ring, five steps of the critic.",
    Config(
      run_dir="runs/wgan-gp",
      objective="wasserstein",
      penalty="gradient",
      penalty_weight=0.1,
      critic_steps=5,
      num_steps=2667,
      **_RING,
    ),
  ),
  "wgan": (
    "WGAN with clipped weights on the ring: every mode, blurred.",
    Config(
      run_dir="runs/wgan",
      objective="wasserstein",
      penalty="none",
      clip=0.1,
      critic_steps=5,
      learning_rate=1e-3,
      **_RING,
    ),
  ),
  "gan": (
    "The non-saturating GAN on the ring, with no penalty: modes go missing.",
    Config(
      run_dir="runs/gan",
      objective="non_saturating",
      penalty="none",
      learning_rate=1e-3,
      **_RING,
    ),
  ),
}
