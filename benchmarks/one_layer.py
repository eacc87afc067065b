"""One `integrate` for five kinds of field, with their calls counted alike.

  python -m benchmarks.one_layer          some seconds on a CPU core

Diffusion and flow matching by the exact fields of eight Gaussians, the optimal
displacement and the frozen-map flow of a convex potential, the rays of the
optimal critic of four funnels: laws whose fields are known, so that an error is
the solver's. Writes docs/results/one_layer.md, one_layer.json and
docs/images/one_layer.png.
"""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import results
from experiments.lib import figures
from jaxgen import fields, paths, samplers
from jaxgen.data import toy, transport

FIGURE = pathlib.Path("docs/images/one_layer.png")
NUM_PARTICLES = 400
FINE = 512  # steps of the reference
plt = figures.plt


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


def run(case: Case, num_steps: int | None = None):
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


def measure(case: Case) -> tuple[dict, np.ndarray]:
  """Calls and the largest error of an end, and the states."""
  states, lengths, calls = run(case)
  if case.closed is None:
    ends = run(case, FINE)[0][:, -1]
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


def draw(
  path: pathlib.Path, rows: list[dict], states: list[np.ndarray]
) -> None:
  """A panel a field: every particle's way, and where it ends."""
  figure, axes = plt.subplots(1, 5, figsize=(17, 4.05), layout="constrained")
  for axis, row, found in zip(axes, rows, states, strict=True):
    limit = 1.2 * np.abs(found[:, -1]).max()
    for way in found[:150]:
      axis.plot(*way.T, color="C0", linewidth=0.6, alpha=0.5)
    axis.scatter(*found[:, 0].T, s=4, color="0.5", linewidths=0)
    axis.scatter(*found[:, -1].T, s=6, color="C3", linewidths=0, zorder=3)
    axis.set(aspect="equal", xlim=(-limit, limit), ylim=(-limit, limit))
    axis.set_xticks([])
    axis.set_yticks([])
    calls = f"{row['calls']} call{'s' if row['calls'] > 1 else ''}"
    axis.set_title(f"{row['name']}\n{row['solver']}, {calls}", fontsize=11)
  figures.save(figure, path)


def page(record: dict) -> str:
  """The table as Markdown."""
  lines = [
    "# One sampler layer",
    "",
    f"`{record['command']}`, {record['machine']}.",
    "",
    "![Five kinds of field, one driver](../images/one_layer.png)",
    "",
    "Grey: where particles start, red: where they end. The same",
    "`samplers.integrate` runs all of them and counts their calls alike; no",
    "solver names any (tests/samplers/test_one_layer.py). EDM's start lies far",
    "outside of its panel.",
    "",
    "| field | solver | steps | calls | median error | against |",
    "|---|---|---|---|---|---|",
  ]
  for row in record["rows"]:
    lines.append(
      f"| {row['name']} | {row['solver']} | {row['steps']} | {row['calls']} |"
      f" {row['median_error']:.1e} | {row['truth']} |"
    )
  return "\n".join(lines) + "\n"


def main() -> None:
  """Measures, draws, prints and writes."""
  args = results.parser(__doc__).parse_args()
  rows, states = zip(*map(measure, cases()), strict=True)
  draw(FIGURE, list(rows), list(states))
  record = dict(
    command="python -m benchmarks.one_layer",
    machine=results.machine(),
    rows=list(rows),
  )
  results.write(args.out, "one_layer", page(record), record)


if __name__ == "__main__":
  main()
