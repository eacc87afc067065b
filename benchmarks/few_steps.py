"""Few steps: the deterministic solvers on four grids, one of them fitted,
against the converged flow; on an exact mixture and on a trained model.

  python -m benchmarks few_steps               about 12 minutes on one CPU core
  python -m benchmarks few_steps --run none    without the trained model

The mixture: 8 Gaussians on a circle of radius 1, std .05, float64; x at noise
ratio 80 is 80 z. The model: a run of experiments.edm (make demo), float32.
Figures are the RMSE per coordinate of the final denoise to the converged
solution. Grids are fitted on other particles than those measured. Draws
few_steps.png and trajectories.png in docs/images.
"""

import itertools
import pathlib
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import figures, pages, runner, trained
from jaxgen import fields, paths, samplers
from jaxgen.data import toy

NFES = (11, 19, 35, 79)  # the final denoise is one of them
FITTED_NFES = NFES[:3]
RHOS = (*np.geomspace(2.0, 100.0, 24), np.inf)  # infinity is log_snr
FITTED = ("ddim", "heun", "dpmpp_2m", "unipc(2)", "unipc(3)")
DIGITS = ("ddim", "heun", "dpmpp_2m", "unipc(2)")
SETS = 3  # of held-out particles
KEY = 0


def solvers() -> dict[str, samplers.Solver]:
  """The deterministic solvers by name, UniPC to order 3."""
  names = "euler heun midpoint rk4 ddim dpm_solver_2s dpm_solver_3s"
  names += " dpmpp_2s dpmpp_2m dpmpp_3m"
  made = [getattr(samplers, name)() for name in names.split()]
  made += [samplers.adams_bashforth(order) for order in (2, 3, 4)]
  made += [samplers.deis(order) for order in (2, 3, 4)]
  made += [samplers.unipc(order) for order in (2, 3)]
  return {solver.name: solver for solver in made}


def steps_of(solver: samplers.Solver, nfe: int) -> int:
  """The most steps that nfe calls allow, the final denoise among them."""
  return (nfe - 1) // solver.num_calls(1)


class Case(NamedTuple):
  """What is sampled."""

  field: fields.Field  # the model, on the EDM path
  draw: Callable  # (seed, number) -> states at noise ratio 80, [number, *D]
  values: Callable  # [..., *D] -> what is compared
  number: int  # held-out particles of a set
  fit: Callable  # NFE -> settings of grids.fitted, its particles as "number"
  repeats: int  # fits, each on particles of its own


def mixture() -> Case:
  """The exact denoiser of 8 Gaussians."""
  ring = toy.eight_gaussians(1.0, 0.05).mixture

  def draw(seed, number):
    return 80.0 * jax.random.normal(jax.random.key(seed), (number, 2), float)

  fit = lambda nfe: dict(number=512)
  return Case(ring.field(paths.edm()), draw, lambda x: x, 2000, fit, 3)


def digits(run_dir: pathlib.Path) -> Case:
  """A trained model of labelled images."""
  field, draw = trained.labelled(run_dir)

  def fit(nfe):
    candidates, refinements = (48, 4) if nfe > 30 else (32, 8)
    how = dict(num_candidates=candidates, num_refinements=refinements)
    return dict(number=64, chunk=32, **how)

  return Case(field, draw, lambda x: x[..., :1], 100, fit, 1)


def ends_of(case: Case, solver: samplers.Solver) -> Callable:
  """(states [P, *D], times) -> what is compared at the end, jitted."""

  def one(x, times):
    key = jax.random.key(KEY)
    x = samplers.integrate(solver, case.field, x, times, key)
    return case.values(case.field(x, times[-1]).data)

  return jax.jit(jax.vmap(one, (0, None)))


def karras(path, num_steps, rho):
  """Karras' grid, log_snr where rho is infinite."""
  if np.isinf(rho):
    return samplers.grids.log_snr(path, num_steps)
  return samplers.grids.karras(path, num_steps, rho=float(rho))


class Judge:
  """Held-out particles of a case, and the errors of samplers on them."""

  def __init__(self, case, truth_steps):
    self.case, sets = case, range(1, SETS + 1)
    self.x = jnp.concatenate([case.draw(seed, case.number) for seed in sets])
    times = samplers.grids.log_snr(case.field.path, truth_steps)
    self.truth = ends_of(case, samplers.heun())(self.x, times)

  def errors(self, run, times):
    """RMSE of each set, [SETS]."""
    squares = (run(self.x, times) - self.truth) ** 2
    return np.sqrt(np.mean(squares.reshape(SETS, -1), 1))

  def best_rho(self, run, num_steps):
    """The best of RHOS on the first set."""
    first = slice(self.case.number)

    def error(rho):
      times = karras(self.case.field.path, num_steps, rho)
      return float(
        np.mean((run(self.x[first], times) - self.truth[first]) ** 2)
      )

    return min(RHOS, key=error)

  def fits(self, run, solver, nfe):
    """Errors on the sets, each with a fit in turn; times; seconds."""
    case, num_steps = self.case, steps_of(solver, nfe)
    how = case.fit(nfe)
    number = how.pop("number")
    fit = jax.jit(
      lambda x, key: samplers.grids.fitted(
        case.field, solver, x, num_steps, key, **how
      )
    )
    begun = time.monotonic()
    grids = [
      jax.block_until_ready(fit(case.draw(1000 + n, number), jax.random.key(n)))
      for n in range(case.repeats)
    ]
    seconds = time.monotonic() - begun
    errors = [self.errors(run, grids[n % case.repeats])[n] for n in range(SETS)]
    return np.array(errors), grids[0], seconds


