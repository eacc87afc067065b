"""Errors of the solvers that are compared: ours and those of other libraries.

Each library gives {name: (sample, evaluations a step, evaluations besides)}:

  sample(denoise, x, sigmas) -> data

for one example, on the path of edm: denoise(x [*D], sigma []), x the state at
sigmas[0]; those of PyTorch (torch_schedulers.py) for a batch. The truth is
DOP853's solution of the probability flow of 8 Gaussians.
"""

import functools
import importlib
import warnings

import jax
import numpy as np
from scipy import integrate

from jaxgen import fields, paths, predictions, samplers
from jaxgen.data import toy

JAX = ("jaxgen", "diffrax")
TORCH = ("diffusers", "k_diffusion", "torchdiffeq")
NUM_POINTS = 2000
BUDGETS = (11, 19, 35, 79)
FIT = (129, 257, 513)
GRIDS = ("karras", "log_snr")
TOLERANCES = tuple(10.0**-k for k in np.arange(0, 6.5, 0.5))


def jaxgen_samplers():
  """Every deterministic solver of jaxgen; those of velocities on two paths."""
  found = {}

  def add(solver, path_name="edm"):
    path = getattr(paths, path_name)()

    def sample(denoise, x, sigmas):
      def predict_fn(x, t):
        return denoise(x / path.alpha(t), path.ratio(t))

      field = fields.from_prediction(predict_fn, path, predictions.data)
      times, key = path.time(sigmas), jax.random.key(0)
      x = x * path.alpha(times[0])
      x = samplers.integrate(solver, field, x, times, key)
      return field(x, times[-1]).data

    name = solver.name if path_name == "edm" else f"{solver.name}, {path_name}"
    found[name] = sample, solver.num_calls(1), 0

  exponential = "ddim dpm_solver_2s dpm_solver_3s dpmpp_2s dpmpp_2m dpmpp_3m"
  for method in exponential.split():
    add(getattr(samplers, method)())
  for order in (2, 3, 4):
    add(samplers.deis(order))
  for order in (2, 3, 4, 5):
    add(samplers.unipc(order))
    add(samplers.unipc(order, noise=True))
  add(samplers.unipc(2, b1=True))
  for path_name in ("edm", "linear"):
    for method in ("euler", "heun", "midpoint", "rk4"):
      add(getattr(samplers, method)(), path_name)
    for order in (2, 3, 4):
      add(samplers.adams_bashforth(order), path_name)
  return found


def diffrax_samplers():
  """The solvers of diffrax at given times, dx/dsigma = (x - data) / sigma."""
  import diffrax

  def make(solver):
    def sample(denoise, x, sigmas):
      slope = lambda sigma, x, _: (x - denoise(x, sigma)) / sigma
      x = diffrax.diffeqsolve(
        diffrax.ODETerm(slope),
        solver,
        sigmas[0],
        sigmas[-1],
        None,
        x,
        stepsize_controller=diffrax.StepTo(sigmas),
        max_steps=len(sigmas),
      ).ys[0]
      return denoise(x, sigmas[-1])

    return sample

  calls = dict(Euler=(1, 0), Heun=(2, 0), Midpoint=(2, 0), Ralston=(2, 0))
  # The last stage of these is the next step's first.
  calls |= dict(Bosh3=(3, 1), Tsit5=(6, 1), Dopri5=(6, 1), Dopri8=(13, 1))
  return {
    name: (make(getattr(diffrax, name)()), *count)
    for name, count in calls.items()
  }


def libraries():
  """{library: its samplers}, of the libraries that can be imported."""
  found = {}
  for library in JAX + TORCH:
    module = __name__ if library in JAX else "benchmarks.peers.torch_schedulers"
    try:
      samplers_of = getattr(
        importlib.import_module(module), f"{library}_samplers"
      )
      found[library] = samplers_of()
    except ImportError as error:
      print(f"{library}: {error}; its rows are left out")
  return found


def steps_within(budget, per_step, besides):
  """(the number of steps, their evaluations with the last denoise)."""
  num_steps = (budget - 1 - besides) // per_step
  return num_steps, num_steps * per_step + besides + 1


def jax_runner(mixture):
  """sample -> run, with run(x, sigmas) -> (data, evaluations), in NumPy."""
  path, counted = paths.edm(), []

  def denoise(x, sigma):
    jax.debug.callback(lambda: counted.append(1))
    return mixture.denoise(path, x, sigma)

  def runner(sample):
    one = functools.partial(sample, denoise)
    batch = jax.jit(jax.vmap(one, (0, None)))

    def run(x, sigmas):
      counted.clear()
      data = np.asarray(batch(x, sigmas))
      jax.effects_barrier()
      return data, len(counted)

    return run

  return runner


