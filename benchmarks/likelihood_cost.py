"""What a log-likelihood costs, in time and in forwards of its own network.

  python -m benchmarks likelihood_cost --run runs/demo   half an hour of a core

The run is one of experiments.edm on digits (make demo trains one); --run none
leaves its part out. Peers that are not installed (benchmarks/requirements.txt)
are left out too.

On one core (taskset -c 0): threads of two frameworks disturb each other.
--images is the batch of the exact trace of the U-Net and of the run.

Every row of the first table integrates the same velocity with the same weights
from t = 0 to 1 by the midpoint rule in as many steps (zuko: one step of Dormand
and Prince). All calls of a network and trace are timed in turn; times are per
evaluation of the velocity with its trace.
"""

import functools
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import estimates, pages, runner
from benchmarks.speed import overhead, timing
from jaxgen import fields, likelihood, samplers, traces


class Case(NamedTuple):
  """What is timed together: a network, a trace and a batch."""

  network: str
  trace: str
  products: int
  batch_size: int
  num_steps: int
  share: float = 1.0  # of --repeats


# The exact trace of images takes minutes; its batch is --images.
CASES = (
  Case("MLP", "exact", 2, 1024, 8),
  Case("MLP", "one probe", 1, 1024, 8),
  Case("U-Net", "one probe", 1, 64, 8),
  Case("U-Net", "8 probes", 8, 64, 1),
  Case("U-Net", "exact", 64, 0, 1, share=1 / 3),
)
# Reverse mode of convolutions in a loop takes XLA some 20 forwards a product on
# CPUs: of 64 products, an hour.
TOO_SLOW = "U-Net", "exact", "diffrax, vjp"
# Of ours / theirs, for the exact trace.
GOALS = {"flow_matching": 0.6, "zuko": 0.6, "diffrax": 0.9}
FORWARDS = {"MLP": 1.5, "U-Net": 1.8}  # for one probe
HALF = 0.5  # of the exact trace's time, for hutchpp on the digits
PEERS = "diffrax", "flow_matching", "torchdyn", "zuko", "torch"
DIGITS = dict(num_steps=4, ratio=0.04)
SKETCHES = 2, 3, 4, 6, 8


def costs(case: Case, repeats: int) -> list[dict]:
  """A row for each framework: seconds, and ratios to forwards and to ours."""
  found = calls_of(case)
  runs = [run for run, _, _ in found.values()]
  forwards = list(dict.fromkeys(forward for _, forward, _ in found.values()))
  calls = [*runs, *(timing.many(f, 2 * case.num_steps) for f in forwards)]
  repeats = max(3, round(case.share * repeats))
  seconds = timing.in_turn(calls, repeats, warm=1)
  units = seconds[:, len(runs) :] / (2 * case.num_steps)
  each, rows = {}, []
  for i, (who, (_, forward, evaluations)) in enumerate(found.items()):
    each[who] = seconds[:, i] / evaluations
    quartiles = lambda a: np.quantile(a, timing.QUARTILES).tolist()
    rows.append(
      case._asdict()
      | dict(
        who=who,
        evaluations=evaluations,
        repeats=repeats,
        seconds=float(np.median(each[who])),
        forwards=quartiles(each[who] / units[:, forwards.index(forward)]),
        ours=quartiles(each["jaxgen"] / each[who]),
      )
    )
  if case.trace == "exact":
    truth = np.asarray(runs[0]())
    for row, run in zip(rows, runs, strict=True):
      row["difference"] = float(np.abs(np.asarray(run()) - truth).max())
  for row in rows:
    print(*_cost_cells(row), flush=True)
  return rows


def calls_of(case: Case) -> dict:
  """{framework: (() -> log p of a batch, its forward, evaluations)}."""
  model, shape = overhead.networks(num_classes=10)[case.network]
  params = overhead.init(model, shape)
  size = case.batch_size, *shape
  x = np.random.default_rng(0).standard_normal(size, "float32")
  net = functools.partial(model.apply, params)
  batch, keys = jnp.asarray(x), jax.random.split(jax.random.key(0), len(x))
  apply = jax.jit(jax.vmap(net, (0, None)))
  forward = lambda: apply(batch, 0.5)
  ones = {"jaxgen": ours(net, case)}
  if case.trace != "8 probes":
    for mode in ("vjp", "jvp"):
      if (case.network, case.trace, f"diffrax, {mode}") != TOO_SLOW:
        ones[f"diffrax, {mode}"] = by_diffrax(net, case, mode)
  evaluations = 2 * case.num_steps
  found = {}
  for name, one in ones.items():
    call = functools.partial(jax.jit(jax.vmap(one)), batch, keys)
    found[name] = call, forward, evaluations
  if case.trace != "8 probes" and timing.version("torch") is not None:
    from benchmarks.peers import torch_flows

    others, their_forward = torch_flows.calls(
      model, params, x, case.trace, case.num_steps
    )
    for name, (run, number) in others.items():
      found[name] = run, their_forward, number
  return found


def ours(net, case: Case):
  """(x, key) -> log p by jaxgen."""
  estimator = traces.exact()
  if case.trace != "exact":
    estimator = traces.hutchinson(case.products)
  times = jnp.linspace(0.0, 1.0, case.num_steps + 1)
  solve = likelihood.along(samplers.midpoint(), times)
  how = dict(prior=likelihood.normal(1.0), trace=estimator)
  field = fields.from_velocity(net)
  return lambda x, key: (
    likelihood.log_prob(solve, field, x, key, **how).log_prob
  )


