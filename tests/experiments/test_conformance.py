"""What every script owes: files, resumption, refusal; one run of each.

`sample`, `evaluate` and `encode` of the same runs are checked here too.
"""

import json
import signal
import sys

import jax
import matplotlib.image
import numpy as np
import pytest

from benchmarks.checks import crashes
from experiments import encode, evaluate, sample
from experiments.lib import datasets
from experiments.lib.scripts import digest
from jaxgen.training import checkpoint, logging
from tests import expect
from tests.experiments import scripts

COMMANDS = {"sample": sample, "evaluate": evaluate, "encode": encode}
EVERY = {"config.json", "lock", "metrics.jsonl", "checkpoints", "sheets"}
EVERY |= {"curves.png"}


def _files(directory):
  """Every file and what is in it."""
  return {
    str(path.relative_to(directory)): path.read_bytes()
    for path in sorted(directory.rglob("*"))
    if path.is_file()
  }


def _lasting(directory):
  """What a resumed run must share with the unbroken one, final pictures apart:
  these are functions of the last state.
  """
  found = crashes.contents(directory)
  kept = lambda name: "/" in name or not name.endswith(".png")
  result = directory / "result.json"
  more = {"result": result.read_bytes()} if result.exists() else {}
  return {n: value for n, value in found.items() if kept(n)} | more


@pytest.fixture(scope="module", params=scripts.SCRIPTS)
def unbroken(request, tmp_path_factory):
  """(the script, its name, the directory of a run, its files at the end)."""
  directory = tmp_path_factory.mktemp("whole") / "deep" / "run"
  script = scripts.SCRIPTS[request.param]
  now = script.module.run(scripts.small(request.param, directory))
  for leaf in jax.tree.leaves(now._replace(key=0)):
    assert np.all(np.isfinite(leaf))
  return script, request.param, directory, _files(directory)


def test_the_files_of_a_run(unbroken):
  script, _, directory, files = unbroken
  config, names = script.config, {name.split("/")[0] for name in files}
  assert names == EVERY | set(script.files)
  record = json.loads(files["config.json"])
  assert record["experiment"] == script.module.__name__
  assert record["script_digest"] == digest(script.module.__file__)
  assert record["data"] == config.data and "run_dir" not in record
  if "sigma_data" in record:
    latents = getattr(config, "codec", None)  # their std is 1
    measured = 1.0 if latents else datasets.load_data(config.data).std
    assert record["sigma_data"] == round(measured, 3)
  records = logging.read(directory / "metrics.jsonl")
  assert [r["step"] for r in records] == [*range(2, config.num_steps + 1, 2)]
  for each in records:
    assert each.keys() == {"step", "seconds", *script.losses}
    assert all(np.isfinite(list(each.values()))) and each["seconds"] >= 0
  assert checkpoint.steps(directory / "checkpoints")[-1] == config.num_steps
  sheets = [name for name in files if name.startswith("sheets/")]
  suffix = "txt" if "samples.txt" in files else "png"
  assert sheets == [f"sheets/{config.samples_every:06}.{suffix}"]
  pictures = {name for name in files if name.endswith(".png")} - {*sheets}
  for picture in pictures:
    pixels = matplotlib.image.imread(directory / picture)[..., :3]
    assert min(pixels.shape[:2]) > 150 and pixels.std() > 0.03


def test_the_same_command_finds_it_done(unbroken, monkeypatch):
  script, name, directory, before = unbroken
  scripts.at_step(monkeypatch, -1, None)
  scripts.without_pictures(monkeypatch)
  script.module.run(scripts.small(name, directory))
  after = _files(directory)
  assert after | {"curves.png": b""} == before | {"curves.png": b""}


