"""Few steps: the deterministic solvers on four grids, one of them fitted,
against the converged flow; on an exact mixture and on a trained model.

  python -m benchmarks few_steps               about 12 minutes on one CPU core
  python -m benchmarks few_steps --run none    without the trained model

The mixture: 8 Gaussians on a circle of radius 1, std .05, float64; x at noise
ratio 80 is 80 z. The model: a run of experiments.edm (make demo), float32.
Figures are per-coordinate RMSE of the final denoise to the converged solution.
Grids are fitted on other particles than those measured. Draws few_steps.png and
trajectories.png in docs/images.
"""

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
  """The most steps that nfe calls pay for, the final denoise among them."""
  return (nfe - 1) // solver.num_calls(1)


class Case(NamedTuple):
  """What is sampled.

  Attributes:
    field: the model, on the EDM path.
    draw: (seed, number) -> states at noise ratio 80, [number, *D].
    values: [..., *D] -> what is compared.
    number: held-out particles of a set.
    fit: NFE -> settings of grids.fitted, and its "number" of particles.
    repeats: fits, each on particles of its own.
  """

  field: fields.Field
  draw: Callable
  values: Callable
  number: int
  fit: Callable
  repeats: int


def mixture() -> Case:
  """The exact denoiser of 8 Gaussians."""
  law = toy.eight_gaussians(1.0, 0.05).mixture

  def draw(seed, number):
    return 80.0 * jax.random.normal(jax.random.key(seed), (number, 2), float)

  fit = lambda nfe: dict(number=512)
  return Case(law.field(paths.edm()), draw, lambda x: x, 2000, fit, 3)


def digits(run_dir: pathlib.Path) -> Case:
  """A trained model of labelled images."""
  field, draw = trained.labelled(run_dir)

  def fit(nfe):
    few = dict(num_candidates=48, num_refinements=4)
    many = dict(num_candidates=32, num_refinements=8)
    return dict(number=64, chunk=32, **(few if nfe > 30 else many))

  return Case(field, draw, lambda x: x[..., :1], 100, fit, 1)


def ends_of(case: Case, solver: samplers.Solver) -> Callable:
  """(states [P, *D], times) -> what is compared at the end, jitted."""

  def one(x, times):
    key = jax.random.key(KEY)
    x = samplers.integrate(solver, case.field, x, times, key)
    return case.values(case.field(x, times[-1]).data)

  return jax.jit(jax.vmap(one, (0, None)))


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

  def scan(self, run, num_steps):
    """(errors, rho) of the best Karras grid, chosen on the first set."""
    path, number = self.case.field.path, self.case.number
    found = {}
    for rho in RHOS:
      data = run(self.x[:number], karras(path, num_steps, rho))
      found[rho] = float(np.mean((data - self.truth[:number]) ** 2))
    rho = min(found, key=found.get)
    return self.errors(run, karras(path, num_steps, rho)), rho

  def fits(self, run, solver, nfe):
    """Errors on the sets, each with a fit in turn; times; seconds."""
    case, num_steps = self.case, steps_of(solver, nfe)
    settings = dict(case.fit(nfe))
    number = settings.pop("number")

    @jax.jit
    def fit(x, key):
      return samplers.grids.fitted(
        case.field, solver, x, num_steps, key, **settings
      )

    begun = time.monotonic()
    grids = [
      jax.block_until_ready(fit(case.draw(1000 + n, number), jax.random.key(n)))
      for n in range(case.repeats)
    ]
    seconds = time.monotonic() - begun
    errors = [self.errors(run, grids[n % case.repeats])[n] for n in range(SETS)]
    return np.array(errors), grids[0], seconds


def karras(path, num_steps, rho):
  """Karras' grid, log_snr where rho is infinite."""
  grids = samplers.grids
  if np.isinf(rho):
    return grids.log_snr(path, num_steps)
  return grids.karras(path, num_steps, rho=float(rho))


def summary(errors):
  """Mean and standard deviation over sets."""
  return dict(mean=float(errors.mean()), std=float(errors.std(ddof=1)))


def measure(case, judge, names, fitted_names, nfes) -> list[dict]:
  """A row for each solver and NFE."""
  rows = []
  for name in names:
    solver, path = solvers()[name], case.field.path
    run = ends_of(case, solver)
    for nfe in nfes:
      num_steps = steps_of(solver, nfe)
      best, rho = judge.scan(run, num_steps)
      row = dict(
        solver=name,
        nfe=nfe,
        num_steps=num_steps,
        karras=summary(judge.errors(run, karras(path, num_steps, 7.0))),
        log_snr=summary(judge.errors(run, karras(path, num_steps, np.inf))),
        scanned=summary(best) | dict(rho=str(round(float(rho), 1))),
        fitted=None,
      )
      if name in fitted_names and nfe in FITTED_NFES:
        errors, times, seconds = judge.fits(run, solver, nfe)
        row["fitted"] = summary(errors) | dict(
          times=[float(t) for t in times],
          seconds=round(seconds, 1),
          ratio=float(errors.mean() / best.mean()),
        )
      rows.append(row)
      print(*cells(row), sep=" | ", flush=True)
  return rows


def curves(case, judge) -> dict[str, list]:
  """{solver: [(NFE, RMSE) of the log-SNR grid]}."""
  found = {}
  for name, solver in solvers().items():
    run, found[name] = ends_of(case, solver), []
    for nfe in (*NFES, 159, 319):
      num_steps = steps_of(solver, nfe)
      times = samplers.grids.log_snr(case.field.path, num_steps)
      error = float(judge.errors(run, times).mean())
      found[name].append((solver.num_calls(num_steps) + 1, error))
  return found


def trajectories(case, rows) -> dict[str, list]:
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
    shown = record["curves"], record["mixture"]
    figures.curves(args.images / "few_steps.png", *shown)
    flows = trajectories(case, record["mixture"])
    figures.trajectories(args.images / "trajectories.png", flows)
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
    found = [
      (row[grid]["mean"], f"{row['solver']}, {grid}")
      for row in rows
      for grid in ("karras", "log_snr", "scanned", "fitted")
      if row["nfe"] == nfe and row[grid]
    ]
    best, name = min(found, default=(np.nan, "-"))
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
    seconds = [row["fitted"]["seconds"] for row in rows if row["fitted"]]
    head_of = f"{head} | fitted | fitted / best"
    found[name] = pages.table(head_of, map(cells, rows))
    spent = f"{min(seconds):.0f} to {max(seconds):.0f} s"
    found[f"{name}, seconds"] = spent + " for one." * (name == "digits")
  if "digits" in record:
    found["run"] = f"`{record['run']}`"
  return found


def flags(parser) -> None:
  """--run and --images."""
  runner.run_flag(parser)
  parser.add_argument("--images", type=pathlib.Path, default=figures.IMAGES)


BENCHMARKS = {"few_steps": runner.Benchmark(run, tables, flags=flags)}
