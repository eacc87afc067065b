"""Draws from a run, finished or under way.

  python -m experiments.sample runs/mine --number 100 --label 3 --solver churn

Writes NAME.png and NAME.npz (samples [N, *D], labels [N]) in the run directory.
"""

import dataclasses
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lib import datasets, drawing, figures, settings, tables
from experiments.lib import run as runs

MODULE = "experiments.sample"


@dataclasses.dataclass(frozen=True)
class Config:
  """What to draw; None keeps the run's own setting."""

  number: int = 100
  """Samples."""
  seed: int = 0
  """Of the draws: sample i depends on the seed and i alone."""
  label: int | None = None
  """Class of all samples; by default each class in turn."""
  name: str = "drawn"
  """Of the files."""
  chunk: int = 500
  """Samples drawn at once, which bounds the memory."""

  average: str | None = None
  """Of the run's averages, 0.999 say, or power_LENGTH: EDM2's of any length."""
  solver: tables.SolverName | None = None
  """Sampler."""
  churn: float | None = None
  """Amount of the solver churn."""
  grid: tables.GridName | None = None
  """Times of sampling."""
  sample_steps: int | None = None
  """Steps of sampling; a final denoise is one more call."""
  sample_path: tables.PathName | None = None
  """Path to sample on, which need not be that of training."""


def run(run_dir: str, config: Config) -> np.ndarray:
  """Draws, writes and returns samples [N, *D]."""
  config = settings.plain(config)
  settings.known(config)
  runs.at_least(config, number=1, chunk=1)
  runs.bare_name(config.name)
  found = drawing.read(run_dir, config)
  labels = pick_labels(config, found.data.num_classes)
  sample = drawing.sampler(found, average=config.average, chunk=config.chunk)
  samples = sample(jax.random.key(config.seed), labels, config.number)
  write(pathlib.Path(run_dir) / config.name, samples, labels, found.data)
  return samples


def pick_labels(config: Config, num_classes: int) -> jax.Array | None:
  """[N], or None where the model knows no labels."""
  if not num_classes:
    if config.label is not None:
      raise ValueError("label: expected none, the model was trained without")
    return None
  if config.label is None:
    return jnp.arange(config.number) % num_classes
  if not 0 <= config.label < num_classes:
    raise ValueError(
      f"label: expected 0 to {num_classes - 1}, got {config.label}"
    )
  return jnp.full(config.number, config.label)


def write(path: pathlib.Path, samples, labels, data: datasets.Data) -> None:
  """path.npz and path.png."""
  known = {} if labels is None else {"labels": np.asarray(labels)}
  np.savez(f"{path}.npz", samples=samples, **known)
  picture = pathlib.Path(f"{path}.png")
  if len(data.shape) == 3:
    figures.save_sheet(picture, figures.in_rows(samples))
  else:
    figures.point_samples(picture, samples, data.real[0])
  print(f"{path}.png {path}.npz: {len(samples)} samples", file=sys.stderr)


def main() -> None:
  """The command line."""
  runs.main_of_run(MODULE, __doc__, Config, run)


if __name__ == "__main__":
  main()
