"""Values of every flag of every script, right and wrong, for random lines.

A value is written as it is typed; alternatives are apart by "|". FILES and
TRAINED stand for the directories that benchmarks.command_lines fills.
"""

import types
from collections.abc import Mapping
from typing import NamedTuple

from experiments.lib import drawing, tables

TOYS = "gaussian|eight_gaussians|ring|moons|s_curve|checkerboard|swiss_roll"
FLOW = "|".join(tables.FLOW_SOLVERS)
VELOCITY = "|".join(
  name for name, make in tables.FLOW_SOLVERS.items() if len(make().needs) == 1
)
NO_DATA = "nosuch|''|file:|file:FILES/no.npz|file:FILES/damaged.npz|folder:no"
COUNT = "0|-3|1.5|many|''"
POSITIVE = "0|-1|nan|inf|1e999|much|''"
WORD = "nosuch|''"

# {flag: (right, wrong)} for all scripts. "" for right: the names of its type;
# for wrong, and None: no value.
FLAGS = {
  "run_dir": ("run", "''|FILES|FILES/damaged.npz|TRAINED/toy|TRAINED/gan"),
  "seed": ("0|1|7|123456", "many|1.5|''"),
  "data": (TOYS, NO_DATA),
  "source": (TOYS, NO_DATA),
  "other": (f"{TOYS}|moons+0.5|FILES/points.npz", f"{NO_DATA}|moons+1.2.3"),
  "image_size": ("8|32|100", "many|1.5|''"),
  "flip": ("False", ""),
  "data_dir": ("somewhere|'a b'", ""),
  "path": ("", WORD),
  "prediction": ("", WORD),
  "weight": ("", WORD),
  "draw": ("", WORD),
  "level_mean": ("-1.2|0|0.5", "nan|inf|1e999|much|''"),
  "level_std": ("0.5|1|1.4", POSITIVE),
  "ratio_min": ("0.005|0.01", "0|-1|nan|1e9|much|''"),
  "ratio_max": ("20|50", "0|1e-9|nan|inf|1e999|much|''"),
  "sigma_data": ("0.5|2", POSITIVE),
  "label_dropout": ("0|0.2|1", "-0.1|1.5|nan|much|''"),
  "model": ("auto|mlp", WORD),
  "width": ("4|8|12", f"{COUNT}|-8"),
  "multipliers": ("1|1 2", "x|1.5|''"),
  "attention": ("4|8", "x|1.5|''"),
  "skips": ("", WORD),
  "num_blocks": ("1|2", "-1|1.5|many|''"),
  "patch": ("1|2", COUNT),
  "num_heads": ("1|2", COUNT),
  "attention_implementation": ("xla", WORD),
  "dropout": ("0|0.1|0.5", "1|-0.1|nan|much|''"),
  "dtype": ("", WORD),
  "shard": ("", WORD),
  "num_steps": ("2|3|4|5", COUNT),
  "batch_size": ("4|8|16", COUNT),
  "learning_rate": ("1e-4|1e-3", POSITIVE),
  "adam_b1": ("0|0.5", "1|-0.1|nan|much"),
  "adam_b2": ("0.9|0.99", "1|-0.1|nan|much"),
  "schedule": ("", WORD),
  "warmup_steps": ("0|1", "-1|100|1.5|many"),
  "clip_norm": ("0.5|1|1000", POSITIVE),
  "ema_decay": ("0.9|0.5 0.99|0", "1.5|-0.1|nan|0.9 2|much|''"),
  "ema_length": ("0.1|0.05 0.1", "-1|0|0.5|nan|much|''"),
  "snapshot_every": ("1|2|100", COUNT),
  "solver": ("", WORD),
  "churn": ("0|1|10.5", "-1|nan|inf|much|''"),
  "grid": ("", WORD),
  "sample_steps": ("2|3|5", COUNT),
  "sample_path": ("", WORD),
  "log_every": ("1|2|7", COUNT),
  "save_every": ("1|2|3", COUNT),
  "keep": ("1|2|3", COUNT),
  "samples_every": ("2|100", COUNT),
  # experiments.flow_matching
  "coupling": ("independent|exact", WORD),
  "coupled_batches": ("1|2", COUNT),
  "bridge": ("none", WORD),
  "bridge_std": ("0", "-1|nan|inf|much|0.5"),
  "interpolant": ("False", "True"),
  "eps": ("0|0.5|1", "-1|nan|inf|much|''"),
  "reflow": (None, "FILES/no|FILES|TRAINED/toy|TRAINED/gan"),
  "reflow_pairs": ("32|1000", f"{COUNT}|1"),
  "loss": ("", WORD),
  "energy": ("False", ""),
  "corrections": ("1|2", COUNT),
  "snr": ("0.1|0.3", POSITIVE),
  "objective": ("", WORD),
  "penalty": ("", WORD),
  "penalty_weight": ("0.1|1|10", POSITIVE),
  "penalty_last": ("0.05|0.5", POSITIVE),
  "penalty_every": ("1|2", COUNT),
  "critic_steps": ("1|2", COUNT),
  "clip": ("0.1|1", POSITIVE),
  "shift": ("0", "-0.1|1.5|nan|0.5"),
  "latent": ("1|2|8", COUNT),
  "last_rate": ("0|0.5", "1|-0.1|nan|much"),
  # experiments.wasserstein
  "critic": ("", WORD),
  "num_cones": ("4|8|16", COUNT),
  "cone_scales": ("1 1|0 0.5", "-1 1|1 nan|inf 1|1|x y"),
  # experiments.transport_map
  "method": ("semi_dual|w2gn|entropic", WORD),
  "epsilon": ("1|5", POSITIVE),
  "features": ("8|8 8", "0|8 -1|x|1.5"),
  "inner_steps": ("1", f"{COUNT}|2"),
  # experiments.sample, evaluate and encode
  "number": ("6|20|40", COUNT),
  "label": (None, "-1|10|1.5|many"),
  "name": ("a|b.c", "''|a/b|../a"),
  "chunk": ("5|500", COUNT),
  "average": ("0.9|0.99|power_0.1|power_0.15", "nosuch|''|0.5|power_9"),
  "split": ("", WORD),
  "draws": ("1|2", COUNT),
  "step": ("2|4", "3|99|-1|many"),
  "between": ("2|3", f"{COUNT}|1"),
  "steps": ("2|4", COUNT),
}
IMAGES = dict(
  data="digits|digits:3",
  model="auto|unet",
  flip="True|False",
  attention="8",
  multipliers="1|2|1 1",
  num_blocks="1",
)
NO_IMAGES = dict(
  attention="3|0|8 5|x",
  multipliers="0|1 1 1 1 1|x",
  width="0|-8|2|many",
  num_blocks="0|-1|many",
  attention_implementation="cudnn|nosuch",
)
DIT = dict(model="dit", width="8|16", patch="2|4", num_blocks="1|2")

