"""Log-likelihoods: their errors, intervals and cost, and a trained model's.

  python -m benchmarks likelihood --run runs/demo     7 minutes of one CPU core

The run is one of experiments.edm on digits (make demo's); --run none leaves
that part out. Peers that are not installed (benchmarks/requirements.txt) are
left out too.
"""

import functools
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from benchmarks import likelihood_digits, pages, runner
from benchmarks.peers import likelihood_cost
from jaxgen import likelihood, paths, samplers, traces
from jaxgen.data import oracles
from tests.truth import mixture

REPETITIONS = 1000
MIXTURE = oracles.Mixture(mixture.WEIGHTS, mixture.MEANS, np.full(3, 0.3))


def gaussian(dim: int, low: float, high: float) -> oracles.Mixture:
  """N(m, C), the eigenvalues of C from low to high, in a random basis."""
  rng = np.random.default_rng(dim)
  basis = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
  covariance = basis * np.geomspace(low, high, dim) @ basis.T
  return oracles.gaussian(rng.standard_normal(dim) / 2, covariance)


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


def density(law, path, solve, x, key, trace):
  """The log-density of x_t at ratio .002; the prior is the law's own."""
  high = path.ends(0.002, 80.0)[1]
  return likelihood.log_prob(
    solve,
    law.field(path),
    x,
    key,
    prior=lambda x: law.log_prob(path, x, high),
    trace=trace,
  )


def oracle_rows(name, law, path, dtype, trace, wanted, number=64):
  """Largest and root mean square errors in nats over draws of the law."""
  rows = []
  low = path.ends(0.002, 80.0)[0]
  law = jax.tree.map(lambda a: jnp.asarray(a, dtype), law)
  draws = jax.jit(jax.vmap(law.sample))
  x = path.alpha(low) * draws(jax.random.split(jax.random.key(0), number))
  truth = jax.jit(jax.vmap(lambda x: law.log_prob(path, x, low)))(x)
  for title, (solve, calls) in solves(path).items():
    if not title.startswith(wanted):
      continue
    run = jax.jit(
      jax.vmap(
        lambda x, key, solve=solve: density(law, path, solve, x, key, trace)
      )
    )
    found = run(x, jax.random.split(jax.random.key(1), number))
    error = np.abs(np.asarray(found.log_prob - truth))
    rows.append(
      dict(
        law=name,
        trace=trace.name,
        num_products=trace.num_products(x.shape[1]),
        solve=title,
        calls=calls,
        dtype=dtype,
        largest=error.max(),
        rms=np.sqrt(np.mean(error**2)),
        standard_error=np.sqrt(np.mean(np.square(found.standard_error))),
      )
    )
  return rows


def errors():
  """Every solve with the exact trace, every trace with one solve."""
  with jax.enable_x64(True):
    laws = {
      "2-D mixture": (MIXTURE, paths.linear()),
      "64-D Gaussian": (gaussian(64, 0.1, 2.0), paths.edm()),
    }
  rows = []
  for name, (law, path) in laws.items():
    row = functools.partial(oracle_rows, name, law, path)
    with jax.enable_x64(True):
      rows += row("float64", traces.exact(), ("heun", "rk4", "adaptive"))
    rows += row("float32", traces.exact(), ("rk4, 128",))
  with jax.enable_x64(True):
    for trace in (traces.hutchinson(24), traces.hutchpp(8)):
      rows += row("float64", trace, ("rk4, 128",))
  return rows


def coverage(dim=16, num_steps=24):
  """95 % intervals of one point's log-density over fresh probes."""
  with jax.enable_x64(True):
    law, path = gaussian(dim, 0.01, 2.0), paths.linear()
    times = samplers.grids.karras(path, num_steps)[::-1]
    solve = likelihood.along(samplers.rk4(), times)
    x = jax.jit(law.sample)(jax.random.key(1))
    run = jax.jit(
      lambda key, trace: density(law, path, solve, x, key, trace),
      static_argnums=1,
    )
    truth = run(jax.random.key(0), traces.exact()).log_prob
    kinds = {
      "signs": traces.hutchinson(6),
      "signs, more": traces.hutchinson(12),
      "normal": traces.hutchinson(12, jax.random.normal),
      "Hutch++": traces.hutchpp(4),
    }
    rows = []
    for name, trace in kinds.items():
      keys = jax.random.split(jax.random.key(2), REPETITIONS)
      found = jax.jit(jax.vmap(lambda key, t=trace: run(key, t)))(keys)
      error = np.asarray(found.log_prob - truth)
      se = np.asarray(found.standard_error)
      quantile = stats.t.ppf(0.975, trace.num_estimates - 1)
      rows.append(
        dict(
          probes=name,
          num_products=trace.num_products(dim),
          degrees=trace.num_estimates - 1,
          covered=np.mean(np.abs(error) < quantile * se),
          rms=np.sqrt(np.mean(error**2)),
          standard_error=np.sqrt(np.mean(se**2)),
        )
      )
  return rows


def run(args) -> dict:
  """Measures."""
  step = lambda title: print(title, file=sys.stderr, flush=True)
  step("errors")
  record = dict(machine=runner.machine(), run=args.run, errors=errors())
  step("intervals")
  record["coverage"] = coverage()
  step("cost")
  record["cost"] = likelihood_cost.measure(args.repeats)
  if args.run != "none":
    step("digits")
    record["digits"] = likelihood_digits.measure(pathlib.Path(args.run))
  return jax.tree.map(
    lambda v: float(v) if isinstance(v, (np.floating, jax.Array)) else v, record
  )


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
  head = "law | trace (products) | solve | evaluations | | largest error | rms"
  covered = "probes | products | degrees | covered | rms error | standard error"
  found = dict(
    made=[
      f"`python -m benchmarks likelihood --run {record['run']}` on",
      f"{record['machine']}.",
    ],
    errors=pages.table(
      f"{head} | standard error", map(_error_cells, record["errors"])
    ),
    coverage=pages.table(covered, map(_coverage_cells, record["coverage"])),
    cost=likelihood_cost.table(record["cost"]),
  )
  if "digits" in record:
    found |= likelihood_digits.tables(record["digits"])
  return found


BENCHMARKS = {
  "likelihood": runner.Benchmark(
    run, tables, dict(repeats=9), runner.run_flag, check=runner.check_run
  )
}