def summary(errors, **more):
  """Mean and standard deviation over sets."""
  return dict(mean=float(errors.mean()), std=float(errors.std(ddof=1)), **more)


def measure(case, judge, names, fitted_names, nfes) -> list[dict]:
  """A row for each solver and NFE."""
  rows = []
  for name, nfe in itertools.product(names, nfes):
    solver = solvers()[name]
    run, num_steps = ends_of(case, solver), steps_of(solver, nfe)
    errors = lambda rho, run=run, n=num_steps: judge.errors(
      run, karras(case.field.path, n, rho)
    )
    rho = judge.best_rho(run, num_steps)
    best = errors(rho)
    row = dict(
      solver=name,
      nfe=nfe,
      num_steps=num_steps,
      karras=summary(errors(7.0)),
      log_snr=summary(errors(np.inf)),
      scanned=summary(best, rho=str(round(float(rho), 1))),
      fitted=None,
    )
    if name in fitted_names and nfe in FITTED_NFES:
      found, times, seconds = judge.fits(run, solver, nfe)
      row["fitted"] = summary(
        found,
        times=[float(t) for t in times],
        seconds=round(seconds, 1),
        ratio=float(found.mean() / best.mean()),
      )
    rows.append(row)
    print(row, flush=True)
  return rows


def curves(case, judge) -> dict[str, list]:
  """{solver: [(NFE, RMSE) of the log-SNR grid]}."""
  found: dict[str, list] = {name: [] for name in solvers()}
  for (name, solver), nfe in itertools.product(
    solvers().items(), (*NFES, 159, 319)
  ):
    num_steps = steps_of(solver, nfe)
    times = samplers.grids.log_snr(case.field.path, num_steps)
    error = float(judge.errors(ends_of(case, solver), times).mean())
    found[name].append((solver.num_calls(num_steps) + 1, error))
  return found


def trajectories(case, rows) -> dict[str, np.ndarray]:
  """{title: states [P, N + 1, 2] over hypot(1, t)}, the exact flow first."""
  path, x = case.field.path, case.draw(77, 24)
  fine = samplers.grids.log_snr(path, 512)
  chosen = [("exact flow", samplers.heun(), fine)]
  for name in ("ddim", "heun", "unipc(2)"):
    solver = solvers()[name]
    times = samplers.grids.karras(path, steps_of(solver, 11))
    chosen.append((f"{name}, Karras, NFE 11", solver, times))
  fit = [r for r in rows if (r["solver"], r["nfe"]) == ("unipc(2)", 11)]
  times = jnp.asarray(fit[0]["fitted"]["times"], x.dtype)
  chosen.append(("unipc(2), fitted, NFE 11", solvers()["unipc(2)"], times))
  found = {}
  for title, solver, times in chosen:
    key = jax.random.key(KEY)
    run = lambda x: samplers.trajectory(solver, case.field, x, times, key)
    states = jax.jit(jax.vmap(run))(x) / jnp.hypot(1.0, times)[:, None]
    found[title] = np.asarray(states)
  return found


def run(args) -> dict:
  """Measures and draws."""
  begun = time.monotonic()
  record = dict(machine=runner.machine(), run=args.run)
  with jax.enable_x64(True):
    case = mixture()
    judge = Judge(case, truth_steps=4096)
    record["mixture"] = measure(case, judge, solvers(), FITTED, NFES)
    record["curves"] = curves(case, judge)
    figures.curves(record["curves"], record["mixture"])
    figures.trajectories(trajectories(case, record["mixture"]))
  if args.run != "none":
    case = digits(pathlib.Path(args.run))
    judge = Judge(case, truth_steps=256)
    record["digits"] = measure(case, judge, DIGITS, DIGITS[-1:], FITTED_NFES)
  return record | dict(seconds=round(time.monotonic() - begun))


def cells(row: dict) -> tuple:
  """One line of a table."""
  show = lambda v: f"{v['mean']:.2g} ± {v['std']:.1g}" if v else "-"
  fitted, scanned = row["fitted"], row["scanned"]
  found = row["solver"], row["nfe"], row["num_steps"], show(row["karras"])
  found += show(row["log_snr"]), f"{show(scanned)} ({scanned['rho']})"
  return *found, show(fitted), f"{fitted['ratio']:.2f}" if fitted else "-"


def goal_cells(rows):
  """The best solver and grid of every NFE that has a goal."""
  for nfe, goal in figures.GOALS.items():
    best, name = min(
      (row[grid]["mean"], f"{row['solver']}, {grid}")
      for row in rows
      for grid in ("karras", "log_snr", "scanned", "fitted")
      if row["nfe"] == nfe and row[grid]
    )
    yield nfe, goal, f"{best:.2g}", name


def tables(record: dict) -> dict:
  """The parts of the page."""
  found = dict(
    made=[
      f"`python -m benchmarks few_steps --run {record['run']}` on",
      f"{record['machine']}; {record['seconds']} s.",
    ],
    goals=pages.table("NFE | goal | best | by", goal_cells(record["mixture"])),
  )
  head = "solver | NFE | steps | Karras rho 7 | log_snr | best Karras (rho)"
  for name in {"mixture", "digits"} & record.keys():
    rows = record[name]
    found[name] = pages.table(
      f"{head} | fitted | fitted / best", map(cells, rows)
    )
    seconds = [row["fitted"]["seconds"] for row in rows if row["fitted"]]
    spent = f"{min(seconds):.0f} to {max(seconds):.0f} s"
    found[f"{name}, seconds"] = spent + " for one." * (name == "digits")
  if "digits" in record:
    found["run"] = f"`{record['run']}`"
  return found


BENCHMARKS = {"few_steps": runner.Benchmark(run, tables, flags=runner.run_flag)}