def torch_runner(mixture):
  """The same as jax_runner for samplers of PyTorch."""
  import torch

  exact, counted = torch_denoiser(mixture), []
  require_equal(mixture, exact)

  def denoise(x, sigma):
    counted.append(1)
    return exact(x, sigma)

  def runner(sample):
    def run(x, sigmas):
      counted.clear()
      with torch.no_grad():
        args = torch.tensor(x), torch.tensor(np.asarray(sigmas))
        data = sample(denoise, *args)
      return data.double().numpy(), len(counted)

    return run

  return runner


def torch_denoiser(mixture):
  """The exact denoiser in PyTorch: x [B, D], sigma [] -> [B, D]."""
  import torch

  weights, means, stds = (torch.tensor(np.asarray(v)) for v in mixture[:3])

  def denoise(x, sigma):
    x = x.double()[:, None]
    variance = (stds**2 + sigma**2)[:, None]
    energy = ((x - means) ** 2 / variance + variance.log()).sum(-1) / 2
    share = (weights.log() - energy).softmax(-1)[..., None]
    data = (sigma**2 * means + stds[:, None] ** 2 * x) / variance
    return (share * data).sum(1)

  return denoise


def require_equal(mixture, exact):
  """Raises ValueError where PyTorch's denoiser differs from jaxgen's."""
  import torch

  z = np.random.default_rng(1).standard_normal((100, 2))
  for sigma in (0.002, 0.1, 1.0, 80.0):
    x = np.hypot(1.0, sigma) * z
    oracle = functools.partial(mixture.denoise, paths.edm(), t=sigma)
    theirs = exact(torch.tensor(x), torch.tensor(sigma, dtype=torch.float64))
    gap = np.abs(jax.vmap(oracle)(x) - theirs.numpy()).max()
    if not gap < 1e-12:
      raise ValueError(f"denoise: expected a difference < 1e-12, got {gap}")


def truth(mixture, x):
  """DOP853 on dx/dlog(sigma) = x - data from 80 to .002, then a denoise."""
  one = functools.partial(mixture.denoise, paths.edm())
  denoise = jax.jit(jax.vmap(one, (0, None)))

  def slope(log_sigma, y):
    y = y.reshape(x.shape)
    return np.asarray(y - denoise(y, np.exp(log_sigma))).ravel()

  ends = np.log(80.0), np.log(0.002)
  solution = integrate.solve_ivp(
    slope, ends, x.ravel(), "DOP853", rtol=1e-11, atol=1e-12
  )
  return np.asarray(denoise(solution.y[:, -1].reshape(x.shape), 0.002))


def rmse(data, expected):
  """The root of the mean squared error of all coordinates."""
  return float(np.sqrt(np.mean((data - expected) ** 2)))


def error_row(run, per_step, besides, x, expected):
  """{grid: {NFE: error}} of one method, and its fitted order."""

  def at(grid, budget, num_points):
    num_steps, calls = steps_within(budget, per_step, besides)
    if num_steps < 1:
      return None
    sigmas = getattr(samplers.grids, grid)(paths.edm(), num_steps)
    data, counted = run(x[:num_points], sigmas)
    if counted != calls:
      raise ValueError(f"calls: expected {calls}, got {counted}")
    return rmse(data, expected[:num_points])

  found = {
    grid: {str(budget): at(grid, budget, NUM_POINTS) for budget in BUDGETS}
    for grid in GRIDS
  }
  tail = [at("log_snr", budget, NUM_POINTS // 10) for budget in FIT]
  slope = np.polyfit(np.log(np.array(FIT) - 1), np.log(tail), 1)[0]
  return dict(rmse=found, order=-float(slope))


def adaptive_row(runner, x, expected):
  """dopri5 of torchdiffeq: at each NFE the best tolerance that stays below."""
  from benchmarks.peers import torch_schedulers

  found = []
  for tolerance in TOLERANCES:
    run = runner(torch_schedulers.dopri5(tolerance))
    data, calls = run(x, np.array([80.0, 0.002]))
    found.append((calls, rmse(data, expected)))
  best = {
    str(budget): min((e for calls, e in found if calls <= budget), default=None)
    for budget in BUDGETS
  }
  return dict(rmse=dict.fromkeys(GRIDS, best), order=None)


def measure():
  """The rows of part error: library, name, and what error_row gives."""
  mixture = toy.eight_gaussians(1.0, 0.05).mixture
  x = 80 * np.random.default_rng(0).standard_normal((NUM_POINTS, 2))
  rows = []
  with jax.enable_x64(True), warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of deprecated names in peers
    expected = truth(mixture, x)
    for library, table in libraries().items():
      runner = (jax_runner if library in JAX else torch_runner)(mixture)
      for name, (sample, *count) in table.items():
        row = error_row(runner(sample), *count, x, expected)
        rows.append(dict(row, library=library, name=name))
        print(library, name, row["rmse"], flush=True)
      if library == "torchdiffeq":
        row = adaptive_row(runner, x, expected)
        rows.append(dict(row, library=library, name="dopri5"))
  return rows
