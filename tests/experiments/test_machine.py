"""What a command sets up before it opens a device."""

import json
import platform
import types

import pytest

from experiments import edm
from experiments.lib import machine
from tests import processes

GLIBC = platform.libc_ver()[0] == "glibc"
CONFIG = edm.PRESETS["smoke"][1]
PROGRAM = """
import ctypes, json, resource
import jax
from experiments.lib import machine
from tests.experiments.test_machine import settings

machine.prepare(settings(tune_cpu={}), dict(data="{}", batch_size=64))

libc = ctypes.CDLL(None)
malloc, free = libc.malloc, libc.free
malloc.restype, malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
free.argtypes = [ctypes.c_void_p]

def faults():  # the kernel clears a page, or 512 pages at once, at each
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  for _ in range(20):
    block = malloc(2**26)
    ctypes.memset(block, 1, 2**26)
    free(block)
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(json.dumps([jax.device_count(), faults(), machine.describe()]))
"""


def settings(**changes):
  return types.SimpleNamespace(
    **(dict(tune_cpu=True, cache_programs=False) | changes)
  )


@pytest.mark.parametrize(
  ("batch_size", "cores", "number"),
  [
    (64, 1, 1),
    (64, 2, 2),
    (64, 8, 4),  # sixteen examples each
    (96, 5, 4),  # 5 does not divide the batch
    (90, 8, 5),
    (97, 8, 1),
    (16, 8, 1),
    (1, 8, 1),
    (1024, 64, 64),
  ],
)
def test_every_device_has_an_equal_part_of_the_batch(batch_size, cores, number):
  assert machine.num_devices(batch_size, cores) == number


def _process(tuned, monkeypatch, data="digits", **variables):
  for name in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES", *machine.MALLOPT):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
  for name, value in variables.items():
    monkeypatch.setenv(name, value)
  done = processes.python("-c", PROGRAM.format(tuned, data))
  assert not done.returncode, done.stderr
  return json.loads(done.stdout)


def test_a_process_has_a_device_a_core_and_keeps_its_memory(monkeypatch):
  number, faults, said = _process(True, monkeypatch)
  assert number == machine.num_devices(64, machine.num_cores())
  assert said.startswith(f"{number} CPU device")
  if GLIBC:
    assert faults < 500
    assert "freed memory kept" in said and "--no-tune-cpu" in said


def test_points_are_not_split(monkeypatch):
  number, *_ = _process(True, monkeypatch, "moons")
  assert number == 1


def test_a_flag_turns_all_of_it_off(monkeypatch):
  number, faults, said = _process(False, monkeypatch)
  assert (number, said) == (1, "1 CPU device")
  if GLIBC:
    assert faults >= 20 * 2**26 / 2**21


def test_the_number_of_devices_that_the_user_chose_stays(monkeypatch):
  number, *_ = _process(True, monkeypatch, JAX_NUM_CPU_DEVICES="3")
  assert number == 3
  flags = "--xla_force_host_platform_device_count=5"
  number, *_ = _process(True, monkeypatch, XLA_FLAGS=flags)
  assert number == 5


def test_compilation_is_quick_unless_the_user_chose_a_level(monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", "")
  assert machine.compiler_options(CONFIG)[machine.LEVEL] == 1
  assert machine.compiler_options(CONFIG, 0)[machine.LEVEL] == 0
  assert machine.compiler_options(settings(tune_cpu=False)) is None
  monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=3")
  assert machine.compiler_options(CONFIG) is None
  monkeypatch.setenv("XLA_FLAGS", "")
  monkeypatch.setattr(machine.jax, "default_backend", lambda: "gpu")
  assert machine.compiler_options(CONFIG) is None
