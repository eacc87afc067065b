"""Strict numerics for every test; the flags must be set before jax starts.

Compiling is most of a suite's time, so XLA's level 0 and its plain emitters (a
third of the compile time), and one cache of programs for all workers and the
commands that tests start.
"""

import os
import tempfile

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
  os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"

from jaxtyping import install_import_hook

install_import_hook("jaxgen", "beartype.beartype")

import jax  # noqa: E402

# Eight simulated devices, of which a test uses the first unless it says
# jax.default_device(None). In this process alone: commands started see one.
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_default_device", jax.devices()[0])
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)
