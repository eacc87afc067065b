"""Errors name the setting that was given: a field in Python, a flag when typed.

Among the cases are those in which an inner function would name its own
argument, and those of several settings that do not fit together.
"""

import dataclasses
import re

import pytest

from experiments import edm, flow_matching
from experiments.lib import checks, command_line, training
from tests.experiments import scripts

NAN, INF = float("nan"), float("inf")
TOY = edm.PRESETS["toy"][1]
ONE_OF_EACH = {s.module: name for name, s in scripts.SCRIPTS.items()}.values()
BASES = {name: s[:2] for name, s in scripts.SCRIPTS.items()}
for module in (flow_matching, edm):  # of two presets of one name edm's
  BASES |= {name: (module, c) for name, (_, c) in module.PRESETS.items()}
# Configuration: {changes of it: what is said of them}.
EVERY = [
  (dict(num_steps=-3), "num_steps: expected at least 1, got -3"),
  (dict(num_steps=10**11), "num_steps: expected at most 21474"),
  (dict(batch_size=0), "batch_size: expected at least 1, got 0"),
  (dict(log_every=0), "log_every: expected at least 1, got 0"),
  (dict(save_every=0), "save_every: expected at least 1, got 0"),
  (dict(samples_every=0), "samples_every: expected at least 1, got 0"),
  (dict(keep=0), "keep: expected at least 1, got 0"),
  (dict(learning_rate=NAN), "learning_rate: expected a positive"),
  (dict(learning_rate=INF), "learning_rate: expected a positive"),
  (dict(seed=-1), "seed: expected 0 to 4294967295"),
  (dict(shard="half"), "shard: expected one of replicated"),
  (dict(data="moon"), "data: expected .*(eight_gaussians|docs).* got 'moon'"),
  (dict(data="file:missing.npz"), "data: .*missing.npz"),
  (dict(flip=True), "flip(, data)?: expected images"),
  (dict(ema_decay=(1.5,)), "ema_decay: expected"),
  (dict(ema_decay=()), "ema_decay, ema_length: expected at least one"),
]
OWN = {
  "edm": [
    (dict(ema_decay=(0.9, 1.5)), "ema_decay: "),
    (dict(ema_length=(0.5,)), "ema_length: "),
    (dict(width=0), "width: expected at least 1"),
    (dict(num_blocks=-1), "num_blocks: "),
    (dict(dropout=NAN), "dropout: "),
    (dict(dropout=1.5), "dropout: expected"),
    (dict(data="file:no.npz"), "data: "),
    (dict(data="folder:no"), "data: "),
    (dict(run_dir=""), "run_dir: "),
    (dict(run_dir="."), "run_dir: "),
    (dict(sample_steps=-1), "sample_steps: expected at least 1, got -1"),
    (dict(level_mean=NAN), "level_mean: expected finite"),
    (dict(level_std=0.0), "level_std: expected a positive number, got 0.0"),
    (dict(ratio_min=-1.0), "ratio_min, ratio_max: expected 0 < ratio_min < ra"),
    (dict(ratio_min=2.0, ratio_max=1.0), "ratio_min, ratio_max: expected 0 <"),
    (dict(label_dropout=1.5), "label_dropout: expected 0 to 1, got 1.5"),
    (dict(warmup_steps=6), "warmup_steps, num_steps: .* got 6 and 6"),
    (dict(solver="churn", churn=-1.0), "churn: expected"),
    (dict(model="unet"), "model, data: .*for points, got unet"),
    (dict(model="dit"), "model, data: .*for points, got dit"),
    (dict(flip=True), "flip, data: "),
    (dict(path="vp", ratio_max=1e9), "path, ratio_min, ratio_max: "),
    (
      dict(sample_path="vp", ratio_max=1e9),
      "sample_path, ratio_min, ratio_max: ",
    ),
  ],
  "smoke": [
    (dict(num_steps=3), "warmup_steps, num_steps: "),
    (dict(image_size=32), "image_size: expected None for points and digits"),
    (dict(attention=(5,)), r"attention, multipliers, data: .*\[8, 4\], got"),
    (dict(multipliers=()), "multipliers: expected at least 1"),
    (
      dict(multipliers=(1,) * 5),
      "multipliers, data: expected sides of at least 16 pixels.* got 8 x 8",
    ),
    (dict(width=3), "width: .*multiple of 4.*got 3"),
    (dict(width=144), "width: .*of 32 above 128.*got 144"),
    (
      dict(attention_implementation="cudnn"),
      "attention_implementation, dtype: expected xla",
    ),
  ],
  "digits-dit": [
    (dict(num_blocks=0), "num_blocks: "),
    (dict(num_heads=0), "num_heads: "),
    (dict(patch=9), "patch, data: expected sides of at least 9 .* got 8 x 8"),
  ],
  "photos": [
    (dict(image_size=0), "image_size: expected 1 to 16384, got 0"),
    (dict(image_size=10**6), "image_size: expected 1 to 16384, got 1000000"),
    (dict(image_size=300), "image_size: expected 1 to 213 pixels, got 300"),
    (dict(image_size=3), "multipliers, data: expected sides of at least 4"),
  ],
  "flow": [
    (dict(source="file:no.npz"), "source: "),
    (dict(source="digits"), r"source, data: expected examples \[2\]"),
    (dict(source="mons"), "source: expected one of"),
    (dict(coupling="conditional"), "coupling, data: expected data with"),
    (dict(coupling="entropic"), "coupling, bridge: expected brownian"),
    (dict(coupling="nearest"), "coupling: expected one of"),
    (dict(bridge="brown", bridge_std=1.0), "bridge: expected one of"),
    (dict(bridge="constant"), "bridge_std, bridge: expected 0 for none"),
    (dict(bridge_std=0.1), "bridge_std, bridge: expected 0 for none"),
    (dict(interpolant=True), "interpolant, bridge: expected a bridge"),
    (dict(reflow="runs/a"), "coupling, reflow: expected independent"),
    (dict(reflow="no", coupling="independent"), "reflow: "),
    (dict(solver="ancestral"), "solver, source, .*: expected a deterministic"),
    (dict(solver="ddim"), "solver, source, bridge: "),
    (dict(source="gaussian", solver="churn"), "solver, source, .*: expected"),
    (dict(sample_path="linear"), "sample_path, source, bridge: expected"),
    (dict(coupled_batches=0), "coupled_batches: expected at least 1"),
    (dict(path="edm"), "path: expected one of linear, trigonometric, got"),
    (dict(prediction="noise"), "prediction: expected one of velocity, got"),
  ],
  "pair": [(dict(batch_size=30_000), "reflow_pairs, batch_size: ")],
  "interpolant": [
    (dict(bridge_std=-1.0), "bridge_std: "),
    (dict(eps=-1.0), "eps: "),
    (dict(bridge_std=1e-4, coupling="entropic", batch_size=64), "bridge_std: "),
    (dict(solver="unipc_3"), "solver, source, bridge: "),
  ],
  "score": [
    (dict(loss="slice"), "loss: expected one of denoising, explicit"),
    (dict(loss="explicit", data="pinwheel"), "loss, data: expected data"),
    (
      dict(loss="denoising", energy=True),
      "prediction, energy: expected score .* got edm",
    ),
    (dict(corrections=0), "corrections: expected at least 1, got 0"),
    (dict(snr=0.0), "snr: expected a positive number, got 0.0"),
  ],
  "gan": [
    *(
      ({name: 0}, f"{name}: expected at least 1, got 0")
      for name in ("latent", "penalty_every", "critic_steps", "num_blocks")
    ),
    (dict(width=0), "width: expected at least 1, got 0"),
    (dict(num_steps=0), "num_steps: expected at least 1, got 0"),
    (dict(objective="wassertein"), "objective: expected one of original"),
    (dict(penalty="r3"), "penalty: expected one of none"),
    (dict(data="digits", shift=2.0), "shift: expected 0 to 1, got 2.0"),
    (dict(data="digits", shift=NAN), "shift: expected 0 to 1"),
    (dict(shift=0.5), "shift, data: "),
    (dict(clip=-1.0), "clip: expected a positive number, got -1.0"),
    (dict(clip=0.0), "clip: expected a positive number, got 0.0"),
    (dict(penalty_weight=0.0), "penalty_weight: expected a positive number"),
    (dict(penalty_last=-1.0), "penalty_last: expected a positive number"),
    (dict(last_rate=1.0), "last_rate: expected 0 to below 1, got 1.0"),
    (dict(adam_b1=-0.1), "adam_b1: expected 0 to below 1, got -0.1"),
    (dict(adam_b2=1.0), "adam_b2: expected 0 to below 1, got 1.0"),
    (dict(ema_decay=(-1.0,)), "ema_decay: "),
  ],
  "vqgan": [
    *(
      (dict([(name, -1.0)]), f"{name}: expected a number of at least 0, got")
      for name in ("feature_weight", "game_weight", "kl_weight", "beta")
    ),
    (dict(patch_rate=0.0), "patch_rate: expected a positive number, got"),
    (dict(adam_b1=1.0), "adam_b1: expected 0 to below 1, got 1.0"),
    (dict(patch_width=0), "patch_width: expected at least 1, got 0"),
    (dict(patch_levels=0), "patch_levels: expected 1 to 6, got 0"),
    (dict(patch_levels=7), "patch_levels: expected 1 to 6, got 7"),
    (dict(start_step=-1), "start_step: expected 0 to 5, got -1"),
    (dict(start_step=6), "start_step: expected 0 to 5, got 6"),
    (dict(data="moons"), "data: expected images, got moons"),
    (dict(error="huber"), "error: expected one of absolute, squared, got"),
    (dict(objective="wassertein"), "objective: expected one of original"),
    (dict(features="vgg"), "features: expected one of none, random, disc"),
    (dict(features="vgg:net"), "features: expected module:function, got 'vgg"),
    (dict(features="math:pi"), "features: expected a function, got math:pi"),
    # NumPy's functions cannot be traced.
    (dict(features="numpy:sort"), "features: numpy:sort fails on images"),
  ],
  "glann": [
    *(
      ({name: 0}, f"{name}: expected at least 1, got 0")
      for name in ("pool", "chunk", "latent", "noise", "width", "num_blocks")
    ),
    (dict(distance="lpips"), "distance: expected one of pixels, features"),
    (dict(distance="features"), "distance, data: expected images with labels"),
    (dict(method="glo"), "method: expected one of glann, imle, got"),
    (dict(latent_rate=0.0), "latent_rate: expected a positive number, got"),
    (dict(adam_b1=1.0), "adam_b1: expected 0 to below 1, got 1.0"),
    (dict(adam_b2=-0.1), "adam_b2: expected 0 to below 1, got -0.1"),
    (dict(epsilon=-1.0), "epsilon: expected"),
    (dict(epsilon=1.0), "epsilon, method: expected 0 for glann, got 1.0"),
    (dict(glo_steps=0), "glo_steps, num_steps, method: expected 1 to below"),
    (
      dict(glo_steps=6),
      "glo_steps, num_steps, method: .* got 6 of 6 for glann",
    ),
    (dict(method="imle"), "glo_steps, num_steps, method: .* 0 for imle, got"),
    (dict(data="digits", flip=True), "flip: expected images that stay"),
  ],
  "wasserstein": [
    (dict(data="no.npz"), "data: "),
    (dict(data="mooons"), "data: expected PATH.npz"),
    (dict(data="moons+"), "data: expected"),
    (dict(other="no.npz"), "other: "),
    (dict(other="mooons"), "other: expected PATH.npz"),
    (dict(other="moons+1.2.3"), r"other: expected NAME\+STD"),
    (dict(other="digits"), r"other, data: expected examples \[2\]"),
    (dict(critic="conez"), "critic: expected one of cones"),
    (dict(num_cones=0), "num_cones: expected at least 1"),
    (dict(cone_scales=(1.0, -1.0)), "cone_scales: expected numbers"),
  ],
  "latent": [
    (dict(codec="run"), "codec: run: no such run directory"),
    (dict(data="digits:3", codec=None), "codec: expected the run directory"),
    (dict(data="photos"), r"codec: expected a run on examples \[32, 32, 3\]"),
    (dict(model="unet"), "model, data: .*for points, got unet"),
  ],
  "map semi_dual": [
    (dict(ema_length=(0.0,)), "ema_length: "),
    (dict(source="folder:no"), "source: "),
    (dict(source="digits:0"), r"source, data: expected examples \[2\]"),
    (dict(source="mons"), "source: expected one of"),
    (dict(data="digits", source="digits"), "data: expected a dataset without"),
    (dict(method="semidual"), "method: expected one of"),
    (dict(epsilon=0.0), "epsilon: expected a positive"),
    (dict(epsilon=-1.0), "epsilon: expected a positive"),
    (dict(features=(8, 0)), "features: expected widths"),
    (dict(features=()), "features: expected widths"),
    (dict(inner_steps=3), "inner_steps, method: expected 1 for methods"),
    (dict(method="max_min", inner_steps=0), "inner_steps: expected at least"),
  ],
}


