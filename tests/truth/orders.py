"""The order that every solver claims, and how it is fitted.

Deterministic solvers: float64, the probability flow of a 2-D mixture with
width, noise ratios from 5 to .1 (and back), N steps uniform in log ratio,
against SciPy's DOP853. Stochastic solvers: for Gaussian data every step is an
affine map of what is carried and of its draws; the maps are probed and give
mean and variance at the end without Monte Carlo (tests/truth/recursion.py).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import paths, samplers
from tests.truth import mixture

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
  """A solver, its order, that from its own start, and the N of the fit."""

  solver: samplers.Solver
  order: int
  started: int
  num_steps: tuple[int, ...] = NUM_STEPS


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
  claims += [Claim(samplers.unipc(k), k + 1, 3) for k in (2, 3, 4)]
  claims += [
    Claim(samplers.unipc(2, noise=True), 3, 3),
    Claim(samplers.unipc(2, b1=True), 3, 3),
  ]
  # At more steps its errors are those of the truth.
  return [*claims, Claim(samplers.unipc(5), 6, 3, (224, 320, 448))]


def ratios(num_steps, encode=False, graded=False):
  """Noise ratios, uniform in their logarithm.

  graded: the first step is cut into halves, quarters, ... down to N^-2 of it,
  so that a multistep method's start at lower order costs nothing.
  """
  logs = np.linspace(np.log(RATIO_MAX), np.log(RATIO_MIN), num_steps + 1)
  logs = logs[::-1] if encode else logs
  halves = 0.5 ** np.arange(int(2 * np.log2(num_steps)), 0, -1)
  inner = logs[0] + (logs[1] - logs[0]) * halves[: len(halves) * graded]
  return np.exp(np.concatenate([logs[:1], inner, logs[1:]]))


def stacked(grids, length=0):
  """Grids of several lengths as one array, the last entry repeated."""
  longest = max(length, *map(len, grids))
  return jnp.asarray(
    [np.pad(grid, (0, longest - len(grid)), mode="edge") for grid in grids]
  )


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


@functools.partial(jax.jit, static_argnums=0)
def _of_path(name, index, t):
  """A function of the path mixture.NAMES[index], one trace for all solvers."""
  known = [mixture.jaxgen_path(name) for name in mixture.NAMES]
  return jnp.stack([getattr(path, name)(t) for path in known])[index]


def one_path(index):
  """The path mixture.NAMES[index] of a traced index: one program for all."""
  choose = lambda name: lambda t: _of_path(name, index, t)
  return paths.Path(choose("alpha"), choose("sigma"), choose("time"))


def ends_of(solver):
  """(path's index, x [P, 2], grids [G, N + 1]) -> [G, P, 2], one program."""

  def one(index, x, times):
    path, key = one_path(index), jax.random.key(0)
    field = mixture.field(path)
    return samplers.integrate(padded(solver), field, x, times, key)

  return jax.jit(jax.vmap(jax.vmap(one, (None, 0, None)), (None, None, 0)))


@functools.cache
def truth(name, encode):
  """Where the flow begins, [P, 2], and ends."""
  ends = [mixture.time(name, ratio) for ratio in (RATIO_MAX, RATIO_MIN)]
  start, end = ends[::-1] if encode else ends
  s = mixture.scales(name)
  starts = POINTS * np.hypot(s.alpha(start), s.sigma(start))
  return starts, np.stack([mixture.flow(name, x, start, end) for x in starts])


def certify(claim):
  """RMSE of N by path and grid, and the loss to float32 by path; x64.

  Returns:
    {path: {grid of GRIDS: [len(num_steps)]}}, {path: float}.
  """
  run, errors, rounding = ends_of(claim.solver), {}, {}
  whole = np.geomspace(80.0, 0.002, NUM_STEPS[0] + 1)
  many = {
    grid: [*(ratios(n, *how) for n in claim.num_steps), whole]
    for grid, how in GRIDS.items()
  }
  # Plain and graded grids of one length run in one program.
  longest = max(len(grid) for grids in many.values() for grid in grids)
  found = {grid: stacked(grids, longest) for grid, grids in many.items()}
  for index, name in enumerate(mixture.NAMES):
    path, errors[name] = mixture.jaxgen_path(name), {}
    grids = {grid: path.time(values) for grid, values in found.items()}
    for grid, (encode, _) in GRIDS.items():
      starts, ends = truth(name, encode)
      values = run(index, jnp.asarray(starts), grids[grid])[:-1]
      square = np.mean((np.asarray(values) - ends) ** 2, (1, 2))
      errors[name][grid] = np.sqrt(square)
    times = grids["down"]
    scale = jnp.hypot(path.alpha(times[-1, 0]), path.sigma(times[-1, 0]))
    single, double = (
      run(index, jnp.asarray(POINTS * scale, dtype), times.astype(dtype))[-1]
      for dtype in (jnp.float32, jnp.float64)
    )
    rounding[name] = float(jnp.sqrt(jnp.mean((single - double) ** 2)))
  return errors, rounding


def fitted_order(claim, errors):
  """The p of errors ~ N^-p."""
  return mixture.order(claim.num_steps, np.abs(errors))


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
