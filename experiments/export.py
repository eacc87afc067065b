"""Writes the averaged weights of a run to one safetensors file.

  python -m experiments.export runs/mine
  python -m experiments.export runs/mine --file weights.safetensors

Any safetensors library reads the file. Its names are PLAYER/PATH, such as
model/params/conv_in/kernel; its metadata are JSON: script, step, average and
settings. A run starts from it with --start FILE; experiments.load reads it with
run(RUN, file=FILE).
"""

import dataclasses
import pathlib
import sys

import jax

from experiments import settings
from experiments.lib import averages, command_line, samples, weights
from experiments.lib import run as runs
from jaxgen.training import checkpoint


@dataclasses.dataclass(frozen=True)
class Config(settings.Read):
  """Settings of export."""

  step: int | None = None
  """Step of the checkpoint; None is the latest."""
  file: str | None = None
  """File to write, ending in .safetensors; None is weights.safetensors in the
  run directory."""


def run(run_dir: str, config: Config) -> pathlib.Path:
  """Writes the file and returns its path."""
  ex = samples.read(run_dir, script=config.script)
  place = config.file or str(pathlib.Path(run_dir) / f"weights{weights.ENDING}")
  if not place.endswith(weights.ENDING):
    raise ValueError(f"file: expected an ending {weights.ENDING}, got {place}")
  params, _ = averages.load(ex, config.step, config.average)
  last = checkpoint.steps(runs.checkpoints(run_dir))[-1]
  record = runs.read_config(run_dir)
  about = dict(
    step=last if config.step is None else config.step,
    average=config.average or next(iter(averages.rules(ex.config))),
    config=record,
  )
  weights.write_file(place, params, about)
  print(f"{place}: {len(jax.tree.leaves(params))} arrays", file=sys.stderr)
  return pathlib.Path(place)


def main() -> None:
  """The command line."""
  command_line.main_of_run(__file__, __doc__, Config, run)


if __name__ == "__main__":
  main()