Values = Mapping[str, str | None]


class Base(NamedTuple):
  """A preset, or a run, that any right values go together with.

  Attributes:
    words: what the line starts with.
    always: flags of every line, which keep it small.
    right, wrong: values that are this base's own; None for none.
  """

  words: str
  always: str = "run_dir num_steps batch_size"
  right: Values = types.MappingProxyType({})
  wrong: Values = types.MappingProxyType({})


NETWORK = "run_dir num_steps warmup_steps batch_size width num_blocks"
FIELD = f"{NETWORK} sample_steps"
UNET = f"{FIELD} multipliers attention"
BETWEEN = dict(sample_path=None, solver=VELOCITY)
ONE_CALL = dict.fromkeys(drawing.SETTINGS)
BASES = {
  "edm": [
    Base("toy", FIELD),
    Base("smoke", UNET, IMAGES, NO_IMAGES),
    Base(
      "digits-dit",
      f"{FIELD} patch num_heads",
      IMAGES | DIT,
      dict(patch="0|3|many", num_heads="0|3|many", width="9|0|-8|many"),
    ),
  ],
  "flow_matching": [
    Base("pair", FIELD, BETWEEN),
    Base(
      "interpolant",
      f"{FIELD} bridge_std",
      BETWEEN
      | dict(bridge="constant|brownian", bridge_std="0.5|1", interpolant="True")
      | dict(solver=f"{VELOCITY}|euler_maruyama"),
      dict(bridge_std="0|-1|nan|inf", bridge="none", interpolant=None),
    ),
    Base(
      "interpolant",
      f"{FIELD} coupling bridge bridge_std",
      BETWEEN
      | dict(coupling="entropic", bridge="brownian", bridge_std="2|3")
      | dict(interpolant="True", solver=f"{VELOCITY}|euler_maruyama"),
      dict(bridge="none|constant", bridge_std="0|-1|nan", interpolant=None),
    ),
    Base(
      "digits",
      UNET,
      IMAGES
      | dict(data="digits", source="gaussian", solver=FLOW)
      | dict(coupling="independent|exact|conditional"),
      NO_IMAGES | dict(source="moons|nosuch"),
    ),
    Base(
      "pair",
      f"{FIELD} reflow reflow_pairs coupling",
      BETWEEN
      | dict(data=None, source=None, reflow="TRAINED/flow")
      | dict(coupling="independent"),
      dict(coupling="exact", data="ring", source="ring"),
    ),
  ],
  "score_matching": [
    Base("toy", FIELD, dict(data="gaussian|eight_gaussians|ring")),
    Base(
      "energy",
      FIELD,
      dict(energy="True", prediction="score", loss="denoising"),
      dict(energy=None, prediction="noise|edm|nosuch"),
    ),
    Base("digits", UNET, IMAGES | dict(loss="denoising|sliced"), NO_IMAGES),
  ],
  "gan": [
    Base("ring", f"{NETWORK} latent".replace("warmup_steps ", "")),
    Base(
      "smoke",
      f"{NETWORK} latent".replace("warmup_steps ", ""),
      dict(data="digits|digits:3", flip="True|False", shift="0|0.5"),
      dict(shift="-0.1|1.5|nan"),
    ),
  ],
  "wasserstein": [
    Base("points", "run_dir num_steps batch_size num_cones"),
    Base(
      "digits",
      "run_dir num_steps batch_size num_cones",
      dict(data="digits", other="digits:3|digits+0.5"),
      dict(other=f"{NO_DATA}|moons"),
    ),
  ],
  "transport_map": [
    Base("pair", "run_dir num_steps batch_size features"),
    Base(
      "neural-ot",
      "run_dir num_steps batch_size features inner_steps",
      dict(method="max_min|makkuva", inner_steps="1|2"),
      dict(inner_steps=COUNT),
    ),
  ],
  "sample": [
    Base("TRAINED/toy", "number"),
    Base("TRAINED/digits", "number", dict(label="0|3|9")),
    Base("TRAINED/flow", "number", BETWEEN),
    Base("TRAINED/gan", "number", ONE_CALL | dict(label="0|9"), ONE_CALL),
  ],
  "evaluate": [
    Base("TRAINED/toy", "number draws", dict(features="numpy:asarray")),
    Base(
      "TRAINED/flow", "number draws", BETWEEN | dict(features="numpy:asarray")
    ),
  ],
  "encode": [
    Base("TRAINED/toy", "number steps", dict(solver=FLOW)),
    Base("TRAINED/digits", "number steps", dict(solver=FLOW)),
    Base("TRAINED/flow", "number steps", BETWEEN),
  ],
}
# Settings of which each is right by itself: (script, the line).
TOGETHER = [
  ("edm", "toy --model unet"),
  ("edm", "toy --data digits --width 4 --multipliers 1"),
  ("edm", "toy --flip"),
  ("edm", "smoke --multipliers 1"),
  ("edm", "smoke --num-steps 3"),
  ("edm", "toy --path vp --ratio-max 1e9"),
  ("edm", "toy --sample-path vp --ratio-max 1e9"),
  ("edm", "photos --image-size 30"),
  ("edm", "photos --image-size 0"),
  ("edm", "digits-dit --num-heads 3"),
  ("flow_matching", "pair --bridge brownian"),
  ("flow_matching", "pair --source digits"),
  ("flow_matching", "pair --solver ancestral"),
  ("flow_matching", "pair --solver unipc_3"),
  ("flow_matching", "pair --sample-path vp"),
  ("flow_matching", "pair --coupling conditional"),
  ("flow_matching", "pair --coupling entropic"),
  ("flow_matching", "pair --batch-size 30000"),
  ("flow_matching", "interpolant --bridge-std 1e-4 --coupling entropic"),
  ("score_matching", "toy --data pinwheel --loss explicit"),
  ("score_matching", "energy --prediction noise"),
  ("score_matching", "toy --energy"),
  ("gan", "ring --shift 0.5"),
  ("wasserstein", "points --other digits"),
  ("transport_map", "pair --data digits"),
  ("transport_map", "pair --inner-steps 3"),
  ("transport_map", "neural-ot --source digits:3"),
  ("sample", "TRAINED/gan --solver heun"),
  ("sample", "TRAINED/toy --label 3"),
  ("sample", "TRAINED/flow --solver ddim"),
  ("sample", "TRAINED/w1"),
  ("evaluate", "FILES/no"),
  ("evaluate", "TRAINED/toy --number 100000"),
  ("encode", "TRAINED/digits --number 100000"),
  ("encode", "TRAINED/toy --solver ancestral"),
]
