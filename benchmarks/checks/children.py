"""Test files run in forked children, each in its own copy of the tree.

The parent imports jax and its like, no jaxgen and no device, so that a child
starts in no time; the limit of a child is of its CPU seconds, so that a busy
machine makes no timeouts.
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
import time
import traceback
from typing import Any, NamedTuple

import jax

from benchmarks.checks import mutations

COPIED = ("jaxgen", "tests", "experiments", "benchmarks", "docs")
# Imported once, by the parent of all children: none of them starts a device.
LIBRARIES = (
  "jax.numpy flax.linen optax chex beartype jaxtyping pytest diffrax equinox"
  " scipy.optimize scipy.stats scipy.integrate sklearn.neighbors ott"
  " orbax.checkpoint PIL.Image"
)
UNIMPORTABLE = (
  "ImportError",
  "ModuleNotFoundError",
  "NameError",
  "SyntaxError",
)


class Child(NamedTuple):
  """A running child and what it works on."""

  pid: int
  slot: pathlib.Path
  end: float
  label: Any


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
    os.environ[name.upper()] = str(value)  # of the commands that tests start
    jax.config.update(name, value)
  for name in LIBRARIES.split():
    with contextlib.suppress(ImportError):  # those of no test that is concerned
      __import__(name)


def copy_tree(slot: pathlib.Path) -> None:
  """The tree's tracked files below slot, which is made anew."""
  shutil.rmtree(slot, ignore_errors=True)
  listed = subprocess.run(
    ["git", "ls-files", "-co", "--exclude-standard"],
    cwd=mutations.ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  for name in listed.stdout.splitlines():
    source = mutations.ROOT / name
    if source.is_file() and (name.startswith(COPIED) or "/" not in name):
      (slot / name).parent.mkdir(parents=True, exist_ok=True)
      shutil.copy2(source, slot / name)


class Watch:
  """A pytest plugin: the first failure, and whether it is of an import."""

  def __init__(self):
    self.failure, self.unimportable = "", False

  def pytest_collectreport(self, report):
    if report.failed:
      self.failure = self.failure or report.nodeid
      text = str(report.longrepr)
      self.unimportable |= any(f"E   {name}" in text for name in UNIMPORTABLE)

  def pytest_runtest_logreport(self, report):
    if report.failed:
      self.failure = self.failure or report.nodeid


def _child(slot, tests, seconds):
  """Runs tests in slot and leaves result.json there; never returns."""
  os.setsid()
  os.chdir(slot)
  resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
  log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
  os.dup2(log, 1)
  os.dup2(log, 2)
  sys.path[0] = str(slot)
  for name in [name for name in sys.modules if name.startswith("benchmarks")]:
    del sys.modules[name]
  import pytest

  watch = Watch()
  words = (
    "-x -n 0 -p no:cacheprovider --basetemp tmp --no-header --tb short"
    " -W ignore::pytest.PytestAssertRewriteWarning"  # jaxtyping is a plugin
  )
  code = pytest.main([*words.split(), *tests], plugins=[watch])
  result = dict(code=int(code), **vars(watch))
  pathlib.Path("result.json").write_text(json.dumps(result))
  sys.stdout.flush()
  os._exit(0)


def start(slot: pathlib.Path, tests: list[str], seconds: float, label) -> Child:
  """A child that runs tests in slot, for so many CPU seconds."""
  (slot / "result.json").unlink(missing_ok=True)
  sys.stdout.flush()
  pid = os.fork()
  if pid == 0:
    try:
      _child(slot, tests, int(seconds))
    except BaseException:
      traceback.print_exc()
    finally:
      os._exit(1)
  return Child(pid, slot, time.monotonic() + 10 * seconds, label)


def finish(running: list[Child]) -> tuple[Child, dict]:
  """Waits for one child; its result, with seconds of CPU."""
  while True:
    for child in running:
      pid, status, usage = os.wait4(child.pid, os.WNOHANG)
      late = time.monotonic() > child.end
      if not pid and late:
        os.killpg(child.pid, signal.SIGKILL)
        pid, status, usage = os.wait4(child.pid, 0)
      if pid:
        running.remove(child)
        late |= os.WIFSIGNALED(status) and (
          os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)
        )
        file = child.slot / "result.json"
        result: dict = json.loads(file.read_text()) if file.exists() else {}
        # No result: ended by a signal, of its limit or a crash.
        result.setdefault("code", "timeout" if late else f"status {status}")
        return child, dict(
          result, seconds=round(usage.ru_utime + usage.ru_stime, 1)
        )
    time.sleep(0.1)
