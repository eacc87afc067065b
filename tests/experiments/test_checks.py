"""Errors name the setting that was given: a field in Python, a flag when typed.

Among the cases are those in which an inner function would name its own
argument, and those of several settings that do not fit together.
"""

import dataclasses
import re

import numpy as np
import pytest

from experiments import (
  autoregressive,
  edm,
  flow_matching,
  masked,
  normalizing_flow,
  vae,
)
from experiments.lib import checks, command_line, training
from tests import expect
from tests.experiments import fault_table, scripts

TOY = edm.PRESETS["toy"][1]
ONE_OF_EACH = {s.module: name for name, s in scripts.SCRIPTS.items()}.values()
BASES = {name: s[:2] for name, s in scripts.SCRIPTS.items()}
for module in (flow_matching, edm):  # of two presets of one name edm's
  BASES |= {name: (module, c) for name, (_, c) in module.PRESETS.items()}


def _applies(name, changes):
  """Whether the script has the setting; images may be mirrored."""
  config = BASES[name][1]
  mirrored = "flip" in changes and "digits" in config.data
  return all(hasattr(config, field) for field in changes) and not mirrored


@pytest.mark.parametrize(
  "name, changes, message",
  [
    (n, *row)
    for n in ONE_OF_EACH
    for row in fault_table.EVERY
    if _applies(n, row[0])
  ]
  + [(name, *row) for name, rows in fault_table.OWN.items() for row in rows],
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


@pytest.mark.parametrize(
  "module, said",
  [
    (normalizing_flow, "data: expected examples that differ, got file:.*npz"),
    (vae, "data: expected examples that differ, got file:.*npz"),
    (edm, "data: .* deviation 0; give sigma_data"),
    (autoregressive, "data: expected points that differ, got equal ones"),
    (masked, "data: expected points that differ, got equal ones"),
  ],
)
def test_points_that_are_all_equal(module, said, tmp_path):
  path = tmp_path / "equal.npz"
  np.savez(path, points=np.ones((50, 2), "float32"))
  toy = module.PRESETS["toy"][1]
  config = dataclasses.replace(toy, run_dir="", data=f"file:{path}")
  expect.error(said, module.experiment, config)
