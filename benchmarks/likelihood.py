"""Log-likelihoods: their errors, intervals and cost, and a trained model's.

  python -m benchmarks likelihood --run runs/demo     7 minutes of one CPU core

The run is one of experiments.edm on digits (make demo trains one); --run none
leaves that part out. Peers that are not installed (benchmarks/requirements.txt)
are left out too.

Cost: what a log-likelihood takes in forwards of its own network, ours and
peers'. Every row integrates the same velocity, with the same weights, by the
midpoint rule in as many steps, and is divided by as many plain forwards in its
own framework, timed in turn with it.
"""

import functools
import importlib.util
import itertools
import pathlib

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


def costs(repeats: int) -> list[dict]:
  """A row for each network, trace and framework."""
  rows = []
  networks = overhead.networks(num_classes=10)
  for name, batch_size in BATCHES.items():
    model, shape = networks[name]
    params = overhead.init(model, shape)
    x = np.random.default_rng(0).standard_normal(
      (batch_size, *shape), "float32"
    )
    for trace, products in TRACES[name].items():
      pairs = calls_of(model, params, x, trace, products)
      calls = itertools.chain(*pairs.values())
      times = timing.in_turn(calls, repeats).reshape(repeats, -1, 2)
      ratios = np.quantile(times[..., 0] / times[..., 1], timing.QUARTILES, 0)
      seconds = np.median(times[..., 0], 0)
      row = dict(network=name, trace=trace, products=products)
      for who, s, ratio in zip(pairs, seconds, ratios.T, strict=True):
        found = dict(who=who, seconds=float(s), ratio=ratio.tolist())
        rows.append(row | found)
  return rows


def calls_of(model, params, x, trace, products):
  """{framework: (likelihood of a batch, as many plain forwards)}."""
  net = functools.partial(model.apply, params)
  pairs = {"jaxgen": calls_of_jax(ours(net, trace, products), net, x)}
  if trace != "8 probes":
    for mode in ("vjp", "jvp"):
      one = by_diffrax(net, trace, mode)
      pairs[f"diffrax, {mode}"] = calls_of_jax(one, net, x)
    if importlib.util.find_spec("flow_matching") is not None:
      from benchmarks.peers import torch_networks

      pairs["flow_matching"] = torch_networks.likelihood(
        model, params, x, trace, NUM_STEPS
      )
  return pairs


def calls_of_jax(one, net, x):
  """(likelihoods of a batch, as many forwards); one is (x, key) -> log p."""
  run, forward = jax.jit(jax.vmap(one)), jax.jit(jax.vmap(net, (0, None)))
  keys = jax.random.split(jax.random.key(0), len(x))
  x, t = jnp.asarray(x), jnp.float32(0.5)

  def forwards():
    y = x
    for _ in range(CALLS):
      y = forward(y, t)
    return y

  return lambda: run(x, keys), forwards


def ours(net, trace, products):
  """(x, key) -> log p by jaxgen."""
  estimator = traces.exact()
  if trace != "exact":
    estimator = traces.hutchinson(products)
  times = jnp.linspace(0.0, 1.0, NUM_STEPS + 1)
  solve = likelihood.along(samplers.midpoint(), times)
  how = dict(prior=likelihood.normal(1.0), trace=estimator)
  field = fields.from_velocity(net)
  return lambda x, key: (
    likelihood.log_prob(solve, field, x, key, **how).log_prob
  )


def by_diffrax(net, trace, mode):
  """(x, key) -> log p, as in diffrax's example of a continuous normalising
  flow, by vjp or jvp.
  """
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

  return one


def run(args) -> dict:
  """Measures errors, intervals and cost, and the run if there is one."""
  record = dict(machine=runner.machine(), run=args.run, errors=errors())
  record |= dict(coverage=estimates.coverage(), cost=costs(args.repeats))
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


def _cost_cells(r):
  low, middle, high = r["ratio"]
  spread, time = f"{middle:.2f} ({low:.2f}-{high:.2f})", 1e3 * r["seconds"]
  names = r["network"], r["trace"], r["products"], r["who"]
  return *names, spread, f"{time:.1f}"


def tables(record: dict) -> dict:
  """The parts of the page."""
  heads = dict(
    errors="law | trace (products) | solve | evaluations | | largest error"
    " | rms | standard error",
    coverage="probes | products | degrees | covered | rms error"
    " | standard error",
    cost="network | trace | products | | forwards per evaluation | ms",
  )
  shown = dict(errors=_error_cells, coverage=_coverage_cells, cost=_cost_cells)
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
  "likelihood": runner.Benchmark(run, tables, dict(repeats=9), runner.run_flag)
}
