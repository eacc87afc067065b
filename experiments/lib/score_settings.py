"""The settings of experiments.score_matching, and its presets."""

import dataclasses

from experiments.lib import edm_settings, tables


@dataclasses.dataclass(frozen=True)
class Config(edm_settings.Config):
  """Settings of one run: those of experiments.edm, and those of the loss."""

  loss: tables.LossName = "denoising"
  """implicit takes a product with the Jacobian a coordinate; explicit needs
  --data with a known score."""
  energy: bool = False
  """Learn a scalar whose gradient is the score."""
  corrections: int = 5
  """Langevin steps at a level, of annealed and predictor_corrector."""
  snr: float = 0.25
  """Their signal-to-noise ratio."""


# lambda(sigma) = sigma^2 on the score's error, as NCSN.
_NCSN = dict(prediction="score", weight="noise")
PRESETS = {
  "smoke": (
    "Eight Gaussians in seconds: every part runs, nothing is learned.",
    Config(
      run_dir="runs/smoke-score",
      data="eight_gaussians",
      loss="sliced_vr",
      width=16,
      num_blocks=1,
      solver="annealed",
      **edm_settings.SMOKE,
    ),
  ),
  "digits": (
    "NCSN: noise-conditional scores, annealed Langevin; a minute to train.",
    Config(
      run_dir="runs/score-digits",
      **_NCSN,
      solver="annealed",
      grid="log_snr",
      ratio_min=0.01,
      ratio_max=50.0,
      sample_steps=100,
    ),
  ),
  "digits-pc": (
    "The same scores by predictor and corrector.",
    Config(
      run_dir="runs/score-digits-pc",
      **_NCSN,
      solver="predictor_corrector",
      sample_steps=60,
      corrections=1,
      snr=0.16,
    ),
  ),
  "photos": (
    "32 x 32 crops of two photographs: ten minutes on two CPU cores.",
    Config(
      run_dir="runs/score-photos",
      # Not the score itself, which at noise 80 takes more digits than this
      # training teaches: colours drift off.
      weight="noise",
      **edm_settings.PHOTOS,
      solver="predictor_corrector",
      sample_steps=60,
      corrections=1,
      snr=0.16,
    ),
  ),
  "toy": (
    "A law on the plane, by Hyvarinen's loss at every level.",
    Config(
      run_dir="runs/score-toy",
      loss="implicit",
      solver="annealed",
      grid="log_snr",
      ratio_min=0.02,
      sample_steps=60,
      **edm_settings.POINTS,
    ),
  ),
  "energy": (
    "The same law as an energy, its gradient trained by denoising.",
    Config(
      run_dir="runs/energy",
      energy=True,
      **_NCSN,
      solver="annealed",
      grid="log_snr",
      ratio_min=0.02,
      sample_steps=60,
      **edm_settings.POINTS,
    ),
  ),
}
