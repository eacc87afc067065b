"""Runs test files in forked children, each in its own copy of the tree.

The parent imports jax and the other libraries, but not jaxgen, and starts no
device, so that a child starts at once. A child is limited in CPU seconds, so
that a busy machine causes no timeouts.
"""

import contextlib
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import traceback

import jax

from benchmarks.checks import mutations

# Imported once, by the parent of all children: none of them starts a device.
LIBRARIES = (
  "jax.numpy flax.linen optax chex beartype jaxtyping pytest diffrax equinox"
  " scipy.optimize scipy.stats scipy.integrate sklearn.neighbors ott"
  " orbax.checkpoint PIL.Image"
)
PYTEST = (
  "-x -n 0 -p no:cacheprovider --basetemp tmp --no-header --tb short"
  " -W ignore::pytest.PytestAssertRewriteWarning"  # jaxtyping is a plugin
)
UNIMPORTABLE = (
  "ImportError",
  "ModuleNotFoundError",
  "NameError",
  "SyntaxError",
)
LIMITS = (signal.SIGXCPU, signal.SIGALRM, signal.SIGKILL)


def warm(programs: pathlib.Path) -> None:
  """Imports what all children share, with one cache of compiled programs."""
  settings = dict(
    jax_platforms="cpu",
    jax_compilation_cache_dir=str(programs),
    jax_persistent_cache_min_compile_time_secs=0,
    jax_persistent_cache_min_entry_size_bytes=-1,
  )
  os.environ["MPLBACKEND"] = "agg"
  for name, value in settings.items():
    os.environ[name.upper()] = str(value)  # for commands that tests start
    jax.config.update(name, value)
  for name in LIBRARIES.split():
    with contextlib.suppress(ImportError):  # then no test needs it
      __import__(name)


def copy_tree(slot: pathlib.Path) -> None:
  """Copies the tree's files, those that git ignores excepted, to slot."""
  listed = subprocess.run(
    ["git", "ls-files", "-co", "--exclude-standard"],
    cwd=mutations.ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  for name in listed.stdout.splitlines():
    source = mutations.ROOT / name
    if source.is_file():
      (slot / name).parent.mkdir(parents=True, exist_ok=True)
      shutil.copy2(source, slot / name)


class Watch:
  """A pytest plugin: the first failure, and whether an import has failed."""

  def __init__(self):
    self.failure, self.unimportable = "", False

  def pytest_collectreport(self, report):
    self.pytest_runtest_logreport(report)
    if report.failed:
      text = str(report.longrepr)
      self.unimportable |= any(f"E   {name}" in text for name in UNIMPORTABLE)

  def pytest_runtest_logreport(self, report):
    if report.failed:
      self.failure = self.failure or report.nodeid


def _child(slot, tests, seconds):
  """Runs tests in slot and writes result.json there."""
  os.setsid()
  os.chdir(slot)
  resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
  signal.alarm(10 * seconds)  # for a test that waits forever
  log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
  os.dup2(log, 1)
  os.dup2(log, 2)
  sys.path[0] = str(slot)
  for name in [name for name in sys.modules if name.startswith("benchmarks")]:
    del sys.modules[name]
  import pytest

  watch = Watch()
  code = pytest.main([*PYTEST.split(), *tests], plugins=[watch])
  result = dict(code=int(code), **vars(watch))
  pathlib.Path("result.json").write_text(json.dumps(result))


def start(slot: pathlib.Path, tests: list[str], seconds: float) -> int:
  """A child that runs tests in slot, for so many CPU seconds: its process."""
  (slot / "result.json").unlink(missing_ok=True)
  sys.stdout.flush()
  pid = os.fork()
  if pid == 0:
    try:
      _child(slot, tests, int(seconds))
    except BaseException:
      traceback.print_exc()
    finally:
      sys.stdout.flush()
      os._exit(0)
  return pid


def finish(slots: dict[int, pathlib.Path]) -> tuple[int, dict]:
  """Waits for one of {process: slot}: (the process, its result).

  Without a result.json, a limit or a crash has ended it.
  """
  pid, status, usage = os.wait4(min(slots) if len(slots) == 1 else -1, 0)
  with contextlib.suppress(ProcessLookupError):
    os.killpg(pid, signal.SIGKILL)  # what its tests have started
  file = slots[pid] / "result.json"
  result = json.loads(file.read_text()) if file.exists() else {}
  late = os.WIFSIGNALED(status) and os.WTERMSIG(status) in LIMITS
  result.setdefault("code", "timeout" if late else f"status {status}")
  return pid, result | dict(seconds=round(usage.ru_utime + usage.ru_stime, 1))
