"""Where the truth is known: a transport plan, and five kinds of field.

  python -m benchmarks duality         some seconds on a CPU core
  python -m benchmarks one_layer       some seconds on a CPU core

duality: two clouds on the plane with weights. The plan of least cost and the
potentials of greatest value are each found by a linear programme of their own
(jaxgen.metrics.duality). Mass moves only where both prices add up to the cost.
Draws docs/images/duality.png.

one_layer: one `integrate` for five kinds of field, with their calls counted
alike: diffusion and flow matching by the exact fields of eight Gaussians, the
optimal displacement and the frozen-map flow of a convex potential, and the rays
of the optimal critic of four funnels. All these fields are known, so that an
error is the solver's. Draws docs/images/one_layer.png.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import figures, pages, runner
from jaxgen import fields, paths, samplers
from jaxgen.data import toy, transport_pairs
from jaxgen.metrics import duality

SIZES = ((10, 10), (30, 20), (100, 100))
COSTS = {
  "|x - y|": lambda x, y: np.linalg.norm(x[:, None] - y, axis=-1),
  "|x - y|^2": lambda x, y: ((x[:, None] - y) ** 2).sum(-1),
}
DRAWS = 200  # feasible potentials and plans of a row; 20 times as many drawn
USED = 1e-12  # the least mass for which a plan is said to use a pair
NUM_PARTICLES = 400
FINE = 512  # steps of the reference


def clouds(n: int, m: int, seed: int = 0) -> tuple[np.ndarray, ...]:
  """Points x [n, 2], y [m, 2] in two boxes that overlap, and their weights."""
  rng = np.random.default_rng(seed)
  x, y = rng.uniform(0, 1, (n, 2)), rng.uniform([0.5, 0.2], [1.5, 1.2], (m, 2))
  return x, y, rng.dirichlet(np.full(n, 3.0)), rng.dirichlet(np.full(m, 3.0))


def measure_plan(name: str, n: int, m: int) -> dict:
  """One row: both values, their gap, and the slacks."""
  x, y, a, b = clouds(n, m)
  cost = COSTS[name](x, y)
  primal, dual = duality.primal(cost, a, b), duality.dual(cost, a, b)
  slack, used = duality.slack(cost, dual.first, dual.second), primal.plan > USED
  below, above = feasible(cost, a, b, primal, dual, DRAWS)
  return dict(
    cost=name,
    n=n,
    m=m,
    primal=primal.value,
    dual=dual.value,
    gap=primal.value - dual.value,
    pairs=int(used.sum()),
    slack_on_support=float(np.abs(slack[used]).max()),
    least_slack=float(slack.min()),
    best_potentials=float(below.max()),
    best_plan=float(above.min()),
  )


def feasible(cost, a, b, primal, dual, draws):
  """Values of potentials and of plans that are feasible and not optimal.

  Potentials: u* + noise of any size, and its c-transform. Plans: a mix of the
  optimal one and one of random masses with the same margins.
  """
  rng = np.random.default_rng(1)
  noise = rng.standard_normal((draws, len(a), 1)) * cost.std()
  u = dual.first[:, None] + noise * rng.uniform(0, 1, (draws, 1, 1))
  below = u[..., 0] @ a + (cost - u).min(1) @ b
  plan = rng.exponential(size=(draws, *cost.shape))
  for _ in range(100):
    plan *= a[:, None] / plan.sum(2, keepdims=True)
    plan *= b / plan.sum(1, keepdims=True)
  share = rng.uniform(0, 1, draws)
  above = share * (plan * cost).sum((1, 2)) + (1 - share) * primal.value
  return below, above


def picture(name="|x - y|^2", n=7, m=6, seed=15461) -> None:
  """docs/images/duality.png, with a seed that keeps points and lines apart."""
  points = x, y, a, b = clouds(n, m, seed)
  cost = COSTS[name](x, y)
  primal, dual = duality.primal(cost, a, b), duality.dual(cost, a, b)
  # A constant moved from one to the other changes nothing: equal means.
  shift = (dual.second.mean() - dual.first.mean()) / 2
  u, v = dual.first + shift, dual.second - shift
  pairs, slack = np.argwhere(primal.plan > USED), duality.slack(cost, u, v)
  solved = pairs, primal.plan, cost, slack, u, v, primal.value
  others = feasible(cost, a, b, primal, dual, 20 * DRAWS)
  figures.duality(name, points, solved, others)


def measure_duality(args) -> dict:
  """Solves and draws."""
  found = [measure_plan(name, n, m) for name in COSTS for n, m in SIZES]
  picture()
  return dict(machine=runner.machine(), rows=found)


def tables_duality(record: dict) -> dict:
  """The parts of the page of duality."""
  lines = []
  for r in record["rows"]:
    cost, size = r["cost"].replace("|", "\\|"), f"{r['n']} x {r['m']}"
    values = f"{r['primal']:.9f}", f"{r['dual']:.9f}", f"{r['gap']:.0e}"
    slacks = f"{r['slack_on_support']:.0e}", f"{r['least_slack']:.0e}"
    others = f"{r['best_potentials']:.5f}", f"{r['best_plan']:.5f}"
    lines.append((cost, size, *values, r["pairs"], *slacks, *others))
  head = "cost | N x M | primal | dual | gap | pairs used | most slack on them"
  head += " | least slack | other potentials, at most | other plans, at least"
  made = f"`python -m benchmarks duality` on {record['machine']}. Seed 0"
  return dict(made=f"{made} in the table; the", plans=pages.table(head, lines))


class Case(NamedTuple):
  """A field for each particle, where it starts and how it is carried."""

  field: Callable  # x [2] -> the field of a particle that starts there
  start: Callable  # key -> (x, length of its time [])
  times: jax.Array  # [N + 1], of a particle of length 1
  solver: samplers.Solver
  closed: Callable | None = None  # (x, length) -> the end, where it is known


def cases() -> dict[str, Case]:
  """The five cases, in the order of the panels."""
  ring = toy.eight_gaussians(2.0, 0.25).mixture
  move = transport_pairs.log_sum_exp(jax.random.key(1), 2).transport
  pair = transport_pairs.funnels(jax.random.key(4), 2, 4)
  critic = fields.from_critic(pair.potential)
  displacement = lambda x: fields.from_transport_map(move, x)
  frozen = lambda x: fields.from_frozen_map(move, x)
  normal = lambda key: (jax.random.normal(key, (2,)), 1.0)
  euler, heun = samplers.euler(), samplers.heun()

  def diffusion(path):
    times, field = samplers.grids.karras(path, 17), ring.field(path)
    scale = path.sigma(times[0])
    start = lambda key: (scale * jax.random.normal(key, (2,)), 1.0)
    return Case(lambda x: field, start, times, heun)

  def far(key):
    end, start = pair.sample(key)
    return start, pair.cost(end, start)

  unit = lambda last, n: jnp.linspace(0.0, last, n + 1)
  end = lambda x, length: move(x)
  decay = lambda x, length: move(x) + np.exp(-3.0) * (x - move(x))
  ray = lambda x, length: x + length * critic(x, 0.0).velocity
  return {
    "EDM": diffusion(paths.edm()),
    "flow matching": diffusion(paths.linear()),
    "displacement of each particle": Case(
      displacement, normal, unit(1.0, 1), euler, end
    ),
    "flow of W2, its map frozen": Case(
      frozen, normal, unit(3.0, 12), heun, decay
    ),
    "rays of a W1 critic": Case(
      lambda x: critic, far, unit(1.0, 4), euler, ray
    ),
  }


def run_case(case: Case, times: jax.Array):
  """(states [N, T, 2], lengths [N]) of all particles."""

  def one(key):
    x, length = case.start(key)
    field, key = case.field(x), jax.random.key(0)  # no noise is drawn
    # The line that this page is about.
    states = samplers.trajectory(case.solver, field, x, length * times, key)
    return states, length

  keys = jax.random.split(jax.random.key(7), NUM_PARTICLES)
  states, lengths = jax.jit(jax.vmap(one))(keys)
  return np.asarray(states), lengths


def measure_case(name: str, case: Case) -> tuple[dict, np.ndarray]:
  """Calls and the median error of an end, and the states."""
  states, lengths = run_case(case, case.times)
  num_steps = len(case.times) - 1
  if case.closed is None:
    at = jnp.linspace(0, num_steps, FINE + 1)
    fine = jnp.interp(at, jnp.arange(num_steps + 1), case.times)
    ends = run_case(case, fine)[0][:, -1]
  else:
    ends = np.asarray(jax.vmap(case.closed)(states[:, 0], lengths))
  errors = np.linalg.norm(states[:, -1] - ends, axis=1)
  record = dict(
    name=name,
    solver=case.solver.name,
    steps=num_steps,
    calls=case.solver.num_calls(num_steps),
    median_error=float(np.median(errors)),
    truth="fine solve" if case.closed is None else "closed form",
  )
  return record, states


def measure_layer(args) -> dict:
  """Measures and draws."""
  found = itertools.starmap(measure_case, cases().items())
  rows, states = map(list, zip(*found, strict=True))
  figures.one_layer(rows, states)
  command = "python -m benchmarks one_layer"
  return dict(command=command, machine=runner.machine(), rows=rows)


def tables_layer(record: dict) -> dict:
  """The parts of the page of fields."""
  lines = []
  for row in record["rows"]:
    shown = (row[k] for k in ("name", "solver", "steps", "calls"))
    lines.append((*shown, f"{row['median_error']:.1e}", row["truth"]))
  head = "field | solver | steps | calls | median error | against"
  made = f"`{record['command']}`, {record['machine']}."
  return dict(made=made, fields=pages.table(head, lines))


BENCHMARKS = {
  "duality": runner.Benchmark(measure_duality, tables_duality),
  "one_layer": runner.Benchmark(measure_layer, tables_layer),
}
