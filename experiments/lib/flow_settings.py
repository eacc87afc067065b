"""The settings of experiments.flow_matching, and its presets."""

import dataclasses
from typing import Literal

from experiments.lib import edm_settings, tables


@dataclasses.dataclass(frozen=True)
class Config(edm_settings.Config):
  """Settings of one run: those of experiments.edm, and those of pairs."""

  source: str = "gaussian"
  """Where the flow starts: gaussian, or any --data of the same shape."""
  coupling: tables.CouplingName = "independent"
  """Of data and source in a batch: exact optimal transport, entropic (with
  --bridge brownian), conditional: C2OT within each label."""
  coupled_batches: int = 1
  """Batches that are coupled at once."""
  bridge: tables.BridgeName = "none"
  """Noise between the ends: none, constant or brownian."""
  bridge_std: float = 0.0
  """Its standard deviation, or the bridge's diffusion."""
  interpolant: bool = False
  """Learn the denoiser too, for samplers with noise: needs a bridge."""
  eps: float = 1.0
  """Of euler_maruyama between data sets: the noise's rate is eps gamma(t)."""
  reflow: str | None = None
  """Run directory whose flow makes the pairs."""
  reflow_pairs: int = 20_000
  """Pairs that it makes."""

  path: Literal["linear", "trigonometric"] = "linear"
  """x_t = alpha(t) data + sigma(t) source."""
  prediction: Literal["velocity"] = "velocity"
  """What the network outputs."""
  level_mean: float = 0.0
  """Mean of log(sigma / alpha) in the normal draw."""
  level_std: float = 1.0
  """Its standard deviation."""
  solver: tables.SolverName = "euler"
  """Sampler."""
  grid: tables.GridName = "uniform"
  """Times of sampling."""
  sample_steps: int = 50
  """Steps of sampling; from noise a final denoise is one more call."""


_POINTS = edm_settings.POINTS | dict(
  level_mean=0.0,
  batch_size=256,
  draw="uniform",
  ratio_min=1e-4,
  ratio_max=1e4,
)

PRESETS = {
  "smoke": (
    "Moons to eight Gaussians in seconds: every part runs.",
    Config(
      run_dir="runs/smoke-flow",
      data="eight_gaussians",
      source="moons",
      coupling="exact",
      width=16,
      num_blocks=1,
      **edm_settings.SMOKE,
    ),
  ),
  "digits": (
    "Noise to class-conditional digits: two to four minutes on two CPU cores.",
    Config(run_dir="runs/flow-digits", grid="karras"),
  ),
  "zero-to-eight": (
    "The digit 0 to the digit 8, by optimal transport of each batch.",
    Config(
      run_dir="runs/zero-to-eight",
      data="digits:8",
      source="digits:0",
      coupling="exact",
      draw="uniform",
      ratio_min=1e-3,
      ratio_max=1e3,
      num_steps=1500,
      learning_rate=2e-3,
    ),
  ),
  "photos": (
    "Noise to 32 x 32 crops of two photographs: ten minutes on two cores.",
    Config(
      run_dir="runs/flow-photos",
      grid="karras",
      **edm_settings.PHOTOS,
    ),
  ),
  "pair": (
    "A law on the plane to another, by optimal transport of each batch.",
    Config(
      run_dir="runs/pair",
      source="moons",
      coupling="exact",
      **_POINTS,
    ),
  ),
  "interpolant": (
    "A stochastic interpolant between two laws: a flow and SDEs of one model.",
    Config(
      run_dir="runs/interpolant",
      source="moons",
      bridge="brownian",
      bridge_std=1.0,
      interpolant=True,
      **_POINTS | dict(ratio_min=1e-2, ratio_max=1e2),
    ),
  ),
}
