"""The order of every solver, fitted: what the test suite asserts, as a page.

  python -m benchmarks.orders          about 5 minutes on two CPU cores

Deterministic solvers: float64, the probability flow of a 2-D mixture with
width, noise ratios from 5 to .1 (and back), N steps uniform in log ratio,
against SciPy's DOP853. Stochastic solvers: for Gaussian data every step is an
affine map of what is carried and of its draws; the maps are probed and give
mean and variance at the end without Monte Carlo. Writes docs/results/orders.md
and orders.json.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import mixture, recursion, results
from jaxgen import samplers

NUM_STEPS = (192, 384, 768)
POINTS = np.random.RandomState(0).normal(size=(8, 2))
# encode, graded
GRIDS = {
  "down": (False, False),
  "up": (True, False),
  "down, graded": (False, True),
  "up, graded": (True, True),
}
RATIO_MIN, RATIO_MAX = 0.1, 5.0
STOCHASTIC_PATHS = ("vp", "linear")


class Claim(NamedTuple):
  """A deterministic solver, its order, and that from its own start."""

  solver: samplers.Solver
  order: int
  started: int


def deterministic() -> list[Claim]:
  """Every deterministic solver."""
  one_step = {
    1: (samplers.euler(), samplers.ddim()),
    2: (
      samplers.midpoint(),
      samplers.heun(),
      samplers.dpm_solver_2s(),
      samplers.dpmpp_2s(),
    ),
    3: (samplers.dpm_solver_3s(),),
    4: (samplers.rk4(),),
  }
  claims = [Claim(s, k, k) for k, found in one_step.items() for s in found]
  # The first step is ddim's or Euler's: second order is what that leaves.
  claims += [Claim(samplers.adams_bashforth(k), k, 2) for k in (2, 3, 4)]
  claims += [Claim(samplers.deis(k), k, 2) for k in (2, 3, 4)]
  claims += [Claim(samplers.dpmpp_2m(), 2, 2), Claim(samplers.dpmpp_3m(), 3, 2)]
  # UniPC corrects its first step to third order's.
  return claims + [Claim(samplers.unipc(k), k + 1, 3) for k in (2, 3)]


def log_grid(path, num_steps, encode=False, graded=False):
  """Times uniform in log ratio.

  graded: the first step is cut into halves, quarters, ... down to 1 / N of it,
  so that a multistep method's start at lower order costs nothing.
  """
  times = samplers.grids.log_snr(path, num_steps, RATIO_MIN, RATIO_MAX)
  times = jnp.flip(times) if encode else times
  if not graded:
    return np.asarray(times)
  logs = np.log(np.asarray(path.ratio(times[:2])))
  halves = 0.5 ** np.arange(int(np.log2(num_steps)), 0, -1)
  ratios = np.exp(logs[0] + (logs[1] - logs[0]) * halves)
  inner = path.time(jnp.asarray(ratios))
  return np.concatenate([times[:1], inner, times[1:]])


def padded(solver):
  """The solver, whose steps of length zero do nothing.

  So grids of several lengths run in one program.
  """

  def plan(path, times):
    return jnp.diff(times) != 0, solver.plan(path, times)

  def step(field, key, x, coefficients, memory):
    live, c = coefficients
    after = solver.step(field, key, x, c, memory)
    pick = lambda new, old: jnp.where(live, new, old)
    return jax.tree.map(pick, after, (x, memory))

  return solver._replace(plan=plan, step=step)


def truth(name, encode):
  """Where the flow begins, [P, 2], and ends."""
  ends = [mixture.time(name, ratio) for ratio in (RATIO_MAX, RATIO_MIN)]
  start, end = ends[::-1] if encode else ends
  s = mixture.scales(name)
  starts = POINTS * np.hypot(s.alpha(start), s.sigma(start))
  return starts, np.stack([mixture.flow(name, x, start, end) for x in starts])


def errors(name, claims):
  """RMSE at the end by (solver's name, grid), [len(NUM_STEPS)]; x64."""
  path, settings = mixture.jaxgen_path(name), list(GRIDS.values())
  truths = {encode: truth(name, encode) for encode in (False, True)}
  starts, ends = (
    np.stack([truths[encode][i] for encode, _ in settings]) for i in (0, 1)
  )
  grids = [[log_grid(path, n, *how) for n in NUM_STEPS] for how in settings]
  longest = max(len(times) for row in grids for times in row)
  pad = lambda times: np.pad(times, (0, longest - len(times)), mode="edge")
  grids = jnp.asarray([[pad(times) for times in row] for row in grids])
  found = {}
  for claim in claims:
    values = np.asarray(_ends(path, claim.solver)(jnp.asarray(starts), grids))
    rms = np.sqrt(np.mean((values - ends[:, None]) ** 2, (2, 3)))
    found |= {(claim.solver.name, grid): rms[i] for i, grid in enumerate(GRIDS)}
  return found


def _ends(path, solver):
  """(x [K, P, 2], grids [K, G, N + 1]) -> [K, G, P, 2]."""
  field = mixture.field(path)

  def one(x, times):
    key = jax.random.key(0)
    return samplers.integrate(padded(solver), field, x, times, key)

  points = jax.vmap(one, (0, None))
  return jax.jit(jax.vmap(jax.vmap(points, (None, 0))))


def rounding(name, claims, num_steps=256):
  """|x in float32 - x in float64| at the end, ratios 80 to .002, by solver."""
  path = mixture.jaxgen_path(name)
  grid = np.asarray(samplers.grids.log_snr(path, num_steps, 0.002, 80.0))
  scale = float(np.hypot(path.alpha(grid[0]), path.sigma(grid[0])))
  found = {}
  for claim in claims:
    run = _ends(path, claim.solver)
    single, double = (
      np.asarray(
        run(
          jnp.asarray(POINTS[None] * scale, dtype),
          jnp.asarray(grid[None, None], dtype),
        ),
        np.float64,
      )
      for dtype in (jnp.float32, jnp.float64)
    )
    found[claim.solver.name] = np.sqrt(np.mean((single - double) ** 2))
  return found


def stochastic() -> list[Claim]:
  """Every stochastic solver on a path, with its weak order."""
  one = samplers.euler_maruyama(), samplers.ancestral(), samplers.ddim(0.5)
  two = (
    samplers.churn(8.0),
    samplers.dpmpp_sde(),
    samplers.dpmpp_2m_sde(),
    samplers.seeds_2(),
  )
  return [Claim(s, k, k) for k, found in ((1, one), (2, two)) for s in found]


def measure():
  """The record of the page; x64."""
  claims, record = deterministic(), {"deterministic": {}, "stochastic": {}}
  for name in mixture.NAMES:
    rows = record["deterministic"][name] = {}
    found, rounded = errors(name, claims), rounding(name, claims)
    for claim in claims:
      own = {grid: found[claim.solver.name, grid] for grid in GRIDS}
      rows[claim.solver.name] = {
        "orders": {
          grid: mixture.order(NUM_STEPS, e) for grid, e in own.items()
        },
        "errors": {grid: e.tolist() for grid, e in own.items()},
        "rounding": rounded[claim.solver.name],
      }
    print(f"{name}: measured", flush=True)
  for name, claim in itertools.product(STOCHASTIC_PATHS, stochastic()):
    found, end = recursion.moment_errors(
      name, claim.solver, (RATIO_MAX, RATIO_MIN), NUM_STEPS
    )
    record["stochastic"].setdefault(name, {})[claim.solver.name] = {
      "order": mixture.order(NUM_STEPS, np.abs(found[0, :, 1])),
      "relative variance error": found[0, -1, 1] / end[1],
    }
  return record


def page(record):
  """The results page."""
  lines = [
    "# Orders",
    "",
    f"`python -m benchmarks.orders` on {results.machine()}. The test suite",
    "asserts the same figures (tests/samplers/test_orders.py, test_sde.py).",
    "",
    "## Deterministic solvers",
    "",
    f"The p of error ~ N^-p, fitted over N = {NUM_STEPS}: float64, RMSE of",
    f"{len(POINTS)} trajectories of a mixture of width .3 against SciPy's",
    f"DOP853, noise ratios {RATIO_MAX:g} to {RATIO_MIN:g} uniform in log ratio",
    "(down, which generates) and back (up, which encodes). Lowest to highest",
    "of the paths " + ", ".join(mixture.NAMES) + ".",
    "",
    "A multistep method starts itself at lower order, as published: on such a",
    "grid that leaves the order in the column started, on a graded one (the",
    "first step cut into halves, quarters, ...) it has its own. UniPC-p, with",
    "its corrector, is of order p + 1. Rounding: RMS of float32 against",
    "float64, 256 steps, noise ratios 80 to .002, the worst path.",
    "",
    "| solver | calls a step | order | started | "
    + " | ".join(GRIDS)
    + " | rounding |",
    "|---" * (len(GRIDS) + 5) + "|",
  ]
  found = list(record["deterministic"].values())
  for solver, order, started in deterministic():
    rows, cells = [path[solver.name] for path in found], []
    for grid in GRIDS:
      values = [row["orders"][grid] for row in rows]
      cells.append(f"{min(values):.2f} - {max(values):.2f}")
    calls = f"{solver.num_calls(2) - solver.num_calls(1)}"
    head = f"{solver.name} | {calls} | {order} | {started}"
    worst = max(row["rounding"] for row in rows)
    lines.append(f"| {head} | {' | '.join(cells)} | {worst:.0e} |")
  lines += ["", "## Stochastic solvers", "", *_stochastic_page(record)]
  return "\n".join(lines) + "\n"


def _stochastic_page(record):
  found = record["stochastic"]
  lines = [
    f"The p of the variance's error, fitted over N = {NUM_STEPS}: Gaussian",
    f"data of width {recursion.STD}, the same noise ratios, the affine maps of",
    "the steps and no Monte Carlo. In brackets the error at the largest N,",
    "relative to the variance.",
    "",
    "| solver | calls a step | weak order | " + " | ".join(found) + " |",
    "|---" * (len(found) + 3) + "|",
  ]
  for solver, order, _ in stochastic():
    cells = [
      f"{row['order']:.2f} ({row['relative variance error']:+.1e})"
      for row in (path[solver.name] for path in found.values())
    ]
    head = f"{solver.name} | {solver.num_calls(1)} | {order}"
    lines.append(f"| {head} | {' | '.join(cells)} |")
  return lines


def main():
  """Measures, prints and writes."""
  args = results.parser(__doc__).parse_args()
  with jax.enable_x64(True):
    record = measure()
  results.write(args.out, "orders", page(record), record)


if __name__ == "__main__":
  main()
