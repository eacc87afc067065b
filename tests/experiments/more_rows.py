"""More rows of the table of scripts: masks, noise, flow maps, bridges, W1."""

from experiments import (
  bridge,
  distribution_matching,
  flow_map,
  masked,
  normalizing_flow,
  wasserstein,
)
from tests.experiments.script_parts import (
  IMAGES,
  NO_SAMPLES,
  ONE_CALL,
  PICTURES,
  PLANE,
  RATE,
  SIZES,
  Script,
)

ROWS = {
  # A network of images; keys reach its dropout and its samples.
  "masked unet": Script(
    masked,
    masked.Config(
      "",
      data="digits",
      model="unet",
      width=4,
      num_heads=1,
      num_blocks=1,
      dropout=0.2,
      label_dropout=0.3,
      sampler="unmask",
      sample_steps=3,
      **RATE | dict(batch_size=4),
    ),
    ("samples.png", "trajectory.png", "infilling.png", "result.json"),
    rejected=ONE_CALL,
  ),
  # The noise in the bins has parameters.
  "learned noise": Script(
    normalizing_flow,
    normalizing_flow.Config(
      "",
      dequantisation="learned",
      width=8,
      num_blocks=2,
      depth=1,
      num_bins=3,
      dropout=0.2,
      **RATE | dict(batch_size=4),
    ),
    PICTURES[:2],
  ),
  # Both parts of a batch have keys; the jump of both times is in the loss.
  "flow map": Script(
    flow_map,
    flow_map.Config("", method="lagrangian", **PLANE),
    (*PICTURES[:3], "calls.png", "map_errors.png"),
    ("error", "loss", "map_error"),
    ONE_CALL,
  ),
  # The teacher is the run of another row; its states have keys.
  "map of states": Script(
    flow_map,
    flow_map.Config(
      "", method="trajectories", teacher="edm", num_pairs=40, **PLANE
    ),
    (*PICTURES[:3], "calls.png", "map_errors.png"),
    ("loss", "map_error"),
    ONE_CALL,
  ),
  # A game of two, which sees the labels alone.
  "matched": Script(
    distribution_matching,
    distribution_matching.Config(
      "",
      teacher="edm images",
      critic_steps=2,
      **{k: v for k, v in IMAGES.items() if k != "sample_steps"},
    ),
    PICTURES[:2],
    ("denoiser/loss", "model/loss"),
    ONE_CALL,
  ),
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
