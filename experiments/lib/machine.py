"""What a command sets up before it opens a device.

On a CPU, three settings of the process make JAX faster, and change results by
rounding only (settings.Process.tune_cpu):

  devices     one per core, over which a batch of images is split. XLA's own
              threads split single operations, few of which are worth it.
  memory      freed blocks are kept (glibc). By default the large ones, such as
              activations, go back to the system and are cleared page by page
              when the next step asks for them.
  compilation level 1 of XLA in place of 3, 0 for the initial state. Programs
              are as fast, since most of their time is in libraries.

Python's garbage collector runs rarely: tracing makes many objects, and little
garbage.
"""

import contextlib
import ctypes
import gc
import os
import platform
from collections.abc import Mapping
from typing import Any

import jax

from experiments.lib import datasets, programs

MIN_EXAMPLES = 16  # of a device
# Parameters of glibc's mallopt (malloc.h), and the same as variables, which
# tell the processes that this one starts, and `describe`.
MALLOPT = {
  "MALLOC_TRIM_THRESHOLD_": (-1, 2**31 - 1),
  "MALLOC_TOP_PAD_": (-2, 2**28),
  "MALLOC_MMAP_MAX_": (-4, 0),
}
LEVEL = "xla_backend_optimization_level"
FLAGS = "--no-tune-cpu, --no-cache-programs"


def prepare(config: Any, about: Mapping[str, Any]) -> None:
  """Sets up the process, before JAX opens a device.

  Args:
    config: settings that include the group settings.Process.
    about: the settings of the run, of which batch_size, data and model decide
      on the number of devices. Points on the plane get one: splitting their
      batches takes longer than it saves.
  """
  gc.set_threshold(100_000, 20, 100)
  if config.cache_programs:
    programs.use()
  if config.tune_cpu:
    keep_blocks()
    points = about.get("data") in datasets.TOYS or about.get("model") == "mlp"
    batch_size = None if points else about.get("batch_size")
    split_cpu(num_devices(batch_size or 1, num_cores()))


def num_cores() -> int:
  """Number of cores that this process may use."""
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def num_devices(batch_size: int, cores: int) -> int:
  """The largest number up to `cores` that divides the batch into equal parts of
  at least MIN_EXAMPLES; 1 if there is none.
  """
  counts = range(1, min(cores, batch_size // MIN_EXAMPLES) + 1)
  return max((n for n in counts if batch_size % n == 0), default=1)


def split_cpu(number: int) -> None:
  """Divides the CPU into devices, unless JAX's settings or XLA_FLAGS say how
  many, or devices are already in use.
  """
  by_flag = "xla_force_host_platform_device_count"
  chosen = jax.config.jax_num_cpu_devices != -1
  if chosen or by_flag in os.environ.get("XLA_FLAGS", ""):
    return
  with contextlib.suppress(RuntimeError):  # devices are in use
    jax.config.update("jax_num_cpu_devices", number)


def keep_blocks() -> None:
  """Tells glibc's allocator to keep freed blocks; elsewhere does nothing."""
  if platform.libc_ver()[0] != "glibc":
    return
  libc = ctypes.CDLL(None)
  for name, (parameter, value) in MALLOPT.items():
    if name not in os.environ and libc.mallopt(parameter, value):
      os.environ[name] = str(value)


def compiler_options(config: Any, level: int = 1) -> dict[str, Any] | None:
  """Options of jax.jit for quick compilation on a CPU; None is JAX's own."""
  own = LEVEL in os.environ.get("XLA_FLAGS", "")
  if own or not config.tune_cpu or jax.default_backend() != "cpu":
    return None
  return {LEVEL: level, "xla_cpu_parallel_codegen_split_count": 1}


def describe() -> str:
  """The devices, and what is set up, in one line."""
  number = jax.device_count()
  plural = "s" if number > 1 else ""
  found = [f"{number} {jax.default_backend().upper()} device{plural}"]
  if kept := os.environ.keys() & MALLOPT.keys():
    found.append("freed memory kept")
  if place := jax.config.jax_compilation_cache_dir:
    found.append(f"compiled programs in {place}")
  hint = f" (off by {FLAGS})" if kept or place else ""
  return f"{', '.join(found)}{hint}"
