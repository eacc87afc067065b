"""Further rows of the table of scripts: bridges, and W1 critics."""

from experiments import bridge, wasserstein
from tests.experiments.script_parts import (
  IMAGES,
  NO_SAMPLES,
  ONE_CALL,
  PLANE,
  SIZES,
  Script,
)

ROWS = {
  # Pairs are simulated for both players, and kept; it stops between two sets.
  "bridge": Script(
    bridge,
    bridge.Config(
      "",
      source="moons",
      coupled_steps=2,
      refresh=2,
      pool=2,
      pair_steps=2,
      dropout=0.2,
      **PLANE,
    ),
    ("samples.png", "trajectory.png", "paths.png", "to_source.png"),
    ("to_data/loss", "to_source/loss"),
  ),
  "paired": Script(
    bridge,
    bridge.Config(
      "",
      method="paired",
      source="pooled",
      condition=True,
      solver="ancestral",
      **IMAGES,
    ),
    ("samples.png", "trajectory.png", "restored.png", "result.json"),
    rejected=ONE_CALL,
  ),
  "wasserstein": Script(
    wasserstein,
    wasserstein.Config("", num_cones=8, **SIZES),
    ("potential.png", "result.json"),
    ("loss",),
    NO_SAMPLES,
  ),
}
