"""Log-likelihoods: their errors, intervals and cost, and a trained model's.

  python -m benchmarks likelihood --run runs/demo     7 minutes of one CPU core

The run is one of experiments.edm on digits (make demo's); --run none leaves
that part out. Peers that are not installed (benchmarks/requirements.txt) are
left out too.

Cost: what a log-likelihood takes in forwards of its own network, ours and
peers'. Every row integrates the same velocity, with the same weights, by the
midpoint rule in as many steps, and is divided by as many plain forwards in its
own framework, timed in turn with it.
"""

import functools
import importlib.util
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import estimates, pages, runner
from benchmarks.speed import overhead, timing
from jaxgen import fields, likelihood, paths, samplers, traces
from jaxgen.data import oracles
from tests.truth import mixture

NUM_STEPS = 8
BATCHES = {"MLP": 1024, "U-Net": 64}
CALLS = 2 * NUM_STEPS
# {network: {trace: products with the Jacobian}}
TRACES = {
  "MLP": {"exact": 2, "one probe": 1},
  "U-Net": {"one probe": 1, "8 probes": 8},
}
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


def oracle_rows(name, law, path, dtype, trace, wanted, number=64):
  """Largest and root mean square errors in nats over samples."""
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
        lambda x, key, solve=solve: estimates.density(
          law, path, solve, x, key, trace
        )
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
      "64-D Gaussian": (estimates.gaussian(64, 0.1, 2.0), paths.edm()),
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


def installed(*names: str) -> bool:
  """Whether the modules can be imported."""
  return all(importlib.util.find_spec(name) is not None for name in names)


def torch_likelihood(model, params, x, trace):
  """flow_matching's; PyTorch is imported where it is called for."""
  from benchmarks.peers import torch_networks

  return torch_networks.likelihood(model, params, x, trace, NUM_STEPS)


def costs(repeats: int) -> list[dict]:
  """A row for each network, trace and framework."""
  rows = []
  networks = overhead.networks(num_classes=10)
  for name, batch_size in BATCHES.items():
    model, shape = networks[name]
    params = overhead.init(model, shape)
    net = functools.partial(model.apply, params)
    size = batch_size, *shape
    x = np.random.default_rng(0).standard_normal(size, "float32")
    for trace, products in TRACES[name].items():
      pairs = {"jaxgen": ours(net, x, trace, products)}
      if trace != "8 probes" and installed("diffrax"):
        for mode in ("vjp", "jvp"):
          pairs[f"diffrax, {mode}"] = by_diffrax(net, x, trace, mode)
      if trace != "8 probes" and installed("torch", "flow_matching"):
        pairs["flow_matching"] = torch_likelihood(model, params, x, trace)
      calls = [call for pair in pairs.values() for call in pair]
      times = timing.in_turn(calls, repeats).reshape(repeats, -1, 2)
      ratios = np.quantile(times[..., 0] / times[..., 1], timing.QUARTILES, 0)
      seconds = np.median(times[..., 0], 0)
      row = dict(network=name, trace=trace, products=products)
      for who, s, ratio in zip(pairs, seconds, ratios.T, strict=True):
        found = dict(who=who, seconds=float(s), ratio=ratio.tolist())
        rows.append(row | found)
  return rows


def _forwards(net, x):
  forward = jax.jit(jax.vmap(net, (0, None)))
  t = jnp.float32(0.5)

  def run():
    y = x
    for _ in range(CALLS):
      y = forward(y, t)
    jax.block_until_ready(y)

  return run


def ours(net, x, trace, products):
  """(likelihood, forwards) of jaxgen."""
  estimator = traces.exact()
  if trace != "exact":
    estimator = traces.hutchinson(products)
  times = jnp.linspace(0.0, 1.0, NUM_STEPS + 1)

  def one(x, key):
    return likelihood.log_prob(
      likelihood.along(samplers.midpoint(), times),
      fields.from_velocity(net),
      x,
      key,
      prior=likelihood.normal(1.0),
      trace=estimator,
    ).log_prob

  run = jax.jit(jax.vmap(one))
  keys = jax.random.split(jax.random.key(0), len(x))
  x = jnp.asarray(x)
  return lambda: jax.block_until_ready(run(x, keys)), _forwards(net, x)


def by_diffrax(net, x, trace, mode):
  """A continuous normalising flow as in diffrax's example, by vjp or jvp."""
  import diffrax

  def one(x, key):
    probes = jax.random.rademacher(key, (1, *x.shape), x.dtype)
    if trace == "exact":
      probes = jnp.eye(x.size).reshape(x.size, *x.shape)

    def slope(t, state, _):
      f = lambda x: net(x, t)
      if mode == "vjp":
        velocity, pull = jax.vjp(f, state[0])
        times = lambda row: pull(row)[0]
      else:
        velocity, times = jax.linearize(f, state[0])
      return velocity, jnp.sum(jax.vmap(times)(probes) * probes)

    solution = diffrax.diffeqsolve(
      diffrax.ODETerm(slope),
      diffrax.Midpoint(),
      0.0,
      1.0,
      1 / NUM_STEPS,
      (x, jnp.zeros(())),
      stepsize_controller=diffrax.ConstantStepSize(),
    )
    end, integral = solution.ys
    return likelihood.normal(1.0)(end[-1]) + integral[-1]

  run = jax.jit(jax.vmap(one))
  keys = jax.random.split(jax.random.key(0), len(x))
  x = jnp.asarray(x)
  return lambda: jax.block_until_ready(run(x, keys)), _forwards(net, x)


def cost_table(rows: list[dict]) -> list[str]:
  """Forwards per evaluation, and milliseconds."""
  lines = []
  for r in rows:
    low, middle, high = r["ratio"]
    spread, time = f"{middle:.2f} ({low:.2f}-{high:.2f})", 1e3 * r["seconds"]
    names = r["network"], r["trace"], r["products"], r["who"]
    lines.append((*names, spread, f"{time:.1f}"))
  head = "network | trace | products | | forwards per evaluation | ms"
  return pages.table(head, lines)


def run(args) -> dict:
  """Measures."""
  step = lambda title: print(title, file=sys.stderr, flush=True)
  step("errors")
  record = dict(machine=runner.machine(), run=args.run, errors=errors())
  step("intervals")
  record["coverage"] = estimates.coverage()
  step("cost")
  record["cost"] = costs(args.repeats)
  if args.run != "none":
    step("digits")
    record["digits"] = estimates.measure(pathlib.Path(args.run))
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
    cost=cost_table(record["cost"]),
  )
  if "digits" in record:
    found |= estimates.tables(record["digits"])
  return found


BENCHMARKS = {
  "likelihood": runner.Benchmark(run, tables, dict(repeats=9), runner.run_flag)
}
