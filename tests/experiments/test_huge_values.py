"""Numbers that nothing can count: one line, code 2, nothing written."""

import pytest

from experiments import (
  autoregressive,
  encode,
  gan,
  masked,
  normalizing_flow,
  transport_map,
  vqgan,
  vqvae,
  wasserstein,
)
from tests.experiments import scripts

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
def test_games(exits, tmp_path, module, flag, value, most):
  run_dir = tmp_path / "run"
  flags = ["smoke", f"--{flag}", value, "--run-dir", run_dir, *GAMES[module]]
  said = f"error: {most}, got {value}\n"
  assert exits(scripts.main_of(module), *flags) == (2, said)
  assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("module", [transport_map, wasserstein])
def test_updates_of_a_player(exits, tmp_path, module):
  """Ten in a step of these games."""
  flags = ["smoke", "--num-steps", 2**30, "--run-dir", tmp_path / "run"]
  most = "--num-steps: expected at most 214748364, as a player's updates"
  said = f"error: {most} are counted in int32, got {2**30}\n"
  found = exits(scripts.main_of(module), *flags, *GAMES[module])
  assert found == (2, said)
  assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
  "module, flag, most",
  [
    (autoregressive, "num-orders", 10**5),
    (masked, "num-orders", 10**5),
    (normalizing_flow, "depth", 1000),
    (normalizing_flow, "noise-blocks", 1000),
    (vqgan, "patch-width", 2**16),
    (vqvae, "num-stages", 1000),
  ],
)
def test_what_would_not_begin_in_hours(exits, tmp_path, module, flag, most):
  flags = ["smoke", f"--{flag}", 10**8, "--run-dir", tmp_path / "run"]
  said = f"error: --{flag}: expected at most {most}, got {10**8}\n"
  assert exits(scripts.main_of(module), *flags) == (2, said)
  assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("flag", ["number", "between", "steps"])
def test_encode(exits, tmp_path, flag):
  said = f"error: --{flag}: expected at most 2147483647, got {10**12}\n"
  assert exits(encode.main, tmp_path, f"--{flag}", 10**12) == (2, said)