def by_diffrax(net, case: Case, mode):
  """(x, key) -> log p, as in diffrax's example of a continuous normalising
  flow, by vjp or jvp.
  """
  import diffrax

  def one(x, key):
    probes = jax.random.rademacher(key, (1, *x.shape), x.dtype)
    if case.trace == "exact":
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
      1 / case.num_steps,
      (x, jnp.zeros(())),
      stepsize_controller=diffrax.ConstantStepSize(),
    )
    end, integral = solution.ys
    return likelihood.normal(1.0)(end[-1]) + integral[-1]

  return one


def digits(run_dir: pathlib.Path, number: int, repeats: int) -> list[dict]:
  """Time and standard error of every trace, on images of a trained model."""
  model = estimates.load(run_dir)
  images, labels = (a[:number] for a in model.data.split("test"))
  keys = jax.random.split(jax.random.key(0), len(images))
  times = estimates.grid(model, DIGITS["ratio"], DIGITS["num_steps"])
  estimators = [
    traces.exact(),
    traces.hutchinson(24),
    *map(traces.hutchpp, SKETCHES),
  ]
  calls = [
    functools.partial(
      estimates.flow(model, "noise", trace), images, labels, keys, times
    )
    for trace in estimators
  ]
  repeats = max(3, repeats // 3)
  seconds = timing.in_turn(calls, repeats, warm=1)
  relative = np.quantile(seconds / seconds[:, :1], timing.QUARTILES, 0).T
  rows = []
  for i, trace in enumerate(estimators):
    row = dict(trace=trace.name, num_estimates=trace.num_estimates)
    row |= dict(products=trace.num_products(images[0].size))
    row |= dict(seconds=float(np.median(seconds[:, i])))
    error = estimates.rms(np.asarray(calls[i]()["inner"]))
    rows.append(row | dict(standard_error=error, exact=relative[i].tolist()))
  return rows


def run(args) -> dict:
  """Times every case, and the traces on the run if there is one."""
  versions = {name: timing.version(name) for name in PEERS}
  record = dict(machine=runner.machine(), versions=versions)
  record |= dict(run=args.run, repeats=args.repeats, images=args.images)
  record["cost"] = []
  for case in CASES:
    case = case._replace(batch_size=case.batch_size or args.images)
    record["cost"] += costs(case, args.repeats)
  if args.run != "none":
    record["digits"] = digits(pathlib.Path(args.run), args.images, args.repeats)
  return record


def equal_error(rows: list[dict]) -> dict | None:
  """Of Hutch++, the fewest products with at most the error of 24 signs."""
  (signs,) = (r for r in rows if r["trace"] == "hutchinson")
  enough = lambda r: r["standard_error"] <= signs["standard_error"]
  below = [r for r in rows if r["trace"] == "hutchpp" and enough(r)]
  return min(below, key=lambda r: r["products"], default=None)


def goals(record: dict) -> list[tuple]:
  """Cells of every target: what, the goal, what was measured, whether met."""
  found = []
  for r in record["cost"]:
    name = f"{r['network']}, {r['trace']}"
    library = r["who"].split(",")[0]
    if r["trace"] == "exact" and library in GOALS:
      what = f"{name}: ours / {r['who']}, time per evaluation"
      found.append((what, GOALS[library], r["ours"]))
    if r["trace"] == "one probe" and r["who"] == "jaxgen":
      what = f"{name}: forwards per evaluation"
      found.append((what, FORWARDS[r["network"]], r["forwards"]))
  if "digits" in record:
    row = equal_error(record["digits"])
    name = f"hutchpp({row['num_estimates']})" if row else "hutchpp"
    what = f"digits: {name} / exact, time at the error of 24 signs"
    found.append((what, HALF, row and row["exact"]))
  return [(what, goal, *_judged(q, goal)) for what, goal, q in found]


def _judged(quartiles, goal):
  if quartiles is None:
    return f"not with {3 * max(SKETCHES)} products", "missed"
  return timing.spread(*quartiles), "met" if quartiles[1] <= goal else "missed"


def _cost_cells(r):
  difference = f"{r['difference']:.0e}" if "difference" in r else ""
  names = r["network"], r["trace"], r["products"], r["batch_size"], r["who"]
  spreads = timing.spread(*r["forwards"]), timing.spread(*r["ours"])
  return *names, *spreads, f"{1e3 * r['seconds']:.2f}", difference


def _digits_cells(r):
  name = f"{r['trace']}({r['num_estimates']})"
  name = "exact" if r["trace"] == "exact" else name
  error, time = f"{r['standard_error']:.3f}", f"{r['seconds']:.1f}"
  return name, r["products"], error, timing.spread(*r["exact"]), time


def tables(record: dict) -> dict:
  """The parts of the page."""
  installed = (
    f"{name} {version}" if version else f"{name} not installed"
    for name, version in record["versions"].items()
  )
  head = "network | trace | products | batch | | forwards per evaluation"
  head += " | ours / theirs | ms per evaluation | difference, nats"
  found = dict(
    made=[
      f"`taskset -c 0 python -m benchmarks likelihood_cost --run"
      f" {record['run']} --repeats {record['repeats']} --images"
      f" {record['images']}` on",
      f"{record['machine']},",
      f"{', '.join(installed)}.",
    ],
    goals=pages.table("what | goal | measured |", goals(record)),
    cost=pages.table(head, map(_cost_cells, record["cost"])),
  )
  found["digits"] = "Not measured."
  if "digits" in record:
    head = "trace | products | standard error, nats | time / exact's | s"
    found["digits"] = pages.table(head, map(_digits_cells, record["digits"]))
  return found


BENCHMARKS = {
  "likelihood_cost": runner.Benchmark(
    run, tables, dict(repeats=9, images=16), runner.run_flag
  )
}
