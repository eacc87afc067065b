"""Settings and files that several rows of the table of scripts share."""

import types
from typing import Any, NamedTuple

# An odd period of checkpoints, so that a run stops between two of them.
SIZES = dict(num_steps=6, batch_size=16, log_every=2, save_every=3)
SIZES |= dict(samples_every=6)
NETWORK = dict(width=16, num_blocks=1, warmup_steps=2, sample_steps=3)
PLANE = dict(data="eight_gaussians", **NETWORK, **SIZES)
IMAGES = SIZES | NETWORK | dict(width=8, batch_size=4)
IMAGES |= dict(multipliers=(1, 1), attention=())
RATE = SIZES | dict(warmup_steps=2)
PENALTY = dict(penalty_last=0.5, penalty_every=2, critic_steps=3)
SMALL_GAN = dict(data="ring", width=8, num_blocks=1, **PENALTY, **SIZES)
PICTURES = ("samples.png", "trajectory.png", "paths.png", "fields.png")
MAP = ("samples.png", "trajectory.png", "paths.png", "map.png", "result.json")


SMALL_VAE = dict(latent=2, width=8, num_blocks=1, num_weights=8)
SMALL_VAE |= dict(warmup_steps=2, **SIZES)
SMALL_NEIGHBOURS = dict(noise=2, width=8, num_blocks=1, pool=12, **SIZES)
SMALL_CODEC = dict(width=4, latent=3, num_codes=5, **RATE | dict(batch_size=4))


class Script(NamedTuple):
  """A script and a small run of it.

  Attributes:
    module: the script.
    config: settings of the run, without run_dir.
    files: what the run leaves beside what every run leaves.
    losses: names in metrics.jsonl beside step and seconds.
    rejected: {command: what it says where it has nothing to do}.
  """

  module: types.ModuleType
  config: Any
  files: tuple[str, ...]
  losses: tuple[str, ...] = ("loss",)
  rejected: dict[str, str] = {}  # noqa: RUF012


ONE_CALL = {"encode": "has no encoder"}
NO_SAMPLES = ONE_CALL | {
  "sample": "a run of this script has no samples",
  "evaluate": "a run of this script has no samples",
}
NO_SAMPLES_BUT_CODES = {k: v for k, v in NO_SAMPLES.items() if k != "encode"}
LATENT = ("samples.png", "reconstructions.png", "latents.png", "result.json")
