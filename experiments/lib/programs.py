"""A cache of compiled programs on disk, for every command.

JAX's own cache, but for its files: a program is written to a file of its own
and renamed, so that an entry is complete or absent; an entry whose checksum is
wrong counts as absent and is written again; and of all entries, the least
recently used are deleted beyond MAX_BYTES. JAX's key holds the program, the
version of jaxlib, the flags of XLA and the kind of device; ours adds the
features of the CPU, which compiled programs use.

A cached program is run as it is found, so the folder belongs to the user alone
(mode 0700), and a folder of anybody else is not used.
"""

import contextlib
import functools
import hashlib
import os
import pathlib
import platform
import stat
import tempfile

import jax
from jax._src import compilation_cache

MAX_BYTES = 2**30
MIN_SECONDS = 0.02  # programs compiled faster are not kept


class Files:
  """{key: program} as files of a folder."""

  def __init__(self, path: pathlib.Path, max_bytes: int = MAX_BYTES):
    self._path, self._max_bytes = path, max_bytes

  def get(self, key: str) -> bytes | None:
    """The program, or None if there is none that is whole."""
    path = self._file(key)
    try:
      found = path.read_bytes()
      os.utime(path)  # the time of the last use
    except OSError:
      return None
    digest, value = found[:32], found[32:]
    return value if hashlib.sha256(value).digest() == digest else None

  def put(self, key: str, value: bytes) -> None:
    """Stores a program; without space on the disk, nothing is stored."""
    with contextlib.suppress(OSError):
      number, part = tempfile.mkstemp(dir=self._path, suffix=".part")
      try:
        with os.fdopen(number, "wb") as file:
          file.write(hashlib.sha256(value).digest() + value)
        os.replace(part, self._file(key))
      finally:
        pathlib.Path(part).unlink(missing_ok=True)
      self._evict()

  def _file(self, key):
    return self._path / f"{key}-{cpu_features()}"

  def _evict(self):
    """Deletes the least recently used files, but a tenth of the space, if
    together they are too large; of two processes that do, both succeed.
    """
    files = [(entry, entry.stat()) for entry in os.scandir(self._path)]
    total = sum(about.st_size for _, about in files)
    if total <= self._max_bytes:
      return
    for entry, about in sorted(files, key=lambda pair: pair[1].st_mtime):
      if total <= 0.9 * self._max_bytes:
        return
      pathlib.Path(entry).unlink(missing_ok=True)
      total -= about.st_size


def use() -> None:
  """Makes JAX keep compiled programs in the user's cache directory.

  Nothing changes if a cache was chosen by JAX's own settings
  (JAX_COMPILATION_CACHE_DIR), or if the directory cannot be made.
  """
  if jax.config.jax_compilation_cache_dir or not (path := directory()):
    return
  files = Files(path)
  # The one seam of JAX that takes a cache; there is no public one.
  compilation_cache.get_file_cache = lambda place: (files, place)
  jax.config.update("jax_compilation_cache_dir", str(path))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_SECONDS)


def directory() -> pathlib.Path | None:
  """The folder, made if needed; None if it cannot be private to the user."""
  base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
  path = pathlib.Path(base).expanduser() / "jaxgen"
  try:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    about = path.lstat()
    private = stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid()
    if private and stat.S_IMODE(about.st_mode) != 0o700:
      path.chmod(0o700)
  except (OSError, RuntimeError):  # no home
    return None
  return path if private and os.access(path, os.W_OK) else None


@functools.cache
def cpu_features() -> str:
  """A checksum of the CPU's instruction sets."""
  found = [platform.machine(), platform.processor()]
  with contextlib.suppress(OSError):
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    found += sorted({n for n in lines if n.startswith(("flags", "Features"))})
  return hashlib.sha256("".join(found).encode()).hexdigest()[:8]