def _applies(name, changes):
  """Whether the script has the setting; images may be mirrored."""
  config = BASES[name][1]
  mirrored = "flip" in changes and "digits" in config.data
  return all(hasattr(config, field) for field in changes) and not mirrored


@pytest.mark.parametrize(
  "name, changes, message",
  [(n, *row) for n in ONE_OF_EACH for row in EVERY if _applies(n, row[0])]
  + [(name, *row) for name, rows in OWN.items() for row in rows],
)
def test_an_error_names_the_setting(
  monkeypatch, tmp_path, name, changes, message
):
  """In one line, before anything is trained or written."""
  module, config = BASES[name][0], scripts.ready(BASES[name][1])
  (tmp_path / "thesis.tex").write_text("dear to someone")
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(training, "train", lambda *_: pytest.fail("trains"))
  with pytest.raises((ValueError, OSError)) as caught:
    module.run(dataclasses.replace(config, **{"run_dir": "run"} | changes))
  said = str(caught.value)
  assert re.match(message, said) and "\n" not in said, said
  names, _, rest = said.partition(": ")
  assert re.fullmatch(message.partition(": ")[0], names)
  flags = ", ".join(f"--{n.replace('_', '-')}" for n in names.split(", "))
  assert checks.as_flags(caught.value, type(config)) == f"{flags}: {rest}"
  assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("kind", [ValueError, OSError, FileNotFoundError])
