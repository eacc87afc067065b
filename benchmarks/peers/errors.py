"""Errors of the solvers that are compared: ours and those of other libraries.

Each library gives {name: (sample, evaluations a step, evaluations besides)}:

  sample(denoise, x, sigmas) -> data

for one example, in the frame of edm: denoise(x [*D], sigma []), x the state at
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
NUM_POINTS = 2000
BUDGETS = (11, 19, 35, 79)
FIT = (129, 257, 513)
GRIDS = ("karras", "log_snr")
TOLERANCES = tuple(10.0**-k for k in np.arange(0, 6.5, 0.5))


def ours():
  """Every deterministic solver of jaxgen; of velocities, on two paths."""
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

  for method in ("ddim", "dpm_solver_2s", "dpm_solver_3s"):
    add(getattr(samplers, method)())
  for method in ("dpmpp_2s", "dpmpp_2m", "dpmpp_3m"):
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
  """Those of diffrax at given times, dx/dsigma = (x - data) / sigma."""
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
  """{library: its samplers}, ours first; one that does not import is left out,
  with a line that says so."""
  found = {}
  for library, samplers_of in (
    ("jaxgen", ours),
    ("diffrax", diffrax_samplers),
    ("diffusers", _torch("diffusers")),
    ("k_diffusion", _torch("k_diffusion")),
    ("torchdiffeq", _torch("torchdiffeq")),
  ):
    try:
      found[library] = samplers_of()
    except ImportError as error:
      print(f"{library}: {error}; its rows are left out")
  return found


def _torch(library):
  """The samplers of a PyTorch library, imported when they are called for."""

  def samplers_of():
    module = importlib.import_module("benchmarks.peers.torch_schedulers")
    return getattr(module, f"{library}_samplers")()

  return samplers_of


def jax_runner(law, samplers_of):
  """{name: (run, evaluations a step, besides)}: run(x, sigmas) in NumPy
  gives (data, evaluations counted)."""
  path, counted = paths.edm(), []

  def denoise(x, sigma):
    jax.debug.callback(lambda: counted.append(1))
    return law.denoise(path, x, sigma)

  def runner(sample):
    one = functools.partial(sample, denoise)
    batch = jax.jit(jax.vmap(one, (0, None)))

    def run(x, sigmas):
      counted.clear()
      data = np.asarray(batch(x, sigmas))
      jax.effects_barrier()
      return data, len(counted)

    return run

  return {k: (runner(s), *count) for k, (s, *count) in samplers_of.items()}


def torch_runner(law, samplers_of):
  """As jax_runner."""
  import torch

  exact, counted = torch_denoiser(law), []
  require_equal(law, exact)

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

  return {k: (runner(s), *count) for k, (s, *count) in samplers_of.items()}


def torch_denoiser(law):
  """The oracle's denoiser in PyTorch: x [B, D], sigma [] -> [B, D]."""
  import torch

  weights, means, stds = (torch.tensor(np.asarray(v)) for v in law[:3])

  def denoise(x, sigma):
    x = x.double()[:, None]
    variance = (stds**2 + sigma**2)[:, None]
    energy = ((x - means) ** 2 / variance + variance.log()).sum(-1) / 2
    share = (weights.log() - energy).softmax(-1)[..., None]
    data = (sigma**2 * means + stds[:, None] ** 2 * x) / variance
    return (share * data).sum(1)

  return denoise


def require_equal(law, exact):
  """Raises ValueError where PyTorch's denoiser is not the oracle's."""
  import torch

  z = np.random.default_rng(1).standard_normal((100, 2))
  for sigma in (0.002, 0.1, 1.0, 80.0):
    x = np.hypot(1.0, sigma) * z
    oracle = functools.partial(law.denoise, paths.edm(), t=sigma)
    theirs = exact(torch.tensor(x), torch.tensor(sigma, dtype=torch.float64))
    gap = np.abs(jax.vmap(oracle)(x) - theirs.numpy()).max()
    if not gap < 1e-12:
      raise ValueError(f"denoise: expected a difference < 1e-12, got {gap}")


def truth(law, x):
  """DOP853 on dx/dlog(sigma) = x - data from 80 to .002, and the denoise."""
  path = paths.edm()
  denoise = jax.jit(jax.vmap(functools.partial(law.denoise, path), (0, None)))

  def slope(log_sigma, y):
    y = y.reshape(x.shape)
    return np.asarray(y - denoise(y, np.exp(log_sigma))).ravel()

  ends = np.log(80.0), np.log(0.002)
  solution = integrate.solve_ivp(
    slope, ends, x.ravel(), "DOP853", rtol=1e-11, atol=1e-12
  )
  return np.asarray(denoise(solution.y[:, -1].reshape(x.shape), 0.002))


def rmse(run, x, sigmas, expected, calls):
  """Per-coordinate, of a run whose evaluations are counted."""
  data, counted = run(x, sigmas)
  if counted != calls:
    raise ValueError(f"calls: expected {calls}, got {counted}")
  return float(np.sqrt(np.mean((data - expected) ** 2)))


def error_row(run, per_step, besides, x, expected):
  """{grid: {nfe: rmse}} of one method, and its fitted order."""

  def at(grid, budget, num_points):
    num_steps = (budget - 1 - besides) // per_step
    if num_steps < 1:
      return None
    sigmas = getattr(samplers.grids, grid)(paths.edm(), num_steps)
    calls = num_steps * per_step + besides + 1
    return rmse(run, x[:num_points], sigmas, expected[:num_points], calls)

  found = {
    grid: {str(budget): at(grid, budget, NUM_POINTS) for budget in BUDGETS}
    for grid in GRIDS
  }
  tail = [at("log_snr", budget, NUM_POINTS // 10) for budget in FIT]
  slope = np.polyfit(np.log(np.array(FIT) - 1), np.log(tail), 1)[0]
  return dict(rmse=found, order=-float(slope))


def adaptive_row(law, x, expected):
  """torchdiffeq's dopri5: at every NFE its best tolerance within it."""
  from benchmarks.peers import torch_schedulers

  table = {t: (torch_schedulers.dopri5(t), 0, 0) for t in TOLERANCES}
  found = []
  for run, _, _ in torch_runner(law, table).values():
    data, calls = run(x, np.array([80.0, 0.002]))
    found.append((calls, float(np.sqrt(np.mean((data - expected) ** 2)))))
  best = {
    str(budget): min((e for calls, e in found if calls <= budget), default=None)
    for budget in BUDGETS
  }
  return dict(rmse=dict.fromkeys(GRIDS, best), order=None)


def measure():
  """The rows of the first part: library, name, and error_row's figures."""
  law = toy.eight_gaussians(1.0, 0.05).mixture
  x = 80 * np.random.default_rng(0).standard_normal((NUM_POINTS, 2))
  rows = []
  with jax.enable_x64(True), warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of deprecated names in peers
    expected = truth(law, x)
    tables = libraries()
    for library, table in tables.items():
      runner = jax_runner if library in JAX else torch_runner
      for name, (run, *count) in runner(law, table).items():
        row = error_row(run, *count, x, expected)
        rows.append(dict(row, library=library, name=name))
        print(library, name, row["rmse"], flush=True)
    if "torchdiffeq" in tables:
      row = adaptive_row(law, x, expected)
      rows.append(dict(row, library="torchdiffeq", name="dopri5"))
  return rows
