"""Strict numerics for every test; the flags must be set before jax starts.

Compiling is most of a suite's time, so XLA's level 0 and its plain emitters (a
third of the compile time), and one cache of all programs, the smallest too, for
all workers and the commands that tests start: reading one takes a fifth of the
time of compiling it. Tracing leaves much for the garbage collector, which
therefore runs rarely, and passes over all that was imported.
"""

import gc
import os
import tempfile
import types

os.environ["XLA_FLAGS"] = " ".join(
  (
    os.environ.get("XLA_FLAGS", ""),
    "--xla_backend_optimization_level=0",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
  )
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["MPLBACKEND"] = "agg"
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # workers inherit the first's
  programs = tempfile.TemporaryDirectory(prefix="jaxgen-tests-")
  os.environ["JAX_COMPILATION_CACHE_DIR"] = programs.name
  os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jaxtyping

checked = jaxtyping.jaxtyped


def checked_if_annotated(typechecker):
  """jaxtyped, but for functions without annotations, which have no checks.

  Most of them are closures, which it would wrap anew in every call.
  """

  def decorate(fn):
    bare = isinstance(fn, types.FunctionType) and not fn.__annotations__
    return fn if bare else checked(fn, typechecker=typechecker)

  return decorate


jaxtyping.jaxtyped = checked_if_annotated
jaxtyping.install_import_hook("jaxgen", "beartype.beartype")

import jax  # noqa: E402

# Eight simulated devices, of which a test uses the first unless it says
# jax.default_device(None). In this process alone: commands started see one.
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_default_device", jax.devices()[0])
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


def pytest_collection_finish():
  gc.collect()
  gc.freeze()
  gc.set_threshold(100_000, 20, 50)