def test_naming(kind):
  def says(said, owner=None, **names):
    with pytest.raises(kind) as caught, checks.naming(TOY, owner, **names):
      raise kind(said)
    assert type(caught.value) is kind
    return str(caught.value)

  # An argument becomes its setting, several become each once, one stays.
  assert says("decay: got 2", decay="ema_decay") == "ema_decay: got 2"
  ends = dict(low="path, ratio_min", high="path, ratio_max")
  said = says("low, high: got 2, 1: x", **ends)
  assert said == "path, ratio_min, ratio_max: got 2, 1: x"
  assert says("flip: got 2", "data", decay="ema_decay") == "flip: got 2"
  assert says("flip: got 2", flip="flip, data") == "flip, data: got 2"
  # What names no setting is the owner's, or stays.
  assert says("a.npz: none", "data") == "data: a.npz: none"
  assert says("a.npz: none") == "a.npz: none"
  assert says("decay, x: got 2", decay="ema_decay") == "decay, x: got 2"


def test_a_name_is_spelled_as_a_flag_on_the_command_line(capsys):
  for said, printed in [
    ("num_steps, seed: got 0", "error: --num-steps, --seed: got 0\n"),
    ("path, other: num_steps", "error: --path, other: num_steps\n"),
    ("runs/a: no num_steps: 1", "error: runs/a: no num_steps: 1\n"),
    ("num_steps", "error: num_steps\n"),
  ]:
    one_line = command_line.one_line("edm", "runs/a", edm.Config)
    with pytest.raises(SystemExit), one_line:
      raise ValueError(said)
    assert capsys.readouterr().err == printed


@pytest.mark.parametrize(
  "changes",
  [
    dict(schedule="cosin"),
    dict(dtype="float16"),
    dict(model="vit"),
    dict(skips=None),
    dict(sample_path="edm2"),
  ],
)
def test_a_name_of_a_literal_is_one_of_its_names(changes):
  checks.known(TOY)
  [name] = changes
  config = dataclasses.replace(TOY, **changes)
  with pytest.raises(ValueError, match=f"^{name}: expected one of .*, got "):
    checks.known(config)