def test_an_interrupted_run_ends_as_the_unbroken_one(
  unbroken, tmp_path, monkeypatch
):
  """Before the first checkpoint by a signal; later killed, records cut back."""
  script, name, directory, _ = unbroken
  config, last = scripts.small(name, tmp_path), script.config.num_steps - 1
  kind = (signal.SIGINT, signal.SIGTERM)[len(name) % 2]
  scripts.without_pictures(monkeypatch)
  scripts.interrupt(script.module, config, 0, kind)
  assert checkpoint.steps(tmp_path / "checkpoints") == [1]
  assert not (tmp_path / "samples.png").exists()
  scripts.kill(script.module, config, last)
  assert checkpoint.steps(tmp_path / "checkpoints") == [1, 3]
  script.module.run(config)
  found, expected = _lasting(tmp_path), _lasting(directory)
  assert crashes.differing(found, expected) == []
  assert any(name.startswith("checkpoints") for name in found)


def test_another_configuration_is_rejected(unbroken):
  script, name, directory, before = unbroken
  message = r"another configuration \(seed 0 -> 5\); choose"
  config = scripts.small(name, directory, seed=5, keep=3)
  assert str(directory) in expect.error(message, script.module.run, config)
  after = _files(directory)
  assert after.keys() == before.keys()
  assert after["config.json"] == before["config.json"]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_work_or_say_why_not(
  unbroken, command, exits, monkeypatch, capsys
):
  script, _, directory, _ = unbroken
  how = dict(
    sample=["--number", "5", "--name", "found"],
    encode=["--number", "3", "--between", "2", "--name", "found"],
    evaluate=["--number", "20", "--draws", "1"],
  )
  before = {path.name for path in directory.iterdir()}
  arguments = [command, str(directory), *how[command]]
  monkeypatch.setattr(sys, "argv", arguments)
  if not hasattr(script.config, "solver"):  # one call samples, or none
    flags = {"solver": "heun", **({} if command == "encode" else {"churn": 1})}
    run = COMMANDS[command].run
    for flag, value in flags.items():
      config = COMMANDS[command].Config(**{flag: value})
      said = f"^{flag}: expected a run that"
      expect.error(said, run, str(directory), config)
  if command in script.rejected:
    code, printed = exits(COMMANDS[command].main, *arguments[1:])
    assert code == 2 and len(printed.splitlines()) == 1
    assert printed.startswith("error: ") and str(directory) in printed
    assert script.rejected[command] in printed
    assert {path.name for path in directory.iterdir()} == before
    return
  COMMANDS[command].main()
  if command == "evaluate":
    (found,) = json.loads((directory / "results.json").read_text()).values()
    assert found["step"] == script.config.num_steps and found["calls"] > 0
    values = [row["samples"] for row in found["metrics"].values()]
    measured = [value for value in values if value is not None]
    measured += [row["bits_per_dim"] for row in found["log_likelihood"]]
    assert measured and np.isfinite(measured).all()
    calls = f"{found['calls']} network calls per sample"
    assert calls in capsys.readouterr().out
    return
  stored = scripts.stored(directory / "found.npz")
  examples = stored["samples" if command == "sample" else "decoded"]
  shape = script.module.experiment(scripts.ready(script.config)).data.shape
  assert examples.shape == ({"sample": 5, "encode": 3}[command], *shape)
  assert np.isfinite(examples).all()


PRESETS = [
  pytest.param(module, config, id=f"{module.__name__}-{name}")
  for module in dict.fromkeys(s.module for s in scripts.SCRIPTS.values())
  for name, (_, config) in module.PRESETS.items()
  if not config.data.startswith(("tfds:", "folder:"))  # not on this machine
  and not getattr(config, "codec", None)  # a run that does not exist
]


@pytest.mark.parametrize("module, config", PRESETS)
def test_every_preset_builds(module, config):
  ex = module.experiment(config)
  key = ex.keys(jax.random.key(0)).players
  players = jax.eval_shape(lambda: ex.players(key))
  assert players.keys() == {turn.player for turn in ex.turns}
  assert set(ex.sampled) <= players.keys()
