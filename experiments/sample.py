"""Samples from a run, whether it is finished or still training.

  python -m experiments.sample runs/mine --number 100 --label 3 --solver churn
  python -m experiments.sample runs/mine --number 12 --interpolate 3 17

With --interpolate the samples lie between two held-out examples, if the run can
encode them.
Writes NAME.png and NAME.npz (samples [N, *D], labels [N]) in the run directory;
for text, NAME.txt in place of the picture.
"""

import dataclasses
import pathlib
import sys
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from experiments import settings
from experiments.lib import checks, command_line, samples
from experiments.lib.datasets import Data
from experiments.pictures import figures, planes, texts


@dataclasses.dataclass(frozen=True)
class Config(settings.Sampled):
  """Settings of sample; None keeps the run's own setting."""

  number: int = 100
  """Number of samples, at least 1."""
  seed: int = 0
  """Seed of the samples; sample i depends only on the seed and i."""
  label: int | Literal["none"] | None = None
  """Class of all samples, from 0, or none for the null label; the default
  cycles through the classes."""
  interpolate: tuple[int, int] | None = None
  """Positions of two held-out examples, from 0: samples are decoded from points
  between their latents, ends included; None draws them."""
  name: str = "drawn"
  """Name of the files, without a folder."""


def run(run_dir: str, config: Config) -> np.ndarray:
  """Computes, writes and returns samples [N, *D]."""
  config = checks.plain(config)
  checks.known(config)
  checks.at_least(config, number=1, chunk=1)
  checks.bare_name(config.name)
  if config.interpolate is not None:
    return _interpolate(run_dir, config)
  ex = samples.read(run_dir, config, config.script)
  if config.label == "none":
    ex = samples.unlabelled(ex)
  labels = pick_labels(config, ex.data.num_classes)
  sample = samples.sampler(ex, average=config.average, chunk=config.chunk)
  found = sample(jax.random.key(config.seed), labels, config.number)
  write(pathlib.Path(run_dir) / config.name, found, labels, ex.data)
  return found


def _interpolate(run_dir, config):
  """Writes and returns samples between two examples [N, *D]."""
  checks.at_least(config, number=2)
  samples.check_coding(config)
  if config.label is not None:
    raise ValueError(
      "label, interpolate: expected None between two examples, which have their"
      f" own label, got {config.label}"
    )
  ex = samples.read(run_dir, config, config.script, **samples.CODING)
  ends, average = config.interpolate, config.average
  found, labels = samples.between(ex, ends, config.number, average)
  write(pathlib.Path(run_dir) / config.name, found, labels, ex.data)
  return found


def pick_labels(config: Config, num_classes: int) -> jax.Array | None:
  """Labels [N], or None if the model has no labels."""
  if config.label == "none":
    return None
  if not num_classes:
    if config.label is not None:
      raise ValueError("label: expected None for a model without labels")
    return None
  if config.label is None:
    return jnp.arange(config.number) % num_classes
  if not 0 <= config.label < num_classes:
    raise ValueError(
      f"label: expected 0 to {num_classes - 1}, got {config.label}"
    )
  return jnp.full(config.number, config.label)


def write(path: pathlib.Path, found, labels, data: Data) -> None:
  """Writes path.npz, and path.png or for text path.txt."""
  known = {} if labels is None else {"labels": np.asarray(labels)}
  np.savez(f"{path}.npz", samples=found, **known)
  picture = pathlib.Path(f"{path}.{'png' if data.to_bytes is None else 'txt'}")
  if data.to_bytes is not None:
    texts.write(picture, found, data.to_bytes)
  elif len(data.shape) == 3:
    figures.save_sheet(picture, figures.in_rows(found))
  else:
    planes.samples(picture, found, data.real[0])
  print(f"{picture} {path}.npz: {len(found)} samples", file=sys.stderr)


def main() -> None:
  """The command line."""
  command_line.main_of_run(__file__, __doc__, Config, run)


if __name__ == "__main__":
  main()
