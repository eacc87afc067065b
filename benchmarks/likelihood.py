"""Log-likelihoods: their errors and intervals, and those of a trained model.

  python -m benchmarks likelihood --run runs/demo     7 minutes of one CPU core

The run is one of experiments.edm on digits (make demo trains one); --run none
leaves that part out.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import estimates, pages, runner
from jaxgen import likelihood, paths, samplers, traces
from jaxgen.data import oracles
from tests.truth import mixture

MIXTURE = oracles.Mixture(mixture.WEIGHTS, mixture.MEANS, np.full(3, 0.3))


def solves(path):
  """{name: (solve from data to noise, evaluations or None if adaptive)}."""
  found = {}
  for name, n in (("heun", 256), ("rk4", 32), ("rk4", 64), ("rk4", 128)):
    solver = getattr(samplers, name)()
    times = samplers.grids.karras(path, n)[::-1]
    title = f"{name}, {n} Karras steps"
    found[title] = likelihood.along(solver, times), solver.num_calls(n)
  low, high = path.ends(0.002, 80.0)
  for tol in (1e-5, 1e-8):
    solve = likelihood.adaptively(low, high, rtol=tol, atol=tol)
    found[f"adaptive Tsit5, tolerance {tol:g}"] = solve, None
  return found


def oracle_rows(name, oracle, path, dtype, trace, wanted, number=64):
  """Largest and root mean square errors in nats over samples."""
  rows = []
  low = path.ends(0.002, 80.0)[0]
  oracle = jax.tree.map(lambda a: jnp.asarray(a, dtype), oracle)
  sample = jax.jit(jax.vmap(oracle.sample))
  x = path.alpha(low) * sample(jax.random.split(jax.random.key(0), number))
  truth = jax.jit(jax.vmap(lambda x: oracle.log_prob(path, x, low)))(x)
  for title, (solve, calls) in solves(path).items():
    if title.startswith(wanted):
      density = lambda x, key, solve=solve: estimates.density(
        oracle, path, solve, x, key, trace
      )
      keys = jax.random.split(jax.random.key(1), number)
      found = jax.jit(jax.vmap(density))(x, keys)
      error = np.abs(np.asarray(found.log_prob - truth))
      rows.append(
        dict(
          law=name,
          trace=trace.name,
          num_products=trace.num_products(x.shape[1]),
          solve=title,
          calls=calls,
          dtype=dtype,
          largest=float(error.max()),
          rms=estimates.rms(error),
          standard_error=estimates.rms(found.standard_error),
        )
      )
  return rows


def errors():
  """Every solve with the exact trace, every trace with one solve."""
  rows = []
  with jax.enable_x64(True):
    normal = estimates.gaussian(64, 0.1, 2.0)
  for name, oracle, path in (
    ("2-D mixture", MIXTURE, paths.linear()),
    ("64-D Gaussian", normal, paths.edm()),
  ):
    row = functools.partial(oracle_rows, name, oracle, path)
    with jax.enable_x64(True):
      rows += row("float64", traces.exact(), ("heun", "rk4", "adaptive"))
    rows += row("float32", traces.exact(), ("rk4, 128",))
  with jax.enable_x64(True):
    for trace in (traces.hutchinson(24), traces.hutchpp(8)):
      rows += row("float64", trace, ("rk4, 128",))
  return rows


def run(args) -> dict:
  """Measures errors and intervals, and the run if there is one."""
  record = dict(machine=runner.machine(), run=args.run, errors=errors())
  record |= dict(coverage=estimates.coverage())
  if args.run != "none":
    record["digits"] = estimates.measure(pathlib.Path(args.run))
  return record


def _error_cells(r):
  calls = "adaptive" if r["calls"] is None else r["calls"]
  trace = f"{r['trace']} ({r['num_products']})"
  errors = (f"{r[k]:.1e}" for k in ("largest", "rms", "standard_error"))
  return r["law"], trace, r["solve"], calls, r["dtype"], *errors


def _coverage_cells(r):
  probes = r["probes"].split(",")[0]
  digits = {"covered": 3, "rms": 4, "standard_error": 4}
  found = (f"{r[k]:.{n}f}" for k, n in digits.items())
  return probes, r["num_products"], r["degrees"], *found


def tables(record: dict) -> dict:
  """The parts of the page."""
  heads = dict(
    errors="law | trace (products) | solve | evaluations | | largest error"
    " | rms | standard error",
    coverage="probes | products | degrees | covered | rms error"
    " | standard error",
  )
  shown = dict(errors=_error_cells, coverage=_coverage_cells)
  found = {
    name: pages.table(head, map(shown[name], record[name]))
    for name, head in heads.items()
  }
  found["made"] = [
    f"`python -m benchmarks likelihood --run {record['run']}` on",
    f"{record['machine']}.",
  ]
  digits = record.get("digits")
  return found | (estimates.tables(digits) if digits else {})


BENCHMARKS = {
  "likelihood": runner.Benchmark(run, tables, flags=runner.run_flag)
}
