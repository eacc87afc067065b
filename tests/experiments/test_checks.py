"""Errors name the setting that was given: a field in Python, a flag when typed.

Every case is one in which an inner function would name its own argument, or
one of several settings that do not fit together.
"""

import dataclasses
import importlib

import pytest

from experiments import edm
from experiments.lib import checks, command_line, training

TOY = edm.PRESETS["toy"][1]
CASES = [
  # An inner argument: decay, length, features, depth, size, std, epsilon ...
  ("edm", "toy", dict(ema_decay=(0.9, 1.5)), "ema_decay"),
  ("edm", "toy", dict(ema_length=(0.5,)), "ema_length"),
  ("edm", "toy", dict(width=0), "width"),
  ("edm", "toy", dict(num_blocks=-1), "num_blocks"),
  ("edm", "toy", dict(dropout=float("nan")), "dropout"),
  ("edm", "digits-dit", dict(num_blocks=0), "num_blocks"),
  ("edm", "digits-dit", dict(num_heads=0), "num_heads"),
  ("edm", "photos", dict(image_size=0), "image_size"),
  ("edm", "toy", dict(data="file:no.npz"), "data"),
  ("edm", "toy", dict(data="folder:no"), "data"),
  ("edm", "toy", dict(run_dir=""), "run_dir"),
  ("edm", "toy", dict(run_dir="."), "run_dir"),
  ("flow_matching", "pair", dict(source="file:no.npz"), "source"),
  ("flow_matching", "interpolant", dict(bridge_std=-1.0), "bridge_std"),
  ("flow_matching", "interpolant", dict(eps=-1.0), "eps"),
  (
    "flow_matching",
    "interpolant",
    dict(bridge_std=1e-4, coupling="entropic", batch_size=64, width=8),
    "bridge_std",
  ),
  (
    "flow_matching",
    "pair",
    dict(reflow="no", coupling="independent", width=8),
    "reflow",
  ),
  ("score_matching", "toy", dict(corrections=0), "corrections"),
  ("score_matching", "toy", dict(snr=0.0), "snr"),
  ("gan", "ring", dict(ema_decay=(-1.0,)), "ema_decay"),
  ("wasserstein", "points", dict(data="no.npz"), "data"),
  ("wasserstein", "points", dict(other="no.npz"), "other"),
  ("transport_map", "pair", dict(ema_length=(0.0,)), "ema_length"),
  ("transport_map", "pair", dict(source="folder:no"), "source"),
  # Settings that do not fit together: any of them may be the one given.
  ("edm", "toy", dict(model="unet"), "model, data"),
  ("edm", "toy", dict(flip=True), "flip, data"),
  ("edm", "toy", dict(path="vp", ratio_max=1e9), "path, ratio_min, ratio_max"),
  (
    "edm",
    "toy",
    dict(sample_path="vp", ratio_max=1e9),
    "sample_path, ratio_min, ratio_max",
  ),
  ("edm", "smoke", dict(num_steps=3), "warmup_steps, num_steps"),
  ("edm", "smoke", dict(multipliers=(1,)), "attention, multipliers, data"),
  ("edm", "smoke", dict(multipliers=(1,) * 5), "multipliers, data"),
  ("edm", "digits-dit", dict(patch=3), "patch, data"),
  ("edm", "photos", dict(image_size=30), "multipliers, data, image_size"),
  (
    "flow_matching",
    "pair",
    dict(batch_size=30_000),
    "reflow_pairs, batch_size",
  ),
  ("flow_matching", "pair", dict(solver="ddim"), "solver, source, bridge"),
  (
    "flow_matching",
    "interpolant",
    dict(solver="unipc_3"),
    "solver, source, bridge",
  ),
  ("gan", "ring", dict(shift=0.5), "shift, data"),
  ("wasserstein", "points", dict(other="digits"), "other, data"),
  ("transport_map", "pair", dict(inner_steps=2), "inner_steps, method"),
]


@pytest.mark.parametrize("script, preset, changes, names", CASES)
def test_an_error_names_the_setting(
  monkeypatch, tmp_path, script, preset, changes, names
):
  (tmp_path / "thesis.tex").write_text("dear to someone")
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(training, "train", lambda *_: pytest.fail("trains"))
  module = importlib.import_module(f"experiments.{script}")
  config = dataclasses.replace(module.PRESETS[preset][1], run_dir="run")
  with pytest.raises((ValueError, OSError)) as caught:
    module.run(dataclasses.replace(config, **changes))
  said = str(caught.value)
  assert said.partition(": ")[0] == names and "\n" not in said
  flags = ", ".join(f"--{n.replace('_', '-')}" for n in names.split(", "))
  typed = checks.as_flags(caught.value, type(config))
  assert typed == flags + said.removeprefix(names)
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
    with (
      pytest.raises(SystemExit),
      command_line.one_line("edm", "runs/a", edm.Config),
    ):
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
