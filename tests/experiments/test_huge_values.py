"""Numbers that nothing can count: one line, code 2, nothing written."""

import sys

import pytest

from experiments import encode, gan, transport_map, wasserstein
from experiments.lib import command_line


def _exit(monkeypatch, capsys, main, arguments):
  """What a command prints in this process; its code is 2."""
  monkeypatch.setattr(sys, "argv", ["script.py", *map(str, arguments)])
  with pytest.raises(SystemExit) as caught:
    main()
  assert caught.value.code == 2
  printed = "".join(capsys.readouterr())
  assert len(printed.splitlines()) == 1
  return printed


GAMES = {
  gan: ["--data", "ring", "--shift", 0, "--critic-steps", 10],
  transport_map: ["--method", "max_min", "--inner-steps", 10],
  wasserstein: ["--critic", "max_min"],
}


@pytest.mark.parametrize("module", GAMES)
@pytest.mark.parametrize(
  "flag, value, most",
  [
    ("seed", 2**63, "--seed: expected 0 to 4294967295 (32 bits)"),
    ("num-steps", 10**11, "--num-steps: expected at most 2147483647"),
    ("samples-every", 10**12, "--samples-every: expected at most 2147483647"),
  ],
)
def test_games(monkeypatch, capsys, tmp_path, module, flag, value, most):
  run_dir = tmp_path / "run"
  flags = ["smoke", f"--{flag}", value, "--run-dir", run_dir, *GAMES[module]]
  main = lambda: command_line.main(module.__file__, module.PRESETS, module.run)
  printed = _exit(monkeypatch, capsys, main, flags)
  assert printed == f"error: {most}, got {value}\n"
  assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("module", [transport_map, wasserstein])
def test_updates_of_a_player(monkeypatch, capsys, tmp_path, module):
  """Ten in a step of these games."""
  flags = ["smoke", "--num-steps", 2**30, "--run-dir", tmp_path / "run"]
  main = lambda: command_line.main(module.__file__, module.PRESETS, module.run)
  printed = _exit(monkeypatch, capsys, main, [*flags, *GAMES[module]])
  most = "--num-steps: expected at most 214748364, as a player's updates"
  assert printed == f"error: {most} are counted in int32, got {2**30}\n"
  assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("flag", ["number", "between", "steps"])
def test_encode(monkeypatch, capsys, tmp_path, flag):
  arguments = [tmp_path, f"--{flag}", 10**12]
  printed = _exit(monkeypatch, capsys, encode.main, arguments)
  most = f"--{flag}: expected at most 2147483647"
  assert printed == f"error: {most}, got {10**12}\n"
