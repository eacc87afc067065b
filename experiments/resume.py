"""Goes on with a run from its directory alone, with some settings changed.

  python -m experiments.resume runs/mine
  python -m experiments.resume runs/mine --num-steps 5200

The same as the run's own command with these settings: num_steps, how often
files are written, and how samples are made. config.json lists the changes. A
learning rate that depends on num_steps, such as a cosine, follows the new
number from the present step on.
"""

import dataclasses
from typing import Any

from experiments import settings
from experiments.lib import checks, command_line, scripts
from experiments.lib import run as runs


@dataclasses.dataclass(frozen=True)
class Config(settings.Resampled, settings.Process):
  """Settings of resume; None keeps the run's own setting."""

  script: str | None = None
  """File of the run's script; required for scripts outside experiments/."""
  num_steps: int | None = None
  """Number of training steps in all, at least those done."""
  log_every: int | None = None
  """Number of steps between records of metrics.jsonl."""
  save_every: int | None = None
  """Number of steps between checkpoints."""
  keep: int | None = None
  """Number of latest checkpoints that are kept."""
  samples_every: int | None = None
  """Number of steps between small sheets of samples."""


def run(run_dir: str, config: Config) -> Any:
  """Trains on; returns what the script's own `run` returns."""
  record = runs.read_config(run_dir)
  module = scripts.of_run(record, run_dir, config.script)
  found = runs.config_from(record, module.Config, run_dir)
  asked = {k: v for k, v in vars(config).items() if v is not None}
  asked.pop("script", None)
  if odd := [name for name in asked if not hasattr(found, name)]:
    raise ValueError(f"{odd[0]}: runs of this script have no such setting")
  checks.known(config)
  return module.run(checks.replace(found, run_dir=run_dir, **asked))


def main() -> None:
  """The command line."""
  command_line.main_of_run(__file__, __doc__, Config, run)


if __name__ == "__main__":
  main()
