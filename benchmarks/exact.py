"""Solved where the truth is known: a transport plan, and five kinds of field.

  python -m benchmarks duality         some seconds on a CPU core
  python -m benchmarks one_layer       some seconds on a CPU core

duality: two clouds on the plane with weights. The plan of least cost and the
potentials of greatest value are each found by a linear programme of their own
(jaxgen.metrics.duality). Mass goes only where both prices pay the whole way.
Draws docs/images/duality.png.

one_layer: one `integrate` for five kinds of field, with their calls counted
alike. Diffusion and flow matching by the exact fields of eight Gaussians, the
optimal displacement and the frozen-map flow of a convex potential, the rays of
the optimal critic of four funnels: distributions whose fields are known, so
that an error is the solver's. Draws docs/images/one_layer.png.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import figures, pages, runner
from jaxgen import fields, paths, samplers
from jaxgen.data import toy, transport
from jaxgen.metrics import duality

SIZES = ((10, 10), (30, 20), (100, 100))
COSTS = {
  "|x - y|": lambda x, y: np.linalg.norm(x[:, None] - y, axis=-1),
  "|x - y|^2": lambda x, y: ((x[:, None] - y) ** 2).sum(-1),
}
DRAWS = 200  # of feasible potentials and plans a row; 20 times as many drawn
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
  slack, used = (
    duality.slack(cost, dual.first, dual.second),
    primal.plan > figures.USED,
  )
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
  """Values of potentials and of plans that are feasible and not the best.

  Potentials: u* + noise of any size, and its c-transform. Plans: part of the
  best, part of one of random masses with the same margins.
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
  """docs/images/duality.png; of a seed whose points and lines lie apart."""
  x, y, a, b = clouds(n, m, seed)
  cost = COSTS[name](x, y)
  primal, dual = duality.primal(cost, a, b), duality.dual(cost, a, b)
  # A constant moved from one to the other changes nothing: equal means.
  shift = (dual.second.mean() - dual.first.mean()) / 2
  u, v = dual.first + shift, dual.second - shift
  slack = duality.slack(cost, u, v)
  others = feasible(cost, a, b, primal, dual, 20 * DRAWS)
  solved = primal.plan, cost, u, v, slack, others, primal.value
  figures.duality(name, x, y, a, b, *solved)


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
  """A field for each particle, where it starts and when it is there.

  Attributes:
    name: of the panel.
    field: what a particle starts with [2] -> its field.
    start: key -> (state [2], length of its time []).
    times: [N + 1], of a particle of length 1.
    solver: that carries it along.
    closed: (start, field's particle) -> the end, where it is known; None: the
      end of a fine solve.
  """

  name: str
  field: Callable
  start: Callable
  times: jax.Array
  solver: samplers.Solver
  closed: Callable | None = None


def diffusion(name: str, path: paths.Path, num_steps: int) -> Case:
  """From noise to eight Gaussians, on a path."""
  law = toy.eight_gaussians(2.0, 0.25)
  times = samplers.grids.karras(path, num_steps)
  start = lambda key: (path.sigma(times[0]) * jax.random.normal(key, (2,)), 1.0)
  field = law.mixture.field(path)
  return Case(name, lambda x: field, start, times, samplers.heun())


def cases() -> list[Case]:
  """The five, in the order of the panels."""
  convex = transport.log_sum_exp(jax.random.key(1), 2)
  move = convex.transport
  normal = lambda key: (jax.random.normal(key, (2,)), 1.0)
  pair = transport.funnels(jax.random.key(4), 2, 4)
  critic = fields.from_critic(pair.potential)

  def far(key):
    end, start = pair.sample(key)
    return start, pair.cost(end, start)

  unit = lambda last, n: jnp.linspace(0.0, last, n + 1)
  return [
    diffusion("EDM", paths.edm(), 17),
    diffusion("flow matching", paths.linear(), 17),
    Case(
      "displacement of each particle",
      lambda x: fields.from_transport_map(move, x),
      normal,
      unit(1.0, 1),
      samplers.euler(),
      lambda x, length: move(x),
    ),
    Case(
      "flow of W2, its map frozen",
      lambda x: fields.from_frozen_map(move, x),
      normal,
      unit(3.0, 12),
      samplers.heun(),
      lambda x, length: move(x) + np.exp(-3.0) * (x - move(x)),
    ),
    Case(
      "rays of a W1 critic",
      lambda x: critic,
      far,
      unit(1.0, 4),
      samplers.euler(),
      lambda x, length: x + length * critic(x, 0.0).velocity,
    ),
  ]


def run_case(case: Case, num_steps: int | None = None):
  """(states [N, T, 2], calls of the field) of one case."""
  times = case.times
  if num_steps is not None:
    at = jnp.linspace(0, len(times) - 1, num_steps + 1)
    times = jnp.interp(at, jnp.arange(len(times)), times)

  def one(key):
    start, length = case.start(key)
    field, key = case.field(start), jax.random.key(0)  # no noise is drawn
    # The line that this page is about.
    states = samplers.trajectory(case.solver, field, start, length * times, key)
    return states, length

  keys = jax.random.split(jax.random.key(7), NUM_PARTICLES)
  states, lengths = jax.jit(jax.vmap(one))(keys)
  return np.asarray(states), lengths, case.solver.num_calls(len(times) - 1)


def measure_case(case: Case) -> tuple[dict, np.ndarray]:
  """Calls and the largest error of an end, and the states."""
  states, lengths, calls = run_case(case)
  if case.closed is None:
    ends = run_case(case, FINE)[0][:, -1]
  else:
    ends = np.asarray(jax.vmap(case.closed)(states[:, 0], lengths))
  errors = np.linalg.norm(states[:, -1] - ends, axis=1)
  record = dict(
    name=case.name,
    solver=case.solver.name,
    steps=states.shape[1] - 1,
    calls=calls,
    median_error=float(np.median(errors)),
    truth="fine solve" if case.closed is None else "closed form",
  )
  return record, states


def measure_layer(args) -> dict:
  """Measures and draws."""
  rows, states = zip(*map(measure_case, cases()), strict=True)
  figures.one_layer(list(rows), list(states))
  return dict(
    command="python -m benchmarks one_layer",
    machine=runner.machine(),
    rows=list(rows),
  )


def tables_layer(record: dict) -> dict:
  """The parts of the page of fields."""
  lines = [
    (
      *(row[k] for k in ("name", "solver", "steps", "calls")),
      f"{row['median_error']:.1e}",
      row["truth"],
    )
    for row in record["rows"]
  ]
  head = "field | solver | steps | calls | median error | against"
  made = f"`{record['command']}`, {record['machine']}."
  return dict(made=made, fields=pages.table(head, lines))


BENCHMARKS = {
  "duality": runner.Benchmark(measure_duality, tables_duality),
  "one_layer": runner.Benchmark(measure_layer, tables_layer),
}
