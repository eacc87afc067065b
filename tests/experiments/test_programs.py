"""The cache of compiled programs."""

import os
import pathlib
import stat

import pytest

from experiments.lib import programs
from tests import processes

PROGRAM = """
import jax, jax.numpy as jnp
from experiments.lib import programs

programs.use()
# Keeps every program: how long compiling takes depends on the machine.
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
found = []
jax.monitoring.register_event_listener(
  lambda name, **_: found.append(name.rpartition("/")[2])
)
f = jax.jit(lambda x: jnp.linalg.eigh(jnp.sin(x) @ x.T).eigenvalues.sum())
f(jnp.eye(64)).block_until_ready()
print(found.count("cache_hits"), jax.config.jax_compilation_cache_dir)
"""


@pytest.fixture
def files(tmp_path):
  return programs.Files(tmp_path, max_bytes=1000)


def _only(path):
  (file,) = path.iterdir()
  return file


def test_a_program_comes_back(files, tmp_path):
  assert files.get("a") is None
  files.put("a", b"program")
  assert files.get("a") == b"program" and files.get("b") is None
  assert _only(tmp_path).name.startswith("a-")


@pytest.mark.parametrize("kept", [0, 10, 32, 38])
def test_a_file_that_is_not_whole_is_absent_and_written_again(
  files, tmp_path, kept
):
  files.put("a", b"program")
  path = _only(tmp_path)
  path.write_bytes(path.read_bytes()[:kept])
  assert files.get("a") is None
  files.put("a", b"program")
  assert files.get("a") == b"program"


def test_another_cpu_has_programs_of_its_own(files, monkeypatch):
  files.put("a", b"program")
  monkeypatch.setattr(programs, "cpu_features", lambda: "other")
  assert files.get("a") is None


def test_the_least_recently_used_go_first(files, tmp_path):
  for i, key in enumerate("abc"):
    files.put(key, bytes(300 - 32))
    os.utime(files._file(key), (i, i))
  assert files.get("a") is not None  # is now the latest
  files.put("d", bytes(300 - 32))
  assert {p.name[0] for p in tmp_path.iterdir()} == {"a", "c", "d"}


def test_a_full_disk_or_a_missing_folder_stores_nothing(tmp_path):
  files = programs.Files(tmp_path / "absent")
  files.put("a", b"program")
  assert files.get("a") is None and not list(tmp_path.iterdir())


def test_the_folder_belongs_to_the_user_alone(tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  path = programs.directory()
  assert path == tmp_path / "jaxgen"
  assert stat.S_IMODE(path.stat().st_mode) == 0o700
  path.chmod(0o777)
  assert stat.S_IMODE(programs.directory().stat().st_mode) == 0o700


def test_a_folder_of_somebody_else_is_not_used(tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  (tmp_path / "theirs").mkdir()
  (tmp_path / "jaxgen").symlink_to(tmp_path / "theirs")
  assert programs.directory() is None
  (tmp_path / "jaxgen").unlink()
  assert programs.directory() is not None
  monkeypatch.setattr(os, "getuid", lambda: os.stat(tmp_path).st_uid + 1)
  assert programs.directory() is None


def test_a_second_process_finds_the_programs_of_the_first(
  tmp_path, monkeypatch
):
  monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
  monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", False)
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  first, second = (processes.python("-W", "error", "-c", PROGRAM) for _ in "ab")
  assert first.stdout.split() == ["0", str(tmp_path / "jaxgen")], first.stderr
  count, _ = second.stdout.split()
  assert int(count) >= 1, second.stderr
  for path in (tmp_path / "jaxgen").iterdir():
    path.write_bytes(path.read_bytes()[:100])
  third = processes.python("-W", "error", "-c", PROGRAM)
  assert third.stdout.split()[0] == "0", third.stderr


def test_a_cache_that_the_user_chose_stays(tmp_path, monkeypatch):
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "own"))
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
  done = processes.python("-c", PROGRAM)
  assert done.stdout.split()[1] == str(tmp_path / "own"), done.stderr
  assert not pathlib.Path(tmp_path / "other").exists()
