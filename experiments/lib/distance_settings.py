"""The settings of experiments.wasserstein, and its presets."""

import dataclasses
from typing import Literal

from experiments.lib import critics, tables

CriticName = Literal[tuple(critics.RECIPES)]  # type: ignore[valid-type]


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of one run."""

  run_dir: str
  """Where the run's files go; the same settings resume it."""
  seed: int = 0
  """Of everything random."""
  data: str = "eight_gaussians"
  """One law: PATH.npz with an array points [N, D], or any --data of the other
  scripts; NAME+STD adds noise."""
  other: str = "moons"
  """The other one, of examples of the same shape."""
  image_size: int = 32
  """Of photos."""
  data_dir: str | None = None
  """Where tfds data sets are prepared."""

  critic: CriticName = "cones"
  """cones, features, orthogonal and spectral are 1-Lipschitz: their value
  bounds from below; gradient, lipschitz, divergence are penalties."""
  num_cones: int = 512
  """Of each of the two families."""
  cone_scales: tuple[float, float] = (1.0, 1.0)
  """Falling cones start at the data, rising ones at the other law, spread
  about its mean by so much."""
  num_steps: int | None = None
  """Training steps; None for the critic's own, as are the next two."""
  batch_size: int | None = None
  """Draws of each law in a step."""
  learning_rate: float | None = None
  """Of Adam, falling to 0; of clipping's RMSProp."""
  shard: tables.ShardName = "replicated"
  """Parameters and optimizer: on every device, or split over them."""

  log_every: int = 50
  """Steps between records of metrics.jsonl."""
  save_every: int = 500
  """Steps between checkpoints."""
  keep: int = 2
  """Checkpoints kept, the latest."""
  samples_every: int = 500
  """Steps between small pictures."""


PRESETS = {
  "smoke": (
    "Two laws on the plane in seconds: every part runs.",
    Config(
      run_dir="runs/smoke-w1",
      num_cones=16,
      num_steps=20,
      batch_size=64,
      log_every=5,
      save_every=10,
      samples_every=10,
    ),
  ),
  "points": (
    "Two laws on the plane, or of two files: half a minute on two CPU cores.",
    Config(run_dir="runs/w1", num_cones=128),
  ),
  "digits": (
    "Digits against noised digits, through features.",
    Config(
      run_dir="runs/w1-digits",
      data="digits",
      other="digits+0.5",
      critic="features",
    ),
  ),
}
