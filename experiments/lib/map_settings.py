"""The settings of experiments.transport_map, and its presets."""

import dataclasses
from typing import Literal

from experiments.lib import datasets, movers, settings, tables
from experiments.lib import run as runs

MethodName = Literal[tuple(movers.RECIPES)]  # type: ignore[valid-type]
COUNTS = (
  "num_steps",
  "inner_steps",
  "batch_size",
  "log_every",
  "save_every",
  "snapshot_every",
  "samples_every",
  "keep",
)


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of one run; None: as in the method's recipe (lib.movers)."""

  run_dir: str
  """Where the run's files go; the same settings resume it."""
  seed: int = 0
  """Of everything random."""
  data: str = "eight_gaussians"
  """Where the map leads: a toy, digits:LABEL, or others without labels."""
  source: str = "gaussian"
  """Where it starts: gaussian, or any --data of the same shape."""
  image_size: int = 32
  """Of photos."""
  flip: bool = False
  """Mirror half of the data's training images."""
  data_dir: str | None = None
  """Where tfds data sets are prepared."""

  method: MethodName = "semi_dual"
  """How the map is learned."""
  epsilon: float = 1.0
  """Of the entropic plan, in the units of |x - y|^2."""
  features: tuple[int, ...] | None = None
  """Widths of the hidden layers, of every network."""
  shard: tables.ShardName = "replicated"
  """Parameters, optimizers, averages: on every device, or split over them."""

  num_steps: int | None = None
  """Steps of the game."""
  inner_steps: int | None = None
  """Of the map in each of them, where it plays against a potential."""
  batch_size: int | None = None
  """Examples of either law in an inner step, never paired."""
  learning_rate: float | None = None
  """Of Adam, falling to a hundredth along a cosine."""
  ema_decay: tuple[float, ...] | None = None
  """Of the map's averages; the first is sampled."""
  ema_length: tuple[float, ...] = ()
  """Of EDM2's averages, relative to training."""
  snapshot_every: int = 100
  """Steps between snapshots of EDM2's averages."""

  log_every: int = 20
  """Steps between records of metrics.jsonl."""
  save_every: int = 500
  """Steps between checkpoints."""
  keep: int = 2
  """Checkpoints kept, the latest."""
  samples_every: int = 500
  """Steps between small sheets of samples."""


def resolve(config: Config) -> Config:
  """The configuration with its method's recipe where it was left open.

  Raises:
    ValueError: no such method.
  """
  recipe = tables.lookup(movers.RECIPES, config.method, "method")
  values = recipe._asdict() | dict(ema_decay=(recipe.decay,))
  del values["decay"]
  left_open = {n: v for n, v in values.items() if getattr(config, n) is None}
  return dataclasses.replace(config, **left_open)


def check(config: Config, data: datasets.Data) -> None:
  """Refuses settings that cannot be.

  Raises:
    ValueError: which, and why.
  """
  settings.known(config)
  runs.at_least(config, **dict.fromkeys(COUNTS, 1))
  settings.positive(config, "epsilon", "learning_rate")
  if min(config.features, default=0) < 1:
    raise ValueError(
      f"features: expected widths of at least 1, got {config.features}"
    )
  if config.inner_steps > 1 and config.method not in movers.GAMES:
    raise ValueError(
      f"inner_steps, method: expected 1 but for {' and '.join(movers.GAMES)},"
      f" got {config.inner_steps} for {config.method}"
    )
  if data.num_classes:
    raise ValueError(
      f"data: expected none with labels, which a map does not keep, got"
      f" {config.data} (digits:LABEL is one class)"
    )


PRESETS = {
  "smoke": (
    "A Gaussian to eight in seconds: every part runs, nothing is learned.",
    Config(
      run_dir="runs/smoke-map",
      features=(16,),
      num_steps=20,
      batch_size=32,
      log_every=5,
      save_every=10,
      samples_every=10,
    ),
  ),
  "pair": (
    "A Gaussian to eight, by the semi-dual with exact conjugates.",
    Config(run_dir="runs/map-pair"),
  ),
  "neural-ot": (
    "The same by a map that plays against a potential.",
    Config(run_dir="runs/neural-ot", method="max_min"),
  ),
  "makkuva": (
    "The same by two convex potentials that play the conjugate of each other.",
    Config(run_dir="runs/makkuva", method="makkuva"),
  ),
  "w2gn": (
    "The same by two convex potentials, inverse to one another.",
    Config(run_dir="runs/w2gn", method="w2gn"),
  ),
  "entropic": (
    "The same by the means of an entropic plan, which fall short of the data.",
    Config(run_dir="runs/entropic", method="entropic"),
  ),
  "zero-to-eight": (
    "The digit 0 to the digit 8.",
    Config(
      run_dir="runs/map-digits",
      data="digits:8",
      source="digits:0",
      method="max_min",
    ),
  ),
}
